"""Files that belong together by their order: the i-th image, mask, depth map and camera."""

import re
from pathlib import Path

from common.errors import UserError


def view_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The folder's files with these suffixes, by name, where that order is also numeric.

    Names may differ between folders (000.png beside 000000.png): only their order pairs them.
    Raises UserError where the folder is missing or empty, where 10.png would sort before 2.png, or
    where one name has two suffixes.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check the path and the folder names")
    files = sorted(
        (file for file in folder.iterdir() if file.suffix.lower() in suffixes),
        key=lambda file: file.name,
    )
    if not files:
        raise UserError(f"{folder}: no {', '.join(suffixes)} files here; put one per view there")
    for before, after in zip(files, files[1:], strict=False):
        if _numeric(after.stem) < _numeric(before.stem):
            raise UserError(
                f"{folder}: {before.name} sorts before {after.name} by name but not by number, so "
                "images and cameras would pair wrongly; rename them with leading zeros"
            )
        if after.stem == before.stem:
            raise UserError(f"{folder}: {before.name} and {after.name} are one view; remove one")
    return files


def check_counts(files: dict[Path, int]) -> None:
    """Refuse folders that do not hold the same number of views."""
    if len(set(files.values())) > 1:
        found = ", ".join(f"{path}: {count}" for path, count in files.items())
        raise UserError(
            f"every view needs one of each, but found {found}; add or remove the odd ones"
        )


def _numeric(stem: str) -> list[tuple[int, str]]:
    # Numbers compare by value and before text, so "v2" < "v10".
    parts = re.split(r"(\d+)", stem)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part]
