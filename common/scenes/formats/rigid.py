"""Poses from files made exactly rigid, since text keeps only so many digits of a rotation."""

import numpy as np
from jaxtyping import Float


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
