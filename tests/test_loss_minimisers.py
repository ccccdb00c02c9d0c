"""Where each loss is least, on balls with one parameter: at the truth, or how far off it.

A loss may be right in every derivative and still ask for something else than the truth. The soft
masks of both methods do, a little, and by amounts that follow from their formulas:

- IDR's mask term leaves out rays that hit inside the mask (its Eq. 8), while background rays push
  however far they miss: it is least at ln 2 / alpha below the true radius.
- DVR's freespace and occupancy terms look at one random point of a ray, of a field whose logit
  falls by a slope: they rest below the truth by O(slope^-3/2), the hull term by O(slope^-2).

Colour, depth and outline terms are least at the truth, the eikonal term at slope one.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from common.cameras import Rays, pixel_grid
from common.data.supervision import Supervision
from common.rendering.sphere_tracing import TracedRays
from dvr.experiment import make_model as make_dvr
from dvr.model import Batch, DVRModel
from idr.data import PixelBatch
from idr.experiment import make_model as make_idr
from idr.model import IDRModel
from tests.surfaces import Sphere
from tests.test_gradient_truth import (
    SIZE,
    STEP,
    BallField,
    BallGeometry,
    ball_supervision,
    cameras_around,
    dvr_config,
    idr_config,
    miss_distance,
)

TRUE = 0.55


def root_of_slope(slope: Callable[[float], float], low: float, high: float) -> float:
    """Where a derivative passes from negative to positive: a least value between."""
    assert slope(low) < 0 < slope(high)
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2


# --- IDR ------------------------------------------------------------------------------------------


def analytic_search(model: IDRModel) -> Callable[..., TracedRays]:
    """Exact depths of a ball."""

    @torch.no_grad()
    def search(rays: Rays, cache, mask=None, generator=None) -> TracedRays:
        ball = model.geometry
        depth = Sphere(ball.radius, ball.centre).exact_depth(rays)
        least = ((ball.centre - rays.origin) * rays.direction).sum(dim=-1)
        found = depth.isfinite()
        return TracedRays(torch.where(found, depth, least), least, found, ~found & False, 0)

    return search


def true_ball(losses: dict, **sections: dict) -> IDRModel:
    """A ball of the true radius at the origin, an exact distance, seen by true cameras."""
    weights = {"rgb": 0, "mask": 0, "eikonal": 0, "outline": 0, "smoothness": 0} | losses
    weights |= {} if losses.get("rgb") or losses.get("mask") else {"mask": 1e-3}
    config = idr_config(losses=weights, **sections)
    model = make_idr(config, cameras_around(3, 3.0, 44.0)).double()
    model.geometry = ball = BallGeometry(model.geometry.feature_length)
    with torch.no_grad():
        ball.radius.fill_(TRUE), ball.slope.fill_(1), ball.centre.zero_()
    model.find_surface = analytic_search(model)
    return model


def slope_by(model: IDRModel, batch: PixelBatch, term: str, parameter: Tensor) -> Tensor:
    """Derivative of a term."""
    loss = model(batch, cameras_around(3, 3.0, 44.0), STEP).terms[term]
    return torch.autograd.grad(loss, parameter)[0]


def slope_of_radius(model: IDRModel, batch: PixelBatch, term: str) -> Callable[[float], float]:
    def slope(radius: float) -> float:
        with torch.no_grad():
            model.geometry.radius.fill_(radius)
        return slope_by(model, batch, term, model.geometry.radius).item()

    return slope


class TestMaskOfIDR:
    def row(self, count: int = 4000) -> PixelBatch:
        """Half a row of pixels through the picture's middle, across the ball's border."""
        x = torch.linspace((SIZE - 1) / 2 + 4, SIZE - 1, count, dtype=torch.float64)
        pixel = torch.stack([x, torch.full_like(x, (SIZE - 1) / 2)], dim=1)
        view = torch.zeros(count, dtype=torch.long)
        inside = miss_distance(cameras_around(3, 3.0, 44.0).rays(view, pixel)) < TRUE
        return PixelBatch(view, pixel, torch.zeros(count, 3).double(), inside, inside)

    @pytest.mark.parametrize("alpha", [50.0, 200.0, 1600.0])
    def test_is_least_ln_2_by_alpha_below_the_true_radius(self, alpha) -> None:
        """Of a flat border: background asks log(1 + e^-au) / a, missed object for

        (log(1 + e^au) - log 2) / a, u below the truth; equal at e^au = 2.
        """
        model = true_ball({"mask": 1, "alpha": alpha, "alpha_milestones": []})
        found = root_of_slope(slope_of_radius(model, self.row(), "mask"), 0.5, 0.6)
        bias = math.log(2) / alpha
        # The border bends and the pixels are 1e-4 apart.
        assert TRUE - found == pytest.approx(bias, rel=0.05, abs=1e-4)

    def test_asks_for_a_steeper_level_without_end_and_the_eikonal_term_for_one(self) -> None:
        """The steeper, the smaller the mask term; of the eikonal term one is the whole wish."""
        model = true_ball({"mask": 1, "eikonal": 1, "alpha_milestones": []})
        batch, values = self.row(400), []
        for slope in (0.5, 1.0, 2.0, 4.0):
            with torch.no_grad():
                model.geometry.slope.fill_(slope)
            assert slope_by(model, batch, "mask", model.geometry.slope) < 0
            values.append(slope_by(model, batch, "eikonal", model.geometry.slope).item())
        assert values == pytest.approx([-1, 0, 2, 6])


class TestEikonal:
    @pytest.mark.parametrize("start", [0.2, 3.0])
    def test_ends_at_slope_one_wherever_it_starts_and_moves_no_surface(self, start) -> None:
        model = true_ball({"eikonal": 1})
        ball, batch = model.geometry, TestMaskOfIDR().row(100)
        with torch.no_grad():
            ball.slope.fill_(start)
        optimiser = torch.optim.SGD(ball.parameters(), lr=0.3)
        for _ in range(30):
            optimiser.zero_grad()
            model(batch, cameras_around(3, 3.0, 44.0), STEP).terms["eikonal"].backward()
            optimiser.step()
        # Each step leaves 1 - 2 * 0.3 of the error: 0.4^30 = 1e-12.
        assert ball.slope.item() == pytest.approx(1, abs=1e-10)
        assert ball.radius.item() == TRUE and ball.centre.abs().max() < 1e-15


class TestOutline:
    @pytest.mark.parametrize("slope", [1.0, 1.3])
    def test_is_least_at_the_true_radius_however_large_the_pixels(self, slope) -> None:
        """Of coverage by area, twenty by twenty samples a pixel: to a fiftieth of a pixel.

        The level must be a distance to judge how far, not to judge where.
        """
        cameras = cameras_around(3, 3.0, 44.0)
        pixel = pixel_grid(SIZE, SIZE).double().repeat(3, 1)
        view = torch.arange(3).repeat_interleave(SIZE**2)
        side = (torch.arange(20).double() + 0.5) / 20 - 0.5
        within = torch.cartesian_prod(side, side)
        inside = [miss_distance(cameras.rays(view, pixel + shift)) < TRUE for shift in within]
        coverage = torch.stack(inside).double().mean(dim=0)
        mask = miss_distance(cameras.rays(view, pixel)) < TRUE
        colour = torch.zeros(len(view), 3).double()
        batch = PixelBatch(view, pixel, colour, mask, mask, coverage)
        model = true_ball({"outline": 1})
        with torch.no_grad():
            model.geometry.slope.fill_(slope)
        found = root_of_slope(slope_of_radius(model, batch, "outline"), 0.4, 0.7)
        width = 3.0 / 44 / 1.1**0.5
        assert abs(found - TRUE) < width / 50


class TestColourOfIDR:
    """Photographs taken by the model itself: zero at the truth, and back there from any side."""

    def batch(self, model: IDRModel) -> PixelBatch:
        generator = torch.Generator().manual_seed(1)
        view = torch.randint(3, (200,), generator=generator)
        pixel = 8 + (SIZE - 16) * torch.rand(200, 2, generator=generator, dtype=torch.float64)
        rays = cameras_around(3, 3.0, 44.0).rays(view, pixel)
        shown = miss_distance(rays) < 0.4
        view, pixel = view[shown], pixel[shown]
        rays = cameras_around(3, 3.0, 44.0).rays(view, pixel)
        with torch.no_grad():
            depth = Sphere(model.geometry.radius, model.geometry.centre).exact_depth(rays)
            colour = model.colour(model.surface(rays.at(depth)), -rays.direction, view)
        mask = torch.ones(len(view), dtype=torch.bool)
        return PixelBatch(view, pixel, colour, mask, mask)

    @pytest.mark.parametrize(
        "name",
        [
            "geometry.radius",
            "geometry.centre",
            "refinement.rotation",
            "refinement.translation",
            "refinement.log_focal",
        ],
    )
    def test_is_least_at_the_truth(self, name) -> None:
        settings = {"appearance": {"view": "none", "normal": False, "feature": False}}
        model = true_ball({"rgb": 1}, model=settings)
        model.appearance = Texture()
        batch, cameras = self.batch(model), cameras_around(3, 3.0, 44.0)
        loss = lambda: model(batch, cameras, STEP).terms["rgb"]  # noqa: E731
        assert loss().item() < 1e-12
        parameter = dict(model.named_parameters())[name]
        generator = torch.Generator().manual_seed(2)
        for size in (1e-5, 0.003):
            for _ in range(4):
                step = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                step = size * step / step.norm()
                with torch.no_grad():
                    parameter += step
                assert loss() > 0.01 * size
                (slope,) = torch.autograd.grad(loss(), parameter)
                assert (slope * step).sum() > 0  # downhill is back
                with torch.no_grad():
                    parameter -= step


class Texture(nn.Module):
    """Colours that are linear in the point: each says where on the surface it is."""

    def forward(self, point, normal, feature, view, image) -> Tensor:
        return 0.5 + 0.5 * point


# --- DVR ------------------------------------------------------------------------------------------

BALL = 0.25


def ball_model(losses: dict, slope: float, **sections: dict) -> DVRModel:
    """One object without code, a ball whose logit falls by ``slope``; these terms alone."""
    weights = {"rgb": 0, "freespace": 0, "occupancy": 0, "normal": 0} | losses
    code = {"code": 0, "encoder": {"kind": "none"}}
    model = make_dvr(dvr_config(losses=weights, model=code, **sections), 1).double()
    model.decoder = field = PlainBall()
    with torch.no_grad():
        field.slope.fill_(slope), field.centre.zero_()
    return model


class PlainBall(BallField):
    """The same ball whatever the object."""

    def condition(self, code: Tensor) -> Tensor:
        return torch.zeros(1, len(code), 2).double()


def slope_of_ball(
    model: DVRModel, supervision: Supervision, seeds: int = 1
) -> Callable[[float], float]:
    """Derivative of the sum of the terms by the radius, a mean over seeds."""

    def slope(radius: float) -> float:
        with torch.no_grad():
            model.decoder.radius.fill_(radius)
        total = torch.zeros((), dtype=torch.float64)
        batch = Batch(None, torch.zeros(1).long(), supervision)
        for seed in range(seeds):
            total = total + sum(model(batch, 48, seed).terms.values())
        return torch.autograd.grad(total, model.decoder.radius)[0].item() / seeds

    return slope


def one(supervision: Supervision) -> Supervision:
    """The first object alone."""
    return Supervision(**{name: value[:1] for name, value in vars(supervision).items()})


@pytest.mark.parametrize("term", ["depth", "sparse_depth"])
@pytest.mark.parametrize("distance", ["camera_z", "points"])
def test_depths_of_dvr_are_least_at_the_true_radius(term, distance) -> None:
    """To the search's precision, at the radius where the logit is tau's."""
    slope = 20.0
    model = ball_model({term: 1}, slope, supervision={"depth_distance": distance})
    supervision = one(ball_supervision(cameras_around(3, 1.5, 40.0), 1))
    by_radius = slope_of_ball(model, supervision)
    at_tau = model.level_logit / slope
    found = root_of_slope(by_radius, 0.2, 0.3)
    assert found - at_tau == pytest.approx(BALL, abs=2e-7)


@pytest.mark.parametrize("slope", [40.0, 80.0])
def test_the_hull_term_is_least_just_below_the_hull(slope) -> None:
    """By pi^2 / (3 slope^2 radius): there is more room outside a ball than inside it."""
    model = ball_model({"hull": 1}, slope, supervision={"hull_points": 20})
    count = 20_000
    # Radii of points spread evenly over a ball of radius 1/2.
    radius = 0.5 * ((torch.arange(count).double() + 0.5) / count) ** (1 / 3)
    points = torch.nn.functional.normalize(torch.ones(3).double(), dim=0) * radius[:, None]
    supervision = one(ball_supervision(cameras_around(3, 1.5, 40.0), 1))
    supervision = replace(supervision, hull_points=points[None], hull_inside=(radius < BALL)[None])
    found = root_of_slope(slope_of_ball(model, supervision), 0.2, 0.3)
    bias = math.pi**2 / (3 * slope**2 * BALL)
    assert BALL - found == pytest.approx(bias, rel=0.1)


class TestMasksOfDVR:
    def parallel(self, count: int = 4000) -> Supervision:
        """Rays along z, from just inside the mask's border outwards."""
        x = torch.linspace(BALL - 0.05, BALL + 0.15, count, dtype=torch.float64)
        origin = torch.stack([x, 0 * x, torch.full_like(x, -2)], dim=1)
        direction = torch.tensor([0.0, 0, 1]).double().expand(count, 3)
        empty = one(ball_supervision(cameras_around(3, 1.5, 40.0), 1))
        unknown = torch.full((1, count), torch.inf, dtype=torch.float64)
        return replace(
            empty,
            origin=origin[None],
            direction=direction[None].contiguous(),
            colour=torch.zeros(1, count, 3).double(),
            mask=(x < BALL)[None],
            distance=unknown,
            hull_distance=unknown,
            per_camera_z=torch.ones(1, count).double(),
        )

    def rest(self, slope: float) -> float:
        """The radius at which the two terms balance, of the surface where the logit is zero."""
        model = ball_model({"freespace": 1, "occupancy": 1}, slope, march={"threshold": 0.5})
        return root_of_slope(slope_of_ball(model, self.parallel(), seeds=3), 0.21, 0.27)

    def test_rest_below_the_true_radius_by_the_slope_to_the_minus_three_halves(self) -> None:
        """eta(3/2) sqrt(2 pi radius) slope^(-3/2) over the ray's length in the cube, 1.

        Background near the border asks with sigmoid(logit) for less at a random point of its ray,
        of which few are near the ball; each missed ray asks for more with nearly all its weight.
        """
        eta = 0.7651470
        for slope in (40.0, 160.0):
            bias = eta * (2 * math.pi * BALL) ** 0.5 * slope**-1.5
            # Missed rays ask with a little less than all; random depths scatter by some percent.
            assert BALL - self.rest(slope) == pytest.approx(bias, rel=0.25)

    def test_background_that_is_covered_is_freed_and_missed_object_is_filled(self) -> None:
        model = ball_model({"freespace": 1, "occupancy": 1}, 40.0)
        slope = slope_of_ball(model, self.parallel())
        assert slope(BALL + 0.04) > 0.1 and slope(BALL - 0.04) < -0.1
