"""The gradients that training follows, against central differences of the whole loss.

In float64, for everything that is learnt or could be: networks, latent codes, image encoders, codes
of photographs, and the cameras' rotation, translation and focal length. A difference searches the
surface anew on both sides, so it knows nothing of implicit differentiation.

Some terms are deliberately not followed through the points at which they look. Each method says
below which; then its gradient must be the difference with those points held:

====  ==============  ================  ===========================================================
      term            by the field      by the cameras
====  ==============  ================  ===========================================================
both  rgb, depths,    exact             exact
      image gradient
DVR   occupancy       exact             exact: its points depend on data and cameras alone
      hull            exact             none: its points are data
      freespace       surface held      depth held: background that the surface covers is pushed
                                        where it is hit, though its level is the same wherever
      normal          points held       none
IDR   mask            exact (envelope)  exact (envelope)
      outline         depth held        depth and pixel's width held
      eikonal,        points held       none: terms on normals shall move no camera
      smoothness
====  ==============  ================  ===========================================================

Where a ray grazes (tests/test_attach.py) or begins to hit, the loss has no derivative.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, normalize, softplus

from common.cameras import Cameras, Rays, look_at
from common.config import validate
from common.data.supervision import Supervision
from common.rendering.attach import GRAZING_COSINE
from common.rendering.intervals import cube_intervals, sphere_intervals
from common.rendering.march import Refinement, march_dense
from common.rendering.sphere_tracing import TracedRays
from common.training.precision import Precision
from common.training.terms import weighted_total
from dvr.config import DVRConfig
from dvr.experiment import make_model as make_dvr
from dvr.field import Shifts
from dvr.model import Batch, DVRModel
from idr.camera_refinement import CameraRefinement
from idr.config import IDRConfig
from idr.data import PixelBatch
from idr.experiment import make_model as make_idr
from idr.geometry import GeometryValues
from idr.model import IDRModel
from tests.make_idr import tiny_idr_settings
from tests.make_run import merged, tiny_settings
from tests.surfaces import Sphere

SIZE = 32
STEP = 1  # at which neither cache nor schedules change
# Kinks are rarely within so little; a loss of size 1 rounded to 1e-16 leaves 1e-9 of a slope.
SHIFT = 1e-7


def cameras_around(views: int, distance: float, focal: float) -> Cameras:
    """Float64 cameras on a tilted ring, looking at the origin."""
    angle = 2 * math.pi * torch.arange(views).double() / views + 0.3
    centre = distance * normalize(torch.stack([angle.cos(), 0.4 + 0 * angle, angle.sin()], 1))
    pose = look_at(centre, torch.zeros(views, 3).double(), torch.tensor([0.0, 1, 0]).double())
    middle = (SIZE - 1) / 2
    intrinsics = torch.tensor([[focal, 0.4, middle], [0, 1.1 * focal, middle], [0, 0, 1.0]])
    return Cameras(intrinsics.double().repeat(views, 1, 1), pose, SIZE, SIZE)


def unsettle(module: nn.Module, size: float, seed: int = 0) -> None:
    """Noise on every parameter: zeros and symmetries of a start would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += size * noise.to(parameter)


def refined(cameras: Cameras) -> CameraRefinement:
    """Corrections of these cameras, already at work."""
    refinement = CameraRefinement(cameras, focal=True)
    unsettle(refinement, 0.01)
    return refinement


Loss = Callable[[], Tensor]


def difference(loss: Loss, parameters: list[Tensor], direction: list[Tensor]) -> float:
    """Central difference of a loss along a direction of parameters, which are left as they were."""
    start, ends = [parameter.detach().clone() for parameter in parameters], []
    for sign in (1, -1, 0):
        with torch.no_grad():
            for parameter, at, towards in zip(parameters, start, direction, strict=True):
                parameter.copy_(at + sign * SHIFT * towards)
        if sign:
            ends.append(loss().item())
    return (ends[0] - ends[1]) / (2 * SHIFT)


