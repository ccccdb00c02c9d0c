"""Sphere tracing of a signed distance without gradients, as IDR does it: the oracle.

A plain version of the search of IDR (Yariv et al. 2020, Sec. 3.3 and supplementary): it evaluates
what the authors' method evaluates, so that faster searches can be tested against its hits and
measured against its cost. Distances may be scaled: steps that are too long back off, steps that are
too short end in sampling; only what a whole step jumps over unseen is lost.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.cameras import Rays
from common.rendering.intervals import Intervals
from common.rendering.march import RayLevel, Refinement, march_dense


@dataclass(frozen=True)
class TracingSettings:
    """The effort spent on a ray; the defaults are the paper's.

    A level of at most ``threshold`` is on the surface. A step that lands inside is taken back by
    1 - ``line_search_step`` of its length, then by half of that again, ``line_steps`` times.
    """

    threshold: float = 5e-5
    iterations: int = 10
    line_search_step: float = 0.5
    line_steps: int = 3
    samples: int = 100
    secant_steps: int = 8


@dataclass(frozen=True)
class TracedRays:
    """Where each ray first passes from outside to inside, and where it comes nearest to that.

    ``depth`` is a distance along the ray: of the surface where ``found``, ``least_depth``
    elsewhere. ``least_depth`` is that of the least level evaluated on the ray, and of the point
    nearest to the origin on a ray that misses the volume; a mask loss takes it for found rays
    outside the mask. A ray whose interval starts inside (the camera in the object, or the object
    beyond the volume's boundary) has no surface to differentiate: ``starts_inside``, not ``found``.
    """

    depth: Float[Tensor, "R"]
    least_depth: Float[Tensor, "R"]
    found: Bool[Tensor, "R"]
    starts_inside: Bool[Tensor, "R"]
    evaluations: int


@torch.no_grad()
def trace_reference(
    level: RayLevel,
    rays: Rays,
    intervals: Intervals,
    settings: TracingSettings,
    object_mask: Bool[Tensor, "R"] | None = None,
    generator: torch.Generator | None = None,
) -> TracedRays:
    """First entry of each ray by sphere tracing, sampling where that does not converge.

    With an ``object_mask`` (training) the least level of each ray that is outside the mask or finds
    no surface is also sought, at random depths drawn from ``generator``. A ray that grazes the
    surface within the threshold, without entering, is found.
    """
    record = _Record(level, rays)
    fronts = _advance_fronts(record, rays, intervals, settings)
    # The authors' training refines a sampled entry inside the mask only. Here an entry is an entry
    # whatever the mask says: the mask decides what else is evaluated, never what is found.
    sampled = march_dense(
        record,
        rays,
        Intervals(fronts.start, fronts.end, fronts.undecided),
        settings.samples,
        Refinement("secant", settings.secant_steps),
    )
    found = fronts.converged | sampled.found
    surface = torch.where(sampled.found, sampled.depth, fronts.start)
    if object_mask is not None:
        # Sampled rays have their least sample already.
        wanted = intervals.crosses & ~(found & object_mask) & ~fronts.undecided
        entry = torch.where(found, surface, intervals.near)
        _look_at_random(record, rays, entry, intervals.far, wanted, settings.samples, generator)
    depth = torch.where(found, surface, record.least_depth)
    return TracedRays(depth, record.least_depth, found, fronts.starts_inside, record.evaluations)


class _Record:
    """A level that counts its evaluations and remembers where it was least on each ray."""

    def __init__(self, level: RayLevel, rays: Rays) -> None:
        self.level, self.rays = level, rays
        self.evaluations = 0
        nearest_to_origin = -(rays.origin * rays.direction).sum(dim=-1)
        self.least_depth = nearest_to_origin.clamp_min(0)  # until a level is known
        self.least = torch.full_like(self.least_depth, torch.inf)

    def __call__(self, points: Float[Tensor, "M 3"], ray: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        if len(ray) == 0:
            return points.new_empty(0)
        value = self.level(points, ray)
        self.evaluations += len(ray)
        least = self.least.scatter_reduce(0, ray, value, "amin")
        lower = (value == least[ray]) & (value < self.least[ray])
        point, ray = points[lower], ray[lower]
        depth = ((point - self.rays.origin[ray]) * self.rays.direction[ray]).sum(dim=-1)
        # Of equal levels the one looked at first, and of those the nearest.
        self.least_depth = self.least_depth.scatter_reduce(
            0, ray, depth, "amin", include_self=False
        )
        self.least = least
        return value


@dataclass(frozen=True)
class _Fronts:
    """Depths that tracing from both ends of the intervals has reached, and what they mean.

    ``undecided`` rays have neither converged nor met the front from the other end: an entry may lie
    between ``start``, which is outside, and ``end``.
    """

    start: Float[Tensor, "R"]
    end: Float[Tensor, "R"]
    starts_inside: Bool[Tensor, "R"]
    converged: Bool[Tensor, "R"]
    undecided: Bool[Tensor, "R"]


def _advance_fronts(
    level: RayLevel, rays: Rays, intervals: Intervals, settings: TracingSettings
) -> _Fronts:
    """Move both ends of every interval towards each other by the level there.

    A front stops on the surface, where it starts inside, and where the two have met. A step still
    inside after every back-off is undone: on the near side it brackets an entry, which is left to
    sampling between its two ends.
    """

    def look(
        which: Bool[Tensor, "2 R"], depth: Float[Tensor, "2 R"], known: Float[Tensor, "2 R"]
    ) -> Float[Tensor, "2 R"]:
        """Levels of some fronts at these depths, and the known ones of the rest."""
        side, ray = which.nonzero(as_tuple=True)
        value = known.clone()
        value[side, ray] = level(
            rays.origin[ray] + depth[which][:, None] * rays.direction[ray], ray
        )
        return value

    heading = intervals.near.new_tensor([[1.0], [-1.0]])
    depth = torch.stack([intervals.near, intervals.far])
    present = intervals.crosses.expand(2, -1)
    value = look(present, depth, torch.zeros_like(depth))
    starts_inside = intervals.crosses & (value[0] <= 0)
    moving = present & (value > settings.threshold)
    for _ in range(settings.iterations):
        if not moving.any():
            break
        step = heading * torch.where(moving, value, 0)
        ahead = depth + step
        reached = look(moving, ahead, value)
        for halving in range(settings.line_steps):
            inside = moving & (reached < 0)
            back = (1 - settings.line_search_step) / 2**halving
            ahead = torch.where(inside, ahead - back * step, ahead)
            reached = look(inside, ahead, reached)
        inside = moving & (reached < 0)
        depth, value = torch.where(inside, depth, ahead), torch.where(inside, value, reached)
        depth[1] = torch.where(inside[0], ahead[0], depth[1])
        moving = moving & ~inside & ~inside[0] & (value > settings.threshold)
        moving = moving & (depth[0] < depth[1])
    start, end = depth
    outside = intervals.crosses & ~starts_inside
    converged = outside & (value[0] <= settings.threshold)
    return _Fronts(start, end, starts_inside, converged, outside & ~converged & (start < end))


def _look_at_random(
    level: RayLevel,
    rays: Rays,
    near: Float[Tensor, "R"],
    far: Float[Tensor, "R"],
    wanted: Bool[Tensor, "R"],
    samples: int,
    generator: torch.Generator | None,
) -> None:
    """Evaluate the wanted rays at uniformly random depths, each ray at its own."""
    ray = wanted.nonzero()[:, 0].repeat_interleave(samples)
    share = torch.rand(ray.shape, generator=generator, device=near.device, dtype=near.dtype)
    depth = near[ray] + (far - near)[ray] * share
    level(rays.origin[ray] + depth[:, None] * rays.direction[ray], ray)
