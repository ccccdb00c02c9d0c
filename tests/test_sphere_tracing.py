"""The reference search against closed forms, hand-made levels, and its own cost."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from common.cameras import Rays
from common.data.shapes import box
from common.rendering.intervals import cube_intervals, sphere_intervals
from common.rendering.march import RayLevel
from common.rendering.sphere_tracing import TracedRays, TracingSettings, trace_reference
from tests.surfaces import Sphere, rays_towards

PAPER = TracingSettings()
# Rounding of float32 levels of rays whose depths are below 4.
ROUNDING = 1e-6


def sphere(radius: float, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Sphere:
    return Sphere(torch.tensor(radius), torch.tensor([x, y, z]))


def as_level(distance: Callable[[Tensor], Tensor], scale: float = 1.0) -> RayLevel:
    return lambda points, ray: scale * distance(points)


def random_rays(count: int, seed: int, spread: float = 1.2) -> Rays:
    """Rays from distance 2.5 through random points of a cube of this side."""
    generator = torch.Generator().manual_seed(seed)
    target = spread * (torch.rand(count, 3, generator=generator) - 0.5)
    return rays_towards(target, 2.5, generator)


def half_of(count: int) -> Tensor:
    """A mask that holds every ray with probability 1/2."""
    return torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.5


def along_z(*x: float, start: float = -2.0) -> Rays:
    """Rays upwards from (x, 0, start)."""
    origin = torch.tensor([[value, 0.0, start] for value in x])
    return Rays(origin, torch.tensor([0.0, 0.0, 1.0]).expand(len(x), 3))


def trace(level: RayLevel, rays: Rays, mask: list[bool] | Tensor | None = None) -> TracedRays:
    """In the unit ball with the paper's settings."""
    mask = torch.tensor(mask) if isinstance(mask, list) else mask
    generator = torch.Generator().manual_seed(0)
    return trace_reference(level, rays, sphere_intervals(rays), PAPER, mask, generator)


class TestSphereIntervals:
    """Parameters of entry and exit."""

    def test_ends_lie_on_the_ball(self) -> None:
        rays = random_rays(1000, seed=1, spread=2.0)
        found = sphere_intervals(rays, 0.8)
        misses = torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1) >= 0.8
        assert 100 < misses.sum() < 900 and torch.equal(found.crosses, ~misses)
        for depth in (found.near, found.far):
            radius = rays.at(depth).norm(dim=-1)[found.crosses]
            torch.testing.assert_close(radius, torch.full_like(radius, 0.8), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        "start,near,far,crosses",
        [(-2.0, 1.0, 3.0, True), (0.25, 0.0, 0.75, True), (2.0, 0.0, -1.0, False)],
        ids=["before", "inside", "beyond"],
    )
    def test_depths_begin_at_the_camera(self, start, near, far, crosses) -> None:
        found = sphere_intervals(along_z(0.0, start=start))
        assert (found.near.item(), found.far.item()) == (near, far)
        assert found.crosses.item() is crosses

    @pytest.mark.parametrize("x,crosses", [(0.999, True), (1.0, False), (1.001, False)])
    def test_a_tangent_ray_does_not_cross(self, x, crosses) -> None:
        assert sphere_intervals(along_z(x)).crosses.item() is crosses

    def test_a_far_camera_loses_no_precision(self) -> None:
        """Half chords to 1e-3 at distance 1000, where squared distances are rounded to 0.06."""
        found = sphere_intervals(along_z(0.6, start=-1000.0))
        assert found.far - found.near == pytest.approx(1.6, abs=1e-3)

    def test_no_rays(self) -> None:
        assert sphere_intervals(Rays(torch.zeros(0, 3), torch.zeros(0, 3))).near.shape == (0,)


def in_double(rays: Rays) -> Rays:
    """Closed forms subtract squares: what float32 loses there is more than is tested for."""
    direction = torch.nn.functional.normalize(rays.direction.double(), dim=-1)
    return Rays(rays.origin.double(), direction)


def sphere_entry(radius: float, *centre: float) -> Callable[[Rays], Tensor]:
    surface = sphere(radius, *centre)
    return lambda rays: surface.exact_depth(in_double(rays)).nan_to_num(nan=torch.inf).float()


