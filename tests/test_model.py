"""Loss terms of known fields, gradients against finite differences, and a sphere learnt anew."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import softplus

from common.config import validate
from common.data.collection import CollectionFolders, ObjectEntry, read_views
from common.data.supervision import Draw, Supervision, draw_supervision
from common.data.views import SparseDepth, Views
from common.errors import UserError
from common.rendering.intervals import cube_intervals
from common.training.processes import Process
from common.training.run_folder import RunFolder
from common.training.terms import weighted_total
from dvr.config import DVRConfig
from dvr.experiment import load_run, make_model, train_experiment
from dvr.generation import make_mesh
from dvr.model import Batch, DVRModel, StepOutput
from tests.make_collection import SCENE_RADIUS, sphere_radius, write_tiny_object, write_tiny_scene
from tests.make_run import SCENE, merged, tiny_settings

ONLY = {"rgb": 0, "freespace": 0, "occupancy": 0, "normal": 0}
RAYS = 576


@pytest.fixture(scope="module")
def views(tmp_path_factory) -> list[Views]:
    """Two spheres, seen with depth, hull depth and a few points that every view sees."""
    root, result = tmp_path_factory.mktemp("objects"), []
    for index in range(2):
        folder = root / f"sphere_{index}"
        write_tiny_object(folder, sphere_radius(index), views=6, size=24, seed=index)
        entry = ObjectEntry("c", "c", folder.name, folder)
        read = read_views(entry, CollectionFolders(), with_depth=True, with_hull_depth=True)
        points = torch.randn(40, 3, generator=torch.Generator().manual_seed(index))
        points = sphere_radius(index) * torch.nn.functional.normalize(points, dim=-1)
        result.append(replace(read, sparse=SparseDepth(points, torch.ones(6, 40).bool())))
    return result


def configuration(**changes) -> DVRConfig:
    settings = merged(tiny_settings(Path("nowhere"), Path("nowhere")), changes)
    return validate(DVRConfig, settings, "test")


def batch_of(views: list[Views], seed: int = 0, patch: int = 1) -> Batch:
    """All these objects, on RAYS rays each."""
    draws = [
        draw_supervision(
            one,
            Draw(RAYS, views=3, patch=patch, hull_points=50, sparse_points=20),
            torch.Generator().manual_seed(seed + 10 * index),
        )
        for index, one in enumerate(views)
    ]
    names = Supervision.__dataclass_fields__
    stacked = {name: torch.stack([getattr(one, name) for one in draws]) for name in names}
    return Batch(None, torch.arange(len(views)), Supervision(**stacked))


def in_double(batch: Batch) -> Batch:
    values = {
        name: value.double() if value.is_floating_point() else value
        for name, value in vars(batch.supervision).items()
    }
    return replace(batch, supervision=Supervision(**values))


def constant(model: DVRModel, logit: float) -> DVRModel:
    """The same occupancy everywhere."""
    with torch.no_grad():
        model.decoder.fc_out.weight[0] = 0
        model.decoder.fc_out.bias[0] = logit
    return model


def half_space(model: DVRModel, x: float, slope: float, colour: float = 0.5) -> DVRModel:
    """Matter where p_x < x, of one grey: logit = slope * (x - p_x), exactly."""
    for parameter in model.decoder.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        model.decoder.fc_p.weight[0, 0] = 1
        model.decoder.fc_p.bias[0] = 10  # keeps the rectifiers open all over the cube
        model.decoder.fc_out.weight[0, 0] = -slope
        model.decoder.fc_out.bias[0] = slope * (x + 10)
        model.decoder.fc_out.bias[1:] = math.log(colour / (1 - colour))
    return model


def step(model: DVRModel, batch: Batch, seed: int = 0, samples: int = 32) -> StepOutput:
    return model(batch, samples, seed)


class TestKnownFields:
    ALL = {"rgb": 1, "freespace": 1, "occupancy": 1, "hull": 1, "depth": 1}
    CONFIG = {"losses": ALL, "supervision": {"hull_points": 50}}

    def rays(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Which rays belong to the object, and which meet the cube."""
        crosses = cube_intervals(batch.supervision.rays).crosses
        return batch.supervision.mask.reshape(-1), crosses

    def test_an_empty_field(self, views) -> None:
        """Object rays must meet matter, background rays are content with softplus(logit)."""
        batch, logit = batch_of(views), -1.5
        terms = step(constant(make_model(configuration(**self.CONFIG), 2), logit), batch).terms
        mask, crosses = self.rays(batch)
        missed, background = (
            (mask & crosses).sum() / (2 * RAYS),
            (~mask & crosses).sum() / (2 * RAYS),
        )
        assert missed > 0.05 and background > 0.1
        above = softplus(torch.tensor(logit))
        below = softplus(torch.tensor(-logit))
        inside = batch.supervision.hull_inside.float().mean()
        expected = {
            "rgb": torch.tensor(0.0),
            "depth": torch.tensor(0.0),
            "freespace": above * background,
            "occupancy": below * missed,
            "hull": below * inside + above * (1 - inside),
        }
        assert set(terms) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(terms[name].detach(), value, msg=name)

    def test_a_full_field_is_pushed_to_be_empty_where_rays_enter(self, views) -> None:
        """All rays start inside: no surface to compare, and none of them is content."""
        batch, logit = batch_of(views), 2.0
        model = constant(make_model(configuration(**self.CONFIG), 2), logit)
        output = step(model, batch)
        _, crosses = self.rays(batch)
        full = softplus(torch.tensor(logit)) * crosses.sum() / (2 * RAYS)
        torch.testing.assert_close(output.terms["freespace"].detach(), full)
        for name in ("rgb", "depth", "occupancy"):
            assert output.terms[name] == 0
        assert output.surface_share == 0
        output.terms["freespace"].backward()
        assert model.decoder.fc_out.bias.grad[0] > 0  # descending lowers the logit

    def test_a_half_space(self, views) -> None:
        """Every term of one object by hand: the plane x = -0.2, grey 0.25."""
        batch, plane, slope = batch_of(views[:1]), -0.2, 8.0
        model = half_space(make_model(configuration(**self.CONFIG), 1), plane, slope, 0.25)
        terms = step(model, batch, samples=64).terms
        supervision = batch.supervision
        mask, _ = self.rays(batch)
        rays, intervals = supervision.rays, cube_intervals(supervision.rays)
        depth = (plane - rays.origin[:, 0]) / rays.direction[:, 0]
        entry = rays.at(intervals.near)[:, 0]
        hit = intervals.crosses & (entry > plane)
        hit &= (depth > intervals.near) & (depth < intervals.far)
        starts = intervals.crosses & (entry < plane)
        surface = hit & mask
        assert surface.sum() > 5 and (starts & mask).sum() > 5
        true = supervision.colour.reshape(-1, 3)[surface]
        rgb = (0.25 - true).abs().sum() / RAYS
        torch.testing.assert_close(terms["rgb"].detach(), rgb)
        per_z = supervision.per_camera_z.reshape(-1)[surface]
        known = supervision.distance.reshape(-1)[surface]
        depth_term = ((depth[surface] - known) / per_z).abs().sum() / RAYS
        # A root found to float32's rounding, 1e-6 of a depth of 2.
        torch.testing.assert_close(terms["depth"].detach(), depth_term, atol=1e-5, rtol=1e-4)
        # Starting inside: the logit at the entry. Background before the plane: 0 at the surface,
        # so log 2 each; background that misses it: random points, of logits below 0.
        starting = softplus(slope * (plane - entry[starts])).sum()
        least = starting + (hit & ~mask).sum() * math.log(2)
        free = (intervals.crosses & ~mask & ~hit & ~starts).sum()
        total = terms["freespace"].item() * RAYS
        assert least - 1e-3 < total < least + free * math.log(2) + 1e-3
        # Object rays that miss it lie in x > -0.2 wholly: logits between -slope * 0.7 and 0.
        missed = (mask & intervals.crosses & ~hit & ~starts).sum()
        most = softplus(torch.tensor(slope * 0.7))
        assert missed > 0
        assert missed * math.log(2) <= terms["occupancy"].item() * RAYS <= missed * most

    def test_only_uncovered_background_when_asked(self, views) -> None:
        """always_freespace: false leaves background rays alone that the field covers."""
        batch = batch_of(views[:1])
        settings = {"losses": ONLY | {"freespace": 1}, "supervision": {"always_freespace": False}}
        mask = batch.supervision.mask.reshape(-1)
        terms = {}
        for always in (True, False):
            settings["supervision"]["always_freespace"] = always
            model = half_space(make_model(configuration(**settings), 1), 0.05, 8.0)
            terms[always] = step(model, batch, samples=64).terms["freespace"].item() * RAYS
        hits, _ = model.find_surface(
            model.condition(None, torch.zeros(1).long()), torch.zeros(RAYS).long(),
            batch.supervision.rays, 64,
        )  # fmt: skip
        left_out = (hits.found & ~mask).sum().item()
        assert left_out > 3
        assert terms[True] - terms[False] == pytest.approx(left_out * math.log(2), rel=1e-3)

    @pytest.mark.parametrize("kind", ["hull", "depth"])
    def test_missed_object_rays_are_filled_where_it_is_known(self, views, kind) -> None:
        """An empty field whose logit depends on x alone tells where it was asked."""
        batch = batch_of(views[:1])
        settings = {"losses": ONLY | {"occupancy": 1}, "supervision": {"occupancy_points": kind}}
        model = half_space(make_model(configuration(**settings), 1), -5.0, 1.0)
        term = step(model, batch).terms["occupancy"]
        s = batch.supervision
        mask = s.mask.reshape(-1)
        distance = (s.distance if kind == "depth" else s.hull_distance).reshape(-1)[mask]
        points = s.rays.origin[mask] + distance[:, None] * s.rays.direction[mask]
        expected = softplus(points[:, 0] + 5).sum() / RAYS
        torch.testing.assert_close(term.detach(), expected)

    def test_random_normal_points_gather_in_the_middle(self, views) -> None:
        """Off the middle of its interval by an eighth of its length on average, not a quarter."""
        batch = batch_of(views[:1])
        asked = {}
        for kind in ("random", "random_normal"):
            settings = {"losses": ONLY | {"occupancy": 1}}
            settings["supervision"] = {"occupancy_points": kind}
            model = constant(make_model(configuration(**settings), 1), -3.0)
            seen = []
            model.decoder.fc_p.register_forward_hook(
                lambda _, inputs, __, seen=seen: seen.append(inputs[0])
            )
            step(model, batch)
            intervals = cube_intervals(batch.supervision.rays)
            missed = batch.supervision.mask.reshape(-1)[intervals.crosses]
            middle = batch.supervision.rays.at((intervals.near + intervals.far) / 2)
            length = (intervals.far - intervals.near)[intervals.crosses][missed]
            # The last call: one point on each ray through the cube, in order.
            points, middle = seen[-1][missed], middle[intervals.crosses][missed]
            share = (points - middle).norm(dim=-1) / length
            assert share.max() <= 0.5 + 1e-5
            asked[kind] = share.mean()
        # Means of |N(0, 1/8)| = 0.0997 and of |U(-1/2, 1/2)| = 0.25, over some 40 rays.
        assert asked["random_normal"] < 0.15 < asked["random"]


