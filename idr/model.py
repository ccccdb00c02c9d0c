"""Geometry, appearance and cameras together: from a batch of pixels to named loss terms."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from common.cameras import Cameras, Rays
from common.denormals import flushed_denormals
from common.rendering.attach import attach_evaluated, evaluated_along
from common.rendering.cached_search import FieldCache, cache_field, search_cached
from common.rendering.intervals import sphere_intervals
from common.rendering.march import RayLevel
from common.rendering.memory import in_chunks, points_per_chunk
from common.rendering.sphere_tracing import TracedRays, TracingSettings, trace_reference
from common.training.precision import Precision, fastest_precisions, multiplied
from common.training.processes import WHOLE, Share, in_shares
from common.training.randomness import Random
from idr import losses
from idr.appearance import Appearance
from idr.camera_refinement import CameraRefinement
from idr.config import IDRConfig
from idr.data import PixelBatch
from idr.geometry import GeometryValues, HashGridGeometry, make_geometry

# Steps in which the surface moves so fast that cached values soon belong to another field: while
# disagreeing rays were left out, 300 steps on DTU came out 0.6 dB behind the paper's search, and
# 0.2 dB with fresher values.
YOUNG = 500


@dataclass(frozen=True)
class StepOutput:
    """Unweighted loss terms of a step, and what the search cost and found."""

    terms: dict[str, Tensor]
    evaluations: int
    surface_share: Tensor  # of the pixels inside the masks, those whose rays find the surface


@dataclass(frozen=True)
class Surface:
    """Surface points with the SDF's gradients and geometry features."""

    point: Float[Tensor, "N 3"]
    gradient: Float[Tensor, "N 3"]
    feature: Float[Tensor, "N F"]

    @property
    def normal(self) -> Float[Tensor, "N 3"]:
        """Unit normals."""
        return nn.functional.normalize(self.gradient, dim=-1)