def assert_slopes(loss: Loss, expected: Loss, groups: Mapping[str, list[Tensor]]) -> None:
    """The gradient of ``loss`` is the difference of ``expected``, in a direction for each group.

    A random direction mixes all entries of all parameters of a group. No slope may vanish.
    """
    generator, total = torch.Generator().manual_seed(1), loss()
    gradients_of = {
        name: torch.autograd.grad(total, parameters, retain_graph=True)
        for name, parameters in groups.items()
    }
    for name, parameters in groups.items():
        direction = [
            torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            for parameter in parameters
        ]
        length = sum(part.square().sum().item() for part in direction) ** 0.5
        direction = [part / length for part in direction]
        slope = sum(
            (g * d).sum().item() for g, d in zip(gradients_of[name], direction, strict=True)
        )
        assert abs(slope) > 1e-6, f"{name} does not matter"
        found = difference(expected, parameters, direction)
        assert found == pytest.approx(slope, rel=1e-5, abs=2e-8), name


def each(module: nn.Module) -> dict[str, list[Tensor]]:
    """Every parameter a group of its own."""
    return {name: [parameter] for name, parameter in module.named_parameters()}


def together(**modules: nn.Module) -> dict[str, list[Tensor]]:
    """A group for the parameters of each module."""
    return {name: list(module.parameters()) for name, module in modules.items()}


def chosen(terms: Mapping[str, Tensor], weights: Mapping[str, float], names: set[str]) -> Tensor:
    """Weighted sum of some of the terms."""
    return sum(
        (weights[name] * term for name, term in terms.items() if name in names),
        start=torch.zeros((), dtype=torch.float64),
    )


# --- DVR ------------------------------------------------------------------------------------------

RADIUS = 0.25  # of the true ball, whose masks, depths, hull and sparse points supervise
PATCH = 2
SAMPLES = 24
DVR_HELD = {"freespace", "normal"}  # by the field
DVR_STILL = {"normal", "hull"}  # by the cameras: no gradient at all
KINDS = {
    "colour and masks": {"losses": {"image_gradient": 0.3}, "supervision": {"patch": PATCH}},
    "depth": {"losses": {"depth": 2}, "supervision": {"occupancy_points": "depth"}},
    "depth as points": {
        "losses": {"rgb": 0, "depth": 2, "sparse_depth": 0.5},
        "supervision": {"depth_distance": "points", "occupancy_points": "random_normal"},
    },
    "sparse depth": {"losses": {"sparse_depth": 1.5}},
    "hull": {
        "losses": {"hull": 0.7},
        "supervision": {"hull_points": 20, "occupancy_points": "hull"},
    },
    "covered background left alone": {"supervision": {"always_freespace": False}},
}
ALL = {
    "losses": {"image_gradient": 0.3, "depth": 2, "sparse_depth": 0.5, "hull": 0.7},
    "supervision": {"patch": PATCH, "hull_points": 20},
}


def dvr_config(**changes) -> DVRConfig:
    base = merged(
        tiny_settings(Path("nowhere"), Path("nowhere")),
        {
            "model": {"frequencies": 2, "initial_radius": 0.3},
            "losses": {"normal": 0.05},
            "march": {"refinement_steps": 14, "refinement_tolerance": 0, "threshold": 0.4},
        },
    )
    return validate(DVRConfig, merged(base, changes), "test")


