"""IDR from a folder of photographs: what a step is given, trainings that are measured, alarms."""

import math
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

import common.training.divergence
from common.config import validate
from common.data.views import Views
from common.errors import Diverged, Stopped, UserError
from common.training.loop import train
from common.training.processes import Process
from common.training.run_folder import RunFolder, load_checkpoint
from idr.config import IDRConfig
from idr.data import PixelBatch, PixelBatches, inner_masks, load_scene
from idr.experiment import load_experiment, make_model, train_experiment
from idr.model import IDRModel
from idr.task import IDRTask
from tests.make_collection import SCENE_RADIUS, write_tiny_scene
from tests.make_idr import OneColour, known_experiment, nothing, sphere, tiny_idr_settings
from tests.make_run import merged, run_script, write_settings
from tests.test_logs import read

ALONE = Process(0, 1, torch.device("cpu"))
VIEWS, SIZE = 8, 40


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """A ball of radius 0.6 in pictures where it is 19 pixels wide, shaded by its depth."""
    return write_tiny_scene(tmp_path_factory.mktemp("data") / "ball", VIEWS, SIZE)


@pytest.fixture(scope="module")
def views(path) -> Views:
    return load_scene(configuration(path, data={"holdout_every": 0})).training


def configuration(path: Path, out: Path = Path("nowhere"), **changes) -> IDRConfig:
    return validate(IDRConfig, merged(tiny_idr_settings(path, out), changes), "test")


class TestScene:
    @pytest.mark.parametrize("every,held", [(0, []), (3, [0, 3, 6]), (4, [0, 4]), (50, [0])])
    def test_every_nth_view_is_held_out(self, path, views, every, held) -> None:
        scene = load_scene(configuration(path, data={"holdout_every": every}))
        learnt = [index for index in range(VIEWS) if index not in held]
        assert len(scene.held_out) == len(held) and len(scene.training) == len(learnt)
        assert torch.equal(scene.training.images, views.images[learnt])
        assert torch.equal(scene.held_out.masks, views.masks[held])
        assert scene.training_names == [f"{index:06d}.png" for index in learnt]
        assert scene.held_out_names == [f"{index:06d}.png" for index in held]
        assert torch.equal(scene.rough_cameras.centre, views.cameras.centre[learnt])

    def test_some_view_must_remain(self, path) -> None:
        with pytest.raises(UserError, match="holdout_every: 1 keeps all of the 8 views"):
            load_scene(configuration(path, data={"holdout_every": 1}))

    def test_views_can_be_chosen_before_some_are_held_out(self, path) -> None:
        chosen = {"views": [5, 1, 2, 7], "ignore_views": [2], "holdout_every": 2}
        scene = load_scene(configuration(path, data=chosen))
        assert scene.held_out_names == ["000005.png", "000007.png"]
        assert scene.training_names == ["000001.png"]

    def test_pictures_and_all_cameras_are_resampled_together(self, path, views) -> None:
        noisy = {"noise_deg": 1}
        scene = load_scene(configuration(path, data={"image_size": 20}, cameras=noisy))
        assert scene.training.masks.shape[1:] == scene.held_out.masks.shape[1:] == (20, 20)
        half = views.cameras.resized(20, 20).intrinsics[0]
        for cameras in (scene.rough_cameras, scene.training.cameras, scene.held_out.cameras):
            assert (cameras.height, cameras.width) == (20, 20)
            torch.testing.assert_close(cameras.intrinsics[0], half)

    def test_noise_is_as_large_as_asked_and_in_the_first_cameras_alone(self, path) -> None:
        noise = {"noise_deg": 2, "noise_translation": 0.03}
        clean, scene, again = (
            load_scene(configuration(path, cameras=cameras)) for cameras in ({}, noise, noise)
        )
        rough, true = scene.rough_cameras, clean.training.cameras
        assert torch.equal(scene.training.cameras.object_from_camera, true.object_from_camera)
        assert torch.equal(rough.object_from_camera, again.rough_cameras.object_from_camera)
        moved = (rough.centre - true.centre).norm(dim=-1) / true.centre.norm(dim=-1)
        torch.testing.assert_close(moved, torch.full_like(moved, 0.03), rtol=1e-4, atol=0)
        between = (
            true.object_from_camera[:, :3, :3].mT @ rough.object_from_camera[:, :3, :3]
        ).double()
        cosine = (between.diagonal(dim1=1, dim2=2).sum(dim=-1) - 1) / 2
        # An angle of 0.035 from its cosine, which float32 rounds to 1e-7.
        turned = cosine.clamp(-1, 1).acos() * 180 / math.pi
        torch.testing.assert_close(turned, torch.full_like(turned, 2), rtol=1e-3, atol=0)
        other = load_scene(configuration(path, cameras=noise, training={"seed": 1}))
        assert not torch.equal(other.rough_cameras.centre, rough.centre)

    def test_first_poses_may_come_from_another_file(self, path, tmp_path, views) -> None:
        copy = Path(shutil.copytree(path, tmp_path / "copy"))
        with np.load(copy / "cameras.npz") as archive:
            matrices = {key: archive[key] for key in archive.files}
        for view in range(VIEWS):  # all cameras a world unit further along x: a third of a radius
            shift = np.eye(4)
            shift[0, 3] = -1
            matrices[f"world_mat_{view}"] = matrices[f"world_mat_{view}"] @ shift
        np.savez(copy / "cameras_linear_init.npz", **matrices)
        scene = load_scene(configuration(copy, cameras={"file": "cameras_linear_init.npz"}))
        true = scene.training.cameras
        moved = scene.rough_cameras.centre - true.centre
        expected = torch.tensor([1 / 3, 0, 0]).expand_as(moved)
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)
        assert torch.equal(scene.rough_cameras.intrinsics, true.intrinsics)


