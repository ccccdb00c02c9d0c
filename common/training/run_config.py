"""The configuration that a run keeps: written when it starts, read back by every script."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import yaml

from common.config import Section
from common.errors import UserError
from common.plain_yaml import parse_yaml
from common.training.run_folder import (
    RunFolder,
    give_second_name,
    load_checkpoint,
    load_model_state,
    write_yaml,
)

Config = TypeVar("Config", bound=Section)


def prepare_run(
    run: RunFolder,
    config: Config,
    model: torch.nn.Module,
    fresh: bool,
    same_model: Callable[[dict[str, Any]], bool],
) -> None:
    """Make the run folder ready to train in, continuing what is there unless ``fresh``.

    ``same_model`` tells from a run's old settings whether its checkpoint fits. Raises UserError,
    before anything is written, where it does not or the checkpoint cannot be read.
    """
    if fresh and (aside := run.keep_aside()):
        print(f"the old run is kept as {aside}")
    if run.latest.exists():
        _mend_latest(run)
        if run.config.exists() and not same_model(read_settings(run)):
            raise UserError(
                f"{run.path}: holds a run with another model (its config.yaml differs in 'model'); "
                "choose another training.out_dir, or --fresh to keep it aside and start anew"
            )
        load_model_state(model, load_checkpoint(run.latest)["model"], run.latest)
    versions = {"torch": str(torch.__version__), "numpy": np.__version__}
    write_yaml(run.config, {**config.model_dump(mode="json"), "versions": versions})


def read_settings(run: RunFolder) -> dict[str, Any]:
    """The resolved settings that a run was trained with, as its config.yaml has them."""
    try:
        content = parse_yaml(run.config.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{run.path}: not a run folder (no config.yaml); name one made by scripts/train.py"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{run.config}: damaged; restore it or train again") from error
    if not isinstance(content, dict):
        raise UserError(f"{run.config}: holds no settings; restore it or train again")
    content.pop("versions", None)
    return content


def checkpoint_of(run: RunFolder, which: str) -> Path:
    """The checkpoint to load: the best where asked for and there, else the latest.

    In place of a damaged latest one, the newest that was kept and is whole, and a printed sentence.
    """
    if which == "best" and run.best.exists():
        return run.best
    if run.latest.exists() and not _is_whole(run.latest):
        # The state before the first step has learnt nothing, so it replaces none.
        for step in reversed([step for step in run.kept_steps() if step]):
            if _is_whole(run.kept(step)):
                print(f"{run.latest}: damaged; {run.kept(step).name} is used instead")
                return run.kept(step)
    return run.latest


def _mend_latest(run: RunFolder) -> None:
    """Put the newest whole checkpoint in the place of a damaged latest one, which is kept aside."""
    whole = checkpoint_of(run, "latest")
    if whole != run.latest:
        os.replace(run.latest, run.latest.with_name("latest.pt.damaged"))
        give_second_name(whole, run.latest)


def _is_whole(path: Path) -> bool:
    try:
        load_checkpoint(path)
    except UserError:
        return False
    return True
