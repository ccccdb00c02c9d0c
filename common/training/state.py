"""What a training is between two steps: all that a checkpoint holds."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import nn

from common.errors import UserError
from common.training.averaging import Average
from common.training.divergence import Watch
from common.training.run_folder import (
    RunFolder,
    give_second_name,
    load_checkpoint,
    load_model_state,
    save_checkpoint,
)

KEPT = 2  # checkpoints to go back to


@dataclass
class Progress:
    """Where a run is: steps done, seconds of training, best validation so far."""

    step: int = 0
    seconds: float = 0.0
    best: float | None = None


@dataclass
class State:
    """Model, optimiser and average, which change in place, and the numbers beside them."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    progress: Progress
    watch: Watch
    average: Average | None = None

    def averaged(self) -> AbstractContextManager[None]:
        """The model as it is to be used: with averaged weights, where there is an average."""
        return nullcontext() if self.average is None else self.average.in_place()

    def save(self, path: Path) -> None:
        """Write a checkpoint; its ``model`` is the average, where there is one."""
        weights = {"model": self.model.state_dict()}
        if self.average is not None:
            weights = {"model": self.average.state(), "trained": weights["model"]}
        save_checkpoint(
            path,
            {
                **weights,
                "optimiser": self.optimiser.state_dict(),
                **asdict(self.progress),
                "watch": asdict(self.watch),
            },
        )

    def load(self, path: Path, device: torch.device) -> None:
        """Become what a checkpoint holds; UserError where it is of something else."""
        state = load_checkpoint(path, device)
        load_model_state(self.model, state.get("trained", state["model"]), path)
        if self.average is not None:
            self.average.load(state["model"])
        try:
            self.optimiser.load_state_dict(state["optimiser"])
            self.progress = Progress(int(state["step"]), float(state["seconds"]), state["best"])
            # Checkpoints of earlier versions, and imported ones, have none.
            known = {field.name for field in fields(Watch)} & set(state.get("watch", {}))
            self.watch = Watch(**{name: state["watch"][name] for name in known})
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: cannot be continued (its optimiser's state does not fit this training); "
                "use another checkpoint, or start anew with --fresh"
            ) from error


def keep(run: RunFolder, step: int) -> None:
    """Keep the latest checkpoint, of this step, to go back to; of older ones the KEPT newest."""
    if not run.kept(step).exists():
        give_second_name(run.latest, run.kept(step))
    for old in run.kept_steps()[:-KEPT]:
        run.kept(old).unlink()


def forget_after(run: RunFolder, step: int) -> None:
    """Delete what was kept of steps that are to come again."""
    for later in run.kept_steps():
        if later > step:
            run.kept(later).unlink()