def same(first: PixelBatch, second: PixelBatch) -> bool:
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return all(one is other is None or torch.equal(one, other) for one, other in pairs)


class TestPixelBatches:
    def batches(self, views: Views, rank: int = 0, processes: int = 1, **changes) -> PixelBatches:
        return PixelBatches(views, configuration(Path("nowhere"), **changes), rank, processes)

    def test_are_a_function_of_seed_and_step(self, views) -> None:
        first, again = self.batches(views), self.batches(views)
        later = again[7]
        assert same(first[0], again[0]) and same(first[7], later)
        assert not same(first[0], first[1])
        assert not same(first[0], self.batches(views, training={"seed": 1})[0])
        assert len(first) == 2

    def test_hold_what_the_pictures_show(self, views) -> None:
        batch = self.batches(views)[0]
        x, y = batch.pixel.long().unbind(-1)
        assert torch.equal(batch.pixel, batch.pixel.round())
        torch.testing.assert_close(batch.colour * 255, views.images[batch.view, y, x].float())
        assert torch.equal(batch.mask, views.masks[batch.view, y, x])
        assert torch.equal(batch.coloured, batch.mask)

    @pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
    def test_are_stratified_by_the_masks(self, views, share) -> None:
        rays = {"training": {"rays": 200}, "supervision": {"object_share": share}}
        batches = self.batches(views, **rays)
        for step in range(3):
            assert batches[step].mask.sum() == 200 * share

    def test_come_from_all_views(self, views) -> None:
        batch = self.batches(views, training={"rays": 400})[0]
        for on_object in (batch.mask, ~batch.mask):
            # A hypergeometric count of 200 over 8 views of like size: 25 +- 5.
            counts = batch.view[on_object].bincount(minlength=VIEWS)
            assert counts.min() > 5 and counts.max() < 50

    def test_background_is_all_that_could_be_the_object_and_nothing_else(self, views) -> None:
        """Against each ray's distance from the origin, from the inverse of K by hand."""
        y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        pixel = torch.stack([x, y, torch.ones_like(x)], dim=-1).double()
        expected = 0
        batch = self.batches(views, training={"rays": 60_000})[0]
        for view in range(VIEWS):
            intrinsics = views.cameras.intrinsics[view].double()
            pose = views.cameras.object_from_camera[view].double()
            direction = normalize(pixel @ intrinsics.inverse().T @ pose[:3, :3].T, dim=-1)
            centre = pose[:3, 3].expand_as(direction)
            crosses = torch.linalg.cross(centre, direction).norm(dim=-1) < 1
            assert 0.1 < crosses.float().mean() < 0.8
            possible = crosses & ~views.masks[view]
            expected += possible.sum().item()
            here = ~batch.mask & (batch.view == view)
            drawn = batch.pixel[here].long()
            assert possible[drawn[:, 1], drawn[:, 0]].all()
        outside = torch.cat([batch.view[:, None], batch.pixel.long()], 1)[~batch.mask]
        # 30,000 draws from some 4,500: about one of a thousand is never drawn.
        assert 0.99 * expected < len(outside.unique(dim=0)) <= expected

    @pytest.mark.parametrize("processes", [2, 4])
    def test_processes_share_one_batch(self, views, processes) -> None:
        """Of the object's pixels, which cost most, each has about as many."""
        whole = self.batches(views)[3]
        for rank in range(processes):
            part = self.batches(views, rank, processes)[3]
            assert torch.equal(part.view, whole.view[rank::processes])
            assert torch.equal(part.pixel, whole.pixel[rank::processes])
            assert torch.equal(part.colour, whole.colour[rank::processes])
            assert abs(part.mask.sum() - whole.mask.sum() / processes) <= 1

    def test_processes_must_divide_the_rays(self, views) -> None:
        with pytest.raises(UserError, match="training.rays: 64 .* by 3 processes; choose a mult"):
            self.batches(views, 0, 3)

    def test_pictures_without_background_give_objects_alone(self, views) -> None:
        """Close-ups, whose masks hold every pixel."""
        filled = replace(views, masks=torch.ones_like(views.masks))
        batch = self.batches(filled)[0]
        assert len(batch.mask) == 64 and batch.mask.all()

    def test_colours_of_a_rim_do_not_count(self, views) -> None:
        batches = self.batches(views, supervision={"rim": 2}, training={"rays": 500})
        batch = batches[0]
        inner = inner_masks(views.masks, 2)
        x, y = batch.pixel.long().unbind(-1)
        assert torch.equal(batch.coloured, inner[batch.view, y, x])
        assert 0 < batch.coloured.sum() < batch.mask.sum()