def box_entry(*half: float) -> Callable[[Rays], Tensor]:
    """The slabs of a box are those of a cube in coordinates scaled by its sides."""

    def entry(rays: Rays) -> Tensor:
        rays, size = in_double(rays), torch.tensor(half)
        slabs = cube_intervals(Rays(rays.origin / size, rays.direction / size), 1.0)
        return torch.where(slabs.crosses, slabs.near, torch.inf).float()

    return entry


def torus(points: Tensor) -> Tensor:
    ring = points[:, :2].norm(dim=-1) - 0.5
    return (ring.square() + points[:, 2].square()).sqrt() - 0.2


def torus_entry(rays: Rays) -> Tensor:
    """Least real root of (|p|^2 + R^2 - r^2)^2 = 4 R^2 (x^2 + y^2) along p = o + t v."""
    rays = in_double(rays)
    o, v = rays.origin.numpy(), rays.direction.numpy()
    b, k = (o * v).sum(-1), (o * o).sum(-1) + 0.5**2 - 0.2**2
    # 4 R^2 times the squared distance from the axis, as a polynomial of depth.
    constant, linear, square = (
        4 * 0.5**2 * (p * q)[:, :2].sum(-1) for p, q in ((o, o), (2 * o, v), (v, v))
    )
    quartic = (4 * b, 4 * b * b + 2 * k - square, 4 * b * k - linear, k * k - constant)
    companion = np.zeros((len(o), 4, 4))
    companion[:, 0] = -np.stack(quartic, axis=-1)
    companion[:, 1:, :3] = np.eye(3)
    roots = np.linalg.eigvals(companion)
    real = np.where(np.abs(roots.imag) < 1e-9, roots.real, np.inf)
    return torch.from_numpy(real.min(axis=-1)).float()


def union(*parts: Callable) -> Callable:
    return lambda argument: torch.stack([part(argument) for part in parts]).amin(dim=0)


# Signed distances and the exact depths of their first entries.
SURFACES = {
    "sphere": (sphere(0.6, 0.1, -0.2, 0.05), sphere_entry(0.6, 0.1, -0.2, 0.05)),
    "torus": (torus, torus_entry),
    "box": (box((0, 0, 0), (0.5, 0.3, 0.4)).distance, box_entry(0.5, 0.3, 0.4)),
    "thin sheet": (box((0, 0, 0), (0.5, 0.5, 0.002)).distance, box_entry(0.5, 0.5, 0.002)),
    "one sphere behind another": (
        union(sphere(0.2, -0.6), sphere(0.3, 0.5)),
        union(sphere_entry(0.2, -0.6), sphere_entry(0.3, 0.5)),
    ),
    "sphere through a torus and a sheet": (
        union(sphere(0.25), torus, box((0, 0, 0), (0.5, 0.5, 0.002)).distance),
        union(sphere_entry(0.25), torus_entry, box_entry(0.5, 0.5, 0.002)),
    ),
}


def cosine(distance: Callable[[Tensor], Tensor], rays: Rays, depth: Tensor) -> Tensor:
    """How squarely the rays meet the surface, from the normal just before it."""
    point = rays.at(depth - 1e-4).requires_grad_()
    (normal,) = torch.autograd.grad(distance(point).sum(), point)
    return -(normal * rays.direction).sum(dim=-1)


def assert_exact(
    traced: TracedRays, rays: Rays, exact: Tensor, distance: Callable, scale: float = 1.0
) -> None:
    """The rays found are those that enter, save for grazes; depths are right.

    A front stops once the level is below the threshold: the threshold over the cosine of incidence
    before the surface. 1e-4 is that for rays up to 60 degrees off the normal.
    """
    enters = exact.isfinite()
    assert traced.found[enters].all()
    grazes = distance(rays.at(traced.depth))[traced.found & ~enters]
    assert ((grazes > 0) & (grazes <= PAPER.threshold / scale)).all()
    slant = cosine(distance, rays, exact)[enters]
    error = (traced.depth - exact)[enters].abs()
    early = PAPER.threshold / scale + 4 * ROUNDING
    assert (error * slant <= early).all()
    assert (error[slant > 0.5] <= 2 * early).all()


