"""How fast the searches converge, measured on fields with known roots, against theory.

A march narrows its bracket by regula falsi with the Illinois rule: three evaluations cube the
error (order 3^(1/3) = 1.442 an evaluation; Dowell and Jarratt 1971), and the root stays bracketed.
The cached search takes free secant steps: error_2 = f'' / (2 f') error_1 error_0, order 1.618 an
evaluation, without a bracket. Sphere tracing shrinks the distance by 1 - cos at every step.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from common.cameras import Rays
from common.rendering.cached_search import Care, FieldCache, search_cached
from common.rendering.intervals import Intervals, sphere_intervals
from common.rendering.march import RayLevel, Refinement, march_dense
from common.rendering.sphere_tracing import TracingSettings, trace_reference
from tests.surfaces import Sphere, rays_towards

ROOT = 1.3
GOLDEN = (1 + 5**0.5) / 2


def along_z(count: int) -> Rays:
    """Rays from the origin, on which a point's z is its depth."""
    direction = torch.tensor([0.0, 0, 1]).double().expand(count, 3)
    return Rays(torch.zeros(count, 3).double(), direction)


def narrowed(level: RayLevel, near: Tensor, far: Tensor, method: str, steps: int) -> Tensor:
    """Depths found in these brackets."""
    intervals = Intervals(near, far, torch.ones_like(near, dtype=torch.bool))
    hits = march_dense(level, along_z(len(near)), intervals, 2, Refinement(method, steps))
    assert hits.found.all() and hits.evaluations == (2 + steps) * len(near)
    return hits.depth


def falling(rate: float) -> RayLevel:
    """exp(-rate (z - ROOT)) - 1: convex, of slope -rate at its root, f'' / (2 f') = -rate / 2."""
    return lambda points, ray: (-rate * (points[:, 2] - ROOT)).exp() - 1


class TestMarch:
    # Of the bracket's width h: a chord makes h^2; a second one with the kept end h^3; then that
    # end's value is halved, which puts the next guess as far on the other side; and so on.
    @pytest.mark.parametrize("steps,order", list(enumerate([2, 3, 3, 6, 9, 9])))
    def test_error_is_the_power_of_the_brackets_width_that_theory_says(self, steps, order) -> None:
        width = torch.tensor([0.2, 0.25, 0.3]).double()
        found = narrowed(falling(1.0), ROOT - 0.6 * width, ROOT + 0.4 * width, "secant", steps)
        error = (found - ROOT).abs()
        assert error.min() > 1e-13  # a depth is rounded to 2e-16
        measured = error.log().diff() / width.log().diff()
        # The next order in the width is up to 0.3 / 2 of the first.
        torch.testing.assert_close(
            measured, torch.full((2,), float(order)).double(), rtol=0.1, atol=0
        )

    def test_three_evaluations_cube_the_error(self) -> None:
        """error_6 = constant * error_3^3, whatever the bracket: 1.442 an evaluation."""
        width = torch.linspace(0.15, 0.3, 7).double()
        near, far = ROOT - 0.5 * width, ROOT + 0.5 * width
        errors = [
            (narrowed(falling(1.0), near, far, "secant", steps) - ROOT).abs() for steps in (1, 4)
        ]
        power = errors[1].log().diff() / errors[0].log().diff()
        assert power.mean().item() == pytest.approx(3, rel=0.05)

    def test_steep_fields_do_not_crawl(self) -> None:
        """exp over eight units: the plain rule keeps the far end and gains 4 % a step."""
        near, far = torch.tensor([ROOT - 0.5]).double(), torch.tensor([ROOT + 0.5]).double()
        level, rays = falling(8.0), along_z(1)
        value = lambda z: level(rays.at(z), torch.zeros(1).long())  # noqa: E731
        outer, inner = near, far
        for _ in range(10):
            guess = outer + (inner - outer) * value(outer) / (value(outer) - value(inner))
            outer, inner = (outer, guess) if value(guess) <= 0 else (guess, inner)
        assert (guess - ROOT).abs() > 0.2
        found = narrowed(level, near, far, "secant", 12)
        assert (found - ROOT).abs() < 1e-4

    def test_a_straight_line_needs_no_step(self) -> None:
        level = lambda points, ray: 3 * (ROOT - points[:, 2])  # noqa: E731
        near, far = torch.tensor([0.1]).double(), torch.tensor([5.0]).double()
        assert narrowed(level, near, far, "secant", 0).item() == pytest.approx(ROOT, abs=1e-15)

    @given(
        st.integers(0, 12),
        st.floats(0.05, 0.95),
        st.floats(-4, 4),
        st.floats(0.1, 30),
        st.sampled_from(["secant", "bisection"]),
    )
    def test_the_root_never_leaves_its_bracket(self, steps, share, skew, rate, method) -> None:
        """One root of a field of any steepness: bisection's error is at most h / 2^(n + 1)."""

        def level(points: Tensor, ray: Tensor) -> Tensor:
            x = points[:, 2] - ROOT
            return -torch.sinh(rate * x.clamp(-10, 10) / 2) * (skew * x).exp()

        near = torch.tensor([ROOT - share]).double()
        found = narrowed(level, near, near + 1, method, steps).item()
        assert ROOT - share <= found <= ROOT - share + 1
        if method == "bisection":
            assert abs(found - ROOT) <= 0.5 ** (steps + 1) + 1e-12


