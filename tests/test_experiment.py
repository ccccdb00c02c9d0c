"""Data and model as a configuration asks for them."""

import shutil
from pathlib import Path

import pytest
import torch

import dvr.experiment
from common.config import validate
from common.errors import UserError
from common.training.processes import Process, choose_device
from common.training.run_folder import RunFolder, load_checkpoint, save_checkpoint
from dvr.config import DVRConfig
from dvr.data import Objects
from dvr.experiment import load_run, make_model, train_experiment, with_data
from dvr.task import DVRTask
from scripts.method import find_run
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_run import PICTURES, SCENE, merged, tiny_settings, write_settings

CPU = torch.device("cpu")
ALONE = Process(0, 1, CPU)
ALL_VIEWS = {"data": {"holdout_every": 0}}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_tiny_collection(root / "spheres", objects=3, categories=("chair", "lamp"))
    write_tiny_scene(root / "scene")
    write_tiny_collection(root / "alone", objects=1, views=6)
    return root


def configuration(path: Path, out: Path = Path("nowhere"), **changes) -> DVRConfig:
    return validate(DVRConfig, merged(tiny_settings(path, out), changes), "test")


def centres(config: DVRConfig, held_out: bool = False) -> torch.Tensor:
    return Objects(config, config.data.train_split, held_out)[0].views.cameras.centre


class TestObjects:
    def test_a_collection_lists_its_categories_in_order(self, data) -> None:
        objects = Objects(configuration(data / "spheres"), "train")
        expected = [(c, f"sphere_{i}") for c in ("chair", "lamp") for i in range(3)]
        assert [(entry.category, entry.name) for entry in objects.entries] == expected
        one = Objects(configuration(data / "spheres", data={"categories": ["lamp"]}), "train")
        assert {entry.category for entry in one.entries} == {"lamp"} and len(one) == 3

    def test_input_pictures_are_for_image_encoders_alone(self, data) -> None:
        settings = merged(tiny_settings(data / "spheres", Path("x")), PICTURES)
        with_pictures = Objects(validate(DVRConfig, settings, "test"), "train")
        assert with_pictures[0].inputs.shape == (4, 64, 64, 3)
        assert Objects(configuration(data / "spheres"), "train")[0].inputs is None

    def test_input_pictures_are_the_same_however_they_are_read(self, data) -> None:
        """Once from the supervision's own pictures, once from their files."""
        settings = merged(tiny_settings(data / "spheres", Path("x")), PICTURES)
        whole = Objects(validate(DVRConfig, settings, "test"), "train")
        alone = whole.inputs(0)
        shared = whole[0].inputs
        assert torch.equal(alone, shared) and torch.equal(whole.inputs(0), shared)
        apart = merged(settings, {"data": {"views": [1, 2]}})
        again = Objects(validate(DVRConfig, apart, "test"), "train")[0]
        assert len(again.views) == 2 and torch.equal(again.inputs, shared)
        assert torch.equal(Objects(validate(DVRConfig, apart, "test"), "train").inputs(0), shared)
        chosen = merged(settings, {"data": {"input": {"views": [2]}}})
        for read in (lambda objects: objects[0].inputs, lambda objects: objects.inputs(0)):
            one = read(Objects(validate(DVRConfig, chosen, "test"), "train"))
            assert torch.equal(one, shared[2:3])

    def test_pictures_of_choy_et_al_are_the_input_where_they_are(self, data, tmp_path) -> None:
        copy = Path(shutil.copytree(data / "spheres", tmp_path / "copy"))
        for folder in copy.glob("*/sphere_*"):
            (folder / "img_choy2016").mkdir()
            shutil.copy(folder / "image/0003.png", folder / "img_choy2016/00.png")
        settings = merged(tiny_settings(copy, Path("x")), PICTURES)
        objects = Objects(validate(DVRConfig, settings, "test"), "train")
        assert objects.folders.input == "img_choy2016" and objects.folders.image == "image"
        plain = merged(settings, {"data": {"input": {"folder": "image"}}})
        expected = Objects(validate(DVRConfig, plain, "test"), "train")[0].inputs[3:4]
        assert torch.equal(objects[0].inputs, expected)

    def test_depth_is_read_when_it_is_used(self, data) -> None:
        def views(**changes):
            return Objects(configuration(data / "spheres", **changes), "train")[0].views

        assert views().depth is None and views().hull_depth is None
        assert views(losses={"depth": 1}).depth is not None
        assert views(supervision={"occupancy_points": "depth"}).depth is not None
        assert views(supervision={"occupancy_points": "hull"}).hull_depth is not None

    def test_memory_is_bounded(self, data) -> None:
        one = Objects(configuration(data / "spheres"), "train")[0].bytes
        config = configuration(data / "spheres", data={"cache_gb": 2.5 * one / 2**30})
        objects = Objects(config, "train")
        for index in (0, 1, 0, 2):
            objects[index]
        assert list(objects._cache) == [0, 2]  # the least recently used went
        assert objects[0] is objects[0]


