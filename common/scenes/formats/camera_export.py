"""Cameras written in every format that the readers know, in the world's own units.

A capture's cameras have the axes and pixels of `common.scenes.capture`; each format's own are made
of them once, in its function. The image names that a function takes are of pictures that have the
photographs' ``size``.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from common.cameras import Cameras
from common.errors import UserError
from common.scenes.capture import Capture, Distortion, Photograph
from common.scenes.formats.transforms import BROWN_KEYS, FISHEYE_KEYS, OPENGL_FROM_OPENCV

LARGEST_SKEW = 1e-3  # pixels a format without skew may lose


def capture_of(cameras: Cameras, world_from_object: Float[Tensor, "4 4"]) -> Capture:
    """Learnt cameras as a capture of pictures without files, the unit sphere being the object's.

    Cameras live in the object frame; the similarity to the world moves them back.
    """
    intrinsics = _array(cameras.intrinsics)
    size = (cameras.width, cameras.height)
    photographs = tuple(
        Photograph(Path(f"view {view}"), k, size, pose)
        for view, (k, pose) in enumerate(
            zip(intrinsics, world_poses(cameras, world_from_object), strict=True)
        )
    )
    return Capture(Path(), photographs, world_from_sphere=_array(world_from_object))


def world_poses(
    cameras: Cameras, world_from_object: Float[Tensor, "4 4"]
) -> Float[np.ndarray, "V 4 4"]:
    """Rigid camera-to-world poses; the scale of the similarity only moves the centres."""
    pose = _array(world_from_object) @ _array(cameras.object_from_camera)
    # What the product with the scale and float32 left of the rotation, made one again.
    left, _, right = np.linalg.svd(pose[:, :3, :3])
    pose[:, :3, :3] = left @ right
    return pose


def write_idr_cameras(path: Path, capture: Capture) -> None:
    """Write ``cameras.npz`` of an IDR scene, whose images have these cameras by order of names.

    The capture's sphere, where it has one, becomes every ``scale_mat_i``. Raises UserError for
    distorted lenses.
    """
    matrices = {}
    for view, photograph in enumerate(capture.photographs):
        _check_undistorted(path, photograph)
        world_mat = np.linalg.inv(photograph.world_from_camera)
        world_mat[:3] = photograph.intrinsics @ world_mat[:3]
        matrices[f"world_mat_{view}"] = world_mat
        if capture.world_from_sphere is not None:
            matrices[f"scale_mat_{view}"] = capture.world_from_sphere
    np.savez(path, **matrices)  # type: ignore[arg-type]


def write_middlebury(path: Path, capture: Capture, names: Sequence[str]) -> None:
    """Write a ``*_par.txt``: the count, then ``name k11 ... k33 r11 ... r33 t1 t2 t3`` per view.

    P = K [R | t] takes world points to pixels whose centres are integers. Raises UserError for an
    image name with blanks and for distorted lenses.
    """
    _check_names(path, names)
    lines = [str(len(names))]
    for name, photograph in zip(names, capture.photographs, strict=True):
        _check_undistorted(path, photograph)
        matrix = np.linalg.inv(photograph.world_from_camera)
        k = photograph.intrinsics
        lines.append(f"{name} {_numbers([*k.flat, *matrix[:3, :3].flat, *matrix[:3, 3]])}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_transforms(
    path: Path,
    capture: Capture,
    file_paths: Sequence[str],
    mask_paths: Sequence[str] | None = None,
) -> None:
    """Write a ``transforms.json`` as NeRF, nerfstudio and instant-ngp read it.

    Image and mask paths are relative to the file's folder; without masks the images should have
    alpha. Poses have OpenGL axes; pixels count from the image's corner. Raises UserError where a
    camera has skew or a distortion that is neither k1 k2 p1 p2 k3 nor fisheye.
    """
    frames: list[dict] = []
    lenses: list[dict] = []
    for file_path, photograph in zip(file_paths, capture.photographs, strict=True):
        pose = photograph.world_from_camera @ OPENGL_FROM_OPENCV
        frames.append({"file_path": file_path, "transform_matrix": pose.tolist()})
        lenses.append(_transforms_lens(path, photograph))
    if mask_paths is not None:
        for frame, mask_path in zip(frames, mask_paths, strict=True):
            frame["mask_path"] = mask_path
    # Readers differ in where they look: a shared lens in the document, others whole in each frame.
    document = lenses[0]
    if any(lens != document for lens in lenses):
        frames = [frame | lens for frame, lens in zip(frames, lenses, strict=True)]
        document = {
            key: document[key]
            for key in ("w", "h", "camera_model")
            if all(key in lens and lens[key] == document[key] for lens in lenses)
        }
    path.write_text(json.dumps(document | {"frames": frames}, indent=1), encoding="utf-8")


def write_colmap_text(folder: Path, capture: Capture, names: Sequence[str]) -> None:
    """Write a COLMAP text model without points: ``cameras.txt``, ``images.txt``.

    Pixels count from the image's corner; poses are world-to-camera quaternions (w, x, y, z) and
    translations. Raises UserError where a camera has skew or an image name blanks.
    """
    _check_names(folder, names)
    cameras: dict[str, int] = {}
    image_lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line for its 2D points"]
    for index, (name, photograph) in enumerate(zip(names, capture.photographs, strict=True)):
        camera = cameras.setdefault(_colmap_lens(folder, photograph), len(cameras) + 1)
        matrix = np.linalg.inv(photograph.world_from_camera)
        pose = [*quaternions_from_rotations(matrix[None, :3, :3])[0], *matrix[:3, 3]]
        image_lines += [f"{index + 1} {_numbers(pose)} {camera} {name}", ""]
    camera_lines = ["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS"]
    camera_lines += [f"{camera} {lens}" for lens, camera in cameras.items()]
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


def _transforms_lens(where: Path, photograph: Photograph) -> dict:
    width, height = photograph.size
    lens: dict = {"w": width, "h": height}
    lens |= dict(zip(("fl_x", "fl_y", "cx", "cy"), _pinhole(where, photograph), strict=True))
    distortion = _bending(photograph)
    if distortion is None:
        return lens
    if distortion.kind == "fisheye":
        lens |= {"camera_model": "OPENCV_FISHEYE", "is_fisheye": True}
    else:
        lens["camera_model"] = "OPENCV"
    names = FISHEYE_KEYS if distortion.kind == "fisheye" else BROWN_KEYS
    coefficients = _coefficients(where, photograph, distortion, len(names))
    return lens | dict(zip(names, coefficients, strict=True))


def _colmap_lens(where: Path, photograph: Photograph) -> str:
    """Model, width, height and parameters, of the simplest model that holds the distortion."""
    distortion = _bending(photograph)
    parameters = _pinhole(where, photograph)
    if distortion is None:
        model = "PINHOLE"
    else:
        if distortion.kind == "fisheye":
            model, count = "OPENCV_FISHEYE", 4
        elif any(distortion.coefficients[4:]):
            model, count = "FULL_OPENCV", 8
        else:
            model, count = "OPENCV", 4
        parameters += _coefficients(where, photograph, distortion, count)
    width, height = photograph.size
    return f"{model} {width} {height} {_numbers(parameters)}"


def _bending(photograph: Photograph) -> Distortion | None:
    """The distortion, where it differs from none; a fisheye's does even with zeros."""
    distortion = photograph.distortion
    if distortion is None or (distortion.kind == "brown" and not any(distortion.coefficients)):
        return None
    return distortion


