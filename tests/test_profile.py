"""A step's parts under a clock that moves only as told; then the real parts of both methods."""

import sys

import pytest
import torch

import common.training.profile
from common.config import validate
from common.training import loop
from common.training.divergence import Watch
from common.training.optimiser import make_optimiser
from common.training.pace import SLOW_START
from common.training.processes import Process
from common.training.profile import DATA, FORWARD, REST, Part, Share, as_table, parts_in, profile
from common.training.run_folder import RunFolder
from common.training.state import Progress, State
from dvr.config import DVRConfig, DVRTraining
from dvr.profile import profile_experiment as profile_dvr
from idr.config import IDRConfig
from idr.profile import profile_experiment as profile_idr
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import merged, tiny_settings
from tests.make_task import SlopeTask

ALONE = Process(0, 1, torch.device("cpu"))


class Clock:
    """Seconds that pass only where work says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def work(self, seconds: float) -> None:
        self.seconds += seconds


class Solver:
    """Searching takes 3 seconds of its own and two evaluations of 1."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def search(self) -> None:
        self.clock.work(3)
        self.evaluate()
        self.evaluate()

    def evaluate(self) -> None:
        self.clock.work(1)


class SlowTask(SlopeTask):
    """A step of 10 seconds: a search of 5, an evaluation of 1, and 4 for all else."""

    def __init__(self, clock: Clock) -> None:
        super().__init__([])
        self.clock, self.solver, self.seen = clock, Solver(clock), []

    def step(self, model, batch, step):
        self.seen.append(step)
        # What loads or compiles at first is not to count.
        self.clock.work(1000 if len(self.seen) <= SLOW_START else 4)
        self.solver.search()
        self.solver.evaluate()
        return super().step(model, batch, step)

    @property
    def parts(self) -> list[Part]:
        return [
            Part("search", self.solver, "search"),
            Part("evaluation", self.solver, "evaluate"),
        ]


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """In the place of the real one; a backward pass takes 20 seconds, data 7."""
    clock = Clock()
    monkeypatch.setattr(common.training.profile, "now", lambda device: clock.seconds)
    backward, read_batches = torch.Tensor.backward, common.training.profile.batches

    def slow_backward(*arguments, **named) -> None:
        clock.work(20)
        backward(*arguments, **named)

    def slow_batches(*arguments):
        for batch in read_batches(*arguments):
            clock.work(7)
            yield batch

    monkeypatch.setattr(torch.Tensor, "backward", slow_backward)
    monkeypatch.setattr(common.training.profile, "batches", slow_batches)
    return clock


def training(iterations: int = 100) -> DVRTraining:
    return DVRTraining(out_dir="nowhere", iterations=iterations)


def by_name(shares: list[Share]) -> dict[str, Share]:
    assert len({share.name for share in shares}) == len(shares)
    return {share.name: share for share in shares}


def test_each_part_has_its_own_time_and_a_search_its_evaluations(clock) -> None:
    task = SlowTask(clock)
    shares = profile(task, training(), task.parts, 2, None, ALONE)
    seconds = {share.name: share.seconds for share in shares if share.seconds}
    assert seconds == {"search": 5, "evaluation": 1, FORWARD: 4, "backward": 20, DATA: 7}
    assert [share.name for share in shares][:2] == ["backward", DATA]
    for share in shares:
        assert share.share == pytest.approx(share.seconds / 37)
    assert task.seen == list(range(SLOW_START + 2))


def test_what_no_part_names_is_the_rest(clock, monkeypatch) -> None:
    """As the learning rate, whose schedule the loop asks for itself."""
    rate = loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", lambda *a: (clock.work(2), rate(*a))[1])
    task = SlowTask(clock)
    shares = by_name(profile(task, training(), [], 3, None, ALONE))
    assert shares[REST].seconds == 2
    assert shares[FORWARD].seconds == 10  # nothing splits it


def test_functions_are_as_before_afterwards_even_if_a_step_fails(clock) -> None:
    task = SlowTask(clock)
    backward, total = torch.Tensor.backward, loop.weighted_total
    task.solver.evaluate = broken = lambda: (_ for _ in ()).throw(ArithmeticError())
    with pytest.raises(ArithmeticError):
        profile(task, training(), task.parts, 1, None, ALONE)
    assert torch.Tensor.backward is backward and loop.weighted_total is total
    assert "step" not in vars(task) and "search" not in vars(task.solver)
    assert task.solver.evaluate is broken


def test_a_finished_run_repeats_its_last_steps(clock, tmp_path) -> None:
    """And is left as it was."""
    task, config, run = SlowTask(clock), training(iterations=50), RunFolder(tmp_path / "run")
    run.latest.parent.mkdir(parents=True)
    with torch.no_grad():
        task.model.weight.fill_(7.0)
    State(task.model, make_optimiser(task.rates, config), Progress(step=50), Watch()).save(
        run.latest
    )
    before = run.latest.read_bytes()
    again = SlowTask(clock)
    profile(again, config, again.parts, 4, run, ALONE)
    assert again.seen == list(range(50 - SLOW_START - 4, 50))
    assert again.model.weight.item() == pytest.approx(7.0, abs=0.1)  # learnt from there
    assert run.latest.read_bytes() == before
    assert sorted(path.name for path in run.path.rglob("*")) == ["checkpoints", "latest.pt"]


def test_the_functions_of_a_module() -> None:
    """Those that it only imports are not its own."""
    names = {part.attribute for part in parts_in("x", sys.modules[__name__])}
    assert {"training", "by_name", "Clock"} <= names and "profile" not in names


def test_a_table_ends_with_the_sum() -> None:
    lines = as_table([Share("search", 0.0751, 0.751), Share("data", 0.0249, 0.249)]).split("\n")
    assert [line.split() for line in lines] == [
        ["search", "75.10", "ms", "75.1%"],
        ["data", "24.90", "ms", "24.9%"],
        ["a", "whole", "step", "100.00", "ms", "100.0%"],
    ]
    assert len({len(line) for line in lines}) == 1


class TestMethods:
    """Every part is there, under its name: who renames a function is told here."""

    COMMON = {DATA, FORWARD, REST, "backward", "optimiser", "losses", "gradient norm"}

    def test_dvr(self, tmp_path) -> None:
        settings = tiny_settings(write_tiny_collection(tmp_path / "data"), tmp_path / "run")
        config = validate(DVRConfig, settings, "test")
        shares = by_name(profile_dvr(config, None, 3, ALONE))
        parts = {"encoder", "search", "field value and gradient", "colour"}
        assert set(shares) == self.COMMON | parts | {"reading the loss"}
        assert all(share.seconds > 0 for share in shares.values())
        assert sum(share.share for share in shares.values()) == pytest.approx(1)
        assert not (tmp_path / "run").exists()

    def test_idr(self, tmp_path) -> None:
        """Whole turns of the cache's refreshing, that each has its share."""
        data = write_tiny_scene(tmp_path / "ball", views=4, size=16)
        settings = tiny_idr_settings(data, tmp_path / "run")
        settings = merged(settings, {"search": {"refresh_every": 4}})
        config = validate(IDRConfig, settings, "test")
        shares = by_name(profile_idr(config, None, 3, ALONE))
        parts = {"cache refresh", "search", "field value and gradient", "colour"}
        assert set(shares) == self.COMMON | parts | {"reading the loss"}
        assert all(share.seconds > 0 for share in shares.values())