def ball_supervision(cameras: Cameras, patch: int = PATCH, radius: float = RADIUS) -> Supervision:
    """Two objects, both a ball: what pictures of it say, as functions of the cameras.

    What pictures say themselves (camera-z depths, masks, colours) is data, seen by other cameras.
    """
    generator = torch.Generator().manual_seed(2)
    patches = 60 // patch**2
    corner = torch.randint(6, SIZE - 6, (2 * patches, 2), generator=generator)
    offset = torch.cartesian_prod(torch.arange(patch), torch.arange(patch)).flip(1)
    pixel = (corner[:, None] + offset).reshape(-1, 2).double()
    view = torch.randint(len(cameras), (2 * patches,), generator=generator)
    view = view.repeat_interleave(patch**2)
    unit_z = cameras.unit_z_directions(view, pixel)
    per_z = unit_z.norm(dim=-1)
    given = cameras_around(len(cameras), 1.5, 40.0)
    seen, given_per_z = given.rays(view, pixel), given.unit_z_directions(view, pixel).norm(dim=-1)
    ball = Sphere(torch.tensor(radius).double(), torch.zeros(3).double())
    distance = ball.exact_depth(seen)
    mask = distance.isfinite()
    z = torch.where(mask, distance, torch.inf) / given_per_z
    points = torch.rand(2, 20, 3, generator=generator).double() - 0.5
    # Sparse points on the side that the first camera sees.
    towards = normalize(given.centre[0], dim=-1)
    sparse = torch.randn(2, 10, 3, generator=generator).double()
    sparse = radius * normalize(3 * towards + sparse, dim=-1)
    offset_to = sparse - cameras.centre[0]
    sparse_distance = offset_to.norm(dim=-1)
    _, sparse_z = cameras.project(sparse)
    double = {"generator": generator, "dtype": torch.float64}
    return Supervision(
        origin=cameras.centre[view].reshape(2, -1, 3),
        direction=(unit_z / per_z[:, None]).reshape(2, -1, 3),
        colour=torch.rand(2, len(view) // 2, 3, **double),
        mask=mask.reshape(2, -1),
        distance=torch.where(mask, z, 1.0).mul(per_z).where(mask, torch.inf).reshape(2, -1),
        hull_distance=torch.where(mask, z - 0.02, 1.0)
        .mul(per_z)
        .where(mask, torch.inf)
        .reshape(2, -1),
        per_camera_z=per_z.reshape(2, -1),
        hull_points=points,
        hull_inside=points.norm(dim=-1) < radius,
        sparse_origin=cameras.centre[0].expand(2, 10, 3),
        sparse_direction=offset_to / sparse_distance[..., None],
        sparse_distance=sparse_distance,
        sparse_per_camera_z=sparse_distance / sparse_z[0],
    )


def weighted(model: DVRModel) -> set[str]:
    """The terms that the loss has."""
    return {name for name, weight in model.config.losses.model_dump().items() if weight}


class TestDVR:
    """Two objects, each with its code, of a network that knows neither."""

    def model(self, **changes) -> DVRModel:
        model = make_dvr(dvr_config(**changes), 2)
        unsettle(model, 0.003)
        for parameter in model.decoder.fc_c.parameters():
            nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(3))
        return model.double()

    def losses(
        self, model: DVRModel, refinement: CameraRefinement, image: Tensor | None = None
    ) -> tuple[Loss, Callable[[set[str]], Loss], Callable[[set[str]], Loss]]:
        """The whole loss; some of its terms searched anew; and some with the hits held."""
        patch = model.config.supervision.patch
        weights = model.config.losses.model_dump()

        def terms() -> dict[str, Tensor]:
            supervision = ball_supervision(refinement(), patch)
            return model(Batch(image, torch.arange(2), supervision), SAMPLES, 7).terms

        search, hits = model.find_surface, []

        def record(*arguments):
            hits.append(search(*arguments)[0])
            return hits[-1], cube_intervals(arguments[2])

        model.find_surface = record
        terms()
        recorded = list(hits)

        def held(names: set[str]) -> Loss:
            def loss() -> Tensor:
                again = iter(recorded)
                model.find_surface = lambda condition, object_of_ray, rays, samples: (
                    next(again),
                    cube_intervals(rays),
                )
                found = chosen(terms(), weights, names)
                model.find_surface = search
                return found

            return loss

        model.find_surface = search
        anew = lambda names: lambda: chosen(terms(), weights, names)  # noqa: E731
        return lambda: weighted_total(terms(), weights), anew, held

    def test_of_all_terms_by_every_parameter(self) -> None:
        model = self.model(**ALL)
        loss, anew, held = self.losses(model, refined(cameras_around(3, 1.5, 40.0)))
        exact, still = anew(weighted(model) - DVR_HELD), held(DVR_HELD)
        assert_slopes(loss, lambda: exact() + still(), each(model))

    @pytest.mark.parametrize("kind", KINDS)
    def test_by_field_and_codes(self, kind) -> None:
        model = self.model(**KINDS[kind])
        loss, anew, held = self.losses(model, refined(cameras_around(3, 1.5, 40.0)))
        exact, still = anew(weighted(model) - DVR_HELD), held(DVR_HELD)
        groups = together(field=model.decoder, codes=model.encoder)
        assert_slopes(loss, lambda: exact() + still(), groups)

    @pytest.mark.parametrize("kind", KINDS)
    def test_by_every_parameter_of_the_cameras(self, kind) -> None:
        model, refinement = self.model(**KINDS[kind]), refined(cameras_around(3, 1.5, 40.0))
        loss, anew, held = self.losses(model, refinement)
        exact, still = anew(weighted(model) - DVR_HELD - DVR_STILL), held({"freespace"})
        assert_slopes(loss, lambda: exact() + still(), each(refinement))
        for name in weighted(model) & DVR_STILL:
            term = anew({name})()
            assert term.grad_fn is not None
            slopes = torch.autograd.grad(term, list(refinement.parameters()), allow_unused=True)
            assert all(slope is None for slope in slopes)

    @pytest.mark.parametrize(
        "encoder", [{"kind": "simple"}, {"kind": "resnet18", "width": 4}], ids=lambda e: e["kind"]
    )
    def test_by_all_of_an_image_encoder_and_the_picture_itself(self, encoder) -> None:
        """Search, surface, normals and volume terms, back through the code to the pixels."""
        model = self.model(
            model={"encoder": encoder},
            data={"input": {"size": 64}},
            losses={"depth": 1, "hull": 0.5},
            supervision={"hull_points": 20},
        )
        generator = torch.Generator().manual_seed(4)
        image = torch.rand(2, 3, 64, 64, generator=generator, dtype=torch.float64)
        image.requires_grad_()
        cameras = refined(cameras_around(3, 1.5, 40.0)).requires_grad_(False)
        loss, anew, held = self.losses(model, cameras, image)
        exact, still = anew(weighted(model) - DVR_HELD), held(DVR_HELD)
        groups = together(encoder=model.encoder) | {"image": [image]}
        assert_slopes(loss, lambda: exact() + still(), groups)

    def test_by_a_field_without_code(self) -> None:
        model = self.model(model={"code": 0, "encoder": {"kind": "none"}})
        loss, anew, held = self.losses(model, refined(cameras_around(3, 1.5, 40.0)))
        exact, still = anew({"rgb", "occupancy"}), held(DVR_HELD)
        assert_slopes(loss, lambda: exact() + still(), each(model))