def _coefficients(
    where: Path, photograph: Photograph, distortion: Distortion, count: int
) -> list[float]:
    """The first ``count``, with zeros for those left out; UserError where others are needed."""
    given = distortion.coefficients
    if any(given[count:]):
        raise UserError(
            f"{where}: the lens of {photograph.image} has more coefficients of distortion than the "
            f"{count} this format holds; write a COLMAP model, or undistort the images"
        )
    return [*given[:count], *[0.0] * (count - len(given))]


def _check_undistorted(where: Path, photograph: Photograph) -> None:
    if _bending(photograph) is not None:
        raise UserError(
            f"{where}: the lens of {photograph.image} is distorted, which this format cannot hold; "
            "undistort the images first (scripts/prepare_scene.py does)"
        )


def _pinhole(where: Path, photograph: Photograph) -> list[float]:
    """fx, fy, cx, cy in pixels from the image's corner; UserError where the camera has skew."""
    k = photograph.intrinsics
    if abs(k[0, 1]) > LARGEST_SKEW:
        raise UserError(
            f"{where}: the camera of {photograph.image} has a skew of {abs(k[0, 1]):.3g} px, more "
            f"than the {LARGEST_SKEW:g} px this format may lose; write cameras.npz or a Middlebury "
            "*_par.txt, which hold it"
        )
    return [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]) + 0.5, float(k[1, 2]) + 0.5]


def _check_names(where: Path, names: Sequence[str]) -> None:
    if bad := [name for name in names if not name or any(letter.isspace() for letter in name)]:
        raise UserError(
            f"{where}: this format separates its entries by blanks, so the image name {bad[0]!r} "
            "would break it; rename the image"
        )


def _numbers(values: Sequence[float] | np.ndarray) -> str:
    """Shortest digits that read back as the same float64."""
    return " ".join(repr(float(value)) for value in values)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
