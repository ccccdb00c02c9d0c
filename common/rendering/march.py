"""Find where rays first enter a surface, without gradients.

``march_dense`` evaluates every sample of every ray and is the oracle; ``march`` finds the same
crossing of the same samples with a fraction of the evaluations.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.cameras import Rays
from common.rendering.intervals import Intervals

# A field as the search sees it: points and the index of the ray each lies on -> values, < 0 inside.
RayLevel = Callable[[Float[Tensor, "M 3"], Int[Tensor, "M"]], Float[Tensor, "M"]]


@dataclass(frozen=True)
class Hits:
    """Where each ray first passes from outside to inside.

    ``depth`` is a distance along the ray: of the surface where ``found``, of the interval's entry
    where ``starts_inside``, infinite elsewhere. A ray whose first sample is already inside has no
    surface to differentiate: it is not ``found``, but it does meet matter (``covered``).
    """

    depth: Float[Tensor, "R"]
    found: Bool[Tensor, "R"]
    starts_inside: Bool[Tensor, "R"]
    evaluations: int

    @property
    def covered(self) -> Bool[Tensor, "R"]:
        """Rays that belong to the object's mask."""
        return self.found | self.starts_inside


@dataclass(frozen=True)
class Refinement:
    """How a bracketed crossing is narrowed to a depth.

    A ray whose value is within the ``tolerance``, if there is one, takes no further step.
    """

    method: Literal["secant", "bisection"] = "secant"
    steps: int = 8
    tolerance: float | None = None


@dataclass(frozen=True)
class Brackets:
    """Per ray the index of the first sample whose successor is inside, and the two values."""

    ray: Int[Tensor, "F"]
    index: Int[Tensor, "F"]
    outside: Float[Tensor, "F"]
    inside: Float[Tensor, "F"]


