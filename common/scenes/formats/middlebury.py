"""Scenes of the Middlebury multi-view benchmark (Seitz et al., CVPR 2006), ``*_par.txt`` folders.

The file's first line counts the views; then each line is an image's name and 21 numbers: K and R
row by row, and t, with P = K [R | t] from the world to pixels, whose centres are at integers.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from common.cameras import decompose_projection
from common.data.images import image_size
from common.errors import UserError, naming
from common.scenes.capture import Capture, Photograph
from common.scenes.formats.mask_folder import masks_beside
from common.scenes.formats.matrices import nearest_rigid, sane

PARAMETERS = "_par.txt"


def holds_middlebury(path: Path) -> bool:
    """Whether the folder has a file of parameters."""
    return any(path.glob(f"*{PARAMETERS}"))


def read_middlebury(path: Path) -> Capture:
    """The views of a folder in the file's order.

    The benchmark has no masks: they may be in a folder `mask`, named like the images or else in the
    same order. Raises UserError where files are missing, malformed or do not fit together.
    """
    files = sorted(path.glob(f"*{PARAMETERS}"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise UserError(
            f"{path}: expected one *{PARAMETERS} file, found {found}; remove the others"
        )
    file = files[0]
    with naming(file):
        lines = _view_lines(file)
        images = [path / line[0] for line in lines]
        masks, notes = masks_beside(path, images)
        photographs = tuple(
            _photograph(line, image, mask)
            for line, image, mask in zip(lines, images, masks, strict=True)
        )
    return Capture(file, photographs, notes=notes)


def _view_lines(file: Path) -> list[list[str]]:
    """The words of each view's line."""
    text = file.read_text(encoding="utf-8", errors="replace")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    # More digits than these count no views that a file could hold.
    if not lines or len(lines[0]) != 1 or not lines[0][0].isdecimal() or len(lines[0][0]) > 9:
        raise UserError("the first line is not the number of views; copy the file again")
    if int(lines[0][0]) != len(lines) - 1 or len(lines) == 1:
        raise UserError(
            f"the first line counts {lines[0][0]} views, but {len(lines) - 1} follow; "
            "remove or add the odd ones and correct the count"
        )
    name, times = Counter(line[0] for line in lines[1:]).most_common(1)[0]
    if times > 1:
        raise UserError(f"{name} has {times} lines; remove all of them but one")
    return lines[1:]


def _photograph(line: list[str], image: Path, mask: Path | None) -> Photograph:
    name, *words = line
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError as error:
        raise UserError(f"{name}: {error}; expected numbers after the name") from error
    if len(numbers) != 21 or not sane(numbers):
        raise UserError(
            f"{name}: {len(numbers)} numbers after the name; expected 21 finite ones "
            "(K and R row by row, t)"
        )
    rotation, shift = numbers[9:18].reshape(3, 3), numbers[18:]
    try:
        # The benchmark writes some twelve digits; a cut file may keep six.
        camera_from_world = nearest_rigid(np.column_stack([rotation, shift]), tolerance=1e-3)
    except ValueError as error:
        raise UserError(
            f"{name}: numbers 10 to 18 are not a rotation; estimate that camera again"
        ) from error
    try:
        intrinsics, pose, _ = decompose_projection(
            numbers[:9].reshape(3, 3) @ camera_from_world[:3]
        )
    except ValueError as error:
        raise UserError(
            f"{name}: numbers 1 to 9 are no camera's K ({error}); estimate that camera again"
        ) from error
    return Photograph(image, intrinsics, image_size(image), pose, mask)