@pytest.mark.parametrize("surface", SURFACES)
def test_every_entry_is_found_at_its_depth(surface) -> None:
    distance, entry = SURFACES[surface]
    rays = random_rays(3000, seed=3)
    exact = entry(rays)
    assert 0.1 < exact.isfinite().float().mean() < 0.9
    traced = trace(as_level(distance), rays)
    assert not traced.starts_inside.any()
    assert_exact(traced, rays, exact, distance)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    radius=st.floats(0.05, 0.5),
    centre=st.tuples(*[st.floats(-0.28, 0.28)] * 3),
    seed=st.integers(0, 1000),
)
def test_any_sphere_within_the_ball(radius, centre, seed) -> None:
    rays, surface = random_rays(200, seed), sphere(radius, *centre)
    exact = sphere_entry(radius, *centre)(rays)
    # Whether a ray is tangent to rounding or enters by as little is not a question for float32.
    offset = rays.origin - surface.centre
    closest = torch.linalg.cross(offset, rays.direction).norm(dim=-1)
    clear = (closest - radius).abs() > 1e-5
    rays, exact = Rays(rays.origin[clear], rays.direction[clear]), exact[clear]
    assert_exact(trace(as_level(surface), rays), rays, exact, surface)


@pytest.mark.parametrize("scale,radius", [(0.5, 0.3), (0.5, 0.7), (2.0, 0.7)])
def test_scaled_distances_are_traced_as_well(scale, radius) -> None:
    """Half distances converge slowly and are sampled; doubled ones overshoot and back off.

    From the ball of radius 1 a doubled step cannot jump a whole sphere larger than 0.6.
    """
    rays, surface = random_rays(2000, seed=4, spread=1.5), sphere(radius)
    traced = trace(as_level(surface, scale), rays)
    assert_exact(traced, rays, sphere_entry(radius)(rays), surface, scale)


def test_what_a_whole_step_jumps_over_is_lost() -> None:
    """A doubled distance leads from one side of a sheet to the other without landing inside."""
    sheet = box((0, 0, 0), (0.5, 0.5, 0.01)).distance
    assert trace(as_level(sheet), along_z(0.0)).found.all()
    assert not trace(as_level(sheet, 2.0), along_z(0.0)).found.any()


def test_the_type_of_the_rays_is_kept() -> None:
    rays = in_double(random_rays(100, seed=5))
    traced = trace(as_level(sphere(0.5)), rays, torch.zeros(100, dtype=torch.bool))
    assert traced.depth.dtype == traced.least_depth.dtype == torch.float64


