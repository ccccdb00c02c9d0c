"""Typed, strict configuration: YAML with inheritance, command-line overrides, and errors that help.

A file is ``inherit_from`` (a path beside it, merged first), then its own keys, then ``key=value``
overrides. Every problem of a configuration is reported at once, each with its nearest valid key.
"""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import UserError
from common.plain_yaml import parse_yaml


class Section(BaseModel):
    """A group of settings: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


T = TypeVar("T", bound=Section)


class TrainingConfig(Section):
    """How long, how fast and where to train."""

    out_dir: str = Field("out/run", description="run folder: checkpoints, logs, meshes")
    iterations: int = Field(10_000, ge=1, description="optimiser steps in all")
    seed: int = Field(0, ge=0, description="seed of every random choice")
    deterministic: bool = Field(
        False, description="the same digits every time on a GPU, too, more slowly; a CPU's are so"
    )
    rays: int = Field(256, ge=1, description="rays of a step (DVR: of each object)")
    learning_rate: float = Field(1e-4, gt=0, description="Adam's rate at its highest")
    beta2: float = Field(0.999, gt=0, lt=1, description="Adam's memory of squared gradients")
    epsilon: float = Field(1e-8, gt=0, description="what Adam adds to their root")
    warmup: int = Field(0, ge=0, description="iterations of linear increase to the highest rate")
    decay: Literal["steps", "cosine", "none"] = Field(
        "steps",
        description="steps: times decay_factor at each milestone; cosine: to zero at the end",
    )
    milestones: tuple[float, ...] = Field(
        (), description="when decay 'steps' acts: iterations, or below 1 shares of the run"
    )
    decay_factor: float = Field(0.5, gt=0, le=1, description="factor of decay 'steps'")
    clip_gradient: float | None = Field(None, gt=0, description="largest gradient norm; null: none")
    ema: float | None = Field(
        None, gt=0, lt=1, description="validate and keep an average of the weights, of this decay"
    )
    log_every: int = Field(50, ge=1, description="iterations between scalars in the logs")
    validate_every: int = Field(1000, ge=1, description="iterations between validations")
    checkpoint_every: int = Field(500, ge=1, description="iterations between checkpoints")
    visualise_every: int = Field(2000, ge=1, description="iterations between images and meshes")
    select_by: Literal["mask_iou", "depth_error", "psnr"] | None = Field(
        "mask_iou", description="validation metric that chooses best.pt; null: none is kept"
    )


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping and merge it over the file it inherits from; UserError if unreadable."""
    return _load_inherited(path, ())


def _load_inherited(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UserError(f"{path}: inherit_from comes back to this file; remove one of the links")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such configuration file; see the folder configs/") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a folder; a YAML file was expected") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a text file; a YAML file was expected") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or "malformed"
        raise UserError(f"{path}{line}: not valid YAML ({problem}); mend that line") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected 'key: value' lines, found a {type(content).__name__}")
    parent = content.pop("inherit_from", None)
    if parent is None:
        return content
    if not isinstance(parent, str) or not parent.isprintable():
        raise UserError(f"{path}: inherit_from must be a path beside this file, got {parent!r}")
    return merge(_load_inherited(path.parent / parent, (*seen, path.resolve())), content)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested mappings merged key by key, anything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def apply_overrides(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply ``section.key=value`` settings; values are read as YAML."""
    for override in overrides:
        dotted, equals, text = override.partition("=")
        if not equals or not dotted:
            raise UserError(
                f"{override!r:.200}: expected section.key=value, as in training.iterations=500"
            )
        try:
            value = parse_yaml(text)
        except yaml.YAMLError as error:
            raise UserError(f"{override!r:.200}: the value is not valid YAML") from error
        for key in reversed(dotted.split(".")):
            value = {key: value}
        content = merge(content, value)
    return content


def validate(model: type[T], content: dict[str, Any], source: str) -> T:
    """Check ``content`` against ``model``; one UserError names every problem in ``source``."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [_problem(model, item) for item in error.errors()]
        raise UserError(f"{source}: " + "; ".join(problems)) from error


def _problem(model: type[Section], item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "the configuration"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, key_names(model), n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else "train.py --help-config lists the keys"
        return f"unknown key {key!r:.200} ({hint})"
    if item["type"] == "missing":
        return f"{key!r} is required and missing"
    message = item["msg"][0].lower() + item["msg"][1:]
    message = message.removeprefix("value error, ")
    if "ctx" in item and "error" in item["ctx"]:
        return f"{key!r:.200}: {message}"
    return f"{key!r:.200}: {message}, got {item['input']!r:.200}"


def key_names(model: type[BaseModel]) -> list[str]:
    """Every dotted key that a configuration may set, sections too."""
    keys = [key.split(".") for key, _, _ in describe(model)]
    return list({".".join(key[:depth]): None for key in keys for depth in range(1, len(key) + 1)})


def describe(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key with its default and its one-line description, in order."""
    for name, field in model.model_fields.items():
        key = prefix + name
        kind = field.annotation
        # On Python 3.10 list[int] passes for a type.
        if get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from describe(kind, key + ".")
        else:
            default = "required" if field.is_required() else repr(field.get_default())
            yield key, default, field.description or ""