class TestCachedSearch:
    RATE = 2.0

    def errors(self, care: Care) -> tuple[list[Tensor], Tensor]:
        """Signed errors of the depths at which the network is asked, in order, and the last.

        exp(-rate (z - z0)) - 1 with a root z0 that differs from ray to ray.
        """
        count = 40
        x = torch.linspace(-0.5, 0.5, count).double()
        root_of = lambda x: 0.1 + 0.3 * x  # noqa: E731
        field = lambda points: (-self.RATE * (points[..., 2] - root_of(points[..., 0]))).exp() - 1  # noqa: E731
        axis = torch.linspace(-1, 1, 17).double()
        cache = FieldCache(field(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)))
        origin = torch.stack([x, torch.zeros(count), torch.full((count,), -3.0)], 1).double()
        rays = Rays(origin, along_z(count).direction)
        asked: list[Tensor] = []

        def level(points: Tensor, ray: Tensor) -> Tensor:
            if len(points) == count:
                asked.append(points[:, 2] - root_of(x))
            return field(points)

        traced = search_cached(level, cache, rays, sphere_intervals(rays), 40, care=care)
        return asked, traced.depth - 3 - root_of(x)

    def test_each_error_is_the_product_of_the_two_before(self) -> None:
        (first, second, third, fourth, *_), _ = self.errors(Care(0.0, 6))
        # The cache is off by h^2 f'' / 8, with a slope of its own: a first, linear gain.
        assert 1e-4 < first.abs().median() < 1e-2
        assert (second.abs() < 0.15 * first.abs().max()).all()
        factor = -self.RATE / 2
        for before, error, after in ((first, second, third), (second, third, fourth)):
            counted = after.abs() > 1e-14  # a depth near 3 is rounded to 4e-16
            assert counted.sum() > 10
            ratio = (after / (before * error))[counted]
            torch.testing.assert_close(
                ratio.median(), torch.tensor(factor).double(), rtol=0.05, atol=0
            )

    def test_the_order_is_the_golden_ratio(self) -> None:
        """Of logarithms in Fibonacci's recurrence two neighbours' ratio is 3/2 to 5/3 by then."""
        (_, second, third, fourth, *_), _ = self.errors(Care(0.0, 6))
        scale = self.RATE / 2
        counted = fourth.abs() > 1e-14
        order = (scale * fourth).abs().log() / (scale * third).abs().log()
        assert order[counted].median().item() == pytest.approx(GOLDEN, abs=0.12)

    @pytest.mark.parametrize("tolerance", [5e-4, 5e-5])
    def test_it_stops_within_the_tolerance(self, tolerance) -> None:
        """On the level, and so of the depth within tolerance / slope; here the slope is 2."""
        asked, last = self.errors(Care(tolerance, 6))
        bound = 1.01 * tolerance / self.RATE
        assert (last.abs() <= bound).all()
        assert (asked[0].abs() > bound).any()  # the cache alone would not do


class TestSphereTracing:
    """The paper's search, before its sampling."""

    def recorded(self, cosine: float) -> tuple[list[float], float]:
        """Distances to a plane met at this angle, step by step, and the error of the answer."""
        sine = math.sqrt(1 - cosine**2)
        normal = torch.tensor([sine, 0, -cosine], dtype=torch.float64)
        distances: list[float] = []

        def level(points: Tensor, ray: Tensor) -> Tensor:
            distances.extend((-points[:, 2]).tolist())
            return points @ normal

        rays = Rays(torch.tensor([[0.0, 0, -3]]).double(), along_z(1).direction)
        traced = trace_reference(level, rays, sphere_intervals(rays), TracingSettings())
        assert traced.found.all()
        outside = [distance for distance in distances if distance > 0]
        return outside, abs(traced.depth.item() - 3)

    @pytest.mark.parametrize("cosine", [0.95, 0.8, 0.6])
    def test_each_step_leaves_one_less_the_cosine(self, cosine) -> None:
        distances, error = self.recorded(cosine)
        assert len(distances) >= 4
        for before, after in zip(distances[:4], distances[1:4], strict=False):
            assert after == pytest.approx((1 - cosine) * before, rel=1e-9)
        assert error <= TracingSettings().threshold / cosine

    def test_what_is_too_slow_is_sampled_and_found_more_exactly(self) -> None:
        """0.8^10 = 0.1 of the way is left after ten steps; then Illinois has a straight line."""
        distances, error = self.recorded(0.2)
        assert distances[1] == pytest.approx(0.8 * distances[0], rel=1e-9)
        assert error < 1e-12

    def test_found_spheres_are_within_the_threshold_over_the_cosine(self) -> None:
        generator = torch.Generator().manual_seed(0)
        sphere = Sphere(torch.tensor(0.5).double(), torch.tensor([0.1, 0, 0.05]).double())
        target = 1.2 * (torch.rand(400, 3, generator=generator).double() - 0.5)
        rays = rays_towards(target, 2.5, generator)
        exact = sphere.exact_depth(rays)
        traced = trace_reference(
            lambda points, ray: sphere(points), rays, sphere_intervals(rays), TracingSettings()
        )
        hit = exact.isfinite()
        cosine = -((rays.at(exact) - sphere.centre) / 0.5 * rays.direction).sum(dim=-1)
        clear = hit & (cosine > 0.1)  # below, the sphere bends away within the threshold
        assert clear.sum() > 100 and traced.found[clear].all()
        error = (traced.depth - exact).abs()[clear]
        assert (error <= 1.1 * TracingSettings().threshold / cosine[clear]).all()