class TestHeldOutViews:
    def test_a_scene_splits_its_views(self, data) -> None:
        config = configuration(data / "scene", **SCENE)
        every = centres(configuration(data / "scene", **merged(SCENE, ALL_VIEWS)))
        assert len(every) == 6
        assert torch.equal(centres(config), every[[1, 2, 4, 5]])
        assert torch.equal(centres(config, held_out=True), every[[0, 3]])

    def test_a_scenes_views_can_be_chosen(self, data) -> None:
        every = centres(configuration(data / "scene", **merged(SCENE, ALL_VIEWS)))
        some = {"data": {"holdout_every": 0, "views": [5, 0, 2], "ignore_views": [0]}}
        assert torch.equal(
            centres(configuration(data / "scene", **merged(SCENE, some))), every[[5, 2]]
        )
        wrong = {"data": {"ignore_views": [9]}}
        with pytest.raises(UserError, match="scene: no view 9; its views are 0 to 5"):
            centres(configuration(data / "scene", **merged(SCENE, wrong)))

    def test_so_does_a_collection_of_one_object_without_a_code(self, data) -> None:
        config = configuration(data / "alone", **merged(SCENE, {"data": {"holdout_every": 2}}))
        assert len(centres(config)) == len(centres(config, held_out=True)) == 3

    def test_objects_with_codes_show_all_views(self, data) -> None:
        config = configuration(data / "alone", data={"holdout_every": 2})
        assert len(centres(config)) == len(centres(config, held_out=True)) == 6


class TestModel:
    def test_it_is_that_of_its_seed(self, data) -> None:
        """Whatever was drawn before, and without drawing from anyone else's numbers."""
        config = configuration(data / "spheres")
        first = make_model(config, 6).state_dict()
        torch.manual_seed(77)
        before = torch.get_rng_state()
        again = make_model(config, 6).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(value, again[name]) for name, value in first.items())
        other = make_model(configuration(data / "spheres", training={"seed": 1}), 6).state_dict()
        assert not torch.equal(first["decoder.fc_p.weight"], other["decoder.fc_p.weight"])

    @pytest.mark.parametrize("threshold,radius", [(0.35, 0.3619), (0.5, 0.3)])
    def test_it_starts_as_a_ball(self, data, threshold, radius) -> None:
        """Of the configured radius at tau = 0.5; a lower tau adds logit(tau) / slope to it."""
        config = configuration(
            data / "spheres", model={"hidden": 128, "blocks": 5, "initial_radius": 0.3},
            march={"threshold": threshold},
        )  # fmt: skip
        model = make_model(config, 6)
        level = model.level(model.condition(None, torch.zeros(1).long()))
        points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
        inside = level(points) < 0
        # The fit's bumps of 0.02 concern 4 pi 0.3^2 * 0.02 * 2 = 4.5 % of the cube at most.
        assert (inside == (points.norm(dim=-1) < radius)).float().mean() > 0.955


