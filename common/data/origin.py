"""A folder that notes what it is made with, so that it is never finished with something else."""

from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError

ORIGIN = "origin.yaml"


def open_origin(out: Path, settings: dict[str, Any]) -> None:
    """Make the folder and note the settings (plain values), or check that it was begun with them.

    Raises UserError where they differ, or the folder holds something else.
    """
    if not (out / ORIGIN).is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(
                f"{out}: exists and was not made by this command (no {ORIGIN}); "
                "choose a new or empty folder"
            )
        out.mkdir(parents=True, exist_ok=True)
        (out / ORIGIN).write_text(yaml.safe_dump(settings, sort_keys=False))
        return
    try:
        theirs = dict(yaml.safe_load((out / ORIGIN).read_text()))
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise UserError(
            f"{out / ORIGIN}: cannot be read; delete {out} and render it anew"
        ) from error
    differing = [key for key in settings if theirs.get(key) != settings[key]]
    if differing:
        changes = ", ".join(f"{key} {theirs.get(key)} (now {settings[key]})" for key in differing)
        raise UserError(
            f"{out}: was rendered with other settings: {changes}; repeat those to finish it, "
            "or choose another folder"
        )