TERMS = {
    "rgb": {},
    "image_gradient": {"supervision": {"patch": 2}},
    "depth": {},
    "depth as points": {"supervision": {"depth_distance": "points"}},
    "sparse_depth": {},
    "sparse_depth as points": {"supervision": {"depth_distance": "points"}},
    "normal": {"model": {"frequencies": 2}},  # a ReLU network of plain points is flat there
    "freespace": {},
    "occupancy": {},
    "occupancy by hull": {"supervision": {"occupancy_points": "hull"}},
    "occupancy by depth": {"supervision": {"occupancy_points": "depth"}},
    "occupancy by random_normal": {"supervision": {"occupancy_points": "random_normal"}},
    "hull": {"supervision": {"hull_points": 50}},
}


class TestEveryTerm:
    @pytest.mark.parametrize("case", TERMS)
    def test_is_there_alone_when_weighted_and_reaches_the_field(self, views, case) -> None:
        name = case.split()[0]
        config = configuration(**merged({"losses": ONLY | {name: 2.0}}, TERMS[case]))
        model = make_model(config, 2)
        output = step(model, batch_of(views, patch=config.supervision.patch))
        assert set(output.terms) == {name}
        assert output.terms[name] > 0
        weighted_total(output.terms, config.losses.model_dump()).backward()
        gradients = [p.grad for p in model.decoder.parameters() if p.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert model.decoder.fc_p.weight.grad.abs().max() > 0

    def test_all_together_are_summed_by_weight(self, views) -> None:
        weights = {"rgb": 2.0, "depth": 3.0, "hull": 0.5, "normal": 0, "freespace": 0}
        config = configuration(losses=weights, supervision={"hull_points": 50})
        output = step(make_model(config, 2), batch_of(views))
        terms = output.terms
        assert set(terms) == {"rgb", "depth", "hull", "occupancy"}
        by_hand = 2 * terms["rgb"] + 3 * terms["depth"] + 0.5 * terms["hull"] + terms["occupancy"]
        torch.testing.assert_close(weighted_total(terms, config.losses.model_dump()), by_hand)

    def test_colour_can_be_left_out_of_the_network(self, views) -> None:
        config = configuration(model={"colour": False}, losses=ONLY | {"depth": 1})
        model = make_model(config, 2)
        assert model.decoder.fc_out.out_features == 1
        step(model, batch_of(views)).terms["depth"].backward()

    def test_nothing_known_is_an_exact_zero(self, views) -> None:
        bare = [replace(one, depth=None, hull_depth=None, sparse=None) for one in views]
        config = configuration(losses=ONLY | {"depth": 1, "sparse_depth": 1})
        model = make_model(config, 2)
        terms = step(model, batch_of(bare)).terms
        sum(terms.values()).backward()
        assert terms["depth"] == terms["sparse_depth"] == 0
        assert all(not p.grad.any() for p in model.decoder.parameters() if p.grad is not None)


def individual(model: DVRModel) -> DVRModel:
    """Codes that matter: at the start they are multiplied by zero."""
    generator = torch.Generator().manual_seed(4)
    for parameter in model.decoder.fc_c.parameters():
        torch.nn.init.normal_(parameter, std=0.01, generator=generator)
    return model


def test_a_batch_is_the_mean_of_its_objects(views) -> None:
    config = configuration(
        losses=ONLY | {"rgb": 1, "depth": 1, "sparse_depth": 1, "hull": 1, "image_gradient": 1},
        supervision={"hull_points": 50, "patch": 2},
    )
    model, batch = individual(make_model(config, 2)), batch_of(views, patch=2)
    together = step(model, batch)
    alone = []
    for i in range(2):
        part = {name: value[i : i + 1] for name, value in vars(batch.supervision).items()}
        alone.append(step(model, Batch(None, batch.index[i : i + 1], Supervision(**part))))
    for name, term in together.terms.items():
        mean = (alone[0].terms[name] + alone[1].terms[name]) / 2
        # Sums of some hundred float32 terms in another order.
        torch.testing.assert_close(term, mean, rtol=1e-4, atol=1e-6)
        assert alone[0].terms[name] != alone[1].terms[name]
    assert together.rays == alone[0].rays + alone[1].rays == 2 * RAYS


def test_random_points_are_those_of_the_seed(views) -> None:
    model, batch = make_model(configuration(), 2), batch_of(views)
    first, again, other = (step(model, batch, seed).terms["freespace"] for seed in (1, 1, 2))
    assert first == again != other


def test_the_dense_search_has_the_same_outcome_at_its_full_cost(views) -> None:
    batch, outputs = batch_of(views), {}
    for method in ("adaptive", "dense"):
        model = make_model(configuration(march={"method": method}), 2)
        model.start_as_sphere(torch.Generator().manual_seed(0))
        outputs[method] = step(model, batch, samples=64)
    fast, dense = outputs["adaptive"], outputs["dense"]
    crossing = int(cube_intervals(batch.supervision.rays).crosses.sum())
    assert dense.evaluations >= 64 * crossing > 2 * fast.evaluations
    for name, term in dense.terms.items():
        torch.testing.assert_close(fast.terms[name], term, rtol=1e-5, atol=1e-6)


def test_the_colour_loss_reaches_the_encoder(views) -> None:
    """At the start through the layers that read the code, once these have moved further."""
    config = configuration(
        model={"encoder": {"kind": "simple"}}, data={"input": {"size": 64}},
        losses=ONLY | {"rgb": 1},
    )  # fmt: skip
    model = make_model(config, 2)
    batch = replace(batch_of(views), image=torch.rand(2, 3, 64, 64))
    step(model, batch).terms["rgb"].backward()
    assert model.decoder.fc_c[0].weight.grad.abs().max() > 0
    assert not model.encoder.conv0.weight.grad.any()
    individual(model)
    step(model, batch).terms["rgb"].backward()
    assert model.encoder.conv0.weight.grad.abs().max() > 0


class TestDerivatives:
    """Central differences of the whole loss, searched anew, in float64."""

    def loss(self, model: DVRModel, batch: Batch) -> torch.Tensor:
        weights = model.config.losses.model_dump()
        return weighted_total(step(model, batch).terms, weights)

    @pytest.mark.parametrize(
        "losses,supervision",
        [
            ({"depth": 1}, {}),
            ({"depth": 1}, {"depth_distance": "points"}),
            ({"sparse_depth": 1}, {}),
            ({"rgb": 1}, {}),
            ({"image_gradient": 1}, {"patch": 2}),
        ],
    )
    def test_gradients_are_those_of_the_searched_loss(self, views, losses, supervision) -> None:
        config = configuration(
            losses=ONLY | losses,
            supervision=supervision,
            march={"refinement_steps": 40, "refinement_tolerance": 0},
        )
        model = individual(make_model(config, 2)).double()
        batch = in_double(batch_of(views, patch=config.supervision.patch))
        self.loss(model, batch).backward()
        size = 1e-6  # so small that no ray changes sides; rounding adds 1e-16 / 1e-6 = 1e-10
        parameters = dict(model.decoder.named_parameters())
        for name, place in [("fc_out.bias", 0), ("fc_p.weight", 7), ("fc_c.1.weight", 3)]:
            flat = parameters[name].data.view(-1)
            exact, values = parameters[name].grad.view(-1)[place].item(), []
            for shift in (size, -2 * size):
                flat[place] += shift
                values.append(self.loss(model, batch).item())
            flat[place] += size
            difference = (values[0] - values[1]) / (2 * size)
            assert difference == pytest.approx(exact, rel=1e-4, abs=1e-8), name
            assert abs(exact) > 1e-7, name

    @pytest.mark.parametrize("radius,sign", [(0.2, -1), (0.38, 1)])
    def test_the_depth_loss_moves_the_radius_towards_the_truth(self, views, radius, sign) -> None:
        """The sphere has radius 0.25; a greater logit everywhere is a greater ball."""
        config = configuration(losses=ONLY | {"depth": 1}, model={"initial_radius": radius})
        model = make_model(config, 1)
        self.loss(model, batch_of(views[:1])).backward()
        assert sign * model.decoder.fc_out.bias.grad[0] > 0


def test_a_sphere_is_recovered_from_pictures_alone(tmp_path) -> None:
    """Silhouettes and colours of 24 pixels, four views: the radius, 0.3 in the cube, within 5 %.

    The masks' visual hull, of which a learnt field keeps a part, is what lies around a ball in the
    cones of four views, and its outline of 5.8 pixels' radius is known to a fraction of one (1 to
    3 %). The training starts at 0.4, a third too large.
    """
    write_tiny_scene(tmp_path / "scene")
    settings = merged(tiny_settings(tmp_path / "scene", tmp_path / "run"), SCENE)
    changes = {
        "data": {"image_size": 24},
        "model": {"hidden": 32, "initial_radius": 0.4},
        "training": {"iterations": 300, "rays": 256, "learning_rate": 3e-3, "decay": "cosine"},
        "losses": {"hull": 1},
        "supervision": {"views": 4, "occupancy_points": "hull", "hull_points": 256},
    }
    config = validate(DVRConfig, merged(settings, changes), "test")
    train_experiment(config, Process(0, 1, torch.device("cpu")))
    model, config, numbers = load_run(RunFolder(tmp_path / "run"), torch.device("cpu"))
    assert numbers["step"] == 300
    condition = model.condition(None, torch.zeros(1).long())
    mesh = make_mesh(model, condition, config.generation)
    volume = torch.from_numpy(mesh.vertices[mesh.faces]).det().sum().item() / 6
    radius = (volume * 3 / (4 * math.pi)) ** (1 / 3)
    assert radius == pytest.approx(SCENE_RADIUS / 2, rel=0.05)


def test_an_unfinished_configuration_is_the_users(tmp_path) -> None:
    """A scene has no input pictures."""
    write_tiny_scene(tmp_path / "scene")
    settings = merged(
        tiny_settings(tmp_path / "scene", tmp_path / "run"),
        {"model": {"encoder": {"kind": "simple"}}},
    )
    config = validate(DVRConfig, settings, "test")
    with pytest.raises(UserError, match="scene: a scene is one object.*model.encoder.kind"):
        train_experiment(config, Process(0, 1, torch.device("cpu")))
    assert not (tmp_path / "run").exists()
