"""Projection matrices from ``cameras.npz`` files, checked, and the Cameras they describe."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from common.cameras import Cameras, decompose_projection
from common.data.npz import open_npz
from common.errors import UserError


def read_matrices(
    path: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    count: int,
    views: Sequence[int] | None = None,
) -> dict[str, Float[np.ndarray, "V 4 4"]]:
    """Matrices ``name_i`` of these views (None: all) by name, from a file for ``count`` images.

    3x4 matrices are completed to 4x4; optional names that are absent are identities. Raises
    UserError for another count, missing or non-contiguous keys, wrong shapes, values that are not
    finite and a last row other than 0 0 0 1.
    """
    with open_npz(path) as archive:
        in_file, present = _count_views(path, archive.files, required, optional)
        if in_file != count:
            raise UserError(
                f"{path}: cameras of {in_file} views for {count} images; every image needs one, so "
                "add or remove the odd ones"
            )
        views = range(count) if views is None else views
        found = {
            name: [archive[f"{name}_{index}"] if name in present else np.eye(4) for index in views]
            for name in (*required, *optional)
        }
    return {name: _checked(path, name, views, stack) for name, stack in found.items()}


def _count_views(
    path: Path, keys: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> tuple[int, set[str]]:
    """The number of views and which names are there, each with all of 0 ... views - 1."""
    indices = defaultdict(set)
    for key in keys:
        if match := re.fullmatch(r"(\w+)_(\d+)", key):
            indices[match[1]].add(int(match[2]))
    for name in required:
        if not indices[name]:
            found = ", ".join(sorted(keys)[:6]) or "nothing"
            raise UserError(f"{path}: no key {name}_0 (found {found}); add {name}_0, {name}_1, ...")
    present = {name for name in (*required, *optional) if indices[name]}
    count = max(max(indices[name]) for name in present) + 1
    for name in sorted(present):
        # Not all of 0 ... count - 1 at once: a key may claim any number of views.
        missing = next((i for i in range(count) if i not in indices[name]), None)
        if missing is not None:
            raise UserError(
                f"{path}: key {name}_{missing} is missing, but other matrices count to "
                f"{count - 1}; views must be numbered 0 to {count - 1} without gaps"
            )
    return count, present


def _checked(
    path: Path, name: str, views: Sequence[int], stack: Sequence[np.ndarray]
) -> Float[np.ndarray, "V 4 4"]:
    """The stack as 4x4 float64, or UserError for the first matrix that is not one."""
    complete = np.tile(np.eye(4), (len(stack), 1, 1))
    for row, (index, matrix) in enumerate(zip(views, stack, strict=True)):
        if matrix.shape not in ((4, 4), (3, 4)) or matrix.dtype.kind not in "fiu":
            raise UserError(
                f"{path}: {name}_{index} is {matrix.dtype} of shape {matrix.shape}; expected a "
                "4x4 (or 3x4) matrix of numbers"
            )
        complete[row, : len(matrix)] = matrix
    finite = np.isfinite(complete).all(axis=(1, 2))
    if not finite.all():
        bad = f"{name}_{views[int(np.argmin(finite))]}"
        raise UserError(f"{path}: {bad} has NaN or infinite entries; estimate that camera again")
    affine = np.abs(complete[:, 3] - [0, 0, 0, 1]).max(axis=1) < 1e-6
    if not affine.all():
        bad = f"{name}_{views[int(np.argmin(affine))]}"
        raise UserError(f"{path}: the last row of {bad} is not 0 0 0 1; is it transposed?")
    return complete


def shared_frame(path: Path, scale_mat: Float[np.ndarray, "V 4 4"]) -> Float[np.ndarray, "4 4"]:
    """The one similarity from object to world that all views agree on; UserError otherwise."""
    first = scale_mat[0]
    if np.abs(scale_mat - first).max() > 1e-4 * np.abs(first).max():
        raise UserError(
            f"{path}: scale_mat differs between views; one object has one frame, so write the same "
            "scale_mat for every view"
        )
    gram = first[:3, :3].T @ first[:3, :3]
    square = np.trace(gram) / 3
    if square <= 0 or np.abs(gram - square * np.eye(3)).max() > 1e-3 * square:
        raise UserError(
            f"{path}: scale_mat_0 is not a rotation times one scale (and a shift); use the same "
            "scale on all three axes"
        )
    return first


def cameras_from_projections(
    path: Path,
    views: Sequence[int],
    projections: Float[np.ndarray, "V 3 4"],
    height: int,
    width: int,
    half_size: float | None,
) -> tuple[Cameras, Float[Tensor, "V"]]:
    """Cameras of matrices from object to pixels, and file depth per object unit of camera z.

    ``views`` are the numbers to call them by in messages. The object fills the cube
    [-half_size, half_size]^3 (None: its place is not known yet). Raises UserError for a matrix that
    is singular or no pinhole camera, has the object behind it, or does not look at the object.
    """
    intrinsics, poses, scales = [], [], []
    for view, projection in zip(views, projections, strict=True):
        try:
            k, pose, scale = decompose_projection(projection)
        except ValueError as error:
            raise UserError(
                f"{path}: the camera of view {view} cannot be inverted ({error}); "
                "estimate that camera again"
            ) from error
        where = f"{path}: view {view}"
        check_pinhole(where, k)
        if half_size is not None:
            _check_sees_object(where, projection, pose, (height, width), half_size)
        intrinsics.append(k)
        poses.append(pose)
        scales.append(scale)
    cameras = Cameras(
        torch.tensor(np.stack(intrinsics), dtype=torch.float32),
        torch.tensor(np.stack(poses), dtype=torch.float32),
        height,
        width,
    )
    return cameras, torch.tensor(scales, dtype=torch.float32)


_CUBE = np.stack(np.meshgrid(*[[-1, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


def check_pinhole(where: str, k: np.ndarray) -> None:
    """Refuse intrinsics that no lens has, naming ``where`` they were read."""
    # A pose that is not rigid ends up in K: real pixels are nearly square and nearly not skewed.
    if not 1 / 3 < k[0, 0] / k[1, 1] < 3 or abs(k[0, 1]) > 0.3 * k[0, 0]:
        raise UserError(
            f"{where}: no pinhole camera has focal lengths {k[0, 0]:.4g} and {k[1, 1]:.4g} px and "
            f"skew {k[0, 1]:.4g}; check that its rotation is one"
        )


def _check_sees_object(
    where: str, projection: np.ndarray, pose: np.ndarray, size: tuple[int, int], half_size: float
) -> None:
    z_of_centre = -pose[:3, 2] @ pose[:3, 3]
    if z_of_centre <= 0:
        raise UserError(
            f"{where}: the object lies behind the camera; world_mat looks inverted (it must take "
            "world to camera, x right, y down, z forward) or mirrored"
        )
    corners = _CUBE * half_size @ projection[:, :3].T + projection[:, 3]
    in_front = corners[:, 2] * np.sign(np.linalg.det(projection[:, :3])) > 0
    if not in_front.all():
        return  # the camera stands in the cube, and sees some of it
    pixels = corners[:, :2] / corners[:, 2:]
    if (pixels.max(axis=0) < 0).any() or (pixels.min(axis=0) > [size[1] - 1, size[0] - 1]).any():
        raise UserError(
            f"{where}: the object's cube projects outside the {size[1]} x {size[0]} image; check "
            "that camera, the frame (scale_mat) and that both were made for this image size"
        )
