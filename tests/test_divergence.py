"""A training that goes wrong leaves steps out, goes back, or gives up; and never in silence."""

import json
import math
import re
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import common.training.divergence as divergence
from common.config import TrainingConfig
from common.errors import Diverged, Stopped
from common.training.divergence import FORGIVEN_AFTER, MEMORY, PATIENCE, Watch
from common.training.loop import train
from common.training.processes import Process
from common.training.readings import Reading
from common.training.run_folder import RunFolder, load_checkpoint
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import merged, run_script, tiny_settings, write_settings
from tests.make_task import SlopeTask

ALONE = Process(0, 1, torch.device("cpu"))
WEIGHTS = {"rgb": 1.0, "eikonal": 0.1}


def reading(loss: float, share: float = 1.0) -> Reading:
    return Reading(loss, 1.0, {"rgb": 0.0, "eikonal": 10 * loss}, {"surface_share": share})


def after(losses, share: float = 1.0) -> Watch:
    watch = Watch()
    for loss in losses:
        watch.judge(reading(loss, share), WEIGHTS)
    return watch


class TestJudgement:
    @pytest.mark.parametrize(
        "wrong,message",
        [
            ({"terms": {"rgb": math.nan, "eikonal": 1.0}}, "loss term rgb is not finite"),
            ({"terms": {"rgb": -math.inf, "eikonal": math.nan}}, "rgb, eikonal is not finite"),
            ({"loss": math.inf}, "the loss is not finite"),
            ({"gradient_norm": math.nan}, "the gradient is not finite"),
            ({"gradient_norm": math.inf}, "the gradient is not finite"),
        ],
    )
    def test_what_is_not_finite_is_named(self, wrong, message) -> None:
        assert message in Watch().judge(replace(reading(1.0), **wrong), WEIGHTS)

    def test_an_explosion_names_the_term_that_weighs_most(self) -> None:
        """A loss of 150 where 1 is usual: 5 by colours, and 1,450 / 10 by gradients."""
        watch = after([1.0] * 10)
        exploded = Reading(150.0, 1.0, {"rgb": 5.0, "eikonal": 1450.0}, {})
        assert watch.judge(exploded, WEIGHTS) == (
            "the loss term eikonal exploded to 1.45e+03, which makes the loss 150 times the usual 1"
        )
        assert watch.judge(reading(99.0), WEIGHTS) is None

    def test_a_loss_that_doubles_with_every_step_is_no_habit(self) -> None:
        watch = after([1.0])
        # Each step makes at most MEMORY-th of twice the usual more usual, so 2^8 exceeds 100 times.
        said = [watch.judge(reading(2.0**step), WEIGHTS) for step in range(9)]
        assert said[:6] == [None] * 6 and said[8]

    @given(st.lists(st.floats(0, 1), max_size=30))
    def test_losses_of_order_one_are_never_wrong(self, losses) -> None:
        """However small they were before."""
        watch = after([*losses, 0.0, 0.0, 1.0])
        assert watch.left_out == 0 and watch.calm

    def test_the_usual_loss_follows(self) -> None:
        """A running mean: after n steps of another loss, exp(-n / MEMORY) of the first is left."""
        watch = after([1.0] + [0.5] * 3 * MEMORY)
        assert watch.usual == pytest.approx(0.5 + 0.5 * math.exp(-3), abs=1e-3)

    def test_one_in_eleven_is_borne_and_one_in_two_is_not(self) -> None:
        nan = [math.nan]
        assert not after(([1.0] * FORGIVEN_AFTER + nan) * 40).lost
        assert after(([1.0] + nan) * 40).lost
        assert not after([1.0] + nan * (PATIENCE - 1)).lost
        assert after([1.0] + nan * PATIENCE).lost == "the loss term eikonal is not finite"

    def test_a_surface_must_be_missed_in_a_row(self, monkeypatch) -> None:
        monkeypatch.setattr(divergence, "SURFACE_PATIENCE", 3)
        watch = after([1.0, 1.0], share=0.0)
        assert not watch.calm and not watch.lost
        watch.judge(reading(1.0), WEIGHTS)
        assert watch.calm
        assert after([1.0] * 3, share=0.0).lost.startswith("no ray inside the masks met")


def recorded(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "_per_second")
    return [{k: v for k, v in line.items() if not k.endswith(clock)} for line in lines]


SETTINGS = {"decay": "none", "log_every": 1, "validate_every": 1000, "checkpoint_every": 3}


def run_slope(path: Path, iterations: int, loss, stop_at: int | None = None, **task) -> SlopeTask:
    """Train a weight that falls from 1 by its rate, 0.1 at first, with every step."""
    config = TrainingConfig(iterations=iterations, learning_rate=0.1, **SETTINGS)
    slope = SlopeTask([{"mask_iou": 0.5}] * 9, loss, **task)
    steps, step = iter(range(1000)), slope.step

    def stopping(*arguments):
        if next(steps) == stop_at:
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments)

    slope.step = stopping
    train(slope, config, RunFolder(path), ALONE)
    return slope


