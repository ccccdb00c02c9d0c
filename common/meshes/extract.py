"""From a level function to a watertight triangle mesh, evaluating it only near the surface.

Multi-resolution iso-surface extraction (MISE; Mescheder et al., CVPR 2019, section 3.3), in three
changes: the surface is *followed* at every resolution, so that no crack can appear; only the cells
around it are stored, so that memory grows with its area; and the triangles come straight from those
cells, so that there is no dense grid at the end either.

A vertex of the grid is one integer, its *key*: the three coordinates as digits to the base
``side``. A cell has the key of its lowest corner. The grid has one more layer of cells all around
the box, at whose outer vertices the level is +infinity by decree: a surface that leaves the box is
closed there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import mcubes
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from common.errors import UserError
from common.meshes.mesh import Mesh, empty_mesh

Level = Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]]
Corner = tuple[float, float, float]

CORNERS = list(product((0, 1), repeat=3))
CELLS_AT_ONCE = 2**20
# A surface point keeps this share of a grid edge from its ends. Where the level is exactly zero on
# a grid vertex, up to six surface points would coincide there and leave faces without a normal.
MARGIN = 1e-3


@dataclass(frozen=True)
class Extraction:
    """A mesh, and at how many points the level function was evaluated for it."""

    mesh: Mesh
    evaluations: int


@dataclass(frozen=True)
class Grid:
    """``resolution`` cells along each axis of a box, and one layer of cells around it."""

    resolution: int
    lower: Float[Tensor, "3"]
    upper: Float[Tensor, "3"]

    @property
    def side(self) -> int:
        """Vertices along an axis, those outside the box included."""
        return self.resolution + 3

    @property
    def strides(self) -> Int[Tensor, "3"]:
        """How much a key grows by one step along x, y and z."""
        return torch.tensor([self.side**2, self.side, 1], device=self.lower.device)

    def offsets(self, steps: list[tuple[int, ...]]) -> Int[Tensor, "K"]:
        """How much a key grows by these steps."""
        return (torch.tensor(steps, device=self.lower.device) * self.strides).sum(dim=-1)

    def coordinates(self, key: Int[Tensor, "N"]) -> Int[Tensor, "N 3"]:
        """Integer coordinates: 0 is outside the box, 1 its lower border."""
        return key[:, None] // self.strides % self.side

    def keys(self, coordinates: Int[Tensor, "N 3"]) -> Int[Tensor, "N"]:
        """The inverse of ``coordinates``."""
        return (coordinates * self.strides).sum(dim=-1)

    def positions(self, coordinates: Num[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Points, in the frame of the box, at coordinates that need not be whole."""
        share = (coordinates - 1).to(self.lower) / self.resolution
        return self.lower + (self.upper - self.lower) * share

    def outside(self, coordinates: Int[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
        """Whether vertices lie beyond the box."""
        return ((coordinates < 1) | (coordinates > self.resolution + 1)).any(dim=-1)

    def finer(self) -> "Grid":
        """The grid of half the cell size; coordinate c of a vertex becomes 2c - 1."""
        return Grid(2 * self.resolution, self.lower, self.upper)


@dataclass(frozen=True)
class Samples:
    """Level values at some vertices of a grid, in the order of their keys."""

    key: Int[Tensor, "N"]
    value: Float[Tensor, "N"]

    def at(self, key: Int[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Values at keys that must be there."""
        return self.value[torch.searchsorted(self.key, key)]

    def merged(self, other: "Samples") -> "Samples":
        """The union of two disjoint sets of samples."""
        key, order = torch.cat([self.key, other.key]).sort()
        return Samples(key, torch.cat([self.value, other.value])[order])


def extract_mesh(
    level: Level,
    lower: Corner,
    upper: Corner,
    resolution: int = 256,
    coarse_resolution: int = 32,
    *,
    chunk: int = 65536,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Extraction:
    """The surface ``level`` = 0 inside a box as a closed mesh whose faces look outward.

    ``level`` is negative inside and is given at most ``chunk`` points of the box's frame at once;
    ``resolution`` counts cells along each axis of the box and is ``coarse_resolution`` times a
    power of two. ``progress`` is told after each chunk how many points it had. Without any crossing
    the mesh is empty. Raises UserError on other resolutions and where ``level`` is not finite.

    The coarse grid is evaluated in full. At each resolution the surface is followed across every
    cell face it crosses until it closes. The next resolution starts in the cells it crosses and in
    the *promising* ones (see there), which may hide a part thinner than a cell. Such a part is lost
    only where the level, sampled that coarsely, does not dip towards zero.
    """
    _check_resolution(resolution, coarse_resolution)
    dtype = torch.get_default_dtype()
    box = [torch.tensor(corner, dtype=dtype, device=device) for corner in (lower, upper)]
    sampler = _Sampler(level, chunk, progress)
    grid = Grid(coarse_resolution, *box)
    cells = _all_cells(grid)
    samples = Samples(cells[:0], cells[:0].to(dtype))
    while True:
        cells, case, samples = _follow_surface(grid, cells, samples, sampler)
        crossed = (case > 0) & (case < 255)
        if grid.resolution == resolution:
            mesh = _triangulate(grid, cells[crossed], case[crossed], samples)
            return Extraction(mesh, sampler.evaluations)
        cells = _subdivided(grid, cells[crossed | _promising(grid, cells, samples)])
        samples = _subsampled(grid, samples)
        grid = grid.finer()


def extract_dense(
    level: Level,
    lower: Corner,
    upper: Corner,
    resolution: int = 256,
    *,
    chunk: int = 65536,
    device: torch.device | str = "cpu",
) -> Extraction:
    """The same surface from every vertex of the grid by a library's marching cubes.

    The oracle that ``extract_mesh`` is tested against; its cost is cubic in the resolution.
    """
    box = [torch.tensor(corner, device=device) for corner in (lower, upper)]
    grid = Grid(resolution, *box)
    sampler = _Sampler(level, chunk, None)
    samples = sampler(grid, torch.arange(grid.side**3, device=device))
    # Far larger than any value inside, so that the closing faces lie on the border, yet finite.
    outside = 1e9 * samples.value[samples.value.isfinite()].abs().max().clamp(min=1)
    volume = samples.value.clamp(max=float(outside)).reshape(3 * [grid.side])
    # The library takes high values for the inside and zero for the outside: turned round, so do we.
    vertices, faces = mcubes.marching_cubes(-volume.double().cpu().numpy(), 0.0)
    if len(faces) == 0:
        return Extraction(empty_mesh(), sampler.evaluations)
    points = grid.positions(torch.from_numpy(vertices).to(grid.lower))
    return Extraction(Mesh(points.cpu().numpy(), faces.astype(np.int64)), sampler.evaluations)


class _Sampler:
    """Evaluates the level function in chunks and counts."""

    def __init__(self, level: Level, chunk: int, progress: Callable[[int], None] | None) -> None:
        self.level, self.chunk, self.progress = level, chunk, progress
        self.evaluations = 0

    @torch.no_grad()
    def __call__(self, grid: Grid, key: Int[Tensor, "N"]) -> Samples:
        """Samples at sorted keys: +infinity outside the box, the level function inside."""
        value = torch.full_like(key, torch.inf, dtype=grid.lower.dtype)
        inside = (~grid.outside(grid.coordinates(key))).nonzero()[:, 0]
        for part in inside.split(self.chunk):
            found = self.level(grid.positions(grid.coordinates(key[part])))
            if not found.isfinite().all():
                bad = int((~found.isfinite()).sum())
                raise UserError(
                    f"the field is not finite at {bad} of {len(part)} points, so it has no surface "
                    "there; its training diverged: use an earlier checkpoint"
                )
            value[part] = found.to(value.dtype)
            self.evaluations += len(part)
            if self.progress is not None:
                self.progress(len(part))
        return Samples(key, value)


def _check_resolution(resolution: int, coarse_resolution: int) -> None:
    ratio, rest = divmod(resolution, coarse_resolution)
    if rest or ratio < 1 or ratio & (ratio - 1):
        choices = ", ".join(str(coarse_resolution * 2**k) for k in range(6))
        raise UserError(
            f"a mesh resolution of {resolution} is not {coarse_resolution} (the coarse resolution) "
            f"times a power of two; choose one of {choices}"
        )


def _all_cells(grid: Grid) -> Int[Tensor, "C"]:
    along = torch.arange(grid.resolution + 2, device=grid.lower.device)
    return grid.keys(torch.cartesian_prod(along, along, along))


def _follow_surface(
    grid: Grid, cells: Int[Tensor, "C"], samples: Samples, sampler: _Sampler
) -> tuple[Int[Tensor, "D"], Int[Tensor, "D"], Samples]:
    """The cells and all that the surface leads to from them, their cases, and their samples.

    The surface goes on through the faces it crosses. The outermost vertices are all positive, so no
    face on the rim is ever crossed and no neighbour lies beyond the grid.
    """
    frontier = cells
    order, cases = [cells], [cells[:0]]
    while len(frontier) > 0:
        corners = frontier
        for stride in grid.strides:
            corners = _union([corners, corners + stride])
        samples = samples.merged(sampler(grid, _missing(corners, samples.key)))
        cases.append(_cases(grid, frontier, samples))
        ahead = _across_faces(grid, frontier, cases[-1])
        frontier = _missing(ahead, cells)
        order.append(frontier)
        cells = torch.cat([cells, frontier]).sort().values
    return cells, torch.cat(cases)[torch.cat(order).argsort()], samples


def _cases(grid: Grid, cells: Int[Tensor, "C"], samples: Samples) -> Int[Tensor, "C"]:
    """Bit k of a cell's case says whether corner k is inside."""
    offsets = grid.offsets(CORNERS)
    bits = 2 ** torch.arange(8, device=cells.device)
    return torch.cat(
        [
            ((samples.at(part[:, None] + offsets) < 0) * bits).sum(dim=-1)
            for part in cells.split(CELLS_AT_ONCE)
        ]
    )


def _across_faces(grid: Grid, cells: Int[Tensor, "C"], case: Int[Tensor, "C"]) -> Int[Tensor, "N"]:
    """The neighbours across those faces of the cells whose four corners differ in sign."""
    neighbours = []
    for axis, end in product(range(3), (0, 1)):
        face = sum(2**k for k, corner in enumerate(CORNERS) if corner[axis] == end)
        crossed = ((case & face) != 0) & ((case & face) != face)
        neighbours.append(cells[crossed] + (2 * end - 1) * grid.strides[axis])
    return _union(neighbours)


def _promising(grid: Grid, cells: Int[Tensor, "C"], samples: Samples) -> Bool[Tensor, "C"]:
    """Cells within which the level would reach zero at the steepest slope seen around them.

    The slope is the largest change along an edge of the cells that touch this one. A plane through
    a cell passes some corner at no more than half the change along an edge, so of an ideal distance
    function no thin flat part is overlooked, even one that slips between all vertices.
    """
    place = torch.searchsorted(samples.key, cells[:, None] + grid.offsets(CORNERS))
    corner = samples.value[place].reshape(-1, 2, 2, 2)
    changes = torch.cat([corner.diff(dim=axis).abs().flatten(1) for axis in (1, 2, 3)], dim=1)
    steepest = changes.where(changes.isfinite(), 0.0).amax(dim=-1)  # the rim says nothing
    slope = torch.zeros_like(samples.value)
    slope.scatter_reduce_(0, place.flatten(), steepest.repeat_interleave(8), "amax")
    return corner.abs().flatten(1).amin(dim=-1) <= 0.5 * slope[place].amax(dim=-1)


def _subdivided(grid: Grid, cells: Int[Tensor, "C"]) -> Int[Tensor, "D"]:
    """The eight children of each cell, as far as they belong to the finer grid."""
    finer = grid.finer()
    parent = 2 * grid.coordinates(cells) - 1
    children = [parent + torch.tensor(corner, device=cells.device) for corner in CORNERS]
    # The layer around the box is again one cell thick.
    fit = [c[((c >= 0) & (c <= finer.resolution + 1)).all(dim=-1)] for c in children]
    return _union([finer.keys(c) for c in fit])


def _subsampled(grid: Grid, samples: Samples) -> Samples:
    """The samples inside the box as samples of the finer grid; their order stays."""
    coordinates = grid.coordinates(samples.key)
    inside = ~grid.outside(coordinates)
    return Samples(grid.finer().keys(2 * coordinates[inside] - 1), samples.value[inside])


def _triangulate(
    grid: Grid, cells: Int[Tensor, "C"], case: Int[Tensor, "C"], samples: Samples
) -> Mesh:
    """Marching cubes on the crossed cells, which share one vertex per edge of the grid."""
    if len(cells) == 0:
        return empty_mesh()
    start, axis, triangles = (t.to(cells.device) for t in _marching_cubes_table())
    local_edges = (start * grid.strides).sum(dim=-1) * 3 + axis
    parts = []
    for part, part_case in zip(cells.split(CELLS_AT_ONCE), case.split(CELLS_AT_ONCE), strict=True):
        cell, triangle = (triangles[part_case][..., 0] >= 0).nonzero(as_tuple=True)
        parts.append(3 * part[cell, None] + local_edges[triangles[part_case[cell], triangle]])
    edges, faces = torch.unique(torch.cat(parts), return_inverse=True)
    vertices = torch.cat([_crossings(grid, part, samples) for part in edges.split(CELLS_AT_ONCE)])
    return Mesh(vertices.cpu().numpy(), faces.cpu().numpy())


def _crossings(grid: Grid, edges: Int[Tensor, "E"], samples: Samples) -> Float[Tensor, "E 3"]:
    """Where the surface crosses grid edges 3 key + axis, by linear interpolation."""
    low, axis = edges // 3, edges % 3
    high = low + grid.strides[axis]
    swap = samples.at(low) >= 0
    inside, outside = torch.where(swap, high, low), torch.where(swap, low, high)
    depth = -samples.at(inside)
    share = (depth / (depth + samples.at(outside))).clamp(MARGIN, 1 - MARGIN)
    start, end = grid.coordinates(inside), grid.coordinates(outside)
    return grid.positions(start) + share[:, None] * (grid.positions(end) - grid.positions(start))


@lru_cache
def _marching_cubes_table() -> tuple[
    Int[Tensor, "12 3"], Int[Tensor, "12"], Int[Tensor, "256 5 3"]
]:
    """Marching cubes' rule: start and axis of a cell's edges, and the triangles of edges per case.

    Read off a library's answers on the 256 cells there are. A case has at most five triangles; -1
    fills the other places.
    """
    edges = [(corner, axis) for corner in CORNERS for axis in range(3) if corner[axis] == 0]
    # With corners at +-1 each vertex is the middle of its edge: twice it is integer and unique.
    middles = {
        tuple(2 * np.array(c) + np.eye(3, dtype=int)[a]): k for k, (c, a) in enumerate(edges)
    }
    triangles = torch.full((256, 5, 3), -1)
    for case in range(1, 255):
        inside = np.array([case >> k & 1 for k in range(8)]).reshape(2, 2, 2)
        vertices, faces = mcubes.marching_cubes(2.0 * inside - 1.0, 0.0)
        edge = np.array([middles[tuple(v)] for v in np.rint(2 * vertices).astype(int)])
        triangles[case, : len(faces)] = torch.from_numpy(edge[faces.astype(int)])
    start, axis = zip(*edges, strict=True)
    return torch.tensor(start), torch.tensor(axis), triangles


def _union(keys: list[Int[Tensor, "_"]]) -> Int[Tensor, "N"]:
    return torch.unique(torch.cat(keys))


def _missing(keys: Int[Tensor, "M"], known: Int[Tensor, "N"]) -> Int[Tensor, "K"]:
    """Those of the keys that are not among the known ones, which are sorted."""
    if len(known) == 0:
        return keys
    place = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
    return keys[known[place] != keys]
