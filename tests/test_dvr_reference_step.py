"""The paper's training step against ours: results, costs, and the benchmark that compares them."""

from pathlib import Path

import pytest
import torch

import dvr.benchmark
import dvr.reference_step
from common.cameras import Rays
from common.config import validate
from common.data.furniture.make import make_piece
from common.data.supervision import Supervision
from common.errors import UserError
from common.rendering.attach import GRAZING_COSINE
from common.rendering.intervals import cube_intervals
from dvr.benchmark import compare_steps, counted, fit, step_benchmark
from dvr.config import DVRConfig
from dvr.experiment import make_model
from dvr.field import OccupancyTextureField
from dvr.model import Batch, DVRModel, StepOutput
from dvr.reference_step import LEAST_SLOPE, normals, reference_step, sampled_intervals, search
from tests.make_run import merged, tiny_settings

OBJECTS, RAYS, SAMPLES, SEED = 2, 150, 24, 5
CPU = torch.device("cpu")
ALL = {"rgb": 1, "depth": 1, "freespace": 1, "occupancy": 1, "normal": 1}
# The paper's normals are of all surface points and ours of the object's, so they are compared where
# all pixels are the object's; and nothing is free space there.
HALF, WHOLE = (0.5, {**ALL, "normal": 0}), (1.0, ALL)


def settings(**changes: dict) -> dict:
    base = merged(tiny_settings(Path("nowhere"), Path("nowhere")), changes)
    return merged(base, {"training": {"objects": OBJECTS, "rays": RAYS}})


