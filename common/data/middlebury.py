"""Scenes of the Middlebury multi-view benchmark (Seitz et al., CVPR 2006), ``*_par.txt`` folders.

The file's first line counts the views; then each line is an image's name and 21 numbers: K and R
row by row, and t, with P = K [R | t] from the world to pixels, whose centres are at integers.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from common.data.collection import stack_views
from common.data.images import SUFFIXES, read_image_with_alpha, read_mask
from common.data.object_frame import OPAQUE, Frame, frame_views
from common.data.pairing import check_counts, view_files
from common.data.views import Views
from common.errors import UserError, naming

PARAMETERS = "_par.txt"
_MASK_FOLDERS = ("mask", "masks")


def read_middlebury(path: Path, frame: Frame) -> tuple[Views, list[str]]:
    """All views of a folder in the file's order and their image names, around their visual hull.

    The benchmark has no masks: they are to be in a folder `mask`, named like the images or else in
    the same order, or in the images' alpha. Raises UserError where there are none, and where files
    are missing, malformed or do not fit together.
    """
    files = sorted(path.glob(f"*{PARAMETERS}"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise UserError(
            f"{path}: expected one *{PARAMETERS} file, found {found}; remove the others"
        )
    file = files[0]
    with naming(file):
        names, projections = _read_parameters(file)
        read = [read_image_with_alpha(path / name) for name in names]
        images = stack_views(
            [(path / name, image) for name, (image, _) in zip(names, read, strict=True)]
        )
        masks = _read_masks(path, names, [alpha for _, alpha in read])
        views = frame_views(file, images, stack_views(masks, images.shape[1:3]), projections, frame)
    return views, names


def _read_parameters(file: Path) -> tuple[list[str], Float[np.ndarray, "V 3 4"]]:
    """Image names and projections."""
    lines = [line.split() for line in file.read_text(errors="replace").splitlines() if line.strip()]
    if not lines or len(lines[0]) != 1 or not lines[0][0].isdigit():
        raise UserError("the first line is not the number of views; copy the file again")
    if int(lines[0][0]) != len(lines) - 1 or len(lines) == 1:
        raise UserError(
            f"the first line counts {lines[0][0]} views, but {len(lines) - 1} follow; "
            "remove or add the odd ones and correct the count"
        )
    return [line[0] for line in lines[1:]], np.stack([_projection(line) for line in lines[1:]])


def _projection(line: list[str]) -> Float[np.ndarray, "3 4"]:
    name, *words = line
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError as error:
        raise UserError(f"{name}: {error}; expected numbers after the name") from error
    if len(numbers) != 21 or not np.isfinite(numbers).all():
        raise UserError(
            f"{name}: {len(numbers)} numbers after the name; expected 21 finite ones "
            "(K and R row by row, t)"
        )
    intrinsics, rotation, shift = (
        numbers[:9].reshape(3, 3),
        numbers[9:18].reshape(3, 3),
        numbers[18:],
    )
    # The benchmark writes some twelve digits; a cut file may keep six.
    skewed = np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3
    if skewed or np.linalg.det(rotation) < 0:
        raise UserError(f"{name}: numbers 10 to 18 are not a rotation; estimate that camera again")
    return intrinsics @ np.column_stack([rotation, shift])


def _read_masks(
    path: Path, names: list[str], alphas: list[np.ndarray | None]
) -> list[tuple[Path, Bool[np.ndarray, "H W"]]]:
    folder = next((path / name for name in _MASK_FOLDERS if (path / name).is_dir()), None)
    if folder is not None:
        files = view_files(folder, SUFFIXES)
        check_counts({path: len(names), folder: len(files)})
        by_stem = {file.stem: file for file in files}
        stems = [Path(name).stem for name in names]
        if set(stems) == set(by_stem):
            files = [by_stem[stem] for stem in stems]
        return [(file, read_mask(file, OPAQUE)) for file in files]
    masks = []
    for name, alpha in zip(names, alphas, strict=True):
        if alpha is None:
            raise UserError(
                f"{path / name}: no alpha channel, and there is no folder {path / 'mask'}; the "
                "object's masks are needed, so put one picture per view there (object white)"
            )
        masks.append((path / name, alpha > OPAQUE))
    return masks