def only(rays: Rays, which: Tensor) -> Rays:
    """Some of the rays."""
    return Rays(rays.origin[which], rays.direction[which])


class BallField(nn.Module):
    """Balls as an occupancy and texture field: a code's first number is its radius.

    logit = slope (radius + code[0] - |p - centre|); colour = sigmoid(matrix p + code[1]).
    """

    def __init__(self) -> None:
        super().__init__()
        number = lambda *values: nn.Parameter(torch.tensor(values).double())  # noqa: E731
        self.radius, self.slope = number(0.27), number(9.0)
        self.centre = number(0.01, -0.02, 0.015)
        self.matrix = nn.Parameter(torch.arange(9.0).double().view(3, 3).sin())

    def condition(self, code: Tensor) -> Tensor:
        return code[None]

    def logits(self, points: Tensor, condition: Shifts) -> Tensor:
        distance = (points - self.centre).norm(dim=-1)
        first, *_ = condition
        return self.slope * (self.radius + first[..., 0] - distance)

    def colour(self, points: Tensor, condition: Tensor) -> Tensor:
        return torch.sigmoid(points @ self.matrix.T + condition[0, ..., 1:2])


class TestDVROfABall:
    """The whole loss and its derivatives in closed form: roots of a quadratic, no search."""

    def closed_form(self, model: DVRModel, s: Supervision) -> dict[str, Tensor]:
        field, tau = model.decoder, model.level_logit
        code = model.encoder(torch.arange(2))
        own = code.repeat_interleave(s.mask.shape[1], 0)
        condition, rays, total = own[None], s.rays, s.mask.numel()

        def roots(rays: Rays, own: Tensor) -> tuple[Tensor, Tensor]:
            """Which rays hit, and the depths of those."""
            radius = field.radius + own[:, 0] - tau / field.slope
            hit = Sphere(radius, field.centre).exact_depth(rays).isfinite()
            return hit, Sphere(radius[hit], field.centre).exact_depth(only(rays, hit))

        hit, depth = roots(rays, own)
        mask = s.mask.reshape(-1)
        surface, missed, covered = hit & mask, mask & ~hit, hit & ~mask
        depth, depth_outside = depth[mask[hit]], depth[~mask[hit]]
        colour = field.colour(only(rays, surface).at(depth), condition[:, surface])
        apart = (depth - s.distance.reshape(-1)[surface]) / s.per_camera_z.reshape(-1)[surface]
        # The model's own random numbers; its normal term, which would draw first, is left out.
        uniform = torch.rand(total, generator=torch.Generator().manual_seed(7))
        intervals = cube_intervals(rays)
        somewhere = intervals.near + (intervals.far - intervals.near) * uniform
        free = somewhere.masked_scatter(covered, depth_outside.detach())  # held, on purpose
        empty = field.logits(rays.at(free), condition)[~mask & intervals.crosses]
        on_hull = only(rays, missed).at(s.hull_distance.reshape(-1)[missed])
        full = field.logits(on_hull, condition[:, missed])
        hull = field.logits(s.hull_points, code[None, :, None])
        sparse = Rays(s.sparse_origin.reshape(-1, 3), s.sparse_direction.reshape(-1, 3))
        seen, sparse_depth = roots(sparse, code.repeat_interleave(10, 0))
        sparse_apart = (sparse_depth - s.sparse_distance.reshape(-1)[seen]).abs()
        sparse_apart = sparse_apart / s.sparse_per_camera_z.reshape(-1)[seen]
        assert min(surface.sum(), seen.sum()) > 10 and min(missed.sum(), covered.sum()) >= 3
        return {
            "rgb": (colour - s.colour.reshape(-1, 3)[surface]).abs().sum() / total,
            "depth": apart.abs().sum() / total,
            "sparse_depth": sparse_apart.sum() / len(seen),
            "freespace": -logsigmoid(-empty).sum() / total,
            "occupancy": -logsigmoid(full).sum() / total,
            "hull": binary_cross_entropy_with_logits(hull, s.hull_inside.double()),
        }

    def test_loss_and_gradient_by_everything(self) -> None:
        weights = {"rgb": 1, "depth": 2, "sparse_depth": 0.5, "hull": 0.7, "normal": 0}
        supervision = {"hull_points": 20, "occupancy_points": "hull"}
        config = dvr_config(losses=weights, supervision=supervision, model={"code": 2})
        model = make_dvr(config, 2).double()
        model.decoder = BallField()
        with torch.no_grad():  # one ball too large, one too small
            model.encoder.embedding.weight.copy_(torch.tensor([[0.03, 0.4], [-0.06, -0.2]]))
        refinement = refined(cameras_around(3, 1.5, 40.0))
        inputs = [*model.parameters(), *refinement.parameters()]
        s = ball_supervision(refinement(), 1)
        ours = model(Batch(None, torch.arange(2), s), SAMPLES, 7).terms
        exact = self.closed_form(model, s)
        assert set(ours) == set(exact)
        for name, term in exact.items():
            torch.testing.assert_close(ours[name], term, rtol=1e-10, atol=1e-12, msg=name)
        total = config.losses.model_dump()
        found = torch.autograd.grad(weighted_total(ours, total), inputs, retain_graph=True)
        expected = torch.autograd.grad(weighted_total(exact, total), inputs)
        for gradient, truth in zip(found, expected, strict=True):
            assert truth.abs().min() > 0
            torch.testing.assert_close(gradient, truth, rtol=1e-8, atol=1e-10)

    def test_covered_background_is_pushed_though_its_loss_cannot_change(self) -> None:
        """softplus(logit of tau) a ray, whatever the field: the derivative of the value is zero.

        The gradient is sigmoid(logit of tau) times the slope of the logit at the point of the hit,
        held there: it lowers the occupancy of what the background's ray meets first.
        """
        weights = {"rgb": 0, "occupancy": 0, "normal": 0, "freespace": 1}
        model = make_dvr(dvr_config(losses=weights, model={"code": 2}), 2).double()
        model.decoder = field = BallField()
        nn.init.zeros_(model.encoder.embedding.weight)
        s = ball_supervision(cameras_around(3, 1.5, 40.0), 1, radius=0.1)
        hit = Sphere(field.radius.detach(), field.centre.detach()).exact_depth(s.rays).isfinite()
        covered = ~s.mask & hit.view_as(s.mask)
        s = replace(s, mask=~covered)  # nothing else is background
        loss = lambda: model(Batch(None, torch.arange(2), s), SAMPLES, 7).terms["freespace"]  # noqa: E731
        count, rays = covered.sum().item(), covered.numel()
        assert count > 20
        assert loss().item() == pytest.approx(math.log(1 / 0.6) * count / rays)
        assert difference(loss, [field.radius], [torch.ones(1).double()]) == pytest.approx(
            0, abs=1e-7
        )
        (slope,) = torch.autograd.grad(loss(), field.radius)
        assert slope.item() == pytest.approx(0.4 * 9 * count / rays)


