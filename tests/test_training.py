"""The loop: it learns, resumes exactly, stops politely, and never leaves half a file."""

import errno
import json
import math
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import common.training.run_folder as run_folder
from common.config import TrainingConfig, validate
from common.errors import Stopped, UserError
from common.training.loop import train
from common.training.processes import Process
from common.training.run_folder import (
    RunFolder,
    load_checkpoint,
    load_model_state,
    newest_run,
    save_checkpoint,
    write_atomically,
)
from common.training.schedule import learning_rate
from dvr.config import DVRConfig
from dvr.data import Objects, StepBatches
from dvr.experiment import make_model, train_experiment
from dvr.task import DVRTask
from tests.make_collection import write_tiny_collection
from tests.make_run import PICTURES, ROOT, merged, run_script, tiny_settings, write_settings
from tests.make_task import Slope, SlopeTask

ALONE = Process(0, 1, torch.device("cpu"))
CHECKPOINT = {"optimiser": {}, "step": 1, "seconds": 1.0, "best": None}


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    return write_tiny_collection(tmp_path_factory.mktemp("data") / "spheres", objects=4)


def configuration(collection: Path, out: Path, **changes) -> DVRConfig:
    return validate(DVRConfig, merged(tiny_settings(collection, out), changes), "test")


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def of_the_clock(name: str) -> bool:
    return name == "seconds" or name.endswith("_per_second")


def deterministic(run: Path) -> list[dict]:
    return [
        {name: value for name, value in record.items() if not of_the_clock(name)}
        for record in records(run)
    ]


def same_tensors(first, second) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            same_tensors(value, second[key]) for key, value in first.items()
        )
    if isinstance(first, list):
        return all(same_tensors(*pair) for pair in zip(first, second, strict=True))
    return first == second


def same_state(first: Path, second: Path, name: str = "latest.pt") -> bool:
    """Weights, optimiser state and progress, all but the time it took."""
    states = [load_checkpoint(run / "checkpoints" / name) for run in (first, second)]
    for state in states:
        state.pop("seconds")
    return same_tensors(*states)


class Interrupted(Exception):
    """A power cut, as far as the loop can tell."""


@pytest.fixture
def interrupt(monkeypatch):
    """interrupt(step, how): something happens while that step is computed."""

    def at(step, how):
        original = DVRTask.step

        def interrupted(task, model, batch, number):
            if number == step:
                how()
            return original(task, model, batch, number)

        monkeypatch.setattr(DVRTask, "step", interrupted)

    yield at


def cut_power() -> None:
    raise Interrupted


class TestLearning:
    def test_the_loss_falls(self, collection, tmp_path) -> None:
        """The first field, too large for every sphere, is three times worse than the last."""
        train_experiment(
            configuration(
                collection, tmp_path / "run",
                model={"initial_radius": 0.45},
                training={"iterations": 60, "objects": 4, "learning_rate": 3e-3, "log_every": 1},
            ),
            ALONE,
        )  # fmt: skip
        losses = [r["train/loss"] for r in records(tmp_path / "run") if "train/loss" in r]
        assert len(losses) == 60
        assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
        for record in records(tmp_path / "run"):
            assert {"step", "seconds"} <= set(record)

    def test_an_image_encoder_learns_too(self, collection, tmp_path) -> None:
        settings = merged(tiny_settings(collection, tmp_path / "run"), PICTURES)
        config = validate(DVRConfig, settings, "test")
        before = make_model(config, 4).state_dict()
        train_experiment(config, ALONE)
        after = load_checkpoint(tmp_path / "run/checkpoints/latest.pt")["model"]
        assert not torch.equal(before["encoder.conv0.weight"], after["encoder.conv0.weight"])

    def test_a_record_has_the_terms_the_rate_and_the_speeds(self, collection, tmp_path) -> None:
        train_experiment(configuration(collection, tmp_path / "run"), ALONE)
        first, *_, last = records(tmp_path / "run")
        assert {f"train/{name}" for name in (
            "loss", "loss_rgb", "loss_freespace", "loss_occupancy", "gradient_norm",
            "learning_rate", "surface_share", "rays_per_second", "steps_per_second",
            "evaluations_per_second", "left_out",
        )} | {"step", "seconds"} == set(first)  # fmt: skip
        assert first["step"] == 2
        terms = [value for name, value in first.items() if name.startswith("train/loss_")]
        assert sum(terms) == pytest.approx(first["train/loss"], rel=1e-6)
        assert {"validation/mask_iou", "validation/depth_error"} <= set(last)

    def test_the_embedded_step_depends_on_the_seed(self, collection, tmp_path) -> None:
        for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
            config = configuration(collection, tmp_path / name, training={"seed": seed})
            train_experiment(config, ALONE)
        assert same_state(tmp_path / "a", tmp_path / "b")
        assert not same_state(tmp_path / "a", tmp_path / "c")


