"""Scenes in the layout of MVSNet (Yao et al., ECCV 2018) and BlendedMVS (Yao et al., CVPR 2020).

``cams/00000000_cam.txt`` holds the word extrinsic and a 4x4 world-to-camera matrix, the word
intrinsic and K, and a range of depths, which is not needed. Pixels count from the picture's corner:
MVSNet's authors warp with centres at halves, and make K from COLMAP's.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from common.cameras import decompose_projection
from common.data.camera_file import check_pinhole
from common.data.images import SUFFIXES, image_size, list_images
from common.errors import UserError, naming
from common.scenes.capture import Capture, Photograph
from common.scenes.formats.mask_folder import masks_beside
from common.scenes.formats.matrices import nearest_rigid, sane

_CAMERAS = "cams"
_SUFFIX = "_cam.txt"
_IMAGE_FOLDERS = ("blended_images", "images", "image")
_MASKED = "_masked"  # BlendedMVS's second copy of each picture, black outside its mesh
_CENTRED = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])


def holds_mvsnet(path: Path) -> bool:
    """Whether the folder has camera files."""
    return any((path / _CAMERAS).glob(f"*{_SUFFIX}"))


def read_mvsnet(path: Path) -> Capture:
    """The pictures that have a camera file, by name; those without are left out, with a note.

    Masks may be in a folder `mask`; BlendedMVS's ``*_masked.jpg`` are not used, since the object
    may be black too. Raises UserError where files are missing or damaged.
    """
    image_folder = next((path / name for name in _IMAGE_FOLDERS if (path / name).is_dir()), None)
    if image_folder is None:
        raise UserError(
            f"{path}: none of the folders {', '.join(_IMAGE_FOLDERS)} is here; add the images"
        )
    pictures = [file for file in list_images(image_folder) if not file.stem.endswith(_MASKED)]
    images = [image for image in pictures if _camera_file(path, image).is_file()]
    if not images:
        raise UserError(
            f"{image_folder}: no image has a camera; expected {path / _CAMERAS}/<name>{_SUFFIX} "
            f"for <name>{SUFFIXES[1]}"
        )
    if twins := [a for a, b in zip(images, images[1:], strict=False) if a.stem == b.stem]:
        raise UserError(f"{image_folder}: {twins[0].stem} has several suffixes; remove one image")
    masks, notes = masks_beside(path, images)
    photographs = tuple(
        _photograph(_camera_file(path, image), image, mask)
        for image, mask in zip(images, masks, strict=True)
    )
    without = [image.name for image in pictures if image not in images]
    if without:
        notes += (f"{len(without)} images have no camera and are left out: {without[0]}, ...",)
    if any(image_folder.glob(f"*{_MASKED}.*")) and masks[0] is None:
        notes += (f"*{_MASKED} pictures are not taken for masks: the object may be black too",)
    return Capture(path, photographs, notes=notes)


def _camera_file(path: Path, image: Path) -> Path:
    return path / _CAMERAS / f"{image.stem}{_SUFFIX}"


def _photograph(file: Path, image: Path, mask: Path | None) -> Photograph:
    with naming(file):
        words = file.read_text(encoding="utf-8", errors="replace").split()
        extrinsics = _matrix(words, "extrinsic", 4, 4)
        try:
            camera_from_world = nearest_rigid(extrinsics, tolerance=1e-3)
        except ValueError as error:
            raise UserError(
                f"extrinsic is not rigid ({error}); it must be world-to-camera, 4x4, not scaled"
            ) from error
        try:
            intrinsics, pose, _ = decompose_projection(
                _CENTRED @ _matrix(words, "intrinsic", 3, 3) @ camera_from_world[:3]
            )
        except ValueError as error:
            raise UserError(
                f"intrinsic is no camera's K ({error}); estimate that camera again"
            ) from error
        check_pinhole(str(file), intrinsics)
        return Photograph(image, intrinsics, image_size(image), pose, mask)


def _matrix(words: list[str], name: str, rows: int, columns: int) -> Float[np.ndarray, "r c"]:
    """The numbers that follow a word."""
    start = words.index(name) + 1 if name in words else len(words)
    try:
        numbers = np.array([float(word) for word in words[start : start + rows * columns]])
    except ValueError as error:
        raise UserError(
            f"{error}; expected {rows * columns} numbers after the word {name}"
        ) from error
    if len(numbers) != rows * columns or not sane(numbers):
        raise UserError(
            f"{len(numbers)} numbers after the word {name}; expected {rows * columns} finite ones, "
            "so copy the file again"
        )
    return numbers.reshape(rows, columns)
