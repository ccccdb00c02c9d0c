"""One step of IDR: what it costs, its terms by hand, and its derivatives against differences."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus
from torch.nn.utils.parametrize import is_parametrized

from common.cameras import Cameras, Rays, look_at
from common.config import validate
from common.rendering.attach import GRAZING_COSINE, attach, attach_evaluated
from common.rendering.cached_search import FieldCache
from common.rendering.intervals import sphere_intervals
from common.rendering.march import Refinement, march_dense
from common.rendering.sphere_tracing import TracedRays
from common.training.precision import Precision
from common.training.randomness import Random
from common.training.terms import weighted_total
from idr.config import IDRConfig
from idr.data import PixelBatch
from idr.experiment import make_model
from idr.geometry import GeometryValues
from idr.model import IDRModel, StepOutput
from idr.reference_step import reference_step
from tests.make_idr import tiny_idr_settings
from tests.make_run import merged
from tests.surfaces import Sphere, rays_towards

SIZE, FOCAL, DISTANCE = 40, 55.0, 3.0
NETWORKS = {
    "hash_grid": {"geometry": "hash_grid"},
    "mlp": {"geometry": "mlp", "mlp": {"hidden": 64, "layers": 3, "skip": 2}},
}
# A step at which neither cache nor schedules change.
STEP = 1


def configuration(**changes) -> IDRConfig:
    settings = tiny_idr_settings(Path("nowhere"), Path("nowhere"))
    settings = merged(settings, {"training": {"iterations": 100}})
    return validate(IDRConfig, merged(settings, changes), "test")


def ring(views: int = 3) -> Cameras:
    """Cameras around the origin that see the ball of radius 0.6 some 22 pixels wide."""
    angle = 2 * math.pi * torch.arange(views) / views
    centre = DISTANCE * normalize(torch.stack([angle.cos(), 0.3 + 0 * angle, angle.sin()], 1))
    pose = look_at(centre, torch.zeros(views, 3), torch.tensor([0.0, 1, 0]))
    middle = (SIZE - 1) / 2
    intrinsics = torch.tensor([[FOCAL, 0, middle], [0, FOCAL, middle], [0, 0, 1.0]])
    return Cameras(intrinsics.repeat(views, 1, 1), pose, SIZE, SIZE)


def miss_distance(rays: Rays) -> Tensor:
    """How far rays pass from the origin."""
    return torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1)


def pixels(count: int, radius: float = 0.6, seed: int = 0) -> PixelBatch:
    """Random pixels of random colours; the masks show a ball of this radius at the origin."""
    generator = torch.Generator().manual_seed(seed)
    view = torch.randint(3, (count,), generator=generator)
    pixel = 4 + (SIZE - 8) * torch.rand(count, 2, generator=generator)
    mask = miss_distance(ring().rays(view, pixel)) < radius
    return PixelBatch(view, pixel, torch.rand(count, 3, generator=generator), mask, mask)


def chosen(batch: PixelBatch, keep: Tensor) -> PixelBatch:
    """Some of the pixels."""
    return replace(
        batch, **{name: value[keep] for name, value in vars(batch).items() if value is not None}
    )


def in_double(batch: PixelBatch) -> PixelBatch:
    return replace(batch, pixel=batch.pixel.double(), colour=batch.colour.double())


def cameras_in_double() -> Cameras:
    cameras = ring()
    return Cameras(cameras.intrinsics.double(), cameras.object_from_camera.double(), SIZE, SIZE)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


class Ball(nn.Module):
    """An SDF with closed forms in the geometry's place; its feature varies over the surface."""

    def __init__(self, radius: float, feature: int) -> None:
        super().__init__()
        self.radius = nn.Parameter(torch.tensor(radius, dtype=torch.float64))
        self.feature = feature

    def fade_in(self, share: float) -> None:
        """Nothing to fade."""

    def sdf(self, points: Tensor) -> Tensor:
        return points.norm(dim=-1) - self.radius

    def forward(self, points: Tensor, precision: Precision = "highest") -> GeometryValues:
        waves = (3 * points[:, :1] + torch.arange(self.feature)).sin()
        return GeometryValues(self.sdf(points), normalize(points, dim=-1), waves)


