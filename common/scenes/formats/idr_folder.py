"""Scene folders of IDR and NeuS: image/, mask/, and cameras.npz with one projection a view."""

from pathlib import Path

import numpy as np

from common.data.camera_file import read_matrices, shared_frame
from common.data.images import SUFFIXES
from common.data.npz import open_npz
from common.data.pairing import check_counts, view_files
from common.errors import UserError
from common.scenes.capture import Capture, SparsePoints
from common.scenes.formats.matrices import photograph_of

CAMERA_FILES = ("cameras.npz", "cameras_sphere.npz")
IMAGE_FOLDERS = ("image", "rgb", "images")
MASK_FOLDERS = ("mask", "masks")
SPARSE = "sparse.npz"


def holds_idr_folder(path: Path) -> bool:
    """Whether a camera file with ``world_mat`` is here, in pixels as IDR counts them."""
    file = camera_file(path)
    if file is None:
        return False
    with open_npz(file) as archive:
        return "camera_mat_0" not in archive


def camera_file(path: Path) -> Path | None:
    """The folder's camera file, where there is one."""
    return _first_existing(path, CAMERA_FILES)


def read_idr_folder(path: Path) -> Capture:
    """The folder's photographs in order of their names, with masks where there is a folder of them.

    ``scale_mat``, where the file has it, takes the unit sphere around the object to the world.
    Raises UserError where files are missing, do not pair, or a projection is no pinhole camera.
    """
    path = Path(path)
    file, image_folder = _find(path, CAMERA_FILES), _find(path, IMAGE_FOLDERS)
    images = view_files(image_folder, SUFFIXES)
    mask_folder = _first_existing(path, MASK_FOLDERS)
    masks: list[Path | None] = [None] * len(images)
    if mask_folder is not None:
        masks = [*view_files(mask_folder, SUFFIXES)]
        check_counts({image_folder: len(images), mask_folder: len(masks)})
    with open_npz(file) as archive:
        normalised = any(key.startswith("scale_mat_") for key in archive.files)
    required = ("world_mat", "scale_mat") if normalised else ("world_mat",)
    matrices = read_matrices(file, required, count=len(images))
    photographs = tuple(
        photograph_of(f"{file}: view {view}", matrix[:3], image, mask)
        for view, (matrix, image, mask) in enumerate(
            zip(matrices["world_mat"], images, masks, strict=True)
        )
    )
    return Capture(
        source=file,
        photographs=photographs,
        points=_read_sparse(path / SPARSE, len(images)),
        world_from_sphere=shared_frame(file, matrices["scale_mat"]) if normalised else None,
    )


def _read_sparse(file: Path, views: int) -> SparsePoints | None:
    """Points of structure from motion that scripts/prepare_scene.py kept, where it did."""
    if not file.exists():
        return None
    with open_npz(file) as archive:
        points, visibility = archive["points"], archive["visibility"]
    if (
        points.ndim != 2
        or points.shape[1] != 3
        or points.dtype.kind != "f"
        or visibility.dtype != bool
        or visibility.shape != (views, len(points))
        or not np.isfinite(points).all()
    ):
        raise UserError(
            f"{file}: expected finite points (P, 3) and visibility ({views}, P) of booleans, found "
            f"{points.shape} and {visibility.shape}; prepare the scene again or remove the file"
        )
    return SparsePoints(points.astype(np.float64), visibility)


def _first_existing(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((path / name for name in names if (path / name).exists()), None)


def _find(path: Path, names: tuple[str, ...]) -> Path:
    found = _first_existing(path, names)
    if found is None:
        raise UserError(f"{path}: none of {', '.join(names)} is here; add or rename one")
    return found
