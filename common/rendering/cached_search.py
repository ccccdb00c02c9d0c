"""The first surface along a ray, bracketed on a cached grid of field values and then verified.

Looking a value up costs a thousandth of evaluating a network. So a grid of values is kept, made
anew only now and then and only near the surface; each ray looks along it; and the network itself
is asked a few times a ray: to pull the crossing onto its own root, and wherever the grid comes
suspiciously near to zero. Rays on which grid and network disagree are marched densely.
``trace_reference`` is the oracle that this search is tested against.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.cameras import Rays
from common.rendering.intervals import Intervals
from common.rendering.march import RayLevel, Refinement, march
from common.rendering.sphere_tracing import TracedRays

# A dip of the cached values to less than this share of a cell is looked at by the network.
DIP = 0.6
FALLBACK_SAMPLES = 64
# Coarse cells a surface might be in, by the largest slope that a field is expected to have.
BAND = 1.5
COARSER = 4


@dataclass(frozen=True)
class Care:
    """How far a search goes to be right about every ray."""

    tolerance: float = 5e-5  # a surface is where |f| is less; this is IDR's
    root_steps: int = 8
    reach: float = 4.0  # a root is no farther from its cached crossing, in distances of looks


@dataclass(frozen=True)
class FieldCache:
    """Values of a field at the vertices of a grid over [-1, 1]^3, indexed x, y, z."""

    values: Float[Tensor, "G G G"]

    @property
    def cell(self) -> float:
        """Side of a cell."""
        return 2 / (len(self.values) - 1)

    def at(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        """Trilinear interpolation; beyond the grid the value at its border."""
        looked_up = torch.nn.functional.grid_sample(
            self.values.permute(2, 1, 0)[None, None],  # it has the last axis first
            points.reshape(1, -1, 1, 1, 3),
            padding_mode="border",
            align_corners=True,
        )
        return looked_up.reshape(points.shape[:-1])


@torch.no_grad()
def cache_field(
    field: Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]],
    resolution: int,
    device: torch.device,
    chunk: int = 2**16,
    dtype: torch.dtype = torch.float32,
) -> tuple[FieldCache, int]:
    """Evaluate a field on ``resolution`` cells an axis where its surface may be; and how often.

    A grid of a quarter of the resolution is evaluated in full, and the finer one where that comes
    within a coarse cell or so of zero; elsewhere coarse values are interpolated.
    """
    coarse_size, size = resolution // COARSER + 1, resolution // COARSER * COARSER + 1
    axis = torch.linspace(-1, 1, coarse_size, device=device, dtype=dtype)
    coarse = _in_chunks(field, torch.cartesian_prod(axis, axis, axis), chunk)
    values = torch.nn.functional.interpolate(
        coarse.view(1, 1, coarse_size, coarse_size, coarse_size),
        size=(size, size, size),
        mode="trilinear",
        align_corners=True,
    ).reshape(-1)
    near = (values.abs() < BAND * 2 / (coarse_size - 1)).nonzero()[:, 0]
    axis = torch.linspace(-1, 1, size, device=device, dtype=dtype)
    points = torch.stack([axis[near // size**2], axis[near // size % size], axis[near % size]], 1)
    values[near] = _in_chunks(field, points, chunk)
    return FieldCache(values.view(size, size, size)), len(coarse) + len(near)


@torch.no_grad()
def search_cached(
    level: RayLevel,
    cache: FieldCache,
    rays: Rays,
    intervals: Intervals,
    samples: int,
    object_mask: Bool[Tensor, "R"] | None = None,
    care: Care = Care(),
) -> TracedRays:
    """First entries into the surface, and the points of least cached level on every ray.

    ``samples`` looks at the cache are spread evenly over each ray's interval. With an
    ``object_mask`` (training) only the rays inside it look for a surface: of the others a loss
    needs nothing but the least level, and they cost no evaluation.
    """
    looks = _look(cache, rays, intervals, samples)
    least_depth = (-(rays.origin * rays.direction).sum(dim=-1)).clamp_min(0)
    least = looks.value.argmin(dim=1)
    least_depth[looks.ray] = looks.refined_depth(least)
    if object_mask is not None:
        looks = looks.of(object_mask[looks.ray])
    starts_inside = torch.zeros_like(intervals.crosses)
    starts_inside[looks.ray] = looks.value[:, 0] <= 0
    entry = _first_entry(looks)

    # Where the cache only comes near zero before its first entry, the network may be inside.
    dip = _deepest_dip(looks, entry, DIP * cache.cell)
    row = (dip >= 0).nonzero()[:, 0]
    ray, bottom = looks.ray[row], looks.refined_depth(dip, row)
    value = level(_at(rays, ray, bottom), ray)
    inside = value <= 0
    # A march that ends in a dip cannot step over it, however thin it is.
    far = intervals.far.clone()
    far[ray[inside]] = bottom[inside]
    entered, at = row[inside], dip[row[inside]]
    looks.value[entered, at], looks.depth[entered, at] = value[inside], bottom[inside]
    entry[entered] = at - 1
    evaluations = len(row)

    row = ((entry >= 0) & ~starts_inside[looks.ray]).nonzero()[:, 0]
    ray = looks.ray[row]
    root, good, spent = _pull_to_root(level, rays, looks, row, entry[row], care)
    evaluations += spent
    found = torch.zeros_like(starts_inside)
    found[ray[good]] = True
    unsure = starts_inside.clone()
    unsure[ray[~good]] = True
    depth = least_depth.clone()
    depth[ray[good]] = root[good]
    again = unsure.nonzero()[:, 0]
    if len(again):
        hits = march(
            lambda points, ray: level(points, again[ray]),
            Rays(rays.origin[again], rays.direction[again]),
            Intervals(intervals.near[again], far[again], intervals.crosses[again]),
            FALLBACK_SAMPLES,
            Refinement("secant", 8, care.tolerance),
        )
        evaluations += hits.evaluations
        depth[again] = torch.where(hits.found, hits.depth, depth[again])
        found[again] = hits.found
        starts_inside[again] = hits.starts_inside
    return TracedRays(depth, least_depth, found, starts_inside, evaluations)


@dataclass(frozen=True)
class _Looks:
    """Cached values along the rays that cross the volume."""

    ray: Int[Tensor, "A"]
    depth: Float[Tensor, "A S"]
    value: Float[Tensor, "A S"]

    def of(self, wanted: Bool[Tensor, "A"]) -> "_Looks":
        """Those along some of the rays."""
        return _Looks(self.ray[wanted], self.depth[wanted], self.value[wanted])

    def refined_depth(
        self, index: Int[Tensor, "A"], row: Int[Tensor, "M"] | None = None
    ) -> Float[Tensor, "M"]:
        """Depth of the least of the parabola through a sample and its two neighbours."""
        row = torch.arange(len(index), device=index.device) if row is None else row
        at = index[row].clamp(1, self.value.shape[1] - 2)
        before, middle, after = (self.value[row, at + step] for step in (-1, 0, 1))
        bend = before - 2 * middle + after
        shift = (before - after) / (2 * bend)
        shift = torch.where(bend > 1e-9, shift, index[row] - at).clamp(-1, 1)
        spacing = self.depth[row, at + 1] - self.depth[row, at]
        return self.depth[row, at] + shift * spacing


def _look(cache: FieldCache, rays: Rays, intervals: Intervals, samples: int) -> _Looks:
    ray = intervals.crosses.nonzero()[:, 0]
    share = torch.linspace(0, 1, samples, device=ray.device, dtype=intervals.near.dtype)
    near, far = intervals.near[ray, None], intervals.far[ray, None]
    depth = near + (far - near) * share
    points = rays.origin[ray, None] + depth[..., None] * rays.direction[ray, None]
    return _Looks(ray, depth, cache.at(points))


def _at(rays: Rays, ray: Int[Tensor, "M"], depth: Float[Tensor, "M"]) -> Float[Tensor, "M 3"]:
    return rays.origin[ray] + depth[:, None] * rays.direction[ray]


def _first_entry(looks: _Looks) -> Int[Tensor, "A"]:
    """Index of the first sample outside whose successor is inside; -1 where there is none."""
    inside = looks.value <= 0
    enters = ~inside[:, :-1] & inside[:, 1:]
    return torch.where(enters.any(dim=1), enters.to(torch.uint8).argmax(dim=1), -1)


def _deepest_dip(looks: _Looks, entry: Int[Tensor, "A"], depth_of_dip: float) -> Int[Tensor, "A"]:
    """Index of the least local minimum before the entry, or -1 where none is below the bound."""
    value = looks.value
    middle = value[:, 1:-1]
    dips = (middle <= value[:, :-2]) & (middle < value[:, 2:]) & (middle > 0)
    index = torch.arange(1, value.shape[1] - 1, device=value.device)
    last = torch.where(entry >= 0, entry, value.shape[1])
    dips &= (middle < depth_of_dip) & (index < last[:, None])
    least, at = torch.where(dips, middle, torch.inf).min(dim=1)
    return torch.where(least.isfinite(), at + 1, -1)


def _pull_to_root(
    level: RayLevel,
    rays: Rays,
    looks: _Looks,
    row: Int[Tensor, "M"],
    entry: Int[Tensor, "M"],
    care: Care,
) -> tuple[Float[Tensor, "M"], Bool[Tensor, "M"], int]:
    """Secant steps of the network from the cached crossings; roots, which are good, and the cost.

    The first slope is the cache's. A ray that has not converged, left the neighbourhood of its
    crossing, or met the surface from within, is not good.
    """
    ray = looks.ray[row]
    before, after = looks.value[row, entry], looks.value[row, entry + 1]
    spacing = looks.depth[row, entry + 1] - looks.depth[row, entry]
    slope = (after - before) / spacing
    first = looks.depth[row, entry] - before / slope
    root, good = first.clone(), torch.zeros_like(first, dtype=torch.bool)
    evaluations = 0
    # Of the rays that are still going:
    index, depth, most = torch.arange(len(row), device=row.device), first, spacing
    last_depth = last_value = None
    for _ in range(care.root_steps):
        value = level(_at(rays, ray, depth), ray)
        evaluations += len(ray)
        if last_depth is not None and last_value is not None:
            moved = depth - last_depth
            slope = torch.where(moved.abs() > 1e-9, (value - last_value) / moved, -1.0)
        enters, near = slope < 0, value.abs() <= care.tolerance
        root[index], good[index] = depth, enters & near
        going = (enters & ~near).nonzero()[:, 0]
        if len(going) == 0:
            break
        state = (index, ray, depth, value, slope, most)
        index, ray, last_depth, last_value, slope, most = (each[going] for each in state)
        depth = last_depth - (last_value / slope).clamp(-most, most)
    good &= (root - first).abs() <= care.reach * spacing
    return root, good, evaluations


def _in_chunks(
    field: Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]],
    points: Float[Tensor, "N 3"],
    chunk: int,
) -> Float[Tensor, "N"]:
    return torch.cat([field(some) for some in points.split(chunk)])