def exact_search(model: IDRModel) -> Callable[..., TracedRays]:
    """Roots to the rounding of double precision; least levels of a ball around the origin."""

    @torch.no_grad()
    def search(rays: Rays, cache, mask=None, generator=None) -> TracedRays:
        hits = march_dense(
            lambda points, ray: model.geometry.sdf(points),
            rays,
            sphere_intervals(rays),
            65,
            Refinement("secant", 20),
        )
        least = -(rays.origin * rays.direction).sum(dim=-1)
        depth = torch.where(hits.found, hits.depth, least)
        return TracedRays(depth, least, hits.found, hits.starts_inside, 0)

    return search


class TestCost:
    """The authors' step: 2.5 + 4 s passes a pixel, and 1.5 + 2 s with the spatial gradient."""

    @pytest.mark.parametrize("network", NETWORKS)
    def test_each_network_is_evaluated_once_where_it_is_needed(self, network) -> None:
        model = make_model(configuration(model=NETWORKS[network]), ring())
        calls, searched = [], []
        forward, sdf = model.geometry.forward, model.geometry.sdf
        model.geometry.forward = lambda points, precision: (
            calls.append(len(points)),
            forward(points, precision),
        )[1]
        model.geometry.sdf = lambda points: (searched.append(len(points)), sdf(points))[1]
        coloured = []
        model.appearance.register_forward_pre_hook(lambda _, inputs: coloured.append(inputs[0]))
        batch = pixels(400)
        model(batch, ring(), 0)
        cache = sum(searched)
        calls.clear(), searched.clear(), coloured.clear()
        out = model(batch, ring(), STEP)
        surface = round(out.surface_share.item() * batch.mask.sum().item())
        assert 100 < surface < 300
        # With a graph: every pixel once, a quarter as many uniform points.
        assert calls == [surface, 400 + 100 - surface]
        assert [len(points) for points in coloured] == [surface]
        # Without one: the search, on pixels of the object alone.
        assert sum(searched) < 5 * batch.mask.sum()
        assert out.evaluations == sum(calls) + sum(searched)
        # At a refresh also the cache, a grid of 33 vertices an axis in part.
        calls.clear(), searched.clear()
        again = model(batch, ring(), 50)
        assert again.evaluations == sum(calls) + sum(searched)
        assert sum(searched) >= cache > 9**3 and cache < 33**3 / 2 + 5 * 400

    def test_weights_are_normalised_once(self) -> None:
        """Though the search, which is first to use them, records no gradients."""
        model = make_model(configuration(model=NETWORKS["mlp"]), ring())
        layers = [layer for layer in model.modules() if is_parametrized(layer, "weight")]
        normalised = []
        for layer in layers:
            layer.parametrizations.weight.register_forward_hook(
                lambda module, *_: normalised.append(module)
            )
        terms = model(pixels(200), ring(), STEP).terms
        assert len(normalised) == len(layers) > 0
        weighted_total(terms, {name: 1.0 for name in terms}).backward()
        for layer in layers:
            assert all(
                bool(original.grad.any()) for original in layer.parametrizations.parameters()
            )

    def test_neighbours_for_smoothness_come_out_of_the_same_pass(self) -> None:
        """And within the same bound."""
        model = make_model(configuration(losses={"smoothness": 0.1}), ring())
        calls, forward = [], model.geometry.forward
        model.geometry.forward = lambda points, precision: (
            calls.append(len(points)),
            forward(points, precision),
        )[1]
        out = model(pixels(400), ring(), 0)
        assert sum(calls) == 400 + 100 + 100 and len(calls) == 2 and out.terms["smoothness"] > 0

    def test_less_is_evaluated_where_less_is_asked_for(self) -> None:
        config = configuration(losses={"eikonal": 0}, supervision={"eikonal_points": 0})
        model = make_model(config, ring())
        calls, forward = [], model.geometry.forward
        model.geometry.forward = lambda points, precision: (
            calls.append(len(points)),
            forward(points, precision),
        )[1]
        out = model(pixels(100), ring(), 0)
        assert sum(calls) == 100 and set(out.terms) == {"rgb", "mask"}


