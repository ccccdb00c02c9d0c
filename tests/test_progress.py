"""The line of a job under way: for a person at a terminal, or in a file."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import TrainingConfig
from common.progress import BYTE, ProgressLine, duration, followed, say, wants_colour, warn
from common.training.pace import (
    CHECKPOINT,
    PICTURES,
    SLOW_START,
    VALIDATION,
    WINDOW,
    Pace,
    still_to_come,
)


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """Standard error with a person before it."""

    def isatty(self) -> bool:
        return True


def at_a_terminal(monkeypatch) -> Terminal:
    """From here on; pytest would put its own stream in the place of a fixture's."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def run_for(line: ProgressLine, clock: Clock, steps: int, seconds: float) -> None:
    for _ in range(steps):
        clock.now += seconds
        line.advance()


class TestFile:
    def test_whole_lines_with_the_time_left_and_no_carriage_return(self, capsys) -> None:
        clock = Clock()
        with ProgressLine("meshes", "mesh", 40, clock=clock) as line:
            run_for(line, clock, 40, 1.0)
        error = capsys.readouterr().err
        assert "\r" not in error and "\033" not in error
        assert error.splitlines() == [
            "meshes: mesh 15 of 40 (38%), 15 s so far, 25 s left",
            "meshes: mesh 30 of 40 (75%), 30 s so far, 10 s left",
            "meshes: mesh 40 of 40 (100%), 40 s so far",
        ]

    def test_what_was_done_before_says_nothing_of_the_speed(self, capsys) -> None:
        clock = Clock()
        with ProgressLine("training", "step", 100, done=80, clock=clock) as line:
            run_for(line, clock, 10, 2.0)
        assert capsys.readouterr().err.splitlines() == [
            "training: step 88 of 100 (88%), 16 s so far, 24 s left",
            "training: step 90 of 100 (90%), 20 s so far, 20 s left",
        ]

    def test_a_week_takes_some_hundred_lines(self, capsys) -> None:
        clock, steps = Clock(), 7 * 24 * 60
        with ProgressLine("training", "step", steps, clock=clock) as line:
            run_for(line, clock, steps, 60.0)
        assert 100 < len(capsys.readouterr().err.splitlines()) < 450

    def test_of_an_unknown_number_the_count_alone(self, capsys) -> None:
        with ProgressLine("mesh", "point", clock=Clock()) as line:
            line.advance(1_234_567)
        assert capsys.readouterr().err == "mesh: 1,234,567 points, 0 s so far\n"

    @pytest.mark.parametrize(
        ("total", "said"),
        [(4_800_000_000, "set.zip: 1.20GB of 4.80GB (25%), 0 s so far, 0 s left"),
         (None, "set.zip: 1.20GB, 0 s so far")],
    )  # fmt: skip
    def test_bytes_are_said_by_the_million(self, capsys, total, said) -> None:
        with ProgressLine("set.zip", BYTE, total, clock=Clock()) as line:
            line.advance(1_200_000_000)
        assert capsys.readouterr().err == said + "\n"

    def test_hidden_it_says_nothing(self, capsys) -> None:
        clock = Clock()
        with ProgressLine("training", "step", 40, shown=False, clock=clock) as line:
            run_for(line, clock, 40, 10.0)
        assert capsys.readouterr() == ("", "")

    def test_it_goes_back(self, capsys) -> None:
        with ProgressLine("training", "step", 40, describe=lambda: "x", clock=Clock()) as line:
            line.advance(30)
            line.advance(-20)
        assert capsys.readouterr().err == "training: step 10 of 40 (25%), 0 s so far, x\n"

    def test_sentences_are_whole_lines_too(self, capsys) -> None:
        with ProgressLine("training", "step", 40, clock=Clock()):
            say("scores")
            warn("trouble")
        out, error = capsys.readouterr()
        assert out == "scores\n" and error.splitlines()[0] == "trouble"

    def test_followed_items_are_the_same(self, capsys) -> None:
        assert list(followed([3, 1, 2], "drawing", "view")) == [3, 1, 2]
        assert list(followed(iter("ab"), "reading", "file")) == ["a", "b"]
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith("drawing: view 3 of 3 (100%)")
        assert lines[1].startswith("reading: 2 files")


