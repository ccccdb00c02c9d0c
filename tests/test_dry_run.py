"""`train.py --dry-run`: what a training would use and take, from real steps that leave no trace."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from common.config import TrainingConfig
from common.errors import UserError
from common.training import rehearsal
from common.training.loop import train
from common.training.plan import Plan
from common.training.processes import Process
from common.training.rehearsal import ENOUGH, rehearse
from common.training.run_folder import RunFolder
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import SCENE, merged, run_script, tiny_settings, write_settings
from tests.make_task import Slope, SlopeTask

HERE = 3
ALONE = Process(0, 1, torch.device("cpu"))


class Noting(SlopeTask):
    """Notes which steps it takes, and what comes between them."""

    def __init__(self) -> None:
        super().__init__({"mask_iou": 0.5} for _ in iter(int, 1))
        self.steps: list[int] = []
        self.between: list[str] = []

    def step(self, model, batch, step):
        self.steps.append(step)
        return super().step(model, batch, step)

    def validate(self):
        self.between.append("validation")
        return super().validate()

    def show(self, log, step) -> None:
        self.between.append("pictures")


@pytest.fixture(autouse=True)
def all_the_time(monkeypatch) -> None:
    """No test depends on how fast the machine is."""
    monkeypatch.setattr(rehearsal, "PATIENCE", 1e9)
    monkeypatch.setattr(rehearsal, "LONGEST", 1e9)
    monkeypatch.setattr(rehearsal, "STEPS_HERE", HERE)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestRehearsal:
    def test_it_looks_at_the_whole_run(self) -> None:
        """At the start, in the middle and between: schedules change what a step costs."""
        task = Noting()
        found = rehearse(task, TrainingConfig(iterations=1000), None, ALONE)
        firsts = [step for step in task.steps if step - 1 not in task.steps]
        assert firsts == [0, 500, 250, 750]
        assert found.steps == len(task.steps) == 4 * HERE
        assert found.starts_at == 0 and found.first_loss == pytest.approx(1.0)
        assert task.between == ["validation", "pictures"] and found.left.whole
        assert found.peak_memory > 10**6 and found.checkpoint_size > 500

    def test_where_memory_is_not_told_it_is_not_known(self, monkeypatch) -> None:
        monkeypatch.setattr(rehearsal, "peak_bytes", lambda device: 0)
        found = rehearse(Noting(), TrainingConfig(iterations=4), None, ALONE)
        assert found.peak_memory is None
        config = TrainingConfig(iterations=4)
        plan = Plan("idr", "data", {"views": 3}, (4, 4), 1, 8, config, ALONE, found)
        assert "\nmemory      not known" in plan.as_text() and plan.as_json()["peak_memory"] is None

    def test_systems_without_posix_can_rehearse_too(self, monkeypatch) -> None:
        """Windows has no module of this name."""
        monkeypatch.setitem(sys.modules, "resource", None)
        for name in [name for name in sys.modules if name.split(".")[0] == "common"]:
            monkeypatch.delitem(sys.modules, name)
        anew = importlib.import_module("common.training.rehearsal")
        assert anew is not rehearsal

    def test_the_rest_of_the_run_takes_its_steps_and_what_is_between(self) -> None:
        found = rehearse(Noting(), TrainingConfig(iterations=1000), None, ALONE)
        assert found.left.seconds > 1000 * found.seconds_per_step > 0

    def test_a_short_run_is_not_overrun(self) -> None:
        task = Noting()
        rehearse(task, TrainingConfig(iterations=3), None, ALONE)
        assert max(task.steps) == 2

    def test_it_ends_when_patience_does(self, monkeypatch) -> None:
        """Slow steps are few, and what comes after them is left out: a lower bound."""
        monkeypatch.setattr(rehearsal, "PATIENCE", 0.0)
        task = Noting()
        found = rehearse(task, TrainingConfig(iterations=1000), None, ALONE)
        assert len(task.steps) == ENOUGH and task.between == []
        assert not found.left.whole
        monkeypatch.setattr(rehearsal, "LONGEST", 0.0)
        assert rehearse(Noting(), TrainingConfig(iterations=1000), None, ALONE).steps == 1

    def test_it_goes_on_where_the_run_stopped(self, tmp_path) -> None:
        run = RunFolder(tmp_path)
        task = Noting()
        train(task, TrainingConfig(iterations=4, learning_rate=0.25, decay="none"), run, ALONE)
        before = contents(tmp_path)
        again = Noting()
        found = rehearse(again, TrainingConfig(iterations=1004), run, ALONE)
        assert found.starts_at == 4 and again.steps[0] == 4
        assert found.first_loss == pytest.approx(task.model.weight.item())
        assert contents(tmp_path) == before

    def test_nothing_is_left_of_a_finished_run(self, tmp_path) -> None:
        run, config = RunFolder(tmp_path), TrainingConfig(iterations=4)
        train(Noting(), config, run, ALONE)
        found = rehearse(Noting(), config, run, ALONE)
        assert found.left.seconds == 0 and found.starts_at == 4

    def test_another_models_checkpoint_is_refused(self, tmp_path) -> None:
        run, config = RunFolder(tmp_path), TrainingConfig(iterations=4)
        train(Noting(), config, run, ALONE)
        task = Noting()
        task.model = torch.nn.Sequential(Slope())  # the weight has another name
        task.rates = [(list(task.model.parameters()), 1.0)]
        with pytest.raises(UserError, match="checkpoint of another model"):
            rehearse(task, config, run, ALONE)


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    return write_tiny_collection(tmp_path_factory.mktemp("data") / "spheres", objects=4)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    return write_tiny_scene(tmp_path_factory.mktemp("scene") / "ball", views=8)


class TestCommand:
    def plan(self, tmp_path: Path, settings: dict, *options: str) -> dict:
        file = write_settings(tmp_path / "c.yaml", settings)
        outcome = run_script("train", file, "--dry-run", "--json", *options)
        assert outcome.code == 0, outcome.err
        return json.loads(outcome.out)

    def test_a_collection(self, collection, tmp_path) -> None:
        settings = tiny_settings(collection, tmp_path / "run")
        plan = self.plan(tmp_path, settings)
        assert plan["method"] == "dvr"
        assert plan["data"] == {
            "path": str(collection), "picture_size": [16, 16],
            "training_objects": 4, "validation_objects": 4,
        }  # fmt: skip
        assert plan["parameters"] == 1396 and plan["rays_per_step"] == 2 * 32
        assert plan["iterations"] == 4 and plan["starts_at"] == 0
        assert plan["run_folder"] == str(tmp_path / "run")
        assert plan["everything_was_timed"] and plan["seconds_left"] > 0
        assert not (tmp_path / "run").exists()

    def test_a_scene_by_dvr(self, scene, tmp_path) -> None:
        settings = merged(tiny_settings(scene, tmp_path / "run"), SCENE)
        found = self.plan(tmp_path, settings)["data"]
        assert found == {
            "path": str(scene),
            "picture_size": [16, 16],
            "training_views": 5,
            "held_out_views": 3,
        }

    def test_a_scene_by_idr(self, scene, tmp_path) -> None:
        plan = self.plan(tmp_path, tiny_idr_settings(scene, tmp_path / "run"))
        assert plan["data"] == {
            "path": str(scene),
            "picture_size": [24, 24],
            "training_views": 5,
            "held_out_views": 3,
        }
        assert plan["rays_per_step"] == 64 and plan["iterations"] == 2
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("method", ["dvr", "idr"])
    def test_a_run_that_is_there_stays_and_would_be_continued(
        self, collection, scene, tmp_path, method
    ) -> None:
        settings = (
            tiny_settings(collection, tmp_path / "run")
            if method == "dvr"
            else tiny_idr_settings(scene, tmp_path / "run")
        )
        iterations = settings["training"]["iterations"]
        file = write_settings(tmp_path / "c.yaml", settings)
        assert run_script("train", file).code == 0
        before = contents(tmp_path / "run")
        longer = merged(settings, {"training": {"iterations": 10}})
        assert self.plan(tmp_path, longer)["starts_at"] == iterations
        assert self.plan(tmp_path, longer, "--fresh")["starts_at"] == 0
        assert contents(tmp_path / "run") == before

    def test_a_person_reads_lines(self, scene, tmp_path) -> None:
        file = write_settings(tmp_path / "c.yaml", tiny_idr_settings(scene, tmp_path / "run"))
        outcome = run_script("train", file, "--dry-run")
        lines = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
        assert lines["data"] == (f"{scene}: 5 training views, 3 held-out views, of 24 x 24 pixels")
        assert lines["training"] == "2 iterations of 64 rays, anew"
        assert lines["between"] == "1 validation, 1 pictures, 0 checkpoints"
        assert lines["time"].startswith("about ") and " a step, measured over " in lines["time"]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--json"], "--json: this is about the plan; add --dry-run"),
            (["--dry-run", "--exit-after", "5"], "--exit-after: a dry run is short by itself"),
        ],
    )
    def test_options_that_do_not_fit_are_refused(self, scene, tmp_path, options, said) -> None:
        file = write_settings(tmp_path / "c.yaml", tiny_idr_settings(scene, tmp_path / "run"))
        outcome = run_script("train", file, *options)
        assert outcome.code == 2 and said in outcome.err

    def test_bad_data_is_found_before_the_run(self, tmp_path) -> None:
        file = write_settings(
            tmp_path / "c.yaml", tiny_idr_settings(tmp_path / "nothing", tmp_path / "run")
        )
        outcome = run_script("train", file, "--dry-run")
        assert outcome.code == 2 and "nothing" in outcome.err and "Traceback" not in outcome.err