@pytest.mark.parametrize("network", NETWORKS)
def test_terms_and_gradients_are_those_of_the_papers_step(network) -> None:
    """Evaluated pass for pass, on the same random depths and points."""
    config = configuration(model=NETWORKS[network], search={"method": "reference"})
    model, batch = make_model(config, ring()), pixels(300)
    with torch.no_grad():
        for parameter in model.parameters():  # no symmetry of the first sphere is left
            parameter += 0.02 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(len(parameter))
            )
    results = []
    for run in (
        lambda: model(batch, ring(), STEP),
        lambda: reference_step(model, batch, ring(), STEP, model._generator(STEP)),
    ):
        model.zero_grad()
        out: StepOutput = run()
        weighted_total(out.terms, {"rgb": 1, "mask": 100, "eikonal": 0.1}).backward()
        results.append((out, {name: grad.clone() for name, grad in gradients(model).items()}))
    (ours, our_gradients), (theirs, their_gradients) = results
    assert ours.surface_share == theirs.surface_share > 0.8
    assert ours.evaluations < theirs.evaluations
    for name, term in theirs.terms.items():
        torch.testing.assert_close(ours.terms[name], term, rtol=1e-5, atol=1e-7)
    assert set(our_gradients) == set(their_gradients)
    for name, gradient in their_gradients.items():
        # Sums of hundreds of float32 terms of both signs, in another order.
        scale = gradient.abs().max()
        assert (our_gradients[name] - gradient).abs().max() <= 2e-4 * scale, name


class TestTermsByHand:
    """A ball of radius 0.5, all of one colour, where the masks show one of 0.6."""

    @pytest.fixture
    @classmethod
    def model(cls) -> IDRModel:
        model = make_model(configuration(), ring())
        model.geometry = Ball(0.5, model.geometry.feature_length)
        for parameter in model.appearance.parameters():
            nn.init.zeros_(parameter)  # sigmoid(0): grey
        return model.double()

    def test_every_term(self, model) -> None:
        batch = in_double(pixels(500))
        cameras = cameras_in_double()
        model.find_surface = exact_search(model)
        out = model(batch, cameras, STEP)
        distance = miss_distance(cameras.rays(batch.view, batch.pixel))
        surface = distance < 0.5
        assert 50 < (batch.mask & ~surface).sum() < (~surface).sum() < 450
        rgb = (batch.colour[surface] - 0.5).abs().sum() / 500
        torch.testing.assert_close(out.terms["rgb"].detach(), rgb)
        # The least distance of a ray that misses is where it passes the centre; alpha is 50.
        logit = 50 * (distance - 0.5)[~surface]
        inside = batch.mask[~surface]
        entropy = torch.where(inside, softplus(logit), softplus(-logit)).sum()
        torch.testing.assert_close(out.terms["mask"].detach(), entropy / (50 * 500))
        assert out.terms["eikonal"] < 1e-20
        torch.testing.assert_close(out.surface_share, (surface.sum() / batch.mask.sum()).float())

    def test_background_that_the_surface_covers_is_pushed_from_where_it_is_deepest(self, model):
        """Rays outside the masks that hit: their least level, not the level 0 where they enter."""
        batch = in_double(pixels(500, radius=0.2))
        cameras = cameras_in_double()
        model.find_surface = exact_search(model)
        out = model(batch, cameras, STEP)
        others = ~batch.mask
        distance = miss_distance(cameras.rays(batch.view, batch.pixel))[others]
        covered = (distance < 0.5).sum()
        entropy = softplus(-50 * (distance - 0.5)).sum()
        assert covered > 100 and out.surface_share == 1
        torch.testing.assert_close(out.terms["mask"].detach(), entropy / (50 * 500))
        out.terms["mask"].backward()
        assert model.geometry.radius.grad > 0  # descending makes the ball smaller

    def test_the_silhouette_sharpens_with_the_run(self, model) -> None:
        model.find_surface = exact_search(model)
        batch, cameras = in_double(pixels(200)), cameras_in_double()
        model.config = configuration(losses={"alpha_milestones": [3], "alpha_factor": 8})
        before, after = (model(batch, cameras, step).terms["mask"] for step in (2, 3))
        assert after < before

    def test_colours_are_compared_where_they_show_the_object_alone(self, model) -> None:
        """Pixels of a rim belong to the mask; their colours are blends, and cost no evaluation."""
        batch, cameras = in_double(pixels(500)), cameras_in_double()
        distance = miss_distance(cameras.rays(batch.view, batch.pixel))
        batch = replace(batch, coloured=distance < 0.3)
        model.find_surface, coloured = exact_search(model), []
        model.appearance.register_forward_pre_hook(lambda _, inputs: coloured.append(inputs[0]))
        out = model(batch, cameras, STEP)
        rgb = (batch.colour[batch.coloured] - 0.5).abs().sum() / 500
        torch.testing.assert_close(out.terms["rgb"].detach(), rgb)
        assert len(coloured[0]) == batch.coloured.sum() > 30
        whole = model(replace(batch, coloured=batch.mask), cameras, STEP)
        assert out.terms["mask"] == whole.terms["mask"]
        assert out.surface_share == whole.surface_share

    @pytest.mark.parametrize("name", ["rgb", "mask", "eikonal"])
    def test_a_weight_of_zero_leaves_a_term_out(self, name) -> None:
        losses = {"rgb": 1, "mask": 1, "eikonal": 1} | {name: 0}
        model = make_model(configuration(losses=losses), ring())
        assert set(model(pixels(64), ring(), 0).terms) == {"rgb", "mask", "eikonal"} - {name}