class IDRModel(nn.Module):
    """Signed distance, appearance and, where they are learnt, the training cameras.

    Cameras that are not learnt are given to ``forward`` by the caller.
    """

    cache: Tensor

    def __init__(self, config: IDRConfig, cameras: Cameras) -> None:
        super().__init__()
        self.config = config
        model = config.model
        self.geometry = make_geometry(model)
        self.appearance = Appearance(model.appearance, self.geometry.feature_length, len(cameras))
        self.refinement = (
            CameraRefinement(cameras, config.cameras.focal) if config.cameras.refine else None
        )
        # Part of the state, so that a resumed run searches as an uninterrupted one would.
        vertices = config.search.resolution // 4 * 4 + 1
        self.register_buffer("cache", torch.zeros(vertices, vertices, vertices))

    def rates(self) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters and their learning rates, relative to the schedule's."""
        groups: list[tuple[list[nn.Parameter], float]] = []
        cameras = [] if self.refinement is None else list(self.refinement.parameters())
        table = []
        if isinstance(self.geometry, HashGridGeometry):
            table = [self.geometry.grid.table]
        special = {id(parameter) for parameter in (*cameras, *table)}
        groups.append(([p for p in self.parameters() if id(p) not in special], 1.0))
        if table:
            groups.append((table, self.config.model.hash_grid.rate))
        if cameras:
            groups.append((cameras, self.config.cameras.rate))
        return groups

    def prepare_step(self, step: int, share: Share = WHOLE) -> int:
        """Fade in fine detail and refresh the cache as the step asks; the evaluations spent.

        Each process evaluates its ``share`` of the cache.
        """
        iterations, fade = self.config.training.iterations, self.config.model.fade_in
        self.geometry.fade_in(min(1.0, step / (fade * iterations)) if fade else 1.0)
        search = self.config.search
        every = search.refresh_every if step >= YOUNG else max(search.refresh_every // 5, 1)
        if search.method == "reference" or step % every:
            return 0
        return self.refresh_cache(share)

    def refresh_cache(self, share: Share = WHOLE) -> int:
        """Evaluate the search's grid of values anew, of which the network makes sure anyway.

        So products may be rounded like gradients'. Returns the evaluations of this ``share``.
        """
        with multiplied(self._gradients_precision):
            cache, evaluations = self.cached(self.config.search.resolution, share)
        self.cache.copy_(cache.values)
        return -(-evaluations // share.count)

    @flushed_denormals()
    def sdf(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """The signed distance alone, for grids and meshes."""
        return self.geometry.sdf(points)

    def cached(self, resolution: int, share: Share = WHOLE) -> tuple[FieldCache, int]:
        """The field's values on a grid, and how many evaluations it took, of all shares."""
        chunk = points_per_chunk(self.cache.device, self._bytes_per_point)
        with nn.utils.parametrize.cached():
            field = in_shares(self.sdf, share)
            return cache_field(
                field, resolution, self.cache.device, share.count * chunk, self.cache.dtype
            )

    def find_surface(
        self,
        rays: Rays,
        cache: FieldCache,
        object_mask: Bool[Tensor, "R"] | None = None,
        generator: torch.Generator | None = None,
    ) -> TracedRays:
        """First surface along each ray, by the configured search.

        In training, ``object_mask`` saves what the losses do not ask for; the paper's search draws
        random depths from ``generator``.
        """
        with torch.no_grad(), nn.utils.parametrize.cached():
            level, intervals = self._level, sphere_intervals(rays)
            if self.config.search.method == "reference":
                settings = TracingSettings()
                return trace_reference(level, rays, intervals, settings, object_mask, generator)
            samples = self.config.search.samples
            with flushed_denormals():
                return search_cached(level, cache, rays, intervals, samples, object_mask)

    @property
    def _level(self) -> RayLevel:
        sdf: Callable[[Tensor], Tensor] = self.geometry.sdf
        chunk = points_per_chunk(self.cache.device, self._bytes_per_point)
        return in_chunks(lambda points, ray: sdf(points), chunk)

    @property
    def _bytes_per_point(self) -> int:
        """About what one point of an evaluation without gradients keeps alive."""
        model = self.config.model
        if model.geometry == "mlp":
            return 4 * 4 * model.mlp.hidden
        return 4 * (model.hash_grid.levels * 8 * (model.hash_grid.features + 6))

    @property
    def _gradients_precision(self) -> Precision:
        """In training the SDF's gradient is rounded like those of the losses, which contain it."""
        return fastest_precisions(self.cache.device, self.config.model.width).backward

    def forward(
        self, batch: PixelBatch, cameras: Cameras, step: int, share: Share = WHOLE
    ) -> StepOutput:
        """Loss terms of a batch of training pixels, a ``share`` of the step's."""
        with _weights_once(self):
            return self._step(batch, cameras, step, share)

    def _step(self, batch: PixelBatch, cameras: Cameras, step: int, share: Share) -> StepOutput:
        if self.refinement is not None:
            cameras = self.refinement()
        evaluations = self.prepare_step(step, share)
        rays = cameras.rays(batch.view, batch.pixel)
        fixed = Rays(rays.origin.detach(), rays.direction.detach())
        generator = self._generator(step)
        traced = self.find_surface(fixed, FieldCache(self.cache), batch.mask, generator)
        outline = self._outline(batch)
        surface = traced.found & batch.mask & ~outline
        depth = torch.where(surface, traced.depth, traced.least_depth)
        points = rays.at(depth)
        random = Random(generator, share)
        spread = self._neighbours(points, random)
        uniform = self._uniform_points(len(points), random)
        coloured, count = surface & batch.coloured, len(points)
        # At fixed points, so that the terms on gradients move no camera; the level's derivative by
        # the cameras is added back.
        everywhere = torch.cat([points.detach(), spread, uniform])
        is_coloured = nn.functional.pad(coloured, (0, len(everywhere) - count))
        at = everywhere[is_coloured].requires_grad_()
        precision = self._gradients_precision
        at_surface = self.geometry(at, precision)
        elsewhere = self.geometry(everywhere[~is_coloured], precision)
        values = at_surface.scattered(is_coloured, elsewhere)
        moved = (values.gradient[:count].detach() * (points - points.detach())).sum(dim=-1)
        sdf = values.sdf[:count] + moved
        evaluations += traced.evaluations + len(everywhere)
        weights = self.config.losses
        terms = {}
        if weights.rgb:
            seen = Rays(rays.origin[coloured], rays.direction[coloured])
            attached = attach_evaluated(seen, depth[coloured], sdf[coloured], at_surface.gradient)
            colour = self._seen_colour(attached.point, at, at_surface, seen, batch.view[coloured])
            terms["rgb"] = losses.rgb(colour, batch.colour[coloured], count)
        if weights.mask:
            alpha = losses.alpha_at(weights, step, self.config.training.iterations)
            decided = ~(surface | outline)
            terms["mask"] = losses.mask(sdf[decided], batch.mask[decided], alpha, count)
        if weights.outline and batch.coverage is not None:
            footprint = self._footprint(cameras, batch, depth)
            terms["outline"] = losses.outline(
                sdf[outline], batch.coverage[outline], footprint[outline], count
            )
        if weights.eikonal:
            terms["eikonal"] = losses.eikonal(values.gradient)
        if weights.smoothness:
            near, beside = values.gradient[: len(spread)], values.gradient[count:][: len(spread)]
            terms["smoothness"] = losses.smoothness(near, beside, surface[: len(spread)])
        share_found = surface.sum() / (batch.mask & ~outline).sum().clamp_min(1)
        return StepOutput(terms, evaluations, share_found)

    def _seen_colour(
        self,
        attached: Float[Tensor, "S 3"],
        at: Float[Tensor, "S 3"],
        values: GeometryValues,
        rays: Rays,
        image: Int[Tensor, "S"],
    ) -> Float[Tensor, "S 3"]:
        """Colours seen along the surface rays, differentiable in everything (Eq. 3 and 4).

        ``attached`` points lie where the leaf ``at`` does, at which the geometry has ``values``.
        """
        gradient, feature = evaluated_along(attached, at, (values.gradient, values.feature))
        return self.colour(Surface(attached, gradient, feature), -rays.direction, image)

    def _outline(self, batch: PixelBatch) -> Bool[Tensor, "R"]:
        """Pixels whose coverage the loss compares, rather than their being object or not."""
        if batch.coverage is None or not self.config.losses.outline:
            return torch.zeros_like(batch.mask)
        return (batch.coverage > 0) & (batch.coverage < 1)

    def _footprint(
        self, cameras: Cameras, batch: PixelBatch, depth: Float[Tensor, "R"]
    ) -> Float[Tensor, "R"]:
        """Width of a pixel at these depths along its ray."""
        per_z = cameras.unit_z_directions(batch.view, batch.pixel).norm(dim=-1)
        focal = cameras.intrinsics[batch.view][:, [0, 1], [0, 1]].prod(dim=-1).sqrt()
        return (depth / (per_z * focal)).detach()

    @flushed_denormals()
    def surface(self, points: Float[Tensor, "N 3"]) -> Surface:
        """What the geometry says of surface points."""
        at = self.geometry(points)
        return Surface(points, at.gradient, at.feature)

    def colour(
        self, at: Surface, view: Float[Tensor, "N 3"], image: Int[Tensor, "N"] | None = None
    ) -> Float[Tensor, "N 3"]:
        """Colours of surface points seen from unit directions ``view``, surface to camera."""
        normal = at.normal if self.config.model.appearance.unit_normal else at.gradient
        return self.appearance(at.point, normal, at.feature, view, image)

    def _generator(self, step: int) -> torch.Generator:
        """Random numbers that are a function of seed and step alone."""
        seed = self.config.training.seed * 1_000_003 + step
        return torch.Generator(self.cache.device).manual_seed(seed % 2**63)

    def _neighbours(self, points: Float[Tensor, "R 3"], random: Random) -> Float[Tensor, "K 3"]:
        """A random point close to each of the first points, those of pixels inside the masks."""
        share = self.config.supervision.neighbours if self.config.losses.smoothness else 0.0
        near = points[: round(len(points) * share)].detach()
        return near + self.config.supervision.neighbour_distance * random.normal(len(near), 3)

    def _uniform_points(self, rays: int, random: Random) -> Float[Tensor, "E 3"]:
        """Points of [-1, 1]^3 for the eikonal term."""
        count = round(rays * self.config.supervision.eikonal_points)
        return 2 * random.uniform(count, 3) - 1


@contextmanager
def _weights_once(model: nn.Module) -> Iterator[None]:
    """Compute normalised weights once within the block, with gradients whoever uses them first."""
    with nn.utils.parametrize.cached():
        for layer in model.modules():
            if nn.utils.parametrize.is_parametrized(layer, "weight"):
                _ = layer.weight
        yield
