"""Tiny configurations of tiny data, and the scripts run as a user runs them."""

import io
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def tiny_settings(data: Path, out: Path) -> dict:
    """Settings of a collection training that takes a tenth of a second: a code per object."""
    return {
        "method": "dvr",
        "data": {"path": str(data)},
        "model": {"hidden": 16, "blocks": 2, "code": 4, "encoder": {"kind": "embedding"}},
        "march": {"samples": [[0, 16]], "evaluation_samples": 16},
        "losses": {"rgb": 1, "freespace": 1, "occupancy": 1, "normal": 0},
        "supervision": {"views": 2},
        "training": {
            "out_dir": str(out),
            "iterations": 4,
            "objects": 2,
            "rays": 32,
            "learning_rate": 1e-3,
            "log_every": 2,
        },
        "generation": {"resolution": 32, "coarse_resolution": 16, "refinement_steps": 0},
    }


def merged(base: dict, over: dict) -> dict:
    """Nested settings replaced key by key."""
    result = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if nested else value
    return result


PICTURES = {"model": {"encoder": {"kind": "simple"}}, "data": {"input": {"size": 64}}}
SCENE = {
    "model": {"code": 0, "encoder": {"kind": "none"}},
    "data": {"holdout_every": 3, "image_size": 16},
    "training": {"objects": 1},
}


def write_settings(path: Path, settings: dict) -> Path:
    """A configuration file."""
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Outcome:
    """How a script ended and what it said."""

    code: int
    out: str
    err: str


def run_script(name: str, *arguments: object) -> Outcome:
    """Run scripts/<name>.py in this process, as the command line would."""
    path = ROOT / "scripts" / f"{name}.py"
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        patch.syspath_prepend(str(path.parent))  # as Python does for a script
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())