# --- IDR ------------------------------------------------------------------------------------------

IDR_HELD = {"eikonal", "smoothness", "outline"}  # by the field
IDR_STILL = {"eikonal", "smoothness"}  # by the cameras: no gradient at all
GEOMETRIES = {
    "mlp": {"geometry": "mlp", "mlp": {"hidden": 48, "layers": 3, "skip": 2, "frequencies": 2}},
    "hash_grid": {"geometry": "hash_grid"},
}
APPEARANCES = {
    "the paper's": {"weight_norm": True, "unit_normal": False},
    "unit normal, a code a photograph": {"image_code": 3},
    "mirrored view": {"view": "reflected", "view_frequencies": 2},
    "mirrored view at a normal of any length": {"view": "reflected", "unit_normal": False},
    "no view, no normal": {"view": "none", "normal": False},
    "no feature": {"feature": False},
}


def idr_config(**changes) -> IDRConfig:
    base = merged(
        tiny_idr_settings(Path("nowhere"), Path("nowhere")),
        {
            "model": {"initial_radius": 0.5, "fade_in": 0},
            "cameras": {"refine": True, "focal": True},
            "losses": {"mask": 10, "smoothness": 0.1, "outline": 0.2},
            "training": {"iterations": 100},
        },
    )
    return validate(IDRConfig, merged(base, changes), "test")


