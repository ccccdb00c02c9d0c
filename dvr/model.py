"""Encoder and field together: from a batch of rays to named loss terms."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import embedding

from common.cameras import Rays
from common.data.supervision import Supervision
from common.fields.encoders import (
    EfficientNetLiteEncoder,
    EmbeddingEncoder,
    ResNetEncoder,
    SimpleConvolutional,
)
from common.rendering.attach import attach
from common.rendering.half_precision import half_pays
from common.rendering.intervals import Intervals, cube_intervals
from common.rendering.march import Hits, RayLevel, Refinement, march, march_dense
from common.rendering.memory import in_chunks, points_per_chunk
from common.training.batch_norm import group_batch_norms
from common.training.processes import WHOLE, Share
from common.training.randomness import Random
from dvr import losses
from dvr.config import DVRConfig, ModelConfig
from dvr.field import Logits, OccupancyTextureField


@dataclass(frozen=True)
class Batch:
    """B objects: what the encoder sees of each, and the rays it is compared on."""

    image: Float[Tensor, "B 3 h w"] | None
    index: Int[Tensor, "B"]
    supervision: Supervision


@dataclass(frozen=True)
class StepOutput:
    """Unweighted loss terms of a step, and what the search cost."""

    terms: dict[str, Tensor]
    rays: int
    evaluations: int
    surface_share: Tensor  # of the pixels inside the masks, those whose rays find the surface


def make_encoder(config: ModelConfig, objects: int) -> nn.Module | None:
    """The encoder that a configuration names; ``objects`` sizes the embedding."""
    kind = config.encoder.kind
    if kind == "none":
        return None
    if kind == "embedding":
        return EmbeddingEncoder(objects, config.code)
    if kind == "simple":
        return SimpleConvolutional(config.code)
    encoder: nn.Module
    if kind == "efficientnet_lite0":
        encoder = EfficientNetLiteEncoder(config.code)
    else:
        encoder = ResNetEncoder(kind, config.code, config.encoder.width)
        if config.encoder.weights:
            encoder.load_imagenet(Path(config.encoder.weights))
    group_batch_norms(encoder, config.encoder.norm_groups)
    return encoder


class DVRModel(nn.Module):
    """Encoder, occupancy network and texture field.

    Level function of the shared core: logit(tau) - logit, negative inside.
    """

    def __init__(self, config: DVRConfig, objects: int) -> None:
        super().__init__()
        self.config = config
        model = config.model
        self.encoder = make_encoder(model, objects)
        self.decoder = OccupancyTextureField(
            model.hidden, model.blocks, model.code, model.colour, model.frequencies
        )
        self.set_threshold(config.march.threshold)
        self.refinement = Refinement(config.march.refinement, config.march.refinement_steps)

    def set_threshold(self, occupancy: float) -> None:
        """Take the surface to be where this occupancy (tau) is reached."""
        self.level_logit = math.log(occupancy / (1 - occupancy))

    def start_as_sphere(self, generator: torch.Generator) -> None:
        """Give the untrained field the configured ball as its surface."""
        model = self.config.model
        self.decoder.start_as_sphere(model.initial_radius, model.initial_slope, generator)

    def code(
        self, image: Float[Tensor, "B 3 h w"] | None, index: Int[Tensor, "B"]
    ) -> Float[Tensor, "B C"]:
        """Latent codes from input pictures, from object indices, or empty ones."""
        if self.encoder is None:
            return torch.zeros(len(index), 0, device=index.device)
        if isinstance(self.encoder, EmbeddingEncoder):
            return self.encoder(index)
        return self.encoder(image)

    def condition(
        self, image: Float[Tensor, "B 3 h w"] | None, index: Int[Tensor, "B"]
    ) -> Float[Tensor, "blocks B hidden"]:
        """The codes as the shifts that the field takes."""
        return self.decoder.condition(self.code(image, index))

    def level(
        self, condition: Float[Tensor, "blocks 1 hidden"]
    ) -> Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]]:
        """The level function of one object."""
        return lambda points: self.level_logit - self.decoder.logits(points, condition)

    def ray_level(
        self,
        logits: Logits,
        condition: Float[Tensor, "blocks B hidden"],
        object_of_ray: Int[Tensor, "R"],
    ) -> RayLevel:
        """The level function of a batch, for the search: in chunks that fit the memory budget.

        ``logits`` are the decoder's, or those in half precision with such a condition.
        """

        def level(points: Tensor, ray: Tensor) -> Tensor:
            of = object_of_ray[ray]
            # Those of several objects are gathered block by block, as the field asks for them.
            shifts = (shift if len(shift) == 1 else embedding(of, shift) for shift in condition)
            return self.level_logit - logits(points, shifts)

        # Live at once: a block's shifts and about four activations.
        per_channel = condition.element_size() * 5
        bytes_per_point = condition.shape[-1] * per_channel
        chunk = points_per_chunk(condition.device, bytes_per_point, self.config.march.memory_gb)
        return in_chunks(level, chunk)

    def find_surface(
        self,
        condition: Float[Tensor, "blocks B hidden"],
        object_of_ray: Int[Tensor, "R"],
        rays: Rays,
        samples: int,
    ) -> tuple[Hits, Intervals]:
        """March every ray through the unit cube of its object."""
        intervals = cube_intervals(rays)
        with torch.no_grad():
            level = self.ray_level(self.decoder.logits, condition, object_of_ray)
            if self.config.march.method == "dense":
                return march_dense(level, rays, intervals, samples, self.refinement), intervals
            rough = None
            if half_pays(condition.device, self.config.model.hidden):
                half = self.decoder.half_logits(), condition.bfloat16()
                rough = self.ray_level(*half, object_of_ray)
            refinement = replace(self.refinement, tolerance=self.config.march.refinement_tolerance)
            hits = march(level, rays, intervals, samples, refinement, rough=rough)
        return hits, intervals

    def forward(self, batch: Batch, samples: int, seed: int, share: Share = WHOLE) -> StepOutput:
        """The loss terms that have a weight, for a batch of objects.

        ``seed`` fixes the random points of this step, of whose objects these are a ``share``.
        """
        supervision, weights = batch.supervision, self.config.losses
        objects, rays_each = supervision.mask.shape
        device = supervision.mask.device
        random = Random(torch.Generator(device).manual_seed(seed), share)
        condition = self.condition(batch.image, batch.index)
        object_of_ray = torch.arange(objects, device=device).repeat_interleave(rays_each)
        rays = supervision.rays
        hits, intervals = self.find_surface(condition, object_of_ray, rays, samples)

        terms = self._surface_terms(condition, object_of_ray, supervision, hits, random)
        if weights.freespace or weights.occupancy:
            terms |= self._ray_terms(condition, object_of_ray, supervision, hits, intervals, random)
        if weights.hull:
            logits = self.decoder.logits(supervision.hull_points, condition[:, :, None])
            terms["hull"] = losses.hull(logits, supervision.hull_inside)
        evaluations = hits.evaluations
        if weights.sparse_depth:
            terms["sparse_depth"], extra = self._sparse_term(condition, supervision, samples)
            evaluations += extra
        return StepOutput(
            terms, rays_each * objects, evaluations, surface_share(hits, supervision.mask)
        )

    def _surface_terms(
        self,
        condition: Tensor,
        object_of_ray: Int[Tensor, "R"],
        supervision: Supervision,
        hits: Hits,
        random: Random,
    ) -> dict[str, Tensor]:
        """Terms at surface points of rays that belong to the object: colour, depth, normals."""
        weights, config = self.config.losses, self.config.supervision
        if not (weights.rgb or weights.image_gradient or weights.depth or weights.normal):
            return {}
        mask, rays = supervision.mask.reshape(-1), len(object_of_ray)
        surface = (hits.found & mask).nonzero()[:, 0]
        ray = Rays(supervision.rays.origin[surface], supervision.rays.direction[surface])
        shifts = condition[:, object_of_ray[surface]]
        attached = attach(
            lambda p: self.level_logit - self.decoder.logits(p, shifts), ray, hits.depth[surface]
        )
        terms: dict[str, Tensor] = {}
        if weights.rgb or weights.image_gradient:
            colour = self.decoder.colour(attached.point, shifts)
            true = supervision.colour.reshape(-1, 3)
            if weights.rgb:
                terms["rgb"] = losses.rgb(colour, true[surface], rays)
            if weights.image_gradient:
                patches = (-1, config.patch, config.patch)
                image = true.new_zeros(true.shape).index_put((surface,), colour)
                valid = torch.zeros_like(mask)
                valid[surface] = True
                terms["image_gradient"] = losses.image_gradient(
                    image.reshape(*patches, 3), true.reshape(*patches, 3), valid.reshape(patches)
                )
        if weights.depth:
            distance = supervision.distance.reshape(-1)[surface]
            per_z = supervision.per_camera_z.reshape(-1)[surface]
            terms["depth"] = self._depth_term(ray, attached.depth, distance, per_z, rays)
        if weights.normal:
            offset = random.uniform(*supervision.mask.shape, 3).reshape(-1, 3)[surface]
            terms["normal"] = self._normal_term(attached.point.detach(), offset, shifts, rays)
        return terms

    def _depth_term(
        self,
        rays: Rays,
        depth: Float[Tensor, "S"],
        distance: Float[Tensor, "S"],
        per_camera_z: Float[Tensor, "S"],
        count: int,
    ) -> Tensor:
        known = torch.isfinite(distance)
        depth, distance, per_camera_z = depth[known], distance[known], per_camera_z[known]
        if self.config.supervision.depth_distance == "camera_z":
            return losses.depth_camera_z(depth / per_camera_z, distance / per_camera_z, count)
        known_rays = Rays(rays.origin[known], rays.direction[known])
        return losses.depth_points(known_rays.at(depth), known_rays.at(distance), count)

    def _normal_term(
        self,
        point: Float[Tensor, "S 3"],
        offset: Float[Tensor, "S 3"],
        shifts: Float[Tensor, "blocks S hidden"],
        rays: int,
    ) -> Tensor:
        """Normals from the field's own gradient, at the surface and at up to 0.5e-3 beside it.

        ``offset`` is of [0, 1).
        """
        both = torch.stack([point, point + 1e-3 * (offset - 0.5)]).requires_grad_()
        logits = self.decoder.logits(both, shifts[:, None])
        (gradient,) = torch.autograd.grad(logits.sum(), both, create_graph=True)
        normal, neighbour = torch.nn.functional.normalize(gradient, dim=-1, eps=1e-5)
        return losses.normal_smoothness(normal, neighbour, rays)

    def _ray_terms(
        self,
        condition: Tensor,
        object_of_ray: Int[Tensor, "R"],
        supervision: Supervision,
        hits: Hits,
        intervals: Intervals,
        random: Random,
    ) -> dict[str, Tensor]:
        """Background rays must be empty and object rays must meet matter, one point on each."""
        weights, config = self.config.losses, self.config.supervision
        mask, rays = supervision.mask.reshape(-1), supervision.rays
        missed = mask & ~hits.covered & intervals.crosses
        background = ~mask & intervals.crosses
        if not config.always_freespace:
            background = background & ~hits.covered
        # Where a ray enters the cube nothing can be: the object lies within it.
        empty = background | hits.starts_inside
        uniform = random.uniform(*supervision.mask.shape).flatten()
        somewhere = intervals.near + (intervals.far - intervals.near) * uniform
        free = torch.where(hits.covered, hits.depth, somewhere)
        full = self._occupied_depth(supervision, intervals, somewhere, random)
        depth = torch.where(empty, free, full)
        chosen = (missed | empty).nonzero()[:, 0]
        points = rays.origin[chosen] + depth[chosen, None] * rays.direction[chosen]
        logits = self.decoder.logits(points, condition[:, object_of_ray[chosen]])
        terms = {}
        if weights.freespace:
            terms["freespace"] = losses.freespace(logits[empty[chosen]], len(mask))
        if weights.occupancy:
            terms["occupancy"] = losses.occupancy(logits[missed[chosen]], len(mask))
        return terms

    def _occupied_depth(
        self,
        supervision: Supervision,
        intervals: Intervals,
        somewhere: Float[Tensor, "R"],
        random: Random,
    ) -> Float[Tensor, "R"]:
        """Where on its ray a missed object pixel is taken to be occupied."""
        kind = self.config.supervision.occupancy_points
        if kind == "random":
            return somewhere
        if kind == "random_normal":
            spread = random.normal(*supervision.mask.shape).flatten()
            length = intervals.far - intervals.near
            depth = (intervals.near + intervals.far) / 2 + spread * length / 8
            return torch.minimum(torch.maximum(depth, intervals.near), intervals.far)
        known = supervision.distance if kind == "depth" else supervision.hull_distance
        known = known.reshape(-1)
        return torch.where(torch.isfinite(known), known, somewhere)

    def _sparse_term(
        self, condition: Tensor, supervision: Supervision, samples: int
    ) -> tuple[Tensor, int]:
        """Depth difference on rays to the sparse points that a view sees."""
        distance = supervision.sparse_distance
        objects, count = distance.shape
        object_of_ray = torch.arange(objects, device=distance.device).repeat_interleave(count)
        rays = Rays(
            supervision.sparse_origin.reshape(-1, 3), supervision.sparse_direction.reshape(-1, 3)
        )
        hits, _ = self.find_surface(condition, object_of_ray, rays, samples)
        surface = (hits.found & torch.isfinite(distance.reshape(-1))).nonzero()[:, 0]
        ray = Rays(rays.origin[surface], rays.direction[surface])
        shifts = condition[:, object_of_ray[surface]]
        attached = attach(
            lambda p: self.level_logit - self.decoder.logits(p, shifts), ray, hits.depth[surface]
        )
        term = self._depth_term(
            ray,
            attached.depth,
            distance.reshape(-1)[surface],
            supervision.sparse_per_camera_z.reshape(-1)[surface],
            objects * count,
        )
        return term, hits.evaluations


def surface_share(hits: Hits, mask: Bool[Tensor, "B R"]) -> Float[Tensor, ""]:
    """Of the pixels inside the masks, those whose rays find the surface."""
    return (hits.found & mask.reshape(-1)).sum() / mask.sum().clamp_min(1)


def images_to_input(images: UInt8[Tensor, "B h w 3"]) -> Float[Tensor, "B 3 h w"]:
    """Pictures as the encoder takes them."""
    return images.permute(0, 3, 1, 2).float() / 255