@pytest.mark.parametrize("network", NETWORKS)
class TestWithoutAnySurface:
    def test_masks_bring_it_back(self, network) -> None:
        """No colour to compare, an exact zero; inside the masks the level is pulled down."""
        config = configuration(model=NETWORKS[network], losses={"smoothness": 1})
        model, batch = make_model(config, ring()), pixels(200)
        with torch.no_grad():
            model.geometry.last.bias[0] += 1
        out = model(batch, ring(), 0)
        assert out.terms["rgb"] == out.terms["smoothness"] == out.surface_share == 0
        sum(out.terms.values()).backward()
        assert all(gradient.isfinite().all() for gradient in gradients(model).values())
        missed = chosen(batch, batch.mask)
        model.zero_grad()
        model(missed, ring(), STEP).terms["mask"].backward()
        assert model.geometry.last.bias.grad[0] > 0

    def test_a_batch_without_object_has_no_share(self, network) -> None:
        model = make_model(configuration(model=NETWORKS[network]), ring())
        out = model(pixels(50, radius=0.0), ring(), 0)
        assert out.surface_share == 0 and out.terms["rgb"] == 0 and out.terms["mask"] > 0


def differences(function: Callable[[], Tensor], parameter: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of a scalar by the first entries of a parameter."""
    flat, slopes = parameter.data.view(-1), []
    for index in range(min(len(flat), 9)):
        value = flat[index].item()
        ends = []
        for sign in (1, -1):
            flat[index] = value + sign * step
            ends.append(function().item())
        flat[index] = value
        slopes.append((ends[0] - ends[1]) / (2 * step))
    return torch.tensor(slopes, dtype=parameter.dtype)


REFINED = {"cameras": {"refine": True, "focal": True}}


class TestCameraGradients:
    """The whole step, search and all, differentiated by cameras: Equation 3 and the silhouette."""

    def model(self, **changes) -> IDRModel:
        model = make_model(configuration(**merged(REFINED, changes)), ring()).double()
        model.find_surface = exact_search(model)
        return model

    def ball(self, **changes) -> IDRModel:
        model = self.model(**changes)
        model.geometry = Ball(0.5, model.geometry.feature_length)
        return model

    def assert_exact(self, model: IDRModel, term: str, parameters: list[Tensor]) -> None:
        batch = pixels(60, radius=0.55)
        # Neither tangent to the ball, where a hit may come or go, nor on the masks' outline.
        distance = miss_distance(ring().rays(batch.view, batch.pixel))
        batch = in_double(chosen(batch, ((distance - 0.5).abs() > 0.03) & (distance < 0.9)))
        cameras = cameras_in_double()
        loss = lambda: model(batch, cameras, STEP).terms[term]  # noqa: E731
        found = torch.autograd.grad(loss(), parameters)
        for gradient, parameter in zip(found, parameters, strict=True):
            expected = differences(loss, parameter)
            assert expected.abs().max() > 1e-3
            # Differences of losses below 1, rounded to 1e-16 and divided by 2e-6; kinks aside.
            first = gradient.reshape(-1)[:9]
            torch.testing.assert_close(first, expected, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("term", ["rgb", "mask"])
    def test_of_a_ball_by_every_camera_parameter_and_its_radius(self, term) -> None:
        model = self.ball()
        refinement = model.refinement
        assert refinement is not None and refinement.log_focal is not None
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():  # away from zero, where second-order mistakes would hide
            for parameter in (refinement.rotation, refinement.translation):
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator).double()
        self.assert_exact(
            model,
            term,
            [
                refinement.translation,
                refinement.rotation,
                refinement.log_focal,
                model.geometry.radius,
            ],
        )

    @pytest.mark.parametrize("network", NETWORKS)
    def test_of_colours_of_a_network_by_translation_and_weights(self, network) -> None:
        """Also through normals and features, which move over the surface with the point."""
        networks = {
            "hash_grid": {"geometry": "hash_grid"},
            "mlp": {
                "geometry": "mlp",
                "mlp": {"hidden": 48, "layers": 2, "frequencies": 1, "skip": 0},
            },
        }
        model = self.model(model={"initial_radius": 0.5, "fade_in": 0, **networks[network]})
        if network == "hash_grid":
            table = model.geometry.grid.table
            with torch.no_grad():
                table += (
                    0.01
                    * torch.randn(table.shape, generator=torch.Generator().manual_seed(6)).double()
                )
                model.geometry.hidden[0].weight[:, 3:] += 0.1
        assert model.refinement is not None
        self.assert_exact(
            model, "rgb", [model.refinement.translation, model.geometry.hidden[0].bias]
        )

    def test_silhouettes_alone_turn_cameras(self) -> None:
        """Where a mask lies to the left of the ball, the camera has to look further right."""
        model = self.ball(losses={"rgb": 0, "eikonal": 0})
        batch, cameras = pixels(400), cameras_in_double()
        shifted = batch.pixel + torch.tensor([4.0, 0])
        mask = miss_distance(ring().rays(batch.view, shifted)) < 0.5
        batch = in_double(replace(batch, mask=mask, coloured=mask))
        model(batch, cameras, STEP).terms["mask"].backward()
        assert model.refinement is not None
        downhill = -model.refinement.rotation.grad
        # About the camera's own y axis, which points down. About x the pixels' chance is left.
        assert (downhill[:, 1] > 0.05).all()
        assert (downhill[:, 0].abs() < 0.6 * downhill[:, 1]).all()

    def test_cameras_that_are_given_are_left_alone(self) -> None:
        model = make_model(configuration(), ring())
        assert model.refinement is None
        out = model(pixels(64), ring(), 0)
        sum(out.terms.values()).backward()

    def test_refined_cameras_replace_those_given(self) -> None:
        model = self.ball()
        batch = in_double(pixels(100))
        other = cameras_in_double()[[1, 2, 0]]
        expected = model(batch, cameras_in_double(), STEP).terms["rgb"]
        assert model(batch, other, STEP).terms["rgb"] == expected


class TestAttachedPoints:
    def test_are_where_the_search_put_them_even_off_the_surface(self) -> None:
        """The form f - f0 of Equation 3."""
        model = make_model(configuration(), ring())
        search, seen = model.find_surface, []

        def inaccurate(*arguments) -> TracedRays:
            traced = search(*arguments)
            seen.append((traced, arguments[0]))
            return TracedRays(
                traced.depth + 0.01, traced.least_depth, traced.found, traced.starts_inside, 0
            )

        model.find_surface = inaccurate
        coloured = []
        model.appearance.register_forward_pre_hook(lambda _, inputs: coloured.append(inputs[0]))
        batch = pixels(200)
        model(batch, ring(), 0)
        ((traced, rays),), (points,) = seen, coloured
        surface = traced.found & batch.mask
        assert surface.sum() > 50
        assert torch.equal(points.detach(), rays.at(traced.depth + 0.01)[surface])
        assert points.requires_grad

    def test_of_a_field_evaluated_already_are_those_of_attach(self) -> None:
        generator = torch.Generator().manual_seed(0)
        target = 0.3 * (torch.rand(50, 3, generator=generator, dtype=torch.float64) - 0.5)
        rays = rays_towards(target, 2.0, generator)
        origin = rays.origin.requires_grad_()
        rays = Rays(origin, rays.direction)
        radius = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        sphere = Sphere(radius, torch.zeros(3, dtype=torch.float64))
        depth = sphere.exact_depth(rays).detach()
        weight = torch.randn(50, 3, generator=generator, dtype=torch.float64)
        value = sphere(rays.at(depth))
        gradient = normalize(rays.at(depth), dim=-1)
        results = [
            torch.autograd.grad((weight * attached.point).sum(), (radius, origin))
            for attached in (
                attach(sphere, rays, depth),
                attach_evaluated(rays, depth, value, gradient),
            )
        ]
        for first, second in zip(*results, strict=True):
            torch.testing.assert_close(first, second)

    @pytest.mark.parametrize("slope", [-1e-5, 1e-5])
    def test_grazing_rays_get_bounded_derivatives_of_the_right_sign(self, slope) -> None:
        """A ray along z over a plane whose normal is x but for a slope along z."""
        value = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        rays = Rays(torch.zeros(1, 3).double(), torch.tensor([[0.0, 0, 1]]).double())
        normal = torch.tensor([[2.0, 0, 2 * slope]]).double()
        attached = attach_evaluated(rays, torch.ones(1).double(), value, normal)
        (gradient,) = torch.autograd.grad(attached.depth.sum(), value)
        # -1 / slope of the level along the ray, at least the guard times the gradient's length.
        bound = 1 / (2 * GRAZING_COSINE)
        assert gradient.item() == pytest.approx(-math.copysign(bound, slope), rel=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_frozen_geometry_trains_its_appearance_alone(network) -> None:
    config = configuration(model=NETWORKS[network], losses={"mask": 0, "eikonal": 0})
    model, batch = make_model(config, ring()), pixels(200)
    batch = replace(batch, colour=torch.full((200, 3), 0.9))
    model.geometry.requires_grad_(False)
    before = {name: value.clone() for name, value in model.geometry.named_parameters()}
    optimiser = torch.optim.Adam([group for group, _ in model.rates()][0], lr=0.05)
    values = []
    for step in range(30):
        optimiser.zero_grad()
        loss = model(batch, ring(), step).terms["rgb"]
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.4 * values[0]
    assert set(gradients(model)) == {
        f"appearance.{n}" for n, _ in model.appearance.named_parameters()
    }
    assert all(torch.equal(p, before[name]) for name, p in model.geometry.named_parameters())


class TestRates:
    @pytest.mark.parametrize("network", NETWORKS)
    def test_every_parameter_has_one_rate(self, network) -> None:
        changes = merged(REFINED, {"model": NETWORKS[network], "cameras": {"rate": 0.3}})
        model = make_model(configuration(**changes), ring())
        groups = model.rates()
        listed = [id(parameter) for group, _ in groups for parameter in group]
        assert sorted(listed) == sorted(id(parameter) for parameter in model.parameters())
        rate_of = {id(parameter): rate for group, rate in groups for parameter in group}
        for name, parameter in model.named_parameters():
            special = {"geometry.grid.table": 5.0}.get(name, 0.3 if "refinement" in name else 1.0)
            assert rate_of[id(parameter)] == special, name


class TestSchedule:
    def test_detail_comes_in_during_the_first_share_of_the_run(self) -> None:
        grid = {"levels": 4, "start_levels": 1}
        model = make_model(configuration(model={"hash_grid": grid, "fade_in": 0.5}), ring())
        weights = []
        for step in (0, 25, 50, 99):
            model.prepare_step(step)
            weights.append(model.geometry.grid.level_weight.tolist())
        assert weights == [[1, 0, 0, 0], [1, 1, 0.5, 0], [1, 1, 1, 1], [1, 1, 1, 1]]

    def test_or_at_once(self) -> None:
        model = make_model(configuration(model={"fade_in": 0}), ring())
        model.prepare_step(0)
        assert (model.geometry.grid.level_weight == 1).all()

    def test_the_cache_is_refreshed_now_and_then(self, monkeypatch) -> None:
        """Five times as often at first."""
        monkeypatch.setattr("idr.model.YOUNG", 15)
        model = make_model(configuration(search={"refresh_every": 10}), ring())
        refreshed = [step for step in range(41) if model.prepare_step(step) > 0]
        assert refreshed == [0, 2, 4, 6, 8, 10, 12, 14, 20, 30, 40]

    def test_and_holds_the_field(self) -> None:
        model = make_model(configuration(), ring())
        model.prepare_step(0)
        points = 2 * torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 1
        with torch.no_grad():
            near = model.geometry.sdf(points).abs() < 0.1
            exact = model.geometry.sdf(points[near])
        # A sphere of radius 0.6 bends by 0.06^2 / (8 * 0.6) within a cell; an edge bends more.
        assert (FieldCache(model.cache).at(points[near]) - exact).abs().max() < 5e-3

    def test_the_papers_search_needs_none(self) -> None:
        model = make_model(configuration(search={"method": "reference"}), ring())
        assert model.prepare_step(0) == 0 and not model.cache.any()

    def test_random_numbers_are_those_of_seed_and_step(self) -> None:
        batch = pixels(64)
        first, again = (make_model(configuration(), ring()) for _ in range(2))
        losses = [model(batch, ring(), 0).terms["eikonal"].item() for model in (first, again)]
        assert losses[0] == losses[1]
        first(batch, ring(), 1)
        assert first(batch, ring(), 0).terms["eikonal"].item() == losses[0]
        assert first(batch, ring(), 1).terms["eikonal"].item() != losses[0]
        model = make_model(configuration(training={"seed": 1}), ring())
        model.geometry.load_state_dict(first.geometry.state_dict())
        assert model(batch, ring(), 0).terms["eikonal"].item() != losses[0]

    def test_uniform_points_fill_the_cube(self) -> None:
        model = make_model(configuration(), ring())
        points = model._uniform_points(4000, Random(model._generator(0)))
        assert points.shape == (1000, 3) and points.abs().max() <= 1
        # Means of 1000 uniform numbers of variance 1/3 are within 0.02 of zero, by 5 of them.
        assert points.mean(dim=0).abs().max() < 0.1 and points.abs().max() > 0.99


@pytest.mark.parametrize("method", ["cached", "reference"])
def test_search_finds_the_first_sphere(method) -> None:
    model = make_model(configuration(search={"method": method}), ring())
    cache, _ = model.cached(32)
    batch = pixels(500)
    rays = ring().rays(batch.view, batch.pixel)
    traced = model.find_surface(rays, cache)
    distance = miss_distance(rays)
    clear = (distance - 0.6).abs() > 0.05
    assert torch.equal(traced.found[clear], (distance < 0.6)[clear])
    with torch.no_grad():
        level = model.geometry.sdf(rays.at(traced.depth))[traced.found]
    assert level.abs().max() < 6e-5 and not traced.depth.requires_grad