def make(**changes: dict) -> DVRModel:
    """Two balls, each dented in its own way, in float64."""
    wide = merged(settings(**changes), {"model": {"hidden": 32}})
    model = make_model(validate(DVRConfig, wide, "test"), OBJECTS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # So little of the codes that no object fills the cube or is lost.
            amount = 0.002 if "fc_c" in name else 0.1
            parameter += amount * torch.randn(parameter.shape, generator=generator)
    model.start_as_sphere(generator)
    return model.double()


def rays(missing: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Origins 2 from the centre, and unit directions into the cube, or else away from it."""
    generator = torch.Generator().manual_seed(1)
    shape = OBJECTS, RAYS, 3
    origin = torch.randn(shape, generator=generator, dtype=torch.float64)
    origin = 2 * torch.nn.functional.normalize(origin, dim=-1)
    target = 0.9 * (torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5)
    direction = torch.nn.functional.normalize(target - origin, dim=-1)
    return origin, -direction if missing else direction


def batch_of(share: float, missing: bool = False) -> Batch:
    """Rays of which this share is of the object, with depths known on half of them."""
    origin, direction = rays(missing)
    generator = torch.Generator().manual_seed(2)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    known = 1.5 + 0.5 * random(OBJECTS, RAYS)
    nothing = origin[:, :0]
    supervision = Supervision(
        origin=origin,
        direction=direction,
        colour=random(OBJECTS, RAYS, 3),
        mask=random(OBJECTS, RAYS) < share,
        distance=torch.where(random(OBJECTS, RAYS) < 0.5, known, torch.inf),
        hull_distance=torch.where(random(OBJECTS, RAYS) < 0.5, known, torch.inf),
        per_camera_z=1 + random(OBJECTS, RAYS),
        hull_points=nothing,
        hull_inside=torch.zeros(OBJECTS, 0, dtype=torch.bool),
        sparse_origin=nothing,
        sparse_direction=nothing,
        sparse_distance=nothing[..., 0],
        sparse_per_camera_z=nothing[..., 0],
    )
    return Batch(None, torch.arange(OBJECTS), supervision)


def dense_hits(model: DVRModel, batch: Batch):
    ray = batch.supervision.rays
    with torch.no_grad():
        condition = model.condition(None, batch.index)
    return search(model, condition, ray, sampled_intervals(ray), SAMPLES)


def ours(model: DVRModel, batch: Batch, monkeypatch) -> StepOutput:
    """Our step at the paper's surface points: searches are compared elsewhere."""
    found = dense_hits(model, batch), cube_intervals(batch.supervision.rays)
    monkeypatch.setattr(model, "find_surface", lambda *_: found)
    return model(batch, SAMPLES, SEED)


def gradients(model: DVRModel, term: torch.Tensor) -> tuple[torch.Tensor, ...]:
    wanted = list(model.parameters())
    return torch.autograd.grad(
        term, wanted, retain_graph=True, allow_unused=True, materialize_grads=True
    )


@pytest.mark.parametrize("points", ["random", "depth", "hull"])
@pytest.mark.parametrize("share, weights", [HALF, WHOLE])
def test_terms_and_gradients_are_ours(share, weights, points, monkeypatch) -> None:
    # So small that no rectifier bends between the points of a difference, which is then exact.
    monkeypatch.setattr(dvr.reference_step, "DIFFERENCE", 1e-7)
    model = make(losses=weights, supervision={"occupancy_points": points})
    batch = batch_of(share)
    paper = reference_step(model, batch, SAMPLES, SEED)
    mine = ours(model, batch, monkeypatch)
    assert 0.2 < paper.surface_share < 0.8 and mine.surface_share == paper.surface_share
    assert set(paper.terms) == set(mine.terms) == {name for name in weights if weights[name]}
    for name, term in paper.terms.items():
        # A difference of two logits loses their last digits to rounding, 1e-16 / DIFFERENCE.
        rtol, atol = (1e-5, 1e-7) if name == "normal" else (1e-10, 1e-12)
        torch.testing.assert_close(term, mine.terms[name], rtol=rtol, atol=atol)
        theirs, own = gradients(model, term), gradients(model, mine.terms[name])
        nothing = name == "freespace" and share == 1
        assert nothing == all(not gradient.any() for gradient in theirs)
        for a, b in zip(theirs, own, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 if name == "normal" else 1e-9)


def test_no_ray_of_that_comparison_is_guarded() -> None:
    """Both bound the derivative at grazing rays, each in its own way."""
    model, batch = make(losses=ALL), batch_of(1.0)
    hits, ray = dense_hits(model, batch), batch.supervision.rays
    assert not hits.starts_inside.any()
    points = ray.at(hits.depth.where(hits.found, 0)).reshape(OBJECTS, RAYS, 3).requires_grad_()
    logits = model.decoder.logits(points, model.condition(None, batch.index)[:, :, None])
    (gradient,) = torch.autograd.grad(logits.sum(), points)
    slope = (gradient * batch.supervision.direction).sum(dim=-1).reshape(-1)[hits.found]
    cosine = slope / gradient.reshape(-1, 3)[hits.found].norm(dim=-1)
    assert slope.abs().min() > LEAST_SLOPE and cosine.abs().min() > GRAZING_COSINE


def test_normals_are_the_fields_own() -> None:
    """At the paper's distance too, where differences bend at few of the points."""
    model = make()
    points = 0.6 * (torch.rand(200, 3, dtype=torch.float64) - 0.5)
    shifts = model.condition(None, torch.zeros(200, dtype=torch.long))
    exact = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.decoder.logits(exact, shifts).sum(), exact)
    true = torch.nn.functional.normalize(gradient, dim=-1)
    apart = (normals(model, points, shifts) - true).norm(dim=-1)
    assert apart.median() < 1e-9 and (apart < 0.05).double().mean() > 0.9


@pytest.mark.parametrize("weights", [ALL, {**ALL, "normal": 0}])
def test_the_paper_evaluates_as_often_as_its_program(weights) -> None:
    """Every sample, eight secant steps a hit, a point of every ray four times, 12 for normals."""
    model, batch = make(losses=weights), batch_of(0.5)
    with counted(model) as count:
        out = reference_step(model, batch, SAMPLES, SEED)
    rays, condition = batch.supervision.rays, model.condition(None, batch.index)
    hits = int(search(model, condition, rays, sampled_intervals(rays), SAMPLES).found.sum())
    assert count.search == SAMPLES * OBJECTS * RAYS + 8 * hits == out.evaluations
    assert count.forward == 4 * OBJECTS * RAYS + (12 * hits if weights["normal"] else 0)


def test_ours_evaluates_as_often_as_it_says() -> None:
    model, batch = make(losses=ALL), batch_of(0.5)
    with counted(model) as count:
        out = model(batch, SAMPLES, SEED)
    assert count.search == out.evaluations and 0 < count.forward < 4 * OBJECTS * RAYS


class TestRaysThatOursLeavesOut:
    def test_one_that_misses_the_cube_is_sampled_and_emptied_all_the_same(self) -> None:
        model, batch = make(losses={"freespace": 1, "rgb": 0}), batch_of(0.0, missing=True)
        ray = batch.supervision.rays
        assert not cube_intervals(ray).crosses.any()
        intervals = sampled_intervals(ray)
        assert intervals.crosses.all() and (intervals.near == 0).all()
        torch.testing.assert_close(intervals.far, torch.full_like(intervals.far, 2 + 3**0.5 / 2))
        with counted(model) as count:
            out = reference_step(model, batch, SAMPLES, SEED)
        assert count.search >= SAMPLES * OBJECTS * RAYS
        assert out.terms["freespace"] > 0
        assert model(batch, SAMPLES, SEED).terms["freespace"] == 0

    def test_one_that_starts_inside_has_its_camera_for_a_surface_point(self) -> None:
        """A field full of matter: colours are compared where the cameras are."""
        model, batch = make(losses={"rgb": 1, "freespace": 0, "occupancy": 0}), batch_of(1.0)
        with torch.no_grad():
            model.decoder.fc_out.bias[0] = 100
        out = reference_step(model, batch, SAMPLES, SEED)
        assert out.surface_share == 0
        shifts = model.condition(None, batch.index)[:, :, None]
        colour = model.decoder.colour(batch.supervision.origin, shifts)
        expected = (colour - batch.supervision.colour).abs().sum() / (OBJECTS * RAYS)
        torch.testing.assert_close(out.terms["rgb"], expected)

    def test_one_that_is_grazing_pushes_as_if_it_entered(self) -> None:
        """The program's guard, on a slope so small and negative that it turns to LEAST_SLOPE."""

        def logits(points):
            return scale * points[:, 0]

        scale = torch.tensor(1e-6, requires_grad=True)
        ray = Rays(torch.tensor([[1.0, 0, 0]]), torch.tensor([[-1.0, 0, 0]]))
        yes = torch.tensor([True])
        depth = dvr.reference_step.attached_depth(logits, ray, torch.tensor([0.5]), yes)
        depth.sum().backward()
        assert depth == 0.5 and scale.grad == pytest.approx(-0.5 / LEAST_SLOPE)


class TestBenchmark:
    PICTURES = {"kind": "resnet18", "width": 4}

    def config(self, **changes: dict) -> DVRConfig:
        small = {
            "model": {"encoder": self.PICTURES, "code": 8},
            "data": {"input": {"size": 32}},
            "march": {"samples": [[0, 4], [9, 64]]},
        }
        return validate(DVRConfig, merged(settings(**changes), small), "test")

    def test_figures_are_ratios_of_what_was_counted(self, monkeypatch) -> None:
        monkeypatch.setattr(dvr.benchmark, "FIT_STEPS", 3)
        monkeypatch.setattr(dvr.benchmark, "POOL", 2**8)
        figures = {f.name: f for f in step_benchmark(self.config(), 1, CPU)}
        assert set(figures) == {
            "dvr/step_search_evaluations_per_ray",
            "dvr/step_evaluations_per_ray",
            "dvr/seconds_per_step",
        }
        for figure in figures.values():
            assert figure.ratio == pytest.approx(figure.oracle / figure.value)
        # The last of the schedule's numbers of samples.
        assert 64 <= figures["dvr/step_search_evaluations_per_ray"].oracle <= 64 + 8

    def test_a_fitted_field_tells_the_pieces_apart(self, monkeypatch) -> None:
        """A box and a board, at points of their own: fewer wrong than with the other's code."""
        monkeypatch.setattr(dvr.benchmark, "FIT_STEPS", 300)
        monkeypatch.setattr(dvr.benchmark, "FIT_POINTS", 512)
        monkeypatch.setattr(dvr.benchmark, "FIT_RATES", (5e-3, 5e-3))
        pieces = [make_piece(0, "cabinet", 0), make_piece(0, "table", 1)]
        code = torch.eye(2)
        field = OccupancyTextureField(32, 2, 2)
        field.start_as_sphere(0.3, 10.0, torch.Generator().manual_seed(0))
        fit(field, code, pieces, torch.Generator().manual_seed(0))
        points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(1)) - 0.5
        with torch.no_grad():
            guess = field.logits(points.expand(2, -1, 3), field.condition(code)[:, :, None]) > 0
        true = torch.stack([piece.distance(points) < 0 for piece in pieces])
        wrong = (guess[:, None] != true).float().mean(dim=-1)  # by code, of piece
        assert wrong.diagonal().sum() < 0.8 * wrong.flip(0).diagonal().sum(), wrong

    def test_both_find_the_same_on_the_same_field(self) -> None:
        model, batch = make(losses=ALL), batch_of(0.5)
        figures = compare_steps(model, batch, 96, pairs=1)
        assert all(figure.agreement > 0.99 for figure in figures)
        search_figure, everything, _ = figures
        assert everything.oracle > search_figure.oracle > search_figure.value
        assert everything.value > search_figure.value

    @pytest.mark.parametrize("name", ["image_gradient", "sparse_depth", "hull"])
    def test_a_term_that_the_plain_step_lacks_is_refused(self, name) -> None:
        needs = {"supervision": {"patch": 5 if name == "image_gradient" else 1}}
        if name == "hull":
            needs = {"supervision": {"hull_points": 4}}
        with pytest.raises(UserError, match=f"losses.{name}"):
            step_benchmark(self.config(losses={name: 1}, **needs), 1, CPU)