class TestWhereThereIsNoEntry:
    """Each case in which a ray has no first passage from outside to inside, or hardly one."""

    def test_camera_inside_the_object_even_with_another_ahead(self) -> None:
        level = as_level(union(sphere(0.3, z=-0.5), sphere(0.2, z=0.5)))
        traced = trace(level, along_z(0.0, start=-0.5), mask=[True])
        assert traced.starts_inside.all() and not traced.found.any()
        # The deepest point ahead is the camera's own, the centre of the larger sphere; a random
        # depth may at best equal it.
        assert traced.depth.item() == pytest.approx(0.0, abs=ROUNDING)

    @pytest.mark.parametrize("z,found", [(-0.9, False), (0.9, True)])
    def test_object_that_pokes_out_of_the_ball(self, z, found) -> None:
        """Cut by the ball on the near side it has no entry there; on the far side it has one."""
        traced = trace(as_level(sphere(0.3, z=z)), along_z(0.0))
        assert traced.found.item() is found and traced.starts_inside.item() is not found
        if found:
            assert traced.depth.item() == pytest.approx(2 + 0.9 - 0.3, abs=1e-4)

    def test_object_that_pokes_out_on_all_kinds_of_rays(self) -> None:
        """Inside at the ball's boundary or else entered within the ball, as closed forms say."""
        rays, surface = random_rays(3000, seed=6), sphere(0.5, 0.6, 0.2)
        intervals = sphere_intervals(rays)
        entry = surface.exact_depth(rays).nan_to_num(nan=torch.inf)
        inside = intervals.crosses & (surface(rays.at(intervals.near)) <= 0)
        assert 50 < inside.sum()
        enters = (entry > intervals.near) & (entry < intervals.far)
        traced = trace(as_level(surface), rays)
        assert torch.equal(traced.starts_inside, inside)
        assert_exact(traced, rays, torch.where(enters, entry, torch.inf), surface)

    def test_rays_that_miss_the_ball_cost_nothing_and_get_their_nearest_point(self) -> None:
        rays = Rays(
            torch.tensor([[1.5, 0.0, -2.0], [0.0, 0.0, 2.0], [0.0, 1.25, -3.0]]),
            torch.tensor([0.0, 0.0, 1.0]).expand(3, 3),
        )
        traced = trace(as_level(sphere(0.5)), rays, mask=[True, False, False])
        assert traced.evaluations == 0
        assert not (traced.found | traced.starts_inside).any()
        # The second looks away from the ball: nothing on it is nearer than the camera.
        assert traced.depth.tolist() == traced.least_depth.tolist() == [2.0, 0.0, 3.0]

    @pytest.mark.parametrize("mask", [None, []])
    def test_no_rays_at_all(self, mask) -> None:
        def never(points: Tensor, ray: Tensor) -> Tensor:
            raise AssertionError("evaluated without a point")

        mask = None if mask is None else torch.zeros(0, dtype=torch.bool)
        traced = trace(never, Rays(torch.zeros(0, 3), torch.zeros(0, 3)), mask)
        assert traced.evaluations == 0
        assert traced.depth.shape == traced.found.shape == (0,)

    @pytest.mark.parametrize("height,found", [(1e-3, False), (2e-5, True), (-1e-3, True)])
    def test_ray_along_a_face_of_a_box(self, height, found) -> None:
        """It misses above the face, enters by the side below, and between counts as a hit."""
        rays = along_z(0.3 + height)
        traced = trace(as_level(box((0, 0, 0), (0.3, 0.5, 0.4)).distance), rays)
        assert traced.found.item() is found
        if found:
            assert traced.depth.item() == pytest.approx(1.6, abs=1e-4)

    def test_surface_on_the_end_of_the_interval(self) -> None:
        """Level 0 there is inside; outside within the threshold is a surface already."""
        on_it, before_it = (
            trace(lambda p, ray, gap=gap: gap - (p[:, 2] + 1), along_z(0.0)) for gap in (0.0, 2e-5)
        )
        assert on_it.starts_inside.all() and not on_it.found.any()
        assert before_it.found.all() and before_it.depth.item() == 1.0

    def test_unconverged_without_a_change_of_sign(self) -> None:
        """A small level that never vanishes: sampled, not found, and least where it is least."""
        level = lambda p, ray: 1e-3 + 1e-3 * (p[:, 2] - 0.25).square()  # noqa: E731
        traced = trace(level, along_z(0.0))
        assert not traced.found.any()
        assert traced.depth.item() == pytest.approx(2.25, abs=2 / 99)

    def test_level_that_is_not_a_number(self) -> None:
        traced = trace(lambda p, ray: p[:, 0] * torch.nan, along_z(0.0), mask=[True])
        assert not (traced.found | traced.starts_inside).any()
        assert traced.depth.isfinite().all()


class TestStepsThatStayInside:
    """Steps so long that every back-off still lands inside."""

    def test_near_front_brackets_the_entry(self) -> None:
        """Sampled between the last point outside and where it ended, an eighth of the step."""
        cliff = lambda p, ray: torch.where(p[:, 2] < -0.98, 1.0, -0.1)  # noqa: E731
        traced = trace(cliff, along_z(0.0))
        assert traced.found.all() and not traced.starts_inside.any()
        assert traced.depth.item() == pytest.approx(2 - 0.98, abs=0.125 / 99)

    def test_near_bracket_is_not_lost_among_the_samples_of_the_whole_ray(self) -> None:
        """Four sheets thinner than a sample, each where a back-off ends: the nearest is entered."""
        landings = torch.tensor([0.0, -0.5, -0.75, -0.875])

        def level(points: Tensor, ray: Tensor) -> Tensor:
            inside = ((points[:, 2:] - landings).abs() < 0.002).any(dim=-1)
            return torch.where(inside, -0.1, 1.0)

        traced = trace(level, along_z(0.0))
        assert traced.found.all()
        assert traced.depth.item() == pytest.approx(2 - 0.877, abs=0.125 / 99)

    def test_far_front_stays_outside(self) -> None:
        cliff = lambda p, ray: torch.where(p[:, 2] > 0.95, 1.0, -0.2 - p[:, 2])  # noqa: E731
        traced = trace(cliff, along_z(0.0))
        assert traced.depth.item() == pytest.approx(2 - 0.2, abs=1e-4) and traced.found.all()

    def test_first_sample_inside_is_no_entry(self) -> None:
        """A level that differs between batches, as half precision may: nothing wraps around."""
        fickle = lambda p, ray: torch.full_like(p[:, 0], -1 if len(p) == 100 else 1e-3)  # noqa: E731
        assert not trace(fickle, along_z(0.0)).found.any()