class TestTerminal:
    def test_a_bar_is_redrawn_now_and_then(self, monkeypatch) -> None:
        terminal, clock = at_a_terminal(monkeypatch), Clock()
        with ProgressLine("training", "step", 1000, describe=lambda: "soon", clock=clock) as line:
            run_for(line, clock, 1000, 0.01)
        looks = terminal.getvalue().split("\r")
        assert 45 < len(looks) < 70  # ten seconds, five looks each
        assert "100%" in looks[-1] and "1000/1000" in looks[-1] and "soon" in looks[-1]

    @pytest.mark.parametrize(
        ("total", "said"), [(4_800_000_000, "25%|"), (None, "set.zip: 1.20GB [")]
    )
    def test_a_bar_of_bytes(self, monkeypatch, total, said) -> None:
        terminal = at_a_terminal(monkeypatch)
        with ProgressLine("set.zip", BYTE, total, clock=Clock()) as line:
            line.advance(1_200_000_000)
        last = terminal.getvalue().split("\r")[-1]
        assert said in last and ("1.20G/4.80G" in last) == (total is not None)

    def test_no_colour_where_it_is_not_wanted(self, monkeypatch) -> None:
        terminal = at_a_terminal(monkeypatch)
        assert wants_colour()
        with ProgressLine("training", "step", 10) as line:
            line.advance(10)
        assert "\033[32m" in terminal.getvalue()
        terminal.seek(0)
        terminal.truncate()
        monkeypatch.setenv("NO_COLOR", "1")
        assert not wants_colour()
        with ProgressLine("training", "step", 10) as line:
            line.advance(10)
        assert "\033[3" not in terminal.getvalue()

    def test_an_empty_no_color_asks_for_nothing(self, monkeypatch) -> None:
        at_a_terminal(monkeypatch)
        monkeypatch.setenv("NO_COLOR", "")
        assert wants_colour()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (310.0, "5 min 10 s"), (7500.0, "2 h 5 min"),
        (3600.0, "1 h"), (86400.0 * 3 + 3600 * 4 + 59, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations_have_two_figures(seconds, said) -> None:
    assert duration(seconds) == said


CONFIG = TrainingConfig(
    iterations=1000, validate_every=400, visualise_every=500, checkpoint_every=300
)


class TestPace:
    def pace(self, steps: int, seconds: float) -> Pace:
        pace = Pace(CONFIG)
        for _ in range(steps):
            pace.step(seconds)
        return pace

    def test_nothing_is_foretold_before_a_step(self) -> None:
        assert Pace(CONFIG).left(0) is None

    def test_steps_and_what_comes_between_them(self) -> None:
        """After step 100: 900 steps, validations at 400, 800 and 1000, pictures at 500, 1000,
        checkpoints at 300, 600 and 900."""
        pace = self.pace(100, 0.5)
        pace.between(VALIDATION, 10.0)
        pace.between(PICTURES, 20.0)
        pace.between(CHECKPOINT, 1.0)
        left = pace.left(100)
        assert left.seconds == pytest.approx(450 + 30 + 40 + 3) and left.whole

    def test_what_was_not_timed_yet_makes_it_a_lower_bound(self) -> None:
        pace = self.pace(100, 0.5)
        pace.between(CHECKPOINT, 1.0)
        assert not pace.left(100).whole
        assert pace.left(1000).whole and pace.left(1000).seconds == 0  # nothing is to come

    def test_a_slow_start_is_forgotten(self) -> None:
        pace = Pace(CONFIG)
        for _ in range(SLOW_START):
            pace.step(60.0)
        assert pace.seconds_per_step == 60.0  # nothing better is known
        pace.step(0.1)
        assert pace.seconds_per_step == pytest.approx(0.1)

    def test_the_last_steps_count(self) -> None:
        pace = self.pace(2 * WINDOW, 1.0)
        for _ in range(WINDOW):
            pace.step(3.0)
        assert pace.seconds_per_step == pytest.approx(3.0)

    def test_the_latest_validation_counts(self) -> None:
        pace = self.pace(100, 0.0)
        for seconds in (1.0, 5.0):
            pace.between(VALIDATION, seconds)
        assert pace.left(500).seconds == pytest.approx(2 * 5.0)

    @given(
        iterations=st.integers(1, 60),
        every=st.tuples(*[st.integers(1, 70)] * 3),
        share=st.floats(0, 1),
    )
    def test_it_counts_what_the_training_does(self, iterations, every, share) -> None:
        validate, visualise, checkpoint = every
        config = TrainingConfig(
            iterations=iterations, validate_every=validate, visualise_every=visualise,
            checkpoint_every=checkpoint,
        )  # fmt: skip
        start = int(share * iterations)
        steps = range(start + 1, iterations + 1)
        assert dict(still_to_come(config, start)) == {
            VALIDATION: sum(s % validate == 0 or s == iterations for s in steps),
            PICTURES: sum(s % visualise == 0 or s == iterations for s in steps),
            CHECKPOINT: sum(s % checkpoint == 0 for s in steps),
        }