class TestEmbeddedSet:
    def test_it_stands_in_where_shapenet_is_not(self, tmp_path, monkeypatch) -> None:
        made = []
        monkeypatch.setattr(dvr.experiment, "make_furniture", made.append)
        monkeypatch.chdir(tmp_path)
        config = with_data(configuration(Path("data/ShapeNet")), ALONE)
        assert config.data.path == "data/furniture" and made == [Path("data/furniture")]

    def test_it_never_replaces_what_was_asked_for(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(dvr.experiment, "make_furniture", pytest.fail)
        monkeypatch.chdir(tmp_path)
        other = configuration(Path("data/other"))
        assert with_data(other, ALONE) is other
        (tmp_path / "data/ShapeNet").mkdir(parents=True)
        shapenet = configuration(Path("data/ShapeNet"))
        assert with_data(shapenet, ALONE) is shapenet


class TestRuns:
    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, data, tmp_path_factory) -> RunFolder:
        out = tmp_path_factory.mktemp("run") / "run"
        train_experiment(configuration(data / "spheres", out), ALONE)
        return RunFolder(out)

    def test_a_run_is_loaded_as_it_was_trained(self, run) -> None:
        model, config, numbers = load_run(run, CPU, "latest")
        saved = load_checkpoint(run.latest)["model"]
        assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
        assert not model.training
        assert numbers["step"] == 4 and config.training.out_dir == str(run.path)

    def test_the_best_checkpoint_is_preferred_where_there_is_one(self, run, tmp_path) -> None:
        copy = RunFolder(Path(shutil.copytree(run.path, tmp_path / "copy")))
        state = load_checkpoint(copy.best)
        save_checkpoint(copy.best, state | {"step": 3})
        assert load_run(copy, CPU)[2]["step"] == 3
        assert load_run(copy, CPU, "latest")[2]["step"] == 4
        copy.best.unlink()
        assert load_run(copy, CPU)[2]["step"] == 4

    def test_a_run_is_named_by_folder_or_configuration(self, run, tmp_path) -> None:
        assert find_run(str(run.path)) == run
        settings = {"method": "dvr", "training": {"out_dir": str(run.path)}}
        assert find_run(str(write_settings(tmp_path / "c.yaml", settings))) == run
        with pytest.raises(UserError, match="no such run folder"):
            find_run(str(tmp_path / "nowhere"))

    def test_validation_is_the_same_each_time_and_knows_a_perfect_field(self, data, run) -> None:
        config = configuration(data / "spheres", losses={"depth": 1})
        model, *_ = load_run(run, CPU)
        objects = Objects(config, "val")
        task = DVRTask(model, config, objects, objects, ALONE)
        first = task.validate()
        assert task.validate() == first
        assert set(first) == {"mask_iou", "depth_error"}
        assert 0 <= first["mask_iou"] <= 1 and 0 <= first["depth_error"] <= 1

    def test_a_miss_counts_as_the_size_of_the_cube(self, data, run) -> None:
        """Neither score may improve by showing nothing."""
        config = configuration(data / "spheres", losses={"depth": 1})
        model, *_ = load_run(run, CPU)
        with torch.no_grad():
            model.decoder.fc_out.weight[0] = 0
            model.decoder.fc_out.bias[0] = -1
        objects = Objects(config, "val")
        task = DVRTask(model, config, objects, objects, ALONE)
        assert task.validate() == {"mask_iou": 0.0, "depth_error": 1.0}


def test_objects_must_divide_among_the_processes(data, tmp_path) -> None:
    config = configuration(data / "spheres", tmp_path / "run", training={"objects": 3})
    with pytest.raises(UserError, match="training.objects: 3 of a step cannot be shared .* 2 proc"):
        train_experiment(config, Process(0, 2, CPU))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("visible,name,expected", [
    (False, "auto", "cpu"), (False, "cpu", "cpu"), (True, "cpu", "cpu"), (True, "auto", "cuda:1"),
    (True, "cuda", "cuda:1"),
])  # fmt: skip
def test_devices(monkeypatch, visible, name, expected) -> None:
    """Local processes 0, 1, 2, 3 on two GPUs: the fourth shares the second one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(name, local_rank=3) == torch.device(expected)
