"""Sphere tracing of exact distance functions, hurried by a grid of safe steps.

A ray advances by the distance to the nearest surface, which cannot overshoot (Hart, "Sphere
tracing", 1996). The distance function is evaluated once on a grid; elsewhere the value of the
containing cell's centre less half the cell's diagonal is a safe step because the function is
1-Lipschitz. Only near the surface is the function itself evaluated.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.cameras import Rays
from common.data.shapes import Distance
from common.rendering.intervals import cube_intervals

HIT = 1e-5  # a ray ends this close to the surface; float32 distances are good to about 1e-6
MAX_STEPS = 40  # a ray that meets a face at cosine c needs about 4 / c steps
SKIM_SAMPLES = 512


@dataclass(frozen=True)
class StepGrid:
    """Distances at the centres of the cells of a cube centred at the origin."""

    values: Float[Tensor, "G G G"]
    half: float  # half the cube's side

    @property
    def spacing(self) -> float:
        """Side of a cell."""
        return 2 * self.half / len(self.values)

    @property
    def slack(self) -> float:
        """Half the diagonal of a cell: the most a 1-Lipschitz function varies from its centre."""
        return self.spacing * 3**0.5 / 2

    def at(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """The value of the cell that contains each point (the nearest cell's, outside)."""
        size = len(self.values)
        cell = ((points + self.half) / self.spacing).long().clamp(0, size - 1)
        return self.values.view(-1)[(cell[:, 0] * size + cell[:, 1]) * size + cell[:, 2]]

    def centres(self, index: Int[Tensor, "N"]) -> Float[Tensor, "N 3"]:
        """Centres of cells given by their flat indices."""
        size = len(self.values)
        cell = torch.stack([index // size**2, index // size % size, index % size], dim=-1)
        return (cell + 0.5) * self.spacing - self.half


def step_grid(distance: Distance, half: float, resolution: int = 64) -> StepGrid:
    """Evaluate a distance function at the centres of resolution^3 cells of [-half, half]^3."""
    axis = ((torch.arange(resolution) + 0.5) * (2 * half / resolution)) - half
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    values = distance(torch.stack([x, y, z], dim=-1).reshape(-1, 3))
    return StepGrid(values.view(resolution, resolution, resolution), half)


def trace(distance: Distance, grid: StepGrid, rays: Rays) -> Float[Tensor, "R"]:
    """Distance along each ray to its first point on the surface inside the grid's cube.

    Infinity where the ray misses. ``distance`` must be 1-Lipschitz and ``grid`` made from it.
    """
    intervals = cube_intervals(rays, grid.half)
    entry, exit_ = intervals.near, intervals.far
    depth = torch.full_like(entry, torch.inf)
    alive = torch.nonzero(entry < exit_)[:, 0]
    origin, direction = rays.origin[alive], rays.direction[alive]
    reached, last = entry[alive], exit_[alive]
    # The step that led here, and the radius of the empty ball around the place where it began.
    step, ball = torch.zeros_like(reached), torch.zeros_like(reached)
    for _ in range(MAX_STEPS):
        if len(alive) == 0:
            break
        points = origin + reached[:, None] * direction
        free = grid.at(points) - grid.slack
        near = torch.nonzero(free < grid.slack)[:, 0]
        exact = distance(points[near])
        free[near] = exact
        # Between two balls that do not meet a surface may hide: go back to the first one's rim.
        apart = (step > ball) & (step > ball + free)
        hit = (free < HIT) & ~apart
        depth[alive[hit]] = reached[hit]
        ahead = free.clone()
        ahead[near] *= _relaxation(ball[near], exact, step[near])
        ahead = ahead.minimum(free.maximum(last - reached))  # the end is seen, too
        reached = reached + torch.where(apart, ball - step, ahead)
        step, ball = torch.where(apart, ball, ahead), torch.where(apart, ball, free)
        sound = reached - (step - ball)  # so far there is no surface
        going = torch.nonzero((sound < last) & ~hit)[:, 0]
        alive, origin, direction = alive[going], origin[going], direction[going]
        reached, last, step, ball = reached[going], last[going], step[going], ball[going]
    sound = reached - (step - ball)
    depth[alive] = _first_crossing(distance, grid, Rays(origin, direction), sound, last)
    return depth


def _relaxation(
    before: Float[Tensor, "N"], distance: Float[Tensor, "N"], step: Float[Tensor, "N"]
) -> Float[Tensor, "N"]:
    """How many times its distance a ray may advance so that the two places' balls still meet.

    Were the surface a plane that the ray meets at cosine c, the distance would fall by c times the
    step, and from d it could go 2 d / (1 + c): the nearest steps converge twice as fast on a plane
    that is met flat. The last step tells c (Ban and Valasek, "Automatic Step Size Relaxation in
    Sphere Tracing", 2023).
    """
    cosine = ((before - distance) / step).nan_to_num(1.0).clamp(0, 1)
    # On a plane the balls would just touch: stay a little short of that, or rounding parts them.
    return 1 + 0.97 * (1 - cosine) / (1 + cosine)


def _first_crossing(
    distance: Distance,
    grid: StepGrid,
    rays: Rays,
    start: Float[Tensor, "R"],
    end: Float[Tensor, "R"],
) -> Float[Tensor, "R"]:
    """Depth of the first change of sign, by dense samples and bisection: for rays that skim."""
    share = torch.linspace(0, 1, SKIM_SAMPLES).to(start)
    samples = start[:, None] + (end - start)[:, None] * share
    points = (rays.origin[:, None] + samples[..., None] * rays.direction[:, None]).view(-1, 3)
    inside = torch.zeros(len(points), dtype=torch.bool)
    near = torch.nonzero(grid.at(points) < grid.slack)[:, 0]
    inside[near] = distance(points[near]) < 0
    inside = inside.view(samples.shape)
    found = torch.nonzero(inside.any(dim=1))[:, 0]
    first = inside[found].int().argmax(dim=1).clamp(min=1)
    outer, inner = samples[found, first - 1], samples[found, first]
    crossing = Rays(rays.origin[found], rays.direction[found])
    for _ in range(12):  # 0.0035 / 2^12 is below float32's resolution at these depths
        middle = (outer + inner) / 2
        holds = distance(crossing.at(middle)) < 0
        inner, outer = torch.where(holds, middle, inner), torch.where(holds, outer, middle)
    depth = torch.full_like(start, torch.inf)
    depth[found] = outer
    return depth


def surface_normals(
    distance: Distance, points: Float[Tensor, "N 3"], width: float = 1e-3
) -> Float[Tensor, "N 3"]:
    """Unit gradients by four differences on a tetrahedron of this half width, in object units."""
    corners = torch.tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]]).to(points)
    gradient = torch.zeros_like(points)
    for corner in corners.unbind(0):
        gradient += corner * distance(points + width * corner)[:, None]
    return torch.nn.functional.normalize(gradient, dim=-1)


def openness(
    distance: Distance,
    points: Float[Tensor, "N 3"],
    normal: Float[Tensor, "N 3"],
    reaches: tuple[tuple[float, float], ...],
) -> Float[Tensor, "N"]:
    """1 in the open, less in corners: how the distance grows along the normal.

    ``reaches`` are distances from the surface and how much each darkens where it is not free.
    """
    open_ = torch.ones(len(points))
    for reach, weight in reaches:
        free = distance(points + reach * normal)
        open_ -= weight * (1 - free / reach).clamp(0, 1)
    return open_