class TestLeastLevel:
    """The point of least level on rays outside the mask or without a surface."""

    # Of 100 random depths of a chord of at most 2 none is within 0.1 of a given one in
    # 0.9^100 = 3e-5 of all rays; on average the nearest is 2 / 101 / 2 away.
    FARTHEST, MEAN = 0.1, 0.01

    def test_misses_get_their_closest_approach(self) -> None:
        rays, surface = random_rays(1500, seed=7), sphere(0.3, 0.1, 0.1, -0.1)
        traced = trace(as_level(surface), rays, half_of(1500))
        missed = ~traced.found & sphere_intervals(rays).crosses
        offset = surface.centre - rays.origin
        exact = (offset * rays.direction).sum(dim=-1)[missed]
        error = (traced.least_depth[missed] - exact).abs()
        assert missed.sum() > 200 and error.max() < self.FARTHEST and error.mean() < self.MEAN
        assert torch.equal(traced.depth[missed], traced.least_depth[missed])
        level, least = (
            surface(rays.at(depth))[missed]
            for depth in (traced.depth, (offset * rays.direction).sum(dim=-1))
        )
        assert ((level - least) <= (least + 0.3).hypot(error) - (least + 0.3) + ROUNDING).all()
        assert (level >= least - ROUNDING).all() and (level - least).mean() < 1e-3

    def test_least_of_two_dips_is_the_deeper_one(self) -> None:
        level = as_level(union(sphere(0.2, -0.3, z=-0.5), sphere(0.25, -0.3, z=0.5)))
        traced = trace(level, along_z(*[0.0] * 100), torch.zeros(100, dtype=torch.bool))
        assert ((traced.depth - 2.5).abs() < self.FARTHEST).all()

    def test_least_of_equal_levels_is_the_nearest(self) -> None:
        traced = trace(lambda p, ray: torch.full_like(p[:, 0], 1e-3), along_z(0.0), mask=[False])
        assert traced.least_depth.item() == 1.0

    def test_hits_outside_the_mask_keep_their_surface_and_get_their_deepest_point(self) -> None:
        """The surface is the entry's; the mask loss needs the level where it is most wrong."""
        rays = along_z(*[0.0, 0.1, 0.2] * 50)
        traced = trace(as_level(sphere(0.5)), rays, torch.zeros(150, dtype=torch.bool))
        entry = sphere_entry(0.5)(rays)
        torch.testing.assert_close(traced.depth, entry, rtol=0, atol=1e-4)
        assert ((traced.least_depth - 2.0).abs() < self.FARTHEST).all()

    def test_equal_rays_are_searched_at_different_depths(self) -> None:
        rays = along_z(*[0.6] * 20)
        traced = trace(as_level(sphere(0.5)), rays, torch.zeros(20, dtype=torch.bool))
        # One set of depths for all would leave one; where the fronts met may be the least of some.
        assert len(traced.least_depth.unique()) > 10

    @pytest.mark.parametrize("x,first", [(0.6, 1.2), (0.0, 1.5)], ids=["miss", "hit"])
    def test_random_depths_span_the_chord_or_what_is_behind_the_hit(self, x, first) -> None:
        """No further from either end than one of 100 samples comes in all but 5e-5 of draws."""
        seen = []

        def level(points: Tensor, ray: Tensor) -> Tensor:
            seen.append(points[:, 2] + 2)
            return sphere(0.5)(points)

        trace(level, along_z(x), mask=[False])
        depth, last = seen[-1], 2 + (1 - x * x) ** 0.5
        assert len(depth) == 100
        assert first <= depth.min() < first + 0.1 * (last - first)
        assert last - 0.1 * (last - first) < depth.max() <= last

    def test_a_generator_makes_it_repeatable(self) -> None:
        rays, mask = random_rays(300, seed=8), torch.zeros(300, dtype=torch.bool)
        first, again, other = (
            trace_reference(
                as_level(sphere(0.4)),
                rays,
                sphere_intervals(rays),
                PAPER,
                mask,
                torch.Generator().manual_seed(seed),
            ).least_depth
            for seed in (1, 1, 2)
        )
        assert torch.equal(first, again) and not torch.equal(first, other)

    def test_the_mask_never_changes_what_is_found(self) -> None:
        """Half distances, so that many entries come from sampling."""
        rays, level = random_rays(500, seed=9), as_level(torus, 0.5)
        plain = trace(level, rays)
        for mask in (torch.zeros(500, dtype=torch.bool), half_of(500)):
            masked = trace(level, rays, mask)
            assert torch.equal(masked.found, plain.found)
            assert torch.equal(masked.depth[plain.found], plain.depth[plain.found])


