"""What a run keeps on disk, and how checkpoints are written so that none is ever half there."""

import json
import os
import pickle
import re
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml

from common.errors import UserError
from common.training.foreign_weights import read_foreign

WINDOWS = os.name == "nt"
READERS_TIME = 60  # seconds that a program may take to read a file


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

    def kept(self, step: int) -> Path:
        """A checkpoint that stays when later ones are written: to go back to."""
        return self.path / "checkpoints" / f"step_{step}.pt"

    def kept_steps(self) -> list[int]:
        """Steps of the kept checkpoints, ascending."""
        names = [path.name for path in (self.path / "checkpoints").glob("step_*.pt")]
        found = [re.fullmatch(r"step_(\d+)\.pt", name) for name in names]
        return sorted(int(match[1]) for match in found if match)

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

    def locks(self) -> list[Path]:
        """Files that name the trainings that are, or want to be, at work here; see run_lock."""
        return sorted(self.path.glob("training-*.lock"))

    def keep_aside(self) -> Path | None:
        """Rename the folder, if a run is there, so that a new one can start; the new name.

        Locks stay, all at every instant that the folder is there: the new training holds one.
        """
        locks = self.locks()
        if not self.path.exists() or (locks and set(self.path.iterdir()) == set(locks)):
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        if not locks:
            self.path.rename(aside)
            return aside
        new = self.path.with_name(f"{self.path.name}.new")
        shutil.rmtree(new, ignore_errors=True)  # of a start that was cut short here
        new.mkdir()
        for lock in locks:
            shutil.copyfile(lock, new / lock.name)
        self.path.rename(aside)
        new.rename(self.path)
        for lock in RunFolder(aside).locks():
            lock.unlink()
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
        _replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        # A full disk reports no name; say which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from error


def give_second_name(path: Path, other: Path) -> None:
    """Let ``other`` be the same file, whatever it was, at no cost of disk space where possible."""
    partial = other.with_name(other.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
    except OSError:  # not every file system has links
        shutil.copyfile(path, partial)
    _replace(partial, other)
    partial.unlink(missing_ok=True)  # replacing one name of a file by another of it does nothing


def _replace(partial: Path, path: Path) -> None:
    """Rename over a file. Windows refuses while another program reads it: its end is awaited."""
    for _ in range(READERS_TIME if WINDOWS else 0):
        try:
            return os.replace(partial, path)
        except PermissionError:
            time.sleep(1)
    os.replace(partial, path)


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


# What torch.load was seen to raise on damaged files; all of it means the same to a user.
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError,
    zipfile.BadZipFile, NotImplementedError, LookupError, TypeError, AttributeError, UserError,
)  # fmt: skip


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running any code in it.

    Raises UserError where the file is missing, damaged, or holds more than tensors and numbers.
    """
    if not path.exists():
        raise UserError(f"{path}: no such checkpoint; train first, or name another run")
    with path.open("rb") as file:
        try:
            _check_sums(file)
            # torch.load believes sizes and lets a file call bytearray; this reader does neither.
            read_foreign(path)
            state = torch.load(file, map_location=device, weights_only=True)
        # What is cut short makes the reader seek beyond the end, an OSError.
        except _UNREADABLE as e:
            raise UserError(
                f"{path}: not a readable checkpoint (damaged, or of another program); "
                "use another checkpoint, or train again with --fresh"
            ) from e
    if not isinstance(state, dict) or not CHECKPOINT_KEYS <= set(state):
        raise UserError(
            f"{path}: not the checkpoint of a run; one made by scripts/train.py is needed"
        )
    return state


def _check_sums(file: BinaryIO) -> None:
    """PyTorch writes check sums but does not look at them: a flipped bit would pass for a weight.

    Raises ValueError where one is wrong, or content is compressed (PyTorch's never is), which could
    need more memory than the file's size.
    """
    with zipfile.ZipFile(file) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("compressed")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"{damaged} is damaged")
    file.seek(0)


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
