"""What every run folder tells: settings, curves, scores and the checkpoint's size."""

import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from common.errors import UserError
from common.plain_yaml import parse_yaml
from common.training.run_config import checkpoint_of, read_settings
from common.training.run_folder import RunFolder, load_checkpoint

Scores = dict[str, float]


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder records it; ``evaluation`` is empty where it was not scored yet."""

    name: str
    settings: dict
    versions: dict[str, str]
    metrics: tuple[dict[str, float], ...]  # each with step and seconds
    evaluation: dict
    step: int
    seconds: float
    parameters: int
    checkpoint_bytes: int

    @property
    def method(self) -> str:
        """As a person writes it."""
        return str(self.settings.get("method", "")).upper()

    @property
    def data_path(self) -> str:
        """Where the run's pictures are, as configured."""
        return str(self.settings.get("data", {}).get("path", ""))

    @property
    def seed(self) -> str:
        """The seed of every random choice."""
        return str(self.settings.get("training", {}).get("seed", "unknown"))


def read_record(run: RunFolder, checkpoint: str = "best") -> RunRecord:
    """Everything but the pictures; UserError where a file of the run is damaged."""
    settings = read_settings(run)
    path = checkpoint_of(run, checkpoint)
    state = load_checkpoint(path)
    tensors = [value for value in state["model"].values() if value.is_floating_point()]
    return RunRecord(
        run.path.resolve().name,
        settings,
        _versions(run.config),
        _metrics(run.metrics),
        _evaluation(run.evaluation),
        int(state["step"]),
        float(state["seconds"]),
        sum(tensor.numel() for tensor in tensors),
        path.stat().st_size,
    )


def scores_in(content: object) -> Scores:
    """The finite numbers among named values, whatever else a file holds."""
    if not isinstance(content, dict):
        return {}
    return {
        str(name): float(value)
        for name, value in content.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    }


def _versions(config: Path) -> dict[str, str]:
    versions = parse_yaml(config.read_text(encoding="utf-8")).get("versions")
    if not isinstance(versions, dict):
        return {}
    return {str(name): str(version) for name, version in versions.items()}


def _metrics(path: Path) -> tuple[dict[str, float], ...]:
    if not path.exists():
        return ()
    records = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            record = scores_in(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break  # an interruption cut it short
            raise UserError(
                f"{path}, line {number}: not JSON ({error}); delete that line"
            ) from error
        if {"step", "seconds"} <= set(record):
            records.append(record)
    return tuple(records)


def _evaluation(path: Path) -> dict:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); run scripts/evaluate.py again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no scores; run scripts/evaluate.py again")
    return content