def miss_distance(rays: Rays) -> Tensor:
    """How far rays pass from the origin."""
    return torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1)


def ball_pixels(count: int, radius: float = 0.55) -> PixelBatch:
    """Random pixels of random colours, whose masks show a ball at the origin.

    The rays along its border do not decide for object or background but say how much they cover.
    """
    generator = torch.Generator().manual_seed(6)
    cameras = cameras_around(3, 3.0, 44.0)
    view = torch.randint(3, (count,), generator=generator)
    pixel = 4 + (SIZE - 8) * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    distance = miss_distance(cameras.rays(view, pixel))
    width = 3.0 / 44
    coverage = (0.5 - (distance - radius) / width).clamp(0, 1)
    colour = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    inside = distance < radius
    # Compared in colour only where no surface near 0.5 is met at a grazing angle.
    return PixelBatch(view, pixel, colour, inside, distance < 0.42, coverage)


def exact_search(model: IDRModel) -> Callable[..., TracedRays]:
    """Roots to the rounding of double precision, and least levels to its square root."""

    @torch.no_grad()
    def search(rays: Rays, cache, mask=None, generator=None) -> TracedRays:
        level = lambda points, ray: model.geometry.sdf(points)  # noqa: E731
        intervals = sphere_intervals(rays)
        hits = march_dense(level, rays, intervals, 33, Refinement("secant", 14))
        near, far = intervals.near, intervals.far
        share = torch.linspace(0, 1, 33, dtype=torch.float64)
        for _ in range(7):  # 2 / 16^7 = 7e-9 remains
            depth = near[:, None] + (far - near)[:, None] * share
            points = rays.origin[:, None] + depth[..., None] * rays.direction[:, None]
            value = model.geometry.sdf(points.reshape(-1, 3)).view_as(depth)
            at = value.argmin(dim=1).clamp(1, 31)[:, None]
            near, far = depth.gather(1, at - 1)[:, 0], depth.gather(1, at + 1)[:, 0]
        least = (near + far) / 2
        found = torch.where(hits.found, hits.depth, least)
        return TracedRays(found, least, hits.found, hits.starts_inside, 0)

    return search


