"""Traced depths and normals against closed forms."""

import pytest
import torch

from common.cameras import Rays
from common.data.shapes import box, capsule, sphere, union
from common.data.sphere_tracer import HIT, step_grid, surface_normals, trace
from common.rendering.intervals import cube_intervals


def rays_at_cube(count: int, seed: int = 0) -> Rays:
    generator = torch.Generator().manual_seed(seed)
    origin = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1) * 2
    target = torch.rand(count, 3, generator=generator) - 0.5
    return Rays(origin, torch.nn.functional.normalize(target - origin, dim=-1))


def sphere_depth(rays: Rays, radius: float) -> torch.Tensor:
    origin, direction = rays.origin.double(), rays.direction.double()
    middle = -(origin * direction).sum(-1)
    inside = middle**2 - (origin**2).sum(-1) + radius**2
    return torch.where(inside >= 0, middle - inside.clamp(min=0).sqrt(), torch.inf)


def test_depth_of_a_sphere_is_exact():
    rays, radius = rays_at_cube(20_000), 0.35
    shape = sphere((0, 0, 0), radius)
    depth = trace(shape.distance, step_grid(shape.distance, 0.5), rays).double()
    exact = sphere_depth(rays, radius)
    # A ray that passes the surface at a distance below HIT may count as a hit: leave those out.
    closest = (rays.origin.double().cross(rays.direction.double(), dim=-1)).norm(dim=-1)
    clear = (closest - radius).abs() > 2 * HIT
    assert (depth.isfinite() == exact.isfinite())[clear].all()
    hit = clear & exact.isfinite()
    # It ends where the distance is below HIT: that far before the surface over the cosine of
    # incidence, plus float32 rounding at distances of about 2.
    cosine = (1 - (closest[hit] / radius) ** 2).sqrt()
    assert ((depth[hit] - exact[hit]).abs() * cosine <= HIT + 2e-6).all()


def test_depth_of_a_box_is_that_of_its_slabs():
    rays, shape = rays_at_cube(20_000), box((0, 0, 0), (0.3, 0.3, 0.3))
    depth = trace(shape.distance, step_grid(shape.distance, 0.5), rays)
    intervals = cube_intervals(rays, 0.3)
    entry, exit_ = intervals.near, intervals.far
    chord = exit_ - entry
    clear = chord.abs() > 1e-3  # rays that cut an edge by less may hit or miss within HIT
    assert (depth.isfinite() == (chord > 0))[clear].all()
    hit = clear & (chord > 0)
    face = (rays.at(entry).abs() - 0.3).abs().argmin(dim=-1, keepdim=True)
    cosine = rays.direction.abs().gather(1, face)[:, 0]
    assert cosine[hit].min() < 0.01  # faces are met as flat as they are on a table seen edge on
    assert ((depth[hit] - entry[hit]).abs() * cosine[hit]).max() <= HIT + 2e-6


def test_a_thin_rod_is_not_stepped_over():
    # Far thinner than a cell of the grid, and clear of its nodes.
    rod = capsule((-0.4, 0.013, 0.007), (0.4, -0.011, 0.021), 0.002)
    along = torch.linspace(-0.39, 0.39, 500)
    target = torch.stack([along, 0.001 - 0.03 * along, 0.014 + 0.0175 * along], dim=-1)
    origin = torch.tensor([0.3, 1.5, 1.2]).expand_as(target)
    rays = Rays(origin, torch.nn.functional.normalize(target - origin, dim=-1))
    assert trace(rod.distance, step_grid(rod.distance, 0.5), rays).isfinite().all()


@pytest.mark.parametrize(("place", "half"), [(0.1, 0.5), (0.44, 0.4415)])
def test_a_thin_wall_on_a_face_that_is_grazed_is_not_stepped_over(place, half):
    # Above a face met flat, steps are longer than the distance: they lead past the wall's far side,
    # and past the end of the cube where the wall stands close to it.
    floor, wall = box((0, -0.25, 0), (0.45, 0.2, 0.45)), box((place, 0, 0), (0.001, 0.3, 0.45))
    shape = union(floor, wall)
    height = torch.linspace(-0.04, 0.02, 400)
    origin = torch.stack([torch.full_like(height, -0.49), height, height / 3], dim=-1)
    target = torch.stack([torch.full_like(height, place), height, -height], dim=-1)
    rays = Rays(origin, torch.nn.functional.normalize(target - origin, dim=-1))
    depth = trace(shape.distance, step_grid(shape.distance, half), rays)
    expected = (place - 0.001 + 0.49) / rays.direction[:, 0]
    torch.testing.assert_close(depth, expected, atol=1e-4, rtol=0)


def test_grid_steps_never_exceed_the_distance():
    shape = union(sphere((0.1, 0, 0), 0.2), box((-0.2, 0.1, 0), (0.1, 0.2, 0.05)))
    grid = step_grid(shape.distance, 0.5, resolution=24)
    points = torch.rand(50_000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    assert (grid.at(points) - grid.slack <= shape.distance(points) + 1e-6).all()


def test_cells_and_centres_agree():
    grid = step_grid(lambda points: points[:, 0] + 10 * points[:, 1] + 100 * points[:, 2], 0.5, 8)
    centres = grid.centres(torch.arange(8**3))
    torch.testing.assert_close(grid.at(centres), grid.values.view(-1))
    torch.testing.assert_close(
        grid.at(centres), centres @ torch.tensor([1.0, 10.0, 100.0]), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("radius", [0.1, 0.4])
def test_normals_of_a_sphere_point_outwards(radius):
    direction = torch.nn.functional.normalize(
        torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    normal = surface_normals(sphere((0, 0, 0), radius).distance, radius * direction)
    # A tetrahedron's differences err by its half width over the radius of curvature.
    torch.testing.assert_close(normal, direction, atol=1e-3 / radius, rtol=0)


def test_rays_that_miss_the_cube_or_leave_it_behind_have_no_interval():
    origin = torch.tensor([[0.0, 0.0, -2.0], [0.0, 2.0, -2.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    direction = torch.tensor([0.0, 0.0, 1.0]).expand(4, 3)
    intervals = cube_intervals(Rays(origin, direction), 0.5)
    entry, exit_ = intervals.near, intervals.far
    assert (entry < exit_).tolist() == [True, False, False, True]
    torch.testing.assert_close(entry[[0, 3]], torch.tensor([1.5, 0.0]))
    torch.testing.assert_close(exit_[[0, 3]], torch.tensor([2.5, 0.5]))
