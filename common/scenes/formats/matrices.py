"""Matrices from files, checked: what numbers are believed, and the cameras that they describe."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from common.cameras import decompose_projection
from common.data.camera_file import check_pinhole
from common.data.images import image_size
from common.errors import UserError
from common.scenes.capture import Photograph

_LARGEST_NUMBER = 1e15


def sane(numbers: tuple[float, ...] | np.ndarray) -> bool:
    """Whether all are finite, and small enough for products of a few to stay so."""
    return bool((np.abs(numbers) < _LARGEST_NUMBER).all())


def photograph_of(
    where: str, projection: Float[np.ndarray, "3 4"], image: Path, mask: Path | None
) -> Photograph:
    """A picture with the camera whose projection takes the world to its pixels.

    Raises UserError, naming ``where``, for a matrix that is no pinhole camera's.
    """
    try:
        intrinsics, world_from_camera, _ = decompose_projection(projection)
    except ValueError as error:
        raise UserError(
            f"{where}: the camera cannot be inverted ({error}); estimate that camera again"
        ) from error
    check_pinhole(where, intrinsics)
    return Photograph(image, intrinsics, image_size(image), world_from_camera, mask)


def nearest_rigid(
    matrix: Float[np.ndarray, "rows 4"], tolerance: float
) -> Float[np.ndarray, "4 4"]:
    """The rigid motion nearest to a 3x4 or 4x4 matrix of finite numbers; the translation stays.

    Raises ValueError where an entry of R^T R - I is not within ``tolerance``, R is mirrored, or a
    fourth row is not 0 0 0 1.
    """
    rotation = matrix[:3, :3]
    # Large entries first, so that nothing below can overflow.
    if (
        np.abs(rotation).max() > 2
        or np.abs(rotation.T @ rotation - np.eye(3)).max() > tolerance
        or np.linalg.det(rotation) < 0
    ):
        raise ValueError("its left 3x3 block is not a rotation")
    if len(matrix) == 4 and np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise ValueError("its last row is not 0 0 0 1; is it transposed?")
    left, _, right = np.linalg.svd(rotation)
    rigid = np.eye(4)
    rigid[:3, :3], rigid[:3, 3] = left @ right, matrix[:3, 3]
    return rigid