def nan_at(*steps: int):
    return lambda weight, step: weight * (math.nan if step in steps else 1.0)


def nan_below(bound: float):
    return lambda weight, step: weight * (math.nan if weight < bound else 1.0)


class TestLeavingOut:
    def test_a_step_changes_nothing_but_the_count(self, tmp_path, capsys) -> None:
        """Nine updates of ten: the weight falls nine times, and Adam counts nine."""
        task = run_slope(tmp_path / "run", 10, nan_at(4))
        assert task.model.weight.item() == pytest.approx(1 - 9 * 0.1, rel=1e-5)
        state = load_checkpoint(RunFolder(tmp_path / "run").latest)
        assert state["step"] == 10 and state["optimiser"]["state"][0]["step"] == 9
        assert "step 5 left out: the loss term slope is not finite" in capsys.readouterr().err
        lines = [line for line in recorded(tmp_path / "run") if "train/loss" in line]
        assert [line["step"] for line in lines] == list(range(1, 11))
        assert [line["train/left_out"] for line in lines] == [0] * 4 + [1] * 6

    def test_what_spoils_the_buffers_is_not_left_out_but_undone(self, tmp_path, capsys) -> None:
        """As numbers that are not finite would spoil batch normalisation's running means."""
        calls = []

        class Normed(SlopeTask):
            def step(self, model, batch, step):
                calls.append(step)
                if calls.count(4) == 1 and step == 4:
                    model.mean.fill_(math.nan)
                    self.loss = nan_at(4)
                else:
                    self.loss = nan_at()
                return super().step(model, batch, step)

        task = Normed([{"mask_iou": 0.5}])
        task.model.register_buffer("mean", torch.zeros(()))
        config = TrainingConfig(iterations=6, learning_rate=0.1, **SETTINGS)
        train(task, config, RunFolder(tmp_path), ALONE)
        assert calls == [0, 1, 2, 3, 4, 3, 4, 5]
        assert task.model.mean == 0
        assert "back to iteration 3 with 0.5 of the learning rate" in capsys.readouterr().err


class TestGoingBack:
    """Below 0.33 the loss is not finite. At the full rate the weight comes there after 7 steps, and
    steps 8 to 12 are left out. From iteration 6 (0.4) at half the rate it comes there after 8, and
    steps 9 to 13 are left out. From iteration 3 (0.7) at a quarter it ends at 0.4 after 15."""

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, tmp_path_factory) -> Path:
        run = tmp_path_factory.mktemp("whole") / "run"
        run_slope(run, 15, nan_below(0.33))
        return run

    def test_to_ever_older_checkpoints_at_ever_lower_rates(self, whole, tmp_path, capsys) -> None:
        task = run_slope(tmp_path / "run", 15, nan_below(0.33))
        assert task.model.weight.item() == pytest.approx(0.7 - 12 * 0.025, rel=1e-4)
        said = re.findall(r"iteration (\d+): (.*); back to (.*)\n", capsys.readouterr().err)
        reason = "the loss term slope is not finite"
        assert said == [
            ("12", reason, "iteration 6 with 0.5 of the learning rate (rollback 1 of 3)"),
            ("13", reason, "iteration 3 with 0.25 of the learning rate (rollback 2 of 3)"),
        ]

    def test_the_record_is_that_of_the_steps_that_count(self, whole) -> None:
        lines = [line for line in recorded(whole) if "train/loss" in line]
        assert [line["step"] for line in lines] == list(range(1, 16))
        rates = [line["train/learning_rate"] for line in lines]
        assert rates == pytest.approx([0.1] * 3 + [0.025] * 12)
        assert lines[-1]["train/left_out"] == 10

    # Calls of the task: 0 to 11, after going back 12 to 18, then 19 to 30.
    @pytest.mark.parametrize("stop_at", [1, 5, 6, 7, 9, 11, 12, 14, 18, 19, 22, 30])
    def test_an_interrupted_run_is_the_same(self, whole, tmp_path, stop_at) -> None:
        run = tmp_path / "run"
        with pytest.raises(Stopped):
            run_slope(run, 15, nan_below(0.33), stop_at)
        run_slope(run, 15, nan_below(0.33))
        assert recorded(run) == recorded(whole)
        first, second = (load_checkpoint(RunFolder(path).latest) for path in (run, whole))
        assert torch.equal(first["model"]["weight"], second["model"]["weight"])
        assert first["watch"] == second["watch"] and first["watch"]["rollbacks"] == 2
        assert RunFolder(run).kept_steps() == RunFolder(whole).kept_steps() == [12, 15]

    def test_twice_interrupted_before_the_next_checkpoint(self, whole, tmp_path) -> None:
        """What is saved at a stop never takes the place of a checkpoint to go back to."""
        run = tmp_path / "run"
        for _ in range(2):  # after iterations 7 and 8, the steps that need 6 and 3 being ahead
            with pytest.raises(Stopped):
                run_slope(run, 15, nan_below(0.33), stop_at=6 if not run.exists() else 0)
        run_slope(run, 15, nan_below(0.33))
        assert recorded(run) == recorded(whole)

    def test_a_run_does_not_end_on_steps_left_out(self, tmp_path) -> None:
        """One is no matter; of two, nobody would know whether more were to come."""
        task = run_slope(tmp_path / "one", 8, nan_at(7))
        assert task.model.weight.item() == pytest.approx(0.3, rel=1e-5)
        # From iteration 6 at half the rate, of steps 7 to 9 only the last is left out.
        task = run_slope(tmp_path / "two", 9, nan_below(0.33))
        watch = load_checkpoint(RunFolder(tmp_path / "two").latest)["watch"]
        assert watch["rollbacks"] == 1 and watch["left_out"] == 3
        assert task.model.weight.item() == pytest.approx(0.4 - 2 * 0.05, rel=1e-5)