class TestCost:
    """Evaluations of the level, counted by hand."""

    def test_every_evaluation_is_reported(self) -> None:
        counted = 0

        def level(points: Tensor, ray: Tensor) -> Tensor:
            nonlocal counted
            counted += len(points)
            return 1.5 * torus(points)

        rays = random_rays(500, seed=10)
        for mask in (None, half_of(500)):
            counted = 0
            assert trace(level, rays, mask).evaluations == counted > 0

    @pytest.mark.parametrize("mask,more", [(None, 0), ([True], 0), ([False], 100)])
    def test_converged_ray(self, mask, more) -> None:
        """Two ends, one exact step each; outside the mask 100 random depths besides."""
        traced = trace(as_level(sphere(0.5)), along_z(0.0), mask)
        assert traced.depth.item() == 1.5 and traced.evaluations == 4 + more

    @pytest.mark.parametrize("scale,back_offs", [(3, 2), (6, 3)])
    def test_overshooting_ray(self, scale, back_offs) -> None:
        """Multiples of the distance to a half-space, of whose steps a 4th or 8th comes to stay.

        Either way a quarter of the distance is left after each iteration, and the eighth is the
        first that ends within the threshold. The far end, inside, is looked at once.
        """
        traced = trace(lambda p, ray: scale * (-0.5 - p[:, 2]), along_z(0.0))
        assert traced.depth.item() == pytest.approx(1.5 - 0.5 / 4**8, abs=ROUNDING)
        assert traced.found.all() and traced.evaluations == 2 + 8 * (1 + back_offs)

    @pytest.mark.parametrize("mask", [None, [True], [False]])
    def test_unconverged_ray(self, mask) -> None:
        """Ten half steps, 100 samples that serve the mask loss too, 8 of the secant.

        The far end, inside, is looked at once.
        """
        traced = trace(lambda p, ray: 0.5 * (0.25 - p[:, 2]), along_z(0.0), mask)
        assert traced.found.all() and traced.depth.item() == pytest.approx(2.25, abs=ROUNDING)
        assert traced.evaluations == 2 + 10 + 100 + 8

    @pytest.mark.parametrize("mask,more", [(None, 0), ([True], 100), ([False], 100)])
    def test_ray_without_a_surface(self, mask, more) -> None:
        """The fronts meet after three steps each: half a chord of 0.8 by steps of about 0.25."""
        traced = trace(as_level(sphere(0.5)), along_z(0.6), mask)
        assert not traced.found.any() and traced.evaluations == 2 + 2 * self.steps() + more

    @staticmethod
    def steps() -> int:
        """Steps of a front from (0.6, 0, -0.8) upwards to half way, beside a sphere of 0.5."""
        z, count = -0.8, 0
        while z < 0:
            z, count = z + (0.6**2 + z * z) ** 0.5 - 0.5, count + 1
        return count

    def test_settings_are_obeyed(self) -> None:
        """Without iterations every ray is sampled; fewer samples and secant steps cost less."""
        few = replace(PAPER, iterations=0, samples=20, secant_steps=3)
        rays = along_z(0.0, 0.9)
        traced = trace_reference(as_level(sphere(0.5)), rays, sphere_intervals(rays), few)
        assert traced.found.tolist() == [True, False]
        assert traced.evaluations == 2 * (2 + 20) + 3