class TestIDR:
    """Three photographs, cameras, a geometry and an appearance, none of them right."""

    def model(self, **changes) -> IDRModel:
        model = make_idr(idr_config(**changes), cameras_around(3, 3.0, 44.0)).double()
        unsettle(model.geometry, 0.004)
        unsettle(model.appearance, 0.2)
        if model.config.model.geometry == "hash_grid":
            with torch.no_grad():
                table = model.geometry.grid.table
                noise = torch.randn(table.shape, generator=torch.Generator().manual_seed(8))
                table += 0.03 * noise.double()
                model.geometry.hidden[0].weight[:, 3:] += 0.2
        unsettle(model.refinement, 0.01)
        model.find_surface = exact_search(model)
        return model

    def losses(
        self, model: IDRModel
    ) -> tuple[Loss, Callable[[set[str]], Loss], Callable[[set[str]], Loss]]:
        """The whole loss; some of its terms searched anew; and some with the depths held."""
        batch, cameras = ball_pixels(60), cameras_around(3, 3.0, 44.0)
        weights = {n: getattr(model.config.losses, n) for n in ("rgb", "mask", *IDR_HELD)}
        terms = lambda: model(batch, cameras, STEP).terms  # noqa: E731
        search, recorded = model.find_surface, []
        model.find_surface = lambda *arguments: recorded.append(search(*arguments)) or recorded[0]
        terms()
        model.find_surface = search
        traced = recorded[0]
        surface = traced.found & batch.mask
        assert (surface & batch.coloured).sum() > 8 and (~surface & ~batch.mask).sum() > 8

        def held(names: set[str]) -> Loss:
            def loss() -> Tensor:
                model.find_surface = lambda *arguments: traced
                found = chosen(terms(), weights, names)
                model.find_surface = search
                return found

            return loss

        anew = lambda names: lambda: chosen(terms(), weights, names)  # noqa: E731
        return lambda: weighted_total(terms(), weights), anew, held

    @pytest.mark.parametrize("geometry", GEOMETRIES)
    @pytest.mark.parametrize("appearance", APPEARANCES)
    def test_by_the_networks(self, geometry, appearance) -> None:
        """One of each geometry by every parameter, and the codes of the photographs alone."""
        settings = GEOMETRIES[geometry] | {"appearance": APPEARANCES[appearance]}
        model = self.model(model=settings)
        loss, anew, held = self.losses(model)
        exact, still = anew({"rgb", "mask"}), held(IDR_HELD)
        networks = {"geometry": model.geometry, "appearance": model.appearance}
        groups = together(**networks)
        if (geometry, appearance) in (("mlp", "the paper's"), ("hash_grid", "mirrored view")):
            groups = each(nn.ModuleDict(networks))
        if model.appearance.codes is not None:
            groups |= together(codes=model.appearance.codes)
        assert_slopes(loss, lambda: exact() + still(), groups)

    @pytest.mark.parametrize(
        "geometry,appearance",
        [("mlp", kind) for kind in APPEARANCES] + [("hash_grid", "mirrored view")],
    )
    def test_by_every_parameter_of_the_cameras(self, geometry, appearance) -> None:
        settings = GEOMETRIES[geometry] | {"appearance": APPEARANCES[appearance]}
        model = self.model(model=settings, losses={"outline": 0})
        loss, anew, _ = self.losses(model)
        cameras = each(model.refinement)
        assert set(cameras) == {"rotation", "translation", "log_focal"}
        assert_slopes(loss, anew({"rgb", "mask"}), cameras)
        for name in IDR_STILL:
            term = anew({name})()
            slopes = torch.autograd.grad(
                term, list(model.refinement.parameters()), allow_unused=True
            )
            assert term.grad_fn is not None and all(slope is None for slope in slopes)


class BallGeometry(nn.Module):
    """slope (|x - centre| - radius), and waves for a feature."""

    def __init__(self, feature: int) -> None:
        super().__init__()
        number = lambda *values: nn.Parameter(torch.tensor(values).double())  # noqa: E731
        self.radius, self.slope = number(0.5), number(1.2)
        self.centre = number(0.02, -0.01, 0.03)
        self.feature = feature

    def fade_in(self, share: float) -> None:
        """Nothing to fade."""

    def waves(self, points: Tensor) -> Tensor:
        return (3 * points[:, :1] + torch.arange(self.feature)).sin()

    def sdf(self, points: Tensor) -> Tensor:
        return self.slope * ((points - self.centre).norm(dim=-1) - self.radius)

    def forward(self, points: Tensor, precision: Precision = "highest") -> GeometryValues:
        gradient = self.slope * normalize(points - self.centre, dim=-1)
        return GeometryValues(self.sdf(points), gradient, self.waves(points))


