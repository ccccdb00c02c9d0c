"""The paper's training step, network pass for network pass: the oracle of ``DVRModel.forward``.

The authors' program evaluates every sample of every ray, then a point of every ray four times more,
whether it is asked for or not: for the depth's derivative, the colour, free space and occupancy. A
normal is six further evaluations. ``DVRModel`` evaluates what its terms need. This plain version
exists to be compared with, in results and in cost.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from common.cameras import Rays
from common.rendering.intervals import Intervals, cube_intervals
from common.rendering.march import Hits, march_dense
from dvr import losses
from dvr.model import Batch, DVRModel, StepOutput, surface_share

TERMS = ("rgb", "depth", "normal", "freespace", "occupancy")  # those of the paper's Sec. 4.1
LEAST_SLOPE = 1e-3  # of the logit along a ray, whatever its sign
NEIGHBOUR = 1e-3  # side of the cube around a surface point that its neighbour is drawn from
DIFFERENCE = 1e-3  # over which the field's gradient is taken
HALF_DIAGONAL = 3**0.5 / 2  # of the cube


def reference_step(model: DVRModel, batch: Batch, samples: int, seed: int) -> StepOutput:
    """Loss terms of a batch as Niemeyer et al. 2020 compute them (Sec. 3 and supplementary).

    Of a model none but whose TERMS have a weight, with depths compared along the camera's z and
    occupancy asked for at random or known depths. ``seed`` draws the normals' neighbours and then
    one depth on every ray. Two things are ours: terms are divided as in ``dvr.losses``, and the
    cube is [-0.5, 0.5]^3 where the program's search has one that is a tenth larger.
    """
    supervision, weights = batch.supervision, model.config.losses
    objects, _ = supervision.mask.shape
    generator = torch.Generator(supervision.mask.device).manual_seed(seed)
    rays, mask = supervision.rays, supervision.mask.reshape(-1)
    condition = model.condition(batch.image, batch.index)
    intervals = sampled_intervals(rays)
    hits = search(model, condition, rays, intervals, samples)
    predicted = hits.covered
    # A ray whose first sample is inside has its camera for a surface point, as the misses do.
    found = torch.where(hits.found, hits.depth, 0.0)
    count, seen = len(mask), mask & predicted

    def per_object(points: Float[Tensor, "R 3"]) -> Float[Tensor, "B N 3"]:
        return points.reshape(objects, -1, 3)

    def logits(points: Float[Tensor, "R 3"]) -> Float[Tensor, "R"]:
        return model.decoder.logits(per_object(points), condition[:, :, None]).reshape(-1)

    def colours(points: Float[Tensor, "R 3"]) -> Float[Tensor, "R 3"]:
        return model.decoder.colour(per_object(points), condition[:, :, None]).reshape(-1, 3)

    terms: dict[str, Tensor] = {}
    depth = attached_depth(logits, rays, found, predicted)
    if weights.rgb:
        true = supervision.colour.reshape(-1, 3)
        terms["rgb"] = losses.rgb(colours(rays.at(depth))[seen], true[seen], count)
    if weights.depth:
        per_z, distance = supervision.per_camera_z.reshape(-1), supervision.distance.reshape(-1)
        known = seen & distance.isfinite()
        z, true_z = depth / per_z, distance / per_z
        terms["depth"] = losses.depth_camera_z(z[known], true_z[known], count)
    if weights.normal:
        object_of_ray = torch.arange(count, device=mask.device) // (count // objects)
        points, shifts = rays.at(found)[predicted], condition[:, object_of_ray[predicted]]
        uniform = torch.rand(count, 3, generator=generator, device=mask.device)[predicted]
        move = NEIGHBOUR * (uniform - 0.5)
        here, beside = (normals(model, at, shifts) for at in (points, points + move))
        terms["normal"] = losses.normal_smoothness(here, beside, count)
    uniform = torch.rand(count, generator=generator, device=mask.device)
    somewhere = intervals.near + (intervals.far - intervals.near) * uniform
    if weights.freespace:
        free = logits(rays.at(torch.where(predicted, found, somewhere)))
        empty = ~mask if model.config.supervision.always_freespace else ~mask & ~predicted
        terms["freespace"] = losses.freespace(free[empty], count)
    if weights.occupancy:
        full = logits(rays.at(_occupied_depth(model, batch, somewhere)))
        terms["occupancy"] = losses.occupancy(full[mask & ~predicted], count)
    return StepOutput(terms, count, hits.evaluations, surface_share(hits, supervision.mask))


def sampled_intervals(rays: Rays) -> Intervals:
    """Where every ray is sampled: in the cube or, if it misses that, from its camera to beyond it.

    The program gives those that miss a range of depths set for the whole collection.
    """
    cube = cube_intervals(rays)
    beyond = rays.origin.norm(dim=-1) + HALF_DIAGONAL
    near = torch.where(cube.crosses, cube.near, 0.0)
    far = torch.where(cube.crosses, cube.far, beyond)
    return Intervals(near, far, torch.ones_like(cube.crosses))


def search(
    model: DVRModel,
    condition: Float[Tensor, "blocks B hidden"],
    rays: Rays,
    intervals: Intervals,
    samples: int,
) -> Hits:
    """The dense march, an object after the other, each with as many of the rays."""
    objects = condition.shape[1]
    each = len(rays.origin) // objects
    of_one = torch.zeros(each, dtype=torch.long, device=condition.device)
    parts = []
    for index in range(objects):
        own = slice(index * each, (index + 1) * each)
        parts.append(
            march_dense(
                model.ray_level(model.decoder.logits, condition[:, [index]], of_one),
                Rays(rays.origin[own], rays.direction[own]),
                Intervals(intervals.near[own], intervals.far[own], intervals.crosses[own]),
                samples,
                model.refinement,
            )
        )
    return Hits(
        torch.cat([part.depth for part in parts]),
        torch.cat([part.found for part in parts]),
        torch.cat([part.starts_inside for part in parts]),
        sum(part.evaluations for part in parts),
    )


def attached_depth(
    logits: Callable[[Float[Tensor, "R 3"]], Float[Tensor, "R"]],
    rays: Rays,
    depth: Float[Tensor, "R"],
    predicted: Bool[Tensor, "R"],
) -> Float[Tensor, "R"]:
    """The depth with the gradient of Equation 9, of one evaluation on every ray.

    The program's guard makes a small slope positive, whatever it was.
    """
    points = rays.at(depth).requires_grad_()
    value = logits(points)
    (gradient,) = torch.autograd.grad(value.sum(), points, retain_graph=True)
    slope = (gradient * rays.direction).sum(dim=-1)
    slope = torch.where(slope.abs() < LEAST_SLOPE, LEAST_SLOPE, slope)
    return depth - torch.where(predicted, (value - value.detach()) / slope, 0.0)


def normals(
    model: DVRModel, points: Float[Tensor, "S 3"], shifts: Float[Tensor, "blocks S hidden"]
) -> Float[Tensor, "S 3"]:
    """Unit normals from central differences of the logits, six evaluations each."""
    steps = DIFFERENCE / 2 * torch.eye(3, dtype=points.dtype, device=points.device)
    around = points[:, None] + torch.cat([steps, -steps])
    after, before = model.decoder.logits(around, shifts[:, :, None]).split(3, dim=1)
    return functional.normalize((after - before) / DIFFERENCE, dim=-1, eps=1e-5)


def _occupied_depth(
    model: DVRModel, batch: Batch, somewhere: Float[Tensor, "R"]
) -> Float[Tensor, "R"]:
    """Depths at which missed object pixels are told to be occupied: known ones, or random."""
    kind, supervision = model.config.supervision.occupancy_points, batch.supervision
    if kind == "random":
        return somewhere
    known = {"depth": supervision.distance, "hull": supervision.hull_distance}[kind].reshape(-1)
    return torch.where(known.isfinite(), known, somewhere)
