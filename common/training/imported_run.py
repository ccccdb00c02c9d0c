"""A run folder around a model that was trained elsewhere."""

import os

from torch import nn

from common.config import Section, TrainingConfig
from common.errors import UserError
from common.training.optimiser import make_optimiser
from common.training.run_config import prepare_run
from common.training.run_folder import RunFolder, save_checkpoint


def refuse_occupied(run: RunFolder) -> None:
    """UserError where there is anything already."""
    if os.path.lexists(run.path) and not (run.path.is_dir() and not any(run.path.iterdir())):
        raise UserError(f"{run.path}: exists; name a new folder, or remove it")


def write_imported_run(
    run: RunFolder,
    config: Section,
    training: TrainingConfig,
    model: nn.Module,
    rates: list[tuple[list[nn.Parameter], float]],
    step: int,
) -> None:
    """Write config.yaml, and both checkpoints as if training had reached ``step`` here.

    ``rates`` are the groups of parameters that the training loop has for this model. Its optimiser
    starts anew.
    """
    optimiser = make_optimiser(rates, training)
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "seconds": 0.0,
        "best": None,
    }
    prepare_run(run, config, model, fresh=False, same_model=lambda old: True)
    for path in (run.best, run.latest):
        save_checkpoint(path, state)