class TestIDROfABall:
    """The whole loss and its derivatives in closed form: no search, no attached points."""

    def closed_form(self, model: IDRModel, batch: PixelBatch) -> dict[str, Tensor]:
        ball, weights, count = model.geometry, model.config.losses, len(batch.mask)
        cameras = model.refinement()
        rays = cameras.rays(batch.view, batch.pixel)
        sphere = Sphere(ball.radius, ball.centre)
        hit = sphere.exact_depth(rays).isfinite()
        assert batch.coverage is not None
        outline = (batch.coverage > 0) & (batch.coverage < 1)
        surface = hit & batch.mask & ~outline
        seen, decided = surface & batch.coloured, ~(surface | outline)
        assert seen.sum() > 20 and outline.sum() > 5 and (decided & batch.mask).sum() > 3
        at = only(rays, seen)
        point, view = at.at(sphere.exact_depth(at)), -at.direction
        normal = normalize(point - ball.centre, dim=-1)
        colour = model.appearance(point, normal, ball.waves(point), view, batch.view[seen])
        apart = torch.linalg.cross(rays.origin - ball.centre, rays.direction).norm(dim=-1)
        least = ball.slope * (apart - ball.radius)
        logit = -weights.alpha * least
        entropy = torch.where(batch.mask, softplus(-logit), softplus(logit))[decided].sum()
        # A pixel's width where the ray is nearest to the centre, as a constant.
        nearest = ((ball.centre - rays.origin) * rays.direction).sum(dim=-1)
        focal = (cameras.intrinsics[0, 0, 0] * cameras.intrinsics[0, 1, 1]).sqrt()
        per_z = cameras.unit_z_directions(batch.view, batch.pixel).norm(dim=-1)
        width = (nearest / per_z / focal).detach()
        off = (least / width - (0.5 - batch.coverage))[outline]
        return {
            "rgb": (colour - batch.colour[seen]).abs().sum() / count,
            "mask": entropy / (weights.alpha * count),
            "outline": off.abs().sum() / count,
            "eikonal": (ball.slope - 1).square().sum(),
        }

    @pytest.mark.parametrize("view", ["direct", "reflected", "none"])
    def test_loss_and_gradient_by_everything(self, view) -> None:
        settings = {"appearance": {"view": view, "image_code": 2}}
        cameras = cameras_around(3, 3.0, 44.0)
        losses = {"smoothness": 0}
        model = make_idr(idr_config(model=settings, losses=losses), cameras).double()
        model.geometry = BallGeometry(model.geometry.feature_length)
        unsettle(model.appearance, 0.2)
        unsettle(model.refinement, 0.01)
        model.find_surface = exact_search(model)
        batch = ball_pixels(200)
        ours, exact = model(batch, cameras, STEP).terms, self.closed_form(model, batch)
        assert set(ours) == set(exact)
        for name, term in exact.items():
            # A minimum is found to the root of the rounding, 1e-8, and so is a pixel's width there.
            torch.testing.assert_close(ours[name], term, rtol=1e-6, atol=1e-12, msg=name)
        inputs = dict(model.named_parameters())
        weights = {name: getattr(model.config.losses, name) for name in exact}
        found = torch.autograd.grad(weighted_total(ours, weights), list(inputs.values()))
        expected = torch.autograd.grad(weighted_total(exact, weights), list(inputs.values()))
        for name, gradient, truth in zip(inputs, found, expected, strict=True):
            assert truth.abs().max() > 1e-5, name
            torch.testing.assert_close(gradient, truth, rtol=1e-6, atol=1e-9, msg=name)

    def test_colour_is_compared_away_from_grazing_rays(self) -> None:
        """What the closed form relies on: no bounded derivative among those that are compared."""
        batch = ball_pixels(200)
        rays = cameras_around(3, 3.0, 44.0).rays(batch.view, batch.pixel)
        assert miss_distance(rays)[batch.coloured].max() < 0.46 * (1 - GRAZING_COSINE)
