"""How long the rest of a training takes, from the steps and from what comes between them."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from common.config import TrainingConfig

WINDOW = 300  # steps that the speed is a mean over: more than between two refreshes of any cache
SLOW_START = 3  # steps that load and compile, and tell nothing of those that follow
VALIDATION, PICTURES, CHECKPOINT = "validation", "pictures", "checkpoint"


@dataclass(frozen=True)
class TimeLeft:
    """Seconds of what is still to come; ``whole``: everything that will come was timed."""

    seconds: float
    whole: bool


class Pace:
    """Durations so far. A step counts from the end of what was before it: waiting for data too."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._early: list[float] = []
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._latest: dict[str, float] = {}  # seconds that each kind of interruption took last

    def step(self, seconds: float) -> None:
        """A step took so long."""
        if len(self._early) < SLOW_START:
            self._early.append(seconds)
        else:
            self._recent.append(seconds)

    def between(self, kind: str, seconds: float) -> None:
        """A VALIDATION, PICTURES or CHECKPOINT took so long; they grow with what is learnt."""
        self._latest[kind] = seconds

    @property
    def seconds_per_step(self) -> float | None:
        """Mean over the last steps; None before the first."""
        if self._recent:
            return sum(self._recent) / len(self._recent)
        return min(self._early, default=None)

    def left(self, step: int) -> TimeLeft | None:
        """From after a step to the end; None before anything was timed."""
        if self.seconds_per_step is None:
            return None
        seconds = (self._config.iterations - step) * self.seconds_per_step
        to_come = {kind: count for kind, count in still_to_come(self._config, step) if count}
        for kind, count in to_come.items():
            seconds += count * self._latest.get(kind, 0.0)
        return TimeLeft(seconds, to_come.keys() <= self._latest.keys())


def still_to_come(config: TrainingConfig, step: int) -> Iterator[tuple[str, int]]:
    """How many of each kind of interruption come after a step."""
    for kind, every, at_the_end in (
        (VALIDATION, config.validate_every, True),
        (PICTURES, config.visualise_every, True),
        (CHECKPOINT, config.checkpoint_every, False),
    ):
        last = config.iterations
        extra = at_the_end and last % every != 0 and step < last
        yield kind, max(0, last // every - step // every) + extra
