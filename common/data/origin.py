"""A folder that notes what it is made with, so that it is never finished with something else."""

from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.plain_yaml import parse_yaml

ORIGIN = "origin.yaml"


def read_origin(folder: Path) -> dict[str, Any] | None:
    """What a folder says it was made with; None where it does not say."""
    file = folder / ORIGIN
    try:
        found = parse_yaml(file.read_text()) if file.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) else None


def write_origin(folder: Path, settings: dict[str, Any]) -> None:
    """Note the settings (plain values) in a folder."""
    (folder / ORIGIN).write_text(yaml.safe_dump(settings, sort_keys=False))


def is_made(root: Path, settings: dict[str, Any], what: str) -> bool:
    """Whether a folder is there and was made with exactly these settings.

    Raises UserError where it holds something else, or ``what`` made with other settings.
    """
    if not root.exists():
        return False
    found = read_origin(root)
    if found == settings:
        return True
    if found is None:
        raise UserError(
            f"{root}: exists but was not made by this program (no {ORIGIN} says so); "
            "choose another folder or remove this one"
        )
    differs = [
        f"{key} {found.get(key)} instead of {value}"
        for key, value in settings.items()
        if found.get(key) != value
    ]
    raise UserError(
        f"{root}: holds {what} made with {', '.join(differs)}; choose another "
        "folder or remove this one"
    )


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
        write_origin(out, settings)
        return
    try:
        theirs = dict(parse_yaml((out / ORIGIN).read_text()))
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
