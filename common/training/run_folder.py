"""What a run keeps on disk, and how checkpoints are written so that none is ever half there."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml

from common.errors import UserError


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run: config.yaml, checkpoints/, logs/, metrics.jsonl, meshes/, renders/."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def latest(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "latest.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def logs(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "logs"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, with step and seconds."""
        return self.path / "metrics.jsonl"

    @property
    def meshes(self) -> Path:
        """Extracted meshes."""
        return self.path / "meshes"

    @property
    def renders(self) -> Path:
        """Rendered pictures."""
        return self.path / "renders"

    @property
    def evaluation(self) -> Path:
        """Scores."""
        return self.path / "evaluation.json"

    def keep_aside(self) -> Path | None:
        """Rename the folder, if there is one, so that a new run can start; the new name."""
        if not self.path.exists():
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        self.path.rename(aside)
        return aside


def newest_run(root: Path = Path("out")) -> RunFolder:
    """The run under ``root`` whose checkpoint was written last."""
    checkpoints = sorted(root.glob("**/checkpoints/latest.pt"), key=lambda p: p.stat().st_mtime)
    if not checkpoints:
        raise UserError(f"{root}: no run with a checkpoint there; name a run folder or train one")
    return RunFolder(checkpoints[-1].parent.parent)


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that at every instant its old or its new content is whole on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        # A full disk reports no name; say which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_atomically(path, lambda file: file.write((json.dumps(content, indent=2) + "\n").encode()))


def write_yaml(path: Path, content: Any) -> None:
    """Write YAML atomically."""
    text = yaml.safe_dump(content, sort_keys=False)
    write_atomically(path, lambda file: file.write(text.encode()))


CHECKPOINT_KEYS = {"model", "optimiser", "step", "seconds", "best"}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain numbers atomically; weights_only loading reads them back."""

    def write(file: BinaryIO) -> None:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # PyTorch's writer hides a failed write behind its own exception.
            raise OSError(getattr(error.__cause__, "errno", None) or 28, str(error)) from error

    write_atomically(path, write)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running any code in it.

    Raises UserError where the file is missing, damaged, or holds more than tensors and numbers.
    """
    if not path.exists():
        raise UserError(f"{path}: no such checkpoint; train first, or name another run")
    with path.open("rb") as file:
        try:
            state = torch.load(file, map_location=device, weights_only=True)
        # What is cut short makes the reader seek beyond the end, an OSError.
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as e:
            raise UserError(
                f"{path}: not a readable checkpoint (damaged, or of another program); "
                "use another checkpoint, or train again with --fresh"
            ) from e
    if not isinstance(state, dict) or not CHECKPOINT_KEYS <= set(state):
        raise UserError(
            f"{path}: not the checkpoint of a run; one made by scripts/train.py is needed"
        )
    return state


def load_model_state(model: torch.nn.Module, state: dict[str, Any], path: Path) -> None:
    """Fill a model from a checkpoint's state; UserError where it belongs to another model."""
    own = model.state_dict()
    differing = sorted(set(own) ^ set(state)) or [
        name for name in own if own[name].shape != state[name].shape
    ]
    if differing:
        raise UserError(
            f"{path}: checkpoint of another model (first difference: {differing[0]}); use the "
            "configuration it was trained with, or start anew with --fresh"
        )
    model.load_state_dict(state)