@pytest.mark.parametrize("rim", [0, 1, 3])
def test_inner_masks_by_hand(rim) -> None:
    """All pixels around belong to the object; the picture's border is not an outline."""
    masks = torch.rand(2, 17, 23, generator=torch.Generator().manual_seed(0)) < 0.97
    found = inner_masks(masks, rim)
    for view in range(2):
        for y in range(17):
            for x in range(23):
                around = masks[
                    view, max(y - rim, 0) : y + rim + 1, max(x - rim, 0) : x + rim + 1
                ]  # fmt: skip
                assert found[view, y, x] == around.all()


@torch.no_grad()
def learnt_surface(model: IDRModel) -> Tensor:
    """Points of the surface, by bisection along even directions from the origin."""
    half = normalize(torch.randn(150, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    direction = torch.cat([half, -half])
    inner, outer = torch.zeros(300), torch.ones(300)
    for _ in range(15):
        middle = (inner + outer) / 2
        inside = model.geometry.sdf(middle[:, None] * direction) < 0
        inner, outer = torch.where(inside, middle, inner), torch.where(inside, outer, middle)
    return middle[:, None] * direction


LEARNING = {
    "data": {"holdout_every": 4},
    "model": {
        "initial_radius": 0.45,
        "hash_grid": {"levels": 4, "features": 2, "coarsest": 4, "finest": 32, "log2_rows": 12},
        "appearance": {"hidden": 32, "layers": 2, "view_frequencies": 0},
    },
    "search": {"refresh_every": 20},
    "training": {
        "iterations": 120,
        "rays": 256,
        "learning_rate": 5e-3,
        "validate_every": 1000,
        "visualise_every": 1000,
        "log_every": 50,
    },
}


class TestLearning:
    def test_a_ball_from_six_pictures(self, path, tmp_path) -> None:
        """The first sphere is a quarter too small; six outlines of 19 pixels across tell better.

        An outline is known to a fraction of a pixel, and a pixel is 0.06. The hull of six views is
        larger than the ball, so the surface may stand out between the outlines. What colours there
        are is told from views that were not trained on, to a twelfth (21.6 dB).
        """
        run = RunFolder(tmp_path / "run")
        config = configuration(path, run.path, **LEARNING)
        train_experiment(config, ALONE)
        experiment = load_experiment(run, ALONE.device, "latest")
        assert experiment.numbers["step"] == 120
        radii = learnt_surface(experiment.model).norm(dim=-1)
        assert radii.mean().item() == pytest.approx(SCENE_RADIUS, rel=0.02)
        assert (radii / SCENE_RADIUS - 1).abs().max() < 0.1
        task = IDRTask(experiment.model, config, experiment.scene, ALONE)
        scores = task.validate()
        assert scores == task.validate()
        assert scores["mask_iou"] > 0.95 and scores["psnr"] > 20

    def test_rough_cameras_see_the_ball_where_the_pictures_do(self, path, tmp_path) -> None:
        """Cameras moved by 0.08 see it about a pixel beside its place, and end a quarter beside it.

        A ball tells no more of a camera: turned around the ball it would see the same outline.
        """
        changes = merged(
            LEARNING,
            {
                "data": {"holdout_every": 0},
                "model": {"initial_radius": 0.6},
                "cameras": {"refine": True, "noise_translation": 0.02},
                "training": {"learning_rate": 3e-3},
            },
        )
        run = RunFolder(tmp_path / "run")
        train_experiment(configuration(path, run.path, **changes), ALONE)
        experiment = load_experiment(run, ALONE.device, "latest")
        scene, origin = experiment.scene, torch.zeros(1, 3)
        middle = learnt_surface(experiment.model).mean(dim=0, keepdim=True)
        true, _ = scene.training.cameras.project(origin)
        rough, _ = scene.rough_cameras.project(origin)
        learnt, _ = experiment.cameras.project(middle)
        before, after = ((seen - true).norm(dim=-1).mean() for seen in (rough, learnt))
        assert before > 0.8 and after < 0.35 * before


class TestStep:
    def task(self, path: Path, **changes) -> IDRTask:
        config = configuration(path, **changes)
        scene = load_scene(config)
        return IDRTask(make_model(config, scene.rough_cameras), config, scene, ALONE)

    def test_says_what_it_took(self, path) -> None:
        task = self.task(path)
        result = task.step(task.model, task.batches[0], 0)
        assert result.rays == 64 and set(result.terms) == {"rgb", "mask", "eikonal"}
        assert set(result.terms) <= set(task.weights)
        assert result.evaluations > 64 and result.notes["surface_share"] > 0.9

    def test_a_surface_that_is_never_met_raises_the_alarm(self, path, tmp_path, monkeypatch):
        """Not a colour loss of zero for ever: the share that is watched is zero."""
        monkeypatch.setattr(common.training.divergence, "SURFACE_PATIENCE", 5)
        task = self.task(path, training={"iterations": 100})
        with torch.no_grad():
            task.model.geometry.last.bias[0] += 1
        message = "at iteration 5: no ray inside the masks met the surface.*has ever.*scale_mat"
        with pytest.raises(Diverged, match=message):
            train(task, task.config.training, RunFolder(tmp_path), ALONE)

    def test_refined_cameras_move_and_are_what_is_validated(self, path, tmp_path) -> None:
        changes = {"cameras": {"refine": True, "focal": True}, "data": {"holdout_every": 0}}
        task = self.task(
            path, training={"learning_rate": 1e-2, "out_dir": str(tmp_path)}, **changes
        )
        before = task.model.refinement().object_from_camera.clone()
        train(task, task.config.training, RunFolder(tmp_path), ALONE)
        after = task.model.refinement()
        moved = (after.object_from_camera - before).abs()
        assert (moved[:, :3, 3].amax(dim=1) > 1e-3).all()  # Adam moves by its rate, at first
        assert (moved[:, :3, :3].amax(dim=(1, 2)) > 1e-3).all()
        assert not torch.equal(after.intrinsics, task.cameras.intrinsics)
        saved = load_checkpoint(RunFolder(tmp_path).latest)["model"]
        assert torch.equal(saved["refinement.translation"], task.model.refinement.translation)


class TestValidation:
    def test_of_a_known_ball_and_colour(self, path, views) -> None:
        """The ball's outline on pixels, and one grey for all that is inside the masks."""
        experiment = known_experiment(
            path, sphere(SCENE_RADIUS), OneColour(0.5, 0.25, 0.5), data={"holdout_every": 0}
        )
        task = IDRTask(experiment.model, experiment.config, experiment.scene, ALONE)
        scores = task.validate()
        colour = torch.tensor([0.5, 0.25, 0.5])
        error = (views.images[views.masks].float() / 255 - colour).square().mean()
        assert scores["mask_iou"] > 0.99
        # On random pixels, of which a fifth shows the ball, and a few of the outline differ.
        assert scores["psnr"] == pytest.approx(-10 * math.log10(error), abs=0.2)

    def test_a_miss_is_white(self, path, views) -> None:
        experiment = known_experiment(path, nothing(), data={"holdout_every": 0})
        task = IDRTask(experiment.model, experiment.config, experiment.scene, ALONE)
        error = (views.images[views.masks].float() / 255 - 1).square().mean()
        scores = task.validate()
        assert scores["mask_iou"] == 0
        assert scores["psnr"] == pytest.approx(-10 * math.log10(error), abs=0.1)

    def test_is_of_the_held_out_views_where_there_are_some(self, path) -> None:
        """Scores do not know of the training views."""
        scores = []
        for ignored in ([], [1, 2, 4]):
            experiment = known_experiment(
                path,
                sphere(0.5),
                OneColour(0.3, 0.3, 0.3),
                data={"views": [0, 1, 2, 4, 7], "holdout_every": 100, "ignore_views": ignored},
            )
            task = IDRTask(experiment.model, experiment.config, experiment.scene, ALONE)
            scores.append(task.validate())
        assert scores[0] == scores[1]


RESUMED = {
    "cameras": {"refine": True, "focal": True, "noise_deg": 0.5},
    "model": {"hash_grid": {"start_levels": 1}, "appearance": {"image_code": 2}},
    "search": {"refresh_every": 4},
    "losses": {"smoothness": 0.01, "alpha_milestones": [5]},
    "training": {
        "iterations": 12,
        "learning_rate": 1e-3,
        "validate_every": 5,
        "visualise_every": 100,
        "warmup": 3,
    },
}


class TestRuns:
    @pytest.mark.parametrize("network", ["hash_grid", "mlp"])
    def test_a_resumed_run_is_the_uninterrupted_one(self, path, tmp_path, network, monkeypatch):
        """Bit for bit: weights, cameras, the cache (stale at that step), Adam's moments."""
        networks = {"geometry": network, "mlp": {"hidden": 64, "layers": 2, "start_frequencies": 1}}
        changes = merged(RESUMED, {"model": networks})
        states = []
        for name, stops in (("whole", ()), ("halting", (6, 9))):
            config, step = configuration(path, tmp_path / name, **changes), IDRTask.step
            for stop in (*stops, None):

                def stopping(self, model, batch, number, stop=stop, step=step):
                    if number == stop:
                        signal.raise_signal(signal.SIGTERM)
                    return step(self, model, batch, number)

                monkeypatch.setattr(IDRTask, "step", stopping)
                if stop is None:
                    train_experiment(config, ALONE)
                else:
                    with pytest.raises(Stopped, match=f"after {stop + 1} of 12 iterations"):
                        train_experiment(config, ALONE)
            monkeypatch.setattr(IDRTask, "step", step)
            states.append(load_checkpoint(RunFolder(tmp_path / name).latest))
        whole, halting = states
        assert whole["step"] == halting["step"] == 12 and whole["best"] == halting["best"]
        assert whole["model"]["cache"].any() and whole["model"]["refinement.rotation"].any()
        for name, value in whole["model"].items():
            assert torch.equal(value, halting["model"][name]), name
        moments, again = (state["optimiser"]["state"] for state in states)
        assert set(moments) == set(again) and len(moments) > 5
        for index, moment in moments.items():
            assert all(torch.equal(value, again[index][key]) for key, value in moment.items())

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, path, tmp_path_factory) -> RunFolder:
        run = RunFolder(tmp_path_factory.mktemp("runs") / "run")
        train_experiment(configuration(path, run.path), ALONE)
        return run

    def test_it_is_loaded_as_it_was_trained(self, run) -> None:
        experiment = load_experiment(run, ALONE.device, "latest")
        saved = load_checkpoint(run.latest)["model"]
        state = experiment.model.state_dict()
        assert set(state) == set(saved)
        assert all(torch.equal(value, saved[name]) for name, value in state.items())
        assert not experiment.model.training and experiment.numbers["step"] == 2
        assert not any(p.requires_grad for p in experiment.model.parameters())
        assert len(experiment.cameras) == len(experiment.scene.training)

    def test_it_keeps_what_a_run_keeps(self, run) -> None:
        kept = {file.relative_to(run.path).parts[0] for file in run.path.rglob("*")}
        assert {"config.yaml", "checkpoints", "logs", "metrics.jsonl"} <= kept
        assert run.best.exists() and '"validation/mask_iou"' in run.metrics.read_text()
        shown = read(run).Tags()
        assert "pictures/truth, colour, normal, depth" in shown["images"]
        assert "surface/mesh_VERTEX" in shown["tensors"]

    @pytest.mark.parametrize(
        "other",
        [
            {"geometry": "mlp", "mlp": {"hidden": 64, "layers": 2}},
            {"appearance": {"view": "none"}},
            {"feature": 5},
        ],
    )
    def test_another_model_does_not_continue_it(self, run, path, tmp_path, other) -> None:
        copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
        with pytest.raises(UserError, match="copy: holds a run with another model.*--fresh"):
            train_experiment(configuration(path, copy, model=other), ALONE)
        (copy / "config.yaml").unlink()
        with pytest.raises(UserError, match=r"latest\.pt: checkpoint of another model"):
            train_experiment(configuration(path, copy, model=other), ALONE)

    def test_fresh_keeps_the_old_run_aside(self, run, path, tmp_path, capsys) -> None:
        copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
        train_experiment(configuration(path, copy, model={"feature": 5}), ALONE, fresh=True)
        assert "copy.old-1" in capsys.readouterr().out
        assert load_checkpoint(RunFolder(tmp_path / "copy.old-1").latest)["step"] == 2

    def test_the_model_is_that_of_its_seed(self, path) -> None:
        scene = load_scene(configuration(path))
        first, same, other = (
            make_model(configuration(path, training={"seed": seed}), scene.rough_cameras)
            for seed in (0, 0, 1)
        )
        table = "geometry.grid.table"
        assert torch.equal(first.state_dict()[table], same.state_dict()[table])
        assert not torch.equal(first.state_dict()[table], other.state_dict()[table])


class TestCommandLine:
    def test_train_py_learns_a_scene_of_photographs(self, path, tmp_path) -> None:
        settings = tiny_idr_settings(path, tmp_path / "run")
        file = write_settings(tmp_path / "config.yaml", settings)
        outcome = run_script("train", file, "training.iterations=3", "--device", "cpu")
        assert outcome.code == 0, outcome.err
        assert "5 training, 3 held-out views" in outcome.out
        assert load_checkpoint(RunFolder(tmp_path / "run").latest)["step"] == 3
        again = run_script("train", file, "training.iterations=4", "--device", "cpu")
        assert again.code == 0 and "resuming" in again.out

    @pytest.mark.parametrize(
        "setting,message",
        [
            ("data.path=nowhere", "nowhere: no such folder"),
            ("model.geomtry=mlp", "did you mean 'model.geometry'"),
            ("cameras.file=nowhere.npz", "nowhere.npz"),
        ],
    )
    def test_mistakes_are_one_sentence_and_leave_no_run(self, path, tmp_path, setting, message):
        file = write_settings(tmp_path / "c.yaml", tiny_idr_settings(path, tmp_path / "run"))
        outcome = run_script("train", file, setting, "--device", "cpu")
        assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err
        assert not (tmp_path / "run").exists()
