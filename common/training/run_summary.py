"""A run's settings for TensorBoard: a text to read, and hyperparameters to compare runs by."""

import platform
from typing import Any

import yaml
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import summary

from common.training.run_folder import RunFolder

TEXT = "run"


def run_summaries(run: RunFolder) -> list[Summary]:
    """Of the settings in the run's config.yaml; none where it has no such file.

    The final metrics beside the hyperparameters are the last points of the run's curves.
    """
    if not run.config.exists():
        return []
    settings = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    versions = settings.pop("versions", {}) | {"python": platform.python_version()}
    flat = flattened(settings)
    # TensorBoard would take the metrics of a list of the first run for those of all; without a list
    # it finds every run's own.
    _, session, _ = summary.hparams({name: _comparable(value) for name, value in flat.items()}, {})
    return [summary.text(TEXT, markdown(run, flat, versions)), session]


def flattened(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, dict)
        flat |= flattened(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def markdown(run: RunFolder, flat: dict[str, Any], versions: dict[str, str]) -> str:
    """The settings as a table under the run's name, and what it was trained with."""
    used = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    rows = [f"| {key} | {_cell(value)} |" for key, value in flat.items()]
    title = (
        f"**{run.path.resolve().name}**: {flat.get('method', '')} on {flat.get('data.path', '')}"
    )
    return "\n".join([title, "", used, "", "| setting | value |", "|---|---|", *rows])


def _comparable(value: Any) -> int | float | str:
    """As a hyperparameter can be: a number or a text."""
    if isinstance(value, bool):
        return str(value).lower()  # TensorBoard would show a number
    if isinstance(value, int | float | str):
        return value
    return "none" if value is None else str(value)


def _cell(value: Any) -> str:
    return str(_comparable(value)).replace("|", "\\|")