class TestGivingUp:
    def test_after_three_rollbacks(self, tmp_path) -> None:
        """From iteration 6 no rate helps; the checkpoint that is left is sound."""
        with pytest.raises(Diverged) as failed:
            run_slope(tmp_path / "run", 40, nan_at(*range(7, 40)))
        message = str(failed.value)
        assert "run: training diverged at iteration 12: the loss term slope is not" in message
        assert "the learning rate was lowered 3 times, to 0.125" in message
        assert "training.learning_rate is too high" in message
        state = load_checkpoint(RunFolder(tmp_path / "run").latest)
        assert torch.isfinite(state["model"]["weight"])

    @pytest.mark.parametrize("loss", [nan_at(*range(9)), lambda weight, _: (weight * 0).sqrt()])
    def test_at_once_where_nothing_was_ever_good(self, tmp_path, loss) -> None:
        """A loss, or a gradient alone: no rate would help."""
        with pytest.raises(Diverged, match="at iteration 5: .*is not finite; not one step was go"):
            run_slope(tmp_path / "run", 9, loss)

    def test_on_a_surface_that_vanishes_again_and_again(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(divergence, "SURFACE_PATIENCE", 4)
        message = "at iteration 9: no ray inside the masks met .* 4 iterations.*lowered 3 times"
        with pytest.raises(Diverged, match=message + ".*masks drive the surface away"):
            run_slope(tmp_path / "r", 20, nan_at(), share=lambda step: float(step < 5))

    def test_at_once_where_the_surface_was_never_met(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(divergence, "SURFACE_PATIENCE", 4)
        with pytest.raises(Diverged, match="at iteration 4: .*has ever met the surface.*scale_mat"):
            run_slope(tmp_path / "run", 20, nan_at(), share=lambda step: 0.0)

    @pytest.mark.parametrize("method", ["idr", "dvr"])
    def test_a_huge_learning_rate_ends_with_code_4(self, tmp_path, method) -> None:
        """And one sentence, whichever method it is."""
        if method == "idr":
            data = write_tiny_scene(tmp_path / "data")
            settings = tiny_idr_settings(data, tmp_path / "run")
        else:
            data = write_tiny_collection(tmp_path / "data")
            settings = tiny_settings(data, tmp_path / "run")
        changes = {"training": {"learning_rate": 1e4, "iterations": 400, "checkpoint_every": 20}}
        file = write_settings(tmp_path / "config.yaml", merged(settings, changes))
        outcome = run_script("train", file, "--device", "cpu")
        assert outcome.code == 4, outcome.err
        assert "error: " in outcome.err and "training diverged at iteration" in outcome.err
        assert "Traceback" not in outcome.err


class _Reads(TorchDispatchMode):
    """Counts the numbers that a program waits for, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.counts[function.overloadpacket] += 1
        return function(*arguments, **(options or {}))


def test_no_step_waits_for_a_single_number(tmp_path) -> None:
    """A step's numbers come in one list; no judgement asks the device for one of its own."""
    counts = []
    for iterations in (3, 9):
        with _Reads() as reads:
            config = TrainingConfig(iterations=iterations, checkpoint_every=100)
            train(
                SlopeTask([{"mask_iou": 0.5}]), config, RunFolder(tmp_path / f"{iterations}"), ALONE
            )
        counts.append(reads.counts)
    once, thrice = counts
    assert thrice[torch.ops.aten.mul] > once[torch.ops.aten.mul]
    single = torch.ops.aten._local_scalar_dense
    assert thrice[single] == once[single]
