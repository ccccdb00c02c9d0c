"""Which states of a training a film of it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.training.run_folder import RunFolder, load_checkpoint


@dataclass(frozen=True)
class KeptState:
    """A checkpoint of a run, after so many steps and seconds of training."""

    path: Path
    step: int
    seconds: float

    @property
    def caption(self) -> str:
        """For the corner of a picture."""
        minutes, seconds = divmod(round(self.seconds), 60)
        return f"step {self.step:,}  {minutes}:{seconds:02d}"


def kept_states(run: RunFolder) -> list[KeptState]:
    """Every checkpoint that a run keeps, one of each step, in the order of training.

    Raises UserError where that makes no film, or where a checkpoint cannot be read.
    """
    found = {}
    for path in sorted(run.latest.parent.glob("*.pt")):
        state = load_checkpoint(path)
        found[int(state["step"])] = KeptState(path, int(state["step"]), float(state["seconds"]))
    if len(found) < 2:
        raise UserError(
            f"{run.latest.parent}: holds {len(found)} states of the training, and a time-lapse "
            "needs two at least; copy checkpoints there while it trains"
        )
    return [found[step] for step in sorted(found)]


def spread(states: Sequence[KeptState], frames: int) -> list[KeptState]:
    """The state that each of so many frames shows: in order, as evenly as can be, to the last.

    Where there are fewer frames than states, some are left out.
    """
    # Rounded up, so that the last frame has the last state whatever the numbers are.
    return [states[-(-(frame + 1) * len(states) // frames) - 1] for frame in range(frames)]