class _Counted:
    """A level that counts the points it is asked for."""

    def __init__(self, level: RayLevel) -> None:
        self.level, self.points = level, 0

    def __call__(self, points: Float[Tensor, "M 3"], ray: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        self.points += len(points)
        return self.level(points, ray)


@torch.no_grad()
def march_dense(
    level: RayLevel, rays: Rays, intervals: Intervals, samples: int, refinement: Refinement
) -> Hits:
    """First crossing among ``samples`` equally spaced depths of each interval (DVR Sec. 3.2).

    Every ray that crosses the volume costs ``samples`` evaluations, plus the refinement's.
    """
    counted, active = _Counted(level), intervals.crosses.nonzero()[:, 0]
    index = torch.arange(samples, device=active.device)
    values = _evaluate(
        counted,
        rays,
        intervals,
        samples,
        active.repeat_interleave(samples),
        index.repeat(len(active)),
    ).reshape(len(active), samples)
    inside = values <= 0
    enters = ~inside[:, :-1] & inside[:, 1:]
    first = enters.to(torch.uint8).argmax(dim=1)
    starts_inside = inside[:, 0]
    row = (enters.any(dim=1) & ~starts_inside).nonzero()[:, 0]
    brackets = Brackets(
        active[row], first[row], values[row, first[row]], values[row, first[row] + 1]
    )
    return _hits(counted, rays, intervals, samples, refinement, brackets, active[starts_inside])


def _evaluate(
    level: RayLevel,
    rays: Rays,
    intervals: Intervals,
    samples: int,
    ray: Int[Tensor, "M"],
    index: Int[Tensor, "M"],
) -> Float[Tensor, "M"]:
    depth = sample_depth(intervals, samples, ray, index)
    return level(rays.origin[ray] + depth[:, None] * rays.direction[ray], ray)


def sample_depth(
    intervals: Intervals, samples: int, ray: Int[Tensor, "M"], index: Int[Tensor, "M"]
) -> Float[Tensor, "M"]:
    """Depth of the index-th of ``samples`` equally spaced samples from near to far."""
    near, far = intervals.near[ray], intervals.far[ray]
    return near + (far - near) * (index / (samples - 1))


def _hits(
    level: _Counted,
    rays: Rays,
    intervals: Intervals,
    samples: int,
    refinement: Refinement,
    brackets: Brackets,
    inside_ray: Int[Tensor, "I"],
) -> Hits:
    """Narrow the brackets and scatter them over all rays; the evaluations are all of the level."""
    depth = torch.full_like(intervals.near, torch.inf)
    found = torch.zeros_like(intervals.crosses)
    starts_inside = torch.zeros_like(intervals.crosses)
    starts_inside[inside_ray] = True
    depth[inside_ray] = intervals.near[inside_ray]
    found[brackets.ray] = True
    depth[brackets.ray] = narrow(level, rays, intervals, samples, brackets, refinement)
    return Hits(depth, found, starts_inside, level.points)


@torch.no_grad()
def narrow(
    level: RayLevel,
    rays: Rays,
    intervals: Intervals,
    samples: int,
    brackets: Brackets,
    refinement: Refinement,
) -> Float[Tensor, "F"]:
    """Depth of the root inside each bracket after ``refinement.steps`` evaluations at most.

    ``secant`` is regula falsi with the Illinois rule: where the same end is kept twice its value is
    halved, which makes convergence superlinear on convex stretches where the plain rule crawls.
    """
    ray = brackets.ray
    outer = sample_depth(intervals, samples, ray, brackets.index)
    inner = sample_depth(intervals, samples, ray, brackets.index + 1)
    outer_value, inner_value = brackets.outside, brackets.inside
    moved_inner = torch.zeros_like(ray, dtype=torch.bool)
    moved_outer = torch.zeros_like(moved_inner)
    guess = _guess(refinement, outer, inner, outer_value, inner_value)
    value, going = torch.empty_like(guess), torch.arange(len(guess), device=guess.device)
    for _ in range(refinement.steps):
        at, depth = ray[going], guess[going, None]
        value[going] = level(rays.origin[at] + depth * rays.direction[at], at)
        if refinement.tolerance is not None:
            going = going[value[going].abs() > refinement.tolerance]
            if not len(going):
                break
        inside = value <= 0
        if refinement.method == "secant":
            outer_value = torch.where(inside & moved_inner, outer_value / 2, outer_value)
            inner_value = torch.where(~inside & moved_outer, inner_value / 2, inner_value)
        outer = torch.where(inside, outer, guess)
        inner = torch.where(inside, guess, inner)
        outer_value = torch.where(inside, outer_value, value)
        inner_value = torch.where(inside, value, inner_value)
        moved_inner, moved_outer = inside, ~inside
        guess[going] = _guess(refinement, outer, inner, outer_value, inner_value)[going]
    return guess


def _guess(
    refinement: Refinement,
    outer: Float[Tensor, "F"],
    inner: Float[Tensor, "F"],
    outer_value: Float[Tensor, "F"],
    inner_value: Float[Tensor, "F"],
) -> Float[Tensor, "F"]:
    if refinement.method == "bisection":
        return (outer + inner) / 2
    # outer_value > 0 >= inner_value, so the denominator is positive and the guess in the bracket.
    return outer + (inner - outer) * (outer_value / (outer_value - inner_value))


# Looking at every eighth of 128 samples first is cheapest on trained fields (scripts/benchmark.py);
# fewer than 16 first looks miss too much, so marches of few samples look at all of them.
LARGEST_STRIDE = 8
FEWEST_FIRST_LOOKS = 16
# The first looks go from front to back in so many turns: behind an entry there is nothing to see.
TURNS = 4
# How much steeper than seen a field may fall between two looks: on a field trained on photographs
# 1, 2 and 4 found 99.34 %, 99.86 % and 99.98 % of the dense hits at 21, 22 and 24 looks a ray.
CAUTION = 4.0


@torch.no_grad()
def march(
    level: RayLevel,
    rays: Rays,
    intervals: Intervals,
    samples: int,
    refinement: Refinement,
    caution: float = CAUTION,
    rough: RayLevel | None = None,
) -> Hits:
    """The hits of ``march_dense``, looking closely only where a crossing may be.

    Every eighth sample or so is evaluated, up to an entry; then stretches between them are halved
    until neighbours are reached: a stretch with a change of sign always; one that is outside at
    both ends only if the field, falling at the steepest rate seen along that ray times ``caution``,
    could reach the surface in it; and none beyond the first entry found. Rays and samples are those
    of the dense march, and so are the brackets, unless a thin sheet falls between all the samples
    looked at.
    A ``rough`` and cheaper version of the level serves where its error cannot change a sign.
    """
    exact = _Counted(level)
    looks = exact if rough is None else _Counted(doubtful_looks_repeated(rough, exact))
    active = intervals.crosses.nonzero()[:, 0]
    last = samples - 1
    values = intervals.near.new_full((len(active), samples), torch.nan)

    def look(row: Int[Tensor, "M"], index: Int[Tensor, "M"]) -> None:
        values[row, index] = _evaluate(looks, rays, intervals, samples, active[row], index)

    stride = max(min(LARGEST_STRIDE, samples // FEWEST_FIRST_LOOKS), 1)
    coarse = torch.arange(0, samples, stride, device=active.device)
    if coarse[-1] != last:
        coarse = torch.cat([coarse, coarse.new_tensor([last])])
    rows = torch.arange(len(active), device=active.device)
    ahead = rows
    for some in coarse.tensor_split(min(TURNS, len(coarse))):
        look(ahead.repeat_interleave(len(some)), some.repeat(len(ahead)))
        ahead = ahead[(values[ahead[:, None], some] > 0).all(dim=1)]
        if not len(ahead):
            break
    starts_inside = values[:, 0] <= 0
    start = coarse[:-1].expand(len(active), -1)
    end = coarse[1:].expand(len(active), -1)
    steep = _steepest(values[:, coarse], coarse)
    row = rows[:, None].expand_as(start)
    row, start, end = row.reshape(-1), start.reshape(-1), end.reshape(-1)
    steep = steep.reshape(-1)
    first = torch.full((len(active),), samples, device=active.device)
    first[starts_inside] = 0
    while True:
        outside, beyond = values[row, start] > 0, values[row, end]
        enters = outside & (beyond <= 0)
        # The earliest sample known to be inside after one outside: nothing behind it matters.
        first = first.scatter_reduce(0, row[enters], end[enters], "amin")
        reach = caution * steep * (end - start)
        hides = outside & (beyond > 0) & (values[row, start] + beyond < reach)
        keep = (enters | hides) & (end - start > 1) & (start < first[row])
        if not keep.any():
            break
        row, start, end, steep = row[keep], start[keep], end[keep], steep[keep]
        middle = (start + end) // 2
        look(row, middle)
        halves = ((start, middle), (middle, end))
        start = torch.cat([half[0] for half in halves])
        end = torch.cat([half[1] for half in halves])
        row, steep = row.repeat(2), steep.repeat(2)
    hit = ((first < samples) & ~starts_inside).nonzero()[:, 0]
    index = first[hit] - 1
    ray, outside, inside = active[hit], values[hit, index], values[hit, index + 1]
    if rough is not None:
        # The secant begins with the values that it would have without rough ones.
        after, before = (
            _evaluate(exact, rays, intervals, samples, ray, index + step) for step in (1, 0)
        )
        outside = torch.where(before > 0, before, outside)
        inside = torch.where(after <= 0, after, inside)
    brackets = Brackets(ray, index, outside, inside)
    hits = _hits(exact, rays, intervals, samples, refinement, brackets, active[starts_inside])
    return hits if rough is None else replace(hits, evaluations=exact.points + looks.points)


# Of a rough level's values one in so many, those nearest to zero, are asked of the exact level, and
# all others that are nearer to zero than so many times the largest error found.
PROBE, MARGIN = 64, 2.0


def doubtful_looks_repeated(rough: RayLevel, exact: RayLevel) -> RayLevel:
    """A level with the signs of ``exact``, as far as a sample of errors can tell, mostly ``rough``.

    A network in half precision errs by a share of its value, and by a little everywhere: its errors
    near zero are what may change a sign. Other values are as near to zero as they may be in truth.
    """

    def level(points: Float[Tensor, "M 3"], ray: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        values = rough(points, ray)
        if not len(values):
            return values
        probed = values.abs().topk(-(-len(values) // PROBE), largest=False).indices
        found = exact(points[probed], ray[probed])
        margin = MARGIN * (values[probed] - found).abs().max()
        sure = values.sign() * (values.abs() - margin).clamp_min(0)
        doubtful = sure == 0
        doubtful[probed] = False
        doubtful = doubtful.nonzero()[:, 0]
        sure[doubtful] = exact(points[doubtful], ray[doubtful])
        sure[probed] = found
        return sure

    return level


def _steepest(
    values: Float[Tensor, "A K"], index: Int[Tensor, "K"]
) -> Float[Tensor, "A stretches"]:
    """For each stretch between samples the greatest slope of it and its neighbours, per sample.

    Samples that were not looked at, NaN, have none.
    """
    slope = values.diff(dim=1).abs() / index.diff()
    slope = torch.where(slope.isnan(), 0.0, slope)
    padded = torch.nn.functional.pad(slope[:, None], (1, 1), mode="replicate")[:, 0]
    return torch.maximum(torch.maximum(padded[:, :-2], padded[:, 2:]), slope)
