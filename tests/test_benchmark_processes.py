"""Two processes beside one: what is read off their runs, on runs made up to know the answer."""

import json
from pathlib import Path

import pytest
import torch

import common.benchmarks.processes as benchmark
from common.benchmarks.processes import (
    FEW,
    RECORDS,
    SAME,
    Case,
    processes_figures,
    run_training,
    steps_per_second,
    weights,
)
from common.errors import UserError
from common.training.run_folder import RunFolder, save_checkpoint
from tests.make_collection import write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import ROOT, write_settings

TRAIN = ROOT / "scripts" / "train.py"


def write_checkpoint(path: Path, weight: list[float], cache: float = 0.0) -> None:
    model = {"layer.weight": torch.tensor(weight), "cache": torch.tensor([cache])}
    numbers = {"optimiser": {}, "step": 0, "seconds": 0.0, "best": None}
    save_checkpoint(path, {"model": model} | numbers)


def write_metrics(run: RunFolder, records: list[dict]) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_speed_is_that_between_the_first_record_of_training_and_the_last(tmp_path) -> None:
    """The first ten steps took 100 s (they warm up), a validation is no record of training."""
    run = RunFolder(tmp_path / "run")
    train = [{"step": 10 * k, "seconds": 100 + 4.0 * k, "train/loss": 1.0} for k in (1, 2, 3)]
    write_metrics(run, [*train, {"step": 99, "seconds": 999.0, "validation/psnr": 1.0}])
    assert steps_per_second(run) == pytest.approx(20 / 8)


def test_weights_are_what_is_learnt_alone(tmp_path) -> None:
    write_checkpoint(tmp_path / "a.pt", [1.0, 2.0], cache=5.0)
    assert weights(tmp_path / "a.pt").tolist() == [1.0, 2.0]


def test_two_processes_are_compared_with_one(tmp_path, monkeypatch) -> None:
    """Of three weights one does not move; of the others one is the same and one is not."""
    calls = []

    def pretended(case, train, folder, count, *settings) -> RunFolder:
        calls.append((count, settings))
        run = RunFolder(folder)
        write_checkpoint(run.kept(0), [0.0, 1.0, 1.0])
        apart = 0.0 if count == 1 else 0.25
        write_checkpoint(run.latest, [0.0, 1.5, 3.0 + apart], cache=float(count))
        loss = {"train/loss": 1.0}
        seconds = 8.0 if count == 1 else 5.0
        write_metrics(
            run, [{"step": 1, "seconds": 2.0} | loss, {"step": 5, "seconds": 2 + seconds} | loss]
        )
        return run

    monkeypatch.setattr(benchmark, "run_training", pretended)
    speed, difference = processes_figures(Case("x", ("a.yaml",), 7), TRAIN, tmp_path)
    assert (speed.name, speed.unit) == ("x_steps_per_second", "steps/s")
    assert (speed.value, speed.oracle, speed.ratio) == pytest.approx((4 / 5, 4 / 8, 8 / 5))
    assert (difference.value, difference.oracle, difference.ratio) == pytest.approx(
        (0.25, 2.0, 8.0)
    )
    assert speed.agreement == difference.agreement == 0.5
    assert [count for count, _ in calls] == [1, 2, 1, 2]
    assert f"training.iterations={FEW}" in calls[0][1]
    assert (
        f"training.iterations={7 * RECORDS}" in calls[3][1]
        and "training.log_every=7" in calls[3][1]
    )


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_weights_within_float_error_are_the_same(tmp_path, monkeypatch, share) -> None:
    """The one weight moves by 1."""

    def pretended(case, train, folder, count, *settings) -> RunFolder:
        run = RunFolder(folder)
        write_checkpoint(run.kept(0), [1.0])
        write_checkpoint(run.latest, [share * SAME * (count - 1)])
        loss = {"train/loss": 1.0}
        write_metrics(run, [{"step": 1, "seconds": 1.0} | loss, {"step": 2, "seconds": 2.0} | loss])
        return run

    monkeypatch.setattr(benchmark, "run_training", pretended)
    speed, _ = processes_figures(Case("x", ("a.yaml",), 7), TRAIN, tmp_path)
    assert speed.agreement == (1.0 if share < 1 else 0.0)


class TestTraining:
    """scripts/train.py in a process of its own."""

    def test_a_run_is_trained_and_can_be_read(self, tmp_path) -> None:
        data = write_tiny_scene(tmp_path / "a ball")
        config = write_settings(tmp_path / "c.yaml", tiny_idr_settings(data, tmp_path / "other"))
        run = run_training(Case("x", (str(config),), 1), TRAIN, tmp_path / "a run", 1)
        assert run.path == tmp_path / "a run" and steps_per_second(run) > 0
        assert not weights(run.kept(0)).equal(weights(run.latest))

    def test_one_that_fails_says_its_last_words(self, tmp_path) -> None:
        with pytest.raises(UserError, match=r"exit code 2.*no such configuration file"):
            run_training(Case("x", ("gone.yaml",), 1), TRAIN, tmp_path / "run", 1)
