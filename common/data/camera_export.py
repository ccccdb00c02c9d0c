"""Cameras written in every format that the readers know, in the world's own units.

Cameras live in the object frame; here the similarity to the world moves them back, which leaves
their poses rigid. Each format's axes and pixels are converted once, in its function.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from common.cameras import Cameras
from common.data.scene_writer import scene_matrices
from common.errors import UserError

LARGEST_SKEW = 1e-3  # pixels a format without skew may lose
_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])  # y up, z backward


def world_poses(
    cameras: Cameras, world_from_object: Float[Tensor, "4 4"]
) -> Float[np.ndarray, "V 4 4"]:
    """Rigid camera-to-world poses; the scale of the similarity only moves the centres."""
    similarity = _array(world_from_object)
    pose = similarity @ _array(cameras.object_from_camera)
    # What the product with the scale and float32 left of the rotation, made one again.
    left, _, right = np.linalg.svd(pose[:, :3, :3])
    pose[:, :3, :3] = left @ right
    return pose


def write_idr_cameras(
    path: Path, cameras: Cameras, world_from_object: Float[Tensor, "4 4"]
) -> None:
    """Write ``cameras.npz`` of an IDR scene; ``world_from_object`` becomes every ``scale_mat_i``.

    The object must lie inside the unit sphere of the object frame (the reader's frame "sphere").
    """
    matrices = scene_matrices(_constant(cameras), _array(world_from_object))
    np.savez(path, **matrices)  # type: ignore[arg-type]


def write_transforms(
    path: Path,
    cameras: Cameras,
    world_from_object: Float[Tensor, "4 4"],
    file_paths: Sequence[str],
    mask_paths: Sequence[str] | None = None,
) -> None:
    """Write a ``transforms.json`` as NeRF, nerfstudio and instant-ngp read it.

    Image and mask paths are relative to the file's folder; without masks the images should have
    alpha. Poses have OpenGL axes; pixels count from the image's corner. Raises UserError where a
    camera has skew.
    """
    poses = world_poses(cameras, world_from_object) @ _OPENGL_FROM_OPENCV
    frames: list[dict] = [
        {"file_path": file_path, "transform_matrix": pose.tolist()}
        for file_path, pose in zip(file_paths, poses, strict=True)
    ]
    if mask_paths is not None:
        for frame, mask_path in zip(frames, mask_paths, strict=True):
            frame["mask_path"] = mask_path
    document: dict = {"w": cameras.width, "h": cameras.height}
    lenses = [
        dict(zip(("fl_x", "fl_y", "cx", "cy"), lens.tolist(), strict=True))
        for lens in _pinholes(path, cameras)
    ]
    if all(lens == lenses[0] for lens in lenses):
        document |= lenses[0]  # some readers look nowhere else
    else:
        frames = [frame | lens for frame, lens in zip(frames, lenses, strict=True)]
    path.write_text(json.dumps(document | {"frames": frames}, indent=1), encoding="utf-8")


def write_middlebury(
    path: Path, cameras: Cameras, world_from_object: Float[Tensor, "4 4"], names: Sequence[str]
) -> None:
    """Write a ``*_par.txt``: the count, then ``name k11 ... k33 r11 ... r33 t1 t2 t3`` per view.

    P = K [R | t] takes world points to pixels whose centres are integers. Raises UserError for an
    image name with blanks.
    """
    _check_names(path, names)
    lines = [str(len(cameras))]
    extrinsics = np.linalg.inv(world_poses(cameras, world_from_object))
    intrinsics = _array(cameras.intrinsics)
    for name, k, matrix in zip(names, intrinsics, extrinsics, strict=True):
        lines.append(f"{name} {_numbers([*k.flat, *matrix[:3, :3].flat, *matrix[:3, 3]])}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_colmap_text(
    folder: Path, cameras: Cameras, world_from_object: Float[Tensor, "4 4"], names: Sequence[str]
) -> None:
    """Write a COLMAP text model without points: PINHOLE ``cameras.txt``, ``images.txt``.

    Pixels count from the image's corner; poses are world-to-camera quaternions (w, x, y, z) and
    translations. Raises UserError where a camera has skew or an image name blanks.
    """
    _check_names(folder, names)
    lenses, camera = np.unique(_pinholes(folder, cameras), axis=0, return_inverse=True)
    extrinsics = np.linalg.inv(world_poses(cameras, world_from_object))
    camera_lines = ["# CAMERA_ID MODEL WIDTH HEIGHT FX FY CX CY"]
    for index, lens in enumerate(lenses, start=1):
        camera_lines.append(f"{index} PINHOLE {cameras.width} {cameras.height} {_numbers(lens)}")
    image_lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line for its 2D points"]
    quaternions = quaternions_from_rotations(extrinsics[:, :3, :3])
    poses = np.concatenate([quaternions, extrinsics[:, :3, 3]], axis=1)
    for index, (pose, lens_index, name) in enumerate(
        zip(poses, camera.reshape(-1) + 1, names, strict=True), start=1
    ):
        image_lines += [f"{index} {_numbers(pose)} {lens_index} {name}", ""]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text("\n".join(camera_lines) + "\n", encoding="utf-8")
    (folder / "images.txt").write_text("\n".join(image_lines) + "\n", encoding="utf-8")
    (folder / "points3D.txt").write_text("", encoding="utf-8")


def quaternions_from_rotations(
    rotation: Float[np.ndarray, "V 3 3"],
) -> Float[np.ndarray, "V 4"]:
    """Unit quaternions (w, x, y, z) with w >= 0, for any angle up to 180 degrees.

    Divides by the largest component, never by a small one (Shepperd, J. Guidance 1(3), 1978).
    """
    r = np.moveaxis(rotation, 0, -1)
    trace = r[0, 0] + r[1, 1] + r[2, 2]
    # Entry (i, j) is 4 q_i q_j, so every row is a multiple of the quaternion.
    products = np.empty((len(rotation), 4, 4))
    products[:, 0, 0] = 1 + trace
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        products[:, 1 + i, 1 + i] = 1 + 2 * r[i, i] - trace
        products[:, 0, 1 + i] = products[:, 1 + i, 0] = r[k, j] - r[j, k]
        products[:, 1 + j, 1 + k] = products[:, 1 + k, 1 + j] = r[j, k] + r[k, j]
    largest = np.diagonal(products, axis1=1, axis2=2).argmax(axis=1)
    quaternion = products[np.arange(len(rotation)), largest]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
    return np.where(quaternion[:, :1] < 0, -quaternion, quaternion)


def _pinholes(where: Path, cameras: Cameras) -> Float[np.ndarray, "V 4"]:
    """fx, fy, cx, cy in pixels from the image's corner; UserError where a camera has skew."""
    intrinsics = _array(cameras.intrinsics)
    skew = np.abs(intrinsics[:, 0, 1])
    if skew.max() > LARGEST_SKEW:
        raise UserError(
            f"{where}: the camera of view {skew.argmax()} has a skew of {skew.max():.3g} px, more "
            f"than the {LARGEST_SKEW:g} px this format may lose; write cameras.npz or a Middlebury "
            "*_par.txt, which hold it"
        )
    centre = intrinsics[:, :2, 2] + 0.5
    return np.concatenate([intrinsics[:, [0, 1], [0, 1]], centre], axis=1)


def _check_names(where: Path, names: Sequence[str]) -> None:
    if bad := [name for name in names if not name or any(letter.isspace() for letter in name)]:
        raise UserError(
            f"{where}: this format separates its entries by blanks, so the image name {bad[0]!r} "
            "would break it; rename the image"
        )


def _numbers(values: Sequence[float] | np.ndarray) -> str:
    """Shortest digits that read back as the same float64."""
    return " ".join(repr(float(value)) for value in values)


def _constant(cameras: Cameras) -> Cameras:
    """The same cameras without gradients, which refined ones have."""
    intrinsics, pose = cameras.intrinsics.detach(), cameras.object_from_camera.detach()
    return Cameras(intrinsics, pose, cameras.height, cameras.width)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
