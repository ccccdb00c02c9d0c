"""The search against closed forms and hand-made rays; the fast march against the dense one."""

import pytest
import torch

from common.cameras import Rays
from common.rendering.intervals import Intervals, cube_intervals
from common.rendering.march import (
    Hits,
    Refinement,
    doubtful_looks_repeated,
    march,
    march_dense,
)
from tests.surfaces import Sphere, rays_towards

SECANT = Refinement("secant", 8)


def line(values: list[float]) -> tuple:
    """A ray along z whose field takes these values at equally spaced samples, linear between."""
    table = torch.tensor(values)
    rays = Rays(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]))
    intervals = Intervals(torch.zeros(1), torch.ones(1), torch.ones(1, dtype=torch.bool))

    def level(points: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
        position = points[:, 2] * (len(table) - 1)
        left = position.floor().long().clamp(0, len(table) - 2)
        share = position - left
        return table[left] * (1 - share) + table[left + 1] * share

    return level, rays, intervals, len(values), SECANT


@pytest.mark.parametrize("search", [march_dense, march])
class TestEachRay:
    """What a single ray returns, whichever search is asked."""

    def test_first_entry_is_taken(self, search) -> None:
        hits = search(*line([1.0, -1.0, 1.0, -1.0, 1.0]))
        assert hits.found.all()
        assert hits.depth.item() == pytest.approx(1 / 8, abs=1e-6)

    def test_no_crossing_is_a_miss_at_infinity(self, search) -> None:
        hits = search(*line([1.0, 0.5, 0.2, 0.5, 1.0]))
        assert not hits.found.any() and not hits.covered.any()
        assert torch.isinf(hits.depth).all()

    def test_start_inside_is_covered_but_has_no_surface(self, search) -> None:
        hits = search(*line([-1.0, 1.0, -1.0, 1.0, 1.0]))
        assert not hits.found.any() and hits.starts_inside.all() and hits.covered.all()
        assert hits.depth.item() == 0.0

    def test_only_leaving_is_not_entering(self, search) -> None:
        hits = search(*line([1.0, 1.0, 1.0, 1.0, -0.5]))
        assert hits.found.all()
        assert hits.depth.item() == pytest.approx(0.75 + 0.25 * 2 / 3, abs=1e-5)

    def test_sample_exactly_on_the_surface_is_a_crossing(self, search) -> None:
        hits = search(*line([1.0, 0.0, 1.0, 1.0, 1.0]))
        assert hits.found.all()
        assert hits.depth.item() == pytest.approx(0.25, abs=1e-6)

    def test_rays_that_miss_the_volume_cost_nothing(self, search) -> None:
        level, rays, _, samples, refinement = line([1.0, -1.0, 1.0])
        nowhere = Intervals(torch.zeros(1), torch.zeros(1), torch.zeros(1, dtype=torch.bool))
        hits = search(level, rays, nowhere, samples, refinement)
        assert hits.evaluations == 0 and not hits.covered.any() and torch.isinf(hits.depth).all()

    def test_no_rays_at_all(self, search) -> None:
        sphere = Sphere(torch.tensor(0.3), torch.zeros(3))
        rays = Rays(torch.zeros(0, 3), torch.zeros(0, 3))
        hits = search(lambda p, ray: sphere(p), rays, cube_intervals(rays), 16, SECANT)
        assert hits.evaluations == 0 and hits.depth.shape == (0,)

    @pytest.mark.parametrize("method,tolerance", [("secant", 1e-5), ("bisection", 2e-4)])
    def test_sphere_depth_is_exact(self, search, method, tolerance) -> None:
        """Eight halvings of a bracket of about 1/63 leave 6e-5; the secant the rounding error of
        a depth near 2 (2e-7), over the cosine of the most grazing ray."""
        generator = torch.Generator().manual_seed(1)
        sphere = Sphere(torch.tensor(0.35), torch.tensor([0.05, 0.0, -0.03]))
        rays = rays_towards(0.9 * (torch.rand(500, 3, generator=generator) - 0.5), 2.0, generator)
        hits = search(
            lambda p, ray: sphere(p), rays, cube_intervals(rays), 64, Refinement(method, 8)
        )
        exact = sphere.exact_depth(rays)
        assert torch.equal(hits.found & ~torch.isnan(exact), hits.found)
        torch.testing.assert_close(
            hits.depth[hits.found], exact[hits.found], rtol=0, atol=tolerance
        )


@pytest.mark.parametrize("tolerance,most", [(None, 8.0), (1e-2, 1.2), (1e-3, 2.2), (0.0, 7.0)])
def test_refinement_ends_for_each_ray_where_it_is_within_the_tolerance(tolerance, most) -> None:
    """Of spheres hit head on and aslant; what is left to do is what came out too far last time."""
    asked, far = [], []

    def level(points: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
        values = points.norm(dim=-1) - 0.35
        asked.append(ray)
        far.append(ray[values.abs() > (-1 if tolerance is None else tolerance)])
        return values

    generator = torch.Generator().manual_seed(3)
    rays = rays_towards(0.4 * (torch.rand(200, 3, generator=generator) - 0.5), 2.0, generator)
    refinement = Refinement("secant", 8, tolerance)
    hits = march_dense(level, rays, cube_intervals(rays), 32, refinement)
    assert hits.found.all() and hits.evaluations == sum(map(len, asked))
    _, *steps = asked
    assert torch.equal(steps[0], torch.arange(200)) and len(steps) <= 8
    for left, now in zip(far[1:-1], steps[1:], strict=True):
        assert torch.equal(left, now)
    assert sum(map(len, steps)) / 200 <= most
    beside = rays.at(hits.depth).norm(dim=-1) - 0.35
    assert (beside.abs() <= (tolerance or 1e-6)).all()


@pytest.mark.parametrize("entry", [0.0, 0.1, 0.4, 0.7, 0.95])
def test_little_is_looked_at_behind_an_entry(entry) -> None:
    """No more than a quarter of the way; the hit is that of the dense march."""
    deepest = 0.0

    def slab(points: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
        nonlocal deepest
        deepest = max([deepest, *points[:, 0].tolist()])
        return (points[:, 0] - entry - 0.01).abs() - 0.1

    rays = Rays(torch.zeros(50, 3), torch.tensor([1.0, 0, 0]).expand(50, 3))
    intervals = Intervals(torch.zeros(50), torch.ones(50), torch.ones(50, dtype=torch.bool))
    hits = march(slab, rays, intervals, 128, SECANT)
    assert deepest <= entry + 0.3
    dense = march_dense(slab, rays, intervals, 128, SECANT)
    assert torch.equal(hits.starts_inside, dense.starts_inside) and hits.covered.all()
    torch.testing.assert_close(hits.depth, dense.depth, rtol=0, atol=1e-6)


def wobbly(points: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
    """Nested shells with bumps: several crossings a ray, thin and grazing ones among them."""
    radius = points.norm(dim=-1)
    bumps = 0.03 * torch.sin(25 * points).prod(dim=-1)
    return 8 * ((radius - 0.33).abs() - 0.04 + bumps)


def test_fast_march_equals_the_dense_one_with_fewer_evaluations() -> None:
    generator = torch.Generator().manual_seed(2)
    rays = rays_towards(torch.rand(4000, 3, generator=generator) - 0.5, 1.5, generator)
    intervals = cube_intervals(rays)
    dense = march_dense(wobbly, rays, intervals, 128, SECANT)
    fast = march(wobbly, rays, intervals, 128, SECANT)
    equal = (dense.found == fast.found) & (~dense.found | ((dense.depth - fast.depth).abs() < 1e-6))
    assert equal.float().mean() >= 0.999
    assert fast.evaluations < 0.45 * dense.evaluations


def test_caution_finds_sheets_thinner_than_the_stride() -> None:
    """A slab of three samples' width between coarse samples 8 apart, in a linear field."""
    sheet = lambda p, ray: (p[:, 2] - 0.27).abs() - 0.012  # noqa: E731
    generator = torch.Generator().manual_seed(3)
    target = torch.rand(1000, 3, generator=generator) * 0.4 - 0.2
    origin = target.clone()
    origin[:, 2] = 1.0
    rays = Rays(origin, torch.tensor([0.0, 0.0, -1.0]).expand(1000, 3))
    intervals = cube_intervals(rays)
    dense = march_dense(sheet, rays, intervals, 128, SECANT)
    fast = march(sheet, rays, intervals, 128, SECANT)
    assert dense.found.all() and fast.found.all()


class TestRoughLooks:
    """A cheap level whose errors are alike everywhere, beside the exact one."""

    def rough(self, points: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
        value = wobbly(points, ray)
        return 0.995 * value + 0.02 * torch.sin(1000 * points.sum(dim=-1))

    def test_hits_are_those_of_exact_looks(self) -> None:
        generator = torch.Generator().manual_seed(2)
        rays = rays_towards(torch.rand(4000, 3, generator=generator) - 0.5, 1.5, generator)
        intervals = cube_intervals(rays)
        exact = march(wobbly, rays, intervals, 128, SECANT)
        asked = []

        def level(points: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
            asked.append(len(points))
            return wobbly(points, ray)

        hits = march(level, rays, intervals, 128, SECANT, rough=self.rough)
        assert torch.equal(hits.found, exact.found) and exact.found.sum() > 1000
        assert torch.equal(hits.starts_inside, exact.starts_inside)
        assert torch.equal(hits.depth, exact.depth)
        # The exact level: eight evaluations of a root, two ends, and what is doubtful.
        rest = sum(asked) - 10 * int(exact.found.sum())
        assert 0 < rest < 0.1 * exact.evaluations
        assert exact.evaluations < hits.evaluations < 1.2 * exact.evaluations

    def test_every_evaluation_is_counted(self) -> None:
        counts = []

        def counting(level):
            return lambda p, ray: (counts.append(len(p)), level(p, ray))[1]

        rays = rays_towards(torch.rand(500, 3) - 0.5, 1.5, torch.Generator().manual_seed(0))
        hits = march(
            counting(wobbly), rays, cube_intervals(rays), 128, SECANT, rough=counting(self.rough)
        )
        assert hits.evaluations == sum(counts)

    def test_signs_are_exact_where_errors_are_alike(self) -> None:
        points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(4)) - 0.5
        ray = torch.zeros(len(points), dtype=torch.long)
        wrong = (self.rough(points, ray) > 0) != (wobbly(points, ray) > 0)
        assert wrong.sum() > 50
        values = doubtful_looks_repeated(self.rough, wobbly)(points, ray)
        assert torch.equal(values > 0, wobbly(points, ray) > 0)

    def test_a_field_that_is_lost_has_no_surface(self) -> None:
        """A diverged training is noticed by its loss, as with exact looks alone."""
        rays = rays_towards(torch.rand(20, 3) - 0.5, 1.5, torch.Generator().manual_seed(0))
        lost = lambda p, ray: p[:, 0] * torch.nan  # noqa: E731
        hits = march(lost, rays, cube_intervals(rays), 32, SECANT, rough=lost)
        assert not hits.covered.any() and torch.isinf(hits.depth).all()

    def test_no_points_ask_nothing(self) -> None:
        level = doubtful_looks_repeated(self.rough, wobbly)
        assert level(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)).shape == (0,)


class TestCubeIntervals:
    """Parameters of entry and exit (half size 0.5)."""

    def interval(self, origin, direction) -> Intervals:
        direction = torch.nn.functional.normalize(
            torch.tensor([direction], dtype=torch.float), dim=-1
        )
        return cube_intervals(Rays(torch.tensor([origin], dtype=torch.float), direction))

    def test_through_the_middle(self) -> None:
        found = self.interval([0, 0, -2], [0, 0, 1])
        assert found.crosses.all() and (found.near, found.far) == (1.5, 2.5)

    def test_behind_the_camera_is_missed(self) -> None:
        assert not self.interval([0, 0, 2], [0, 0, 1]).crosses.any()

    def test_from_inside_it_starts_at_the_camera(self) -> None:
        found = self.interval([0, 0, 0.3], [0, 0, 1])
        assert found.near.item() == 0
        assert found.far.item() == pytest.approx(0.2)

    def test_through_two_corners_along_the_diagonal(self) -> None:
        found = self.interval([-1, -1, -1], [1, 1, 1])
        assert found.near.item() == pytest.approx(3**0.5 / 2, abs=1e-6)
        assert found.far.item() == pytest.approx(3 * 3**0.5 / 2, abs=1e-6)

    @pytest.mark.parametrize("x,crosses", [(0.49, True), (0.51, False)])
    def test_parallel_to_a_face(self, x, crosses) -> None:
        assert self.interval([x, 0, -2], [0, 0, 1]).crosses.item() is crosses


def test_hits_report_every_evaluation() -> None:
    counted = 0

    def level(points, ray):
        nonlocal counted
        counted += len(points)
        return wobbly(points, ray)

    generator = torch.Generator().manual_seed(4)
    rays = rays_towards(torch.rand(300, 3, generator=generator) - 0.5, 1.5, generator)
    for search in (march_dense, march):
        counted = 0
        hits: Hits = search(level, rays, cube_intervals(rays), 50, SECANT)
        assert hits.evaluations == counted