CHANGES = {
    "data": {"mirror": "x", "colour_jitter": 0.5},
    "losses": {"hull": 1, "normal": 0.1},
    "supervision": {"hull_points": 16, "occupancy_points": "random_normal"},
    "training": {
        "iterations": 12, "decay": "cosine", "warmup": 3, "checkpoint_every": 4,
        "validate_every": 4, "clip_gradient": 1.0,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(collection, tmp_path_factory) -> Path:
    """A run of 12 steps without an interruption."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train_experiment(configuration(collection, run, **CHANGES), ALONE)
    return run


class TestResuming:
    @pytest.mark.parametrize("step", [1, 6, 11])
    def test_after_a_signal_nothing_differs(
        self, collection, whole, tmp_path, interrupt, monkeypatch, step
    ) -> None:
        config = configuration(collection, tmp_path / "run", **CHANGES)
        interrupt(step, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped, match=f"stopped by SIGTERM after {step + 1} of 12 iterations"):
            train_experiment(config, ALONE)
        assert load_checkpoint(tmp_path / "run/checkpoints/latest.pt")["step"] == step + 1
        monkeypatch.undo()
        train_experiment(config, ALONE)
        assert same_state(tmp_path / "run", whole)
        assert same_state(tmp_path / "run", whole, "best.pt")
        assert deterministic(tmp_path / "run") == deterministic(whole)

    @pytest.mark.parametrize("step", [2, 6, 8])
    def test_after_a_power_cut_nothing_differs(
        self, collection, whole, tmp_path, interrupt, monkeypatch, step
    ) -> None:
        """Steps beyond the last checkpoint are taken again, and recorded once."""
        config = configuration(collection, tmp_path / "run", **CHANGES)
        interrupt(step, cut_power)
        with pytest.raises(Interrupted):
            train_experiment(config, ALONE)
        with (tmp_path / "run/metrics.jsonl").open("a") as file:
            file.write('{"step": 8, "seco')  # the line being written
        monkeypatch.undo()
        train_experiment(config, ALONE)
        assert same_state(tmp_path / "run", whole)
        assert same_state(tmp_path / "run", whole, "best.pt")
        assert deterministic(tmp_path / "run") == deterministic(whole)

    def test_twice_as_long_is_once_more(self, collection, tmp_path) -> None:
        """With a schedule that does not know the end, 6 steps and 6 more are 12."""
        for name, ends in [("once", (12,)), ("twice", (6, 12))]:
            for iterations in ends:
                settings = {"iterations": iterations, "validate_every": 6}
                config = configuration(collection, tmp_path / name, training=settings)
                train_experiment(config, ALONE)
        assert same_state(tmp_path / "once", tmp_path / "twice")
        assert deterministic(tmp_path / "once") == deterministic(tmp_path / "twice")

    def test_a_finished_run_stays_as_it_is(self, collection, whole, capsys) -> None:
        before = deterministic(whole)
        content = (whole / "checkpoints/best.pt").read_bytes()
        train_experiment(configuration(collection, whole, **CHANGES), ALONE)
        assert f"resuming {whole} at iteration 12" in capsys.readouterr().out
        assert deterministic(whole) == before
        assert (whole / "checkpoints/best.pt").read_bytes() == content

    def test_workers_prepare_the_same_batches(self, collection, whole, tmp_path) -> None:
        changes = merged(CHANGES, {"data": {"workers": 1}})
        train_experiment(configuration(collection, tmp_path / "run", **changes), ALONE)
        assert same_state(tmp_path / "run", whole)

    def test_time_adds_up(self, whole) -> None:
        seconds = [record["seconds"] for record in records(whole)]
        assert seconds == sorted(seconds) and seconds[0] > 0


class TestScriptRuns:
    def config(self, collection: Path, tmp_path: Path, **changes) -> Path:
        settings = merged(tiny_settings(collection, tmp_path / "run"), changes)
        return write_settings(tmp_path / "config.yaml", settings)

    def test_exit_after_saves_and_continues(self, collection, tmp_path) -> None:
        path = self.config(collection, tmp_path)
        stopped = run_script("train", path, "--exit-after", "0")
        assert stopped.code == 3
        assert "stopped by --exit-after after 1 of 4 iterations; the same command" in stopped.err
        assert "Traceback" not in stopped.err
        done = run_script("train", path)
        assert done.code == 0
        assert "at iteration 1 (--fresh starts anew)" in done.out
        steps = [(record["step"], "train/loss" in record) for record in records(tmp_path / "run")]
        assert steps == [(2, True), (4, True), (4, False)]

    def test_fresh_keeps_the_old_run_aside(self, collection, tmp_path) -> None:
        path = self.config(collection, tmp_path)
        assert run_script("train", path).code == 0
        content = (tmp_path / "run/checkpoints/latest.pt").read_bytes()
        for number in (1, 2):
            fresh = run_script("train", path, "training.seed=5", "--fresh")
            assert fresh.code == 0
            assert f"the old run is kept as {tmp_path / 'run'}.old-{number}" in fresh.out
            assert len(records(tmp_path / "run")) == 3
        old = tmp_path / "run.old-1/checkpoints/latest.pt"
        assert old.read_bytes() == content
        assert not same_state(tmp_path / "run", tmp_path / "run.old-1")

    def test_the_run_folder_says_all_that_was_set(self, collection, tmp_path) -> None:
        path = self.config(collection, tmp_path)
        assert run_script("train", path, "training.learning_rate=2e-3").code == 0
        run = RunFolder(tmp_path / "run")
        text = run.config.read_text()
        assert "learning_rate: 0.002" in text and "seed: 0" in text
        assert f"torch: {torch.__version__}" in text and f"numpy: {np.__version__}" in text
        assert any(run.logs.glob("events.out.tfevents.*"))
        names = {file.name for file in run.path.rglob("*") if file.is_file()}
        assert not [name for name in names if "partial" in name]

    def test_sigterm_stops_a_process_after_saving(self, collection, tmp_path) -> None:
        """As a batch system does it; the signal is sent when the first record is there."""
        path = self.config(collection, tmp_path, training={"iterations": 10**6, "log_every": 1})
        command = [sys.executable, "-u", str(ROOT / "scripts/train.py"), str(path)]
        command += ["training.validate_every=1"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("step 1:"):  # the first validation's summary
                    process.send_signal(signal.SIGTERM)
                    break
            _, error = process.communicate()
        assert process.returncode == 3
        assert "stopped by SIGTERM after" in error and "Traceback" not in error
        state = load_checkpoint(tmp_path / "run/checkpoints/latest.pt")
        steps = [record["step"] for record in records(tmp_path / "run") if "train/loss" in record]
        assert steps == list(range(1, state["step"] + 1))


class TestBatches:
    def batches(self, collection, rank=0, processes=1, seed=0) -> StepBatches:
        config = configuration(
            collection, Path("nowhere"), training={"objects": 4, "seed": seed},
            data={"mirror": "x", "colour_jitter": 1.0},
        )  # fmt: skip
        return StepBatches(Objects(config, "train"), config, rank, processes)

    def same(self, first, second) -> bool:
        return torch.equal(first.index, second.index) and all(
            torch.equal(value, vars(second.supervision)[name])
            for name, value in vars(first.supervision).items()
        )

    def test_they_depend_on_seed_and_step_alone(self, collection) -> None:
        batches, others = self.batches(collection), self.batches(collection, seed=1)
        in_order = [batches[step] for step in range(4)]
        fresh = self.batches(collection)
        assert all(self.same(fresh[step], in_order[step]) for step in (3, 0, 2, 1))
        assert not self.same(in_order[0], in_order[1])
        assert not self.same(in_order[0], others[0])

    @pytest.mark.parametrize("processes", [2, 4])
    def test_processes_share_one_batch(self, collection, processes) -> None:
        whole = self.batches(collection)
        parts = [self.batches(collection, rank, processes) for rank in range(processes)]
        for step in range(3):
            together, split = whole[step], [part[step] for part in parts]
            for rank, part in enumerate(split):
                assert torch.equal(together.index[rank::processes], part.index)
                for name, value in vars(together.supervision).items():
                    assert torch.equal(value[rank::processes], vars(part.supervision)[name])

    def test_an_epoch_has_every_object_once(self, collection) -> None:
        batches = self.batches(collection)
        orders = [tuple(batches[step].index.tolist()) for step in range(8)]
        assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
        assert len(set(orders)) > 3

    def test_memory_may_hold_a_single_object(self, collection) -> None:
        batches, small = self.batches(collection), self.batches(collection)
        small.objects.config = configuration(collection, Path("x"), data={"cache_gb": 0})
        assert self.same(batches[0], small[0])
        assert len(small.objects._cache) == 1 and len(batches.objects._cache) == 4


class TestLearningRate:
    def rates(self, steps, **settings) -> list[float]:
        config = validate(TrainingConfig, {"learning_rate": 0.8, **settings}, "test")
        return [learning_rate(config, step) for step in steps]

    def test_steps(self) -> None:
        rates = self.rates([0, 9, 10, 19, 20, 99], milestones=[10, 20], decay_factor=0.1)
        assert rates == pytest.approx([0.8, 0.8, 0.08, 0.08, 0.008, 0.008])

    def test_milestones_below_one_are_shares_of_the_run(self) -> None:
        settings = {"milestones": [0.25, 80], "decay_factor": 0.5, "iterations": 100}
        assert self.rates([24, 25, 79, 80], **settings) == pytest.approx([0.8, 0.4, 0.4, 0.2])

    def test_groups_have_their_own_rates(self, tmp_path) -> None:
        """Adam's first step is the rate itself, whatever the gradient."""
        task = SlopeTask([{"mask_iou": 0.5}])
        task.rates = [(list(task.model.parameters()), 0.25)]
        config = TrainingConfig(iterations=1, learning_rate=0.1)
        train(task, config, RunFolder(tmp_path), ALONE)
        assert task.model.weight.item() == pytest.approx(1 - 0.25 * 0.1, rel=1e-5)

    def test_cosine_starts_at_the_top_and_ends_at_zero(self) -> None:
        rates = self.rates([0, 25, 50, 75, 100, 120], decay="cosine", iterations=100)
        root = 0.5**0.5
        assert rates == pytest.approx([0.8, 0.4 * (1 + root), 0.4, 0.4 * (1 - root), 0, 0])

    def test_warm_up_is_linear_and_never_zero(self) -> None:
        rates = self.rates([0, 1, 3, 4, 50], decay="none", warmup=4)
        assert rates == pytest.approx([0.2, 0.4, 0.8, 0.8, 0.8])

    def test_cosine_begins_after_the_warm_up(self) -> None:
        rates = self.rates([19, 20, 60, 100], decay="cosine", iterations=100, warmup=20)
        assert rates == pytest.approx([0.8, 0.8, 0.4, 0])


class TestBest:
    @pytest.mark.parametrize(
        "select_by,scores,step",
        [
            ("mask_iou", [0.2, 0.7, 0.7, 0.4], 2),
            ("mask_iou", [0.2, 0.3, 0.4, 0.5], 4),
            ("depth_error", [0.5, 0.9, 0.1, 0.3], 3),
            ("depth_error", [0.0, 0.9, 0.1, 0.3], 1),
            ("mask_iou", [math.nan, 0.3, math.nan, 0.2], 2),
        ],
    )
    def test_it_is_the_first_of_the_best(self, tmp_path, select_by, scores, step) -> None:
        task = SlopeTask([{"mask_iou": score, "depth_error": score} for score in scores])
        config = TrainingConfig(iterations=4, validate_every=1, select_by=select_by)
        run = RunFolder(tmp_path / "run")
        train(task, config, run, ALONE)
        assert load_checkpoint(run.best)["step"] == step
        assert load_checkpoint(run.latest)["step"] == 4

    def test_none_is_kept_where_nothing_chooses(self, tmp_path) -> None:
        run = RunFolder(tmp_path / "run")
        config = TrainingConfig(iterations=1, validate_every=1, select_by=None)
        train(SlopeTask([{"mask_iou": 0.5}]), config, run, ALONE)
        assert not run.best.exists() and '"validation/mask_iou": 0.5' in run.metrics.read_text()

    def test_a_resumed_run_remembers_it(self, tmp_path) -> None:
        run = RunFolder(tmp_path / "run")
        for iterations, scores in [(2, [0.3, 0.9]), (4, [0.5, 0.6])]:
            task = SlopeTask([{"mask_iou": score} for score in scores])
            train(task, TrainingConfig(iterations=iterations, validate_every=1), run, ALONE)
        assert load_checkpoint(run.best)["step"] == 2


class TestClipping:
    def test_it_limits_the_gradient(self, tmp_path) -> None:
        task = SlopeTask([{"mask_iou": 0.0}], lambda weight, step: 1000 * weight)
        config = TrainingConfig(iterations=1, clip_gradient=0.5, log_every=1)
        train(task, config, RunFolder(tmp_path / "run"), ALONE)
        assert task.model.weight.grad.abs().item() == pytest.approx(0.5, rel=1e-4)


class TestFiles:
    def state(self, value: float = 1.0) -> dict:
        return {"model": {"weight": torch.full((500,), value)}, **CHECKPOINT}

    def full_disk(self, monkeypatch, after: int) -> None:
        """Writing fails for good after so many bytes."""
        original = Path.open

        def opened(path, mode="r", *args, **kwargs):
            file = original(path, mode, *args, **kwargs)
            return _Limited(file, after) if mode == "wb" else file

        monkeypatch.setattr(Path, "open", opened)

    @pytest.mark.parametrize("after", [0, 100, 2500])
    def test_a_full_disk_leaves_the_old_checkpoint(self, tmp_path, monkeypatch, after) -> None:
        path = tmp_path / "latest.pt"
        save_checkpoint(path, self.state())
        before = path.read_bytes()
        assert len(before) > 2500
        self.full_disk(monkeypatch, after)
        with pytest.raises(OSError) as failed:
            save_checkpoint(path, self.state(2.0))
        assert failed.value.errno == errno.ENOSPC
        assert failed.value.filename == str(path)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["latest.pt"]

    def test_nothing_is_renamed_before_it_is_on_the_disk(self, tmp_path, monkeypatch) -> None:
        def fail(_):
            raise OSError(errno.EIO, "Input/output error")

        write_atomically(tmp_path / "a", lambda file: file.write(b"old"))
        monkeypatch.setattr(run_folder.os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            write_atomically(tmp_path / "a", lambda file: file.write(b"new"))
        assert (tmp_path / "a").read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_checkpoint_is_tensors_and_numbers(self, collection, tmp_path) -> None:
        train_experiment(configuration(collection, tmp_path / "run"), ALONE)
        for name in ("latest.pt", "best.pt"):
            path = tmp_path / "run/checkpoints" / name
            state = torch.load(path, weights_only=True)
            assert set(state) == {"model", "optimiser", "step", "seconds", "best", "watch"}

    def test_code_in_a_checkpoint_is_not_run(self, tmp_path) -> None:
        path, proof = tmp_path / "evil.pt", tmp_path / "proof"
        torch.save({**self.state(), "best": _Evil(proof)}, path)
        with pytest.raises(UserError, match=r"evil\.pt: not a readable checkpoint"):
            load_checkpoint(path)
        path.write_bytes(pickle.dumps(_Evil(proof), protocol=2))
        with pytest.raises(UserError, match=r"evil\.pt: not a readable checkpoint"):
            load_checkpoint(path)
        assert not proof.exists()

    def test_another_models_weights_are_refused(self, tmp_path) -> None:
        with pytest.raises(UserError, match=r"x\.pt: checkpoint of another model.*: other"):
            load_model_state(Slope(), {"other": torch.zeros(())}, tmp_path / "x.pt")
        with pytest.raises(UserError, match=r"x\.pt: checkpoint of another model.*: weight"):
            load_model_state(Slope(), {"weight": torch.zeros(2)}, tmp_path / "x.pt")

    def test_the_newest_run_is_that_of_the_newest_checkpoint(self, tmp_path) -> None:
        for order, name in enumerate(["b", "deep/c", "a"]):
            path = tmp_path / name / "checkpoints/latest.pt"
            save_checkpoint(path, self.state())
            os.utime(path, (order, order))
        assert newest_run(tmp_path).path == tmp_path / "a"
        with pytest.raises(UserError, match="no run with a checkpoint"):
            newest_run(tmp_path / "b/checkpoints")


class _Limited:
    """A file on a disk with little room left."""

    def __init__(self, file, room: int) -> None:
        self._file, self._room = file, room

    def write(self, content) -> int:
        self._room -= len(content)
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(content)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


class _Evil:
    """Unpickling it makes a file."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self):
        return (os.mkdir, (str(self._proof),))
