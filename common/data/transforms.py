"""NeRF's ``transforms.json``, as Blender scenes, nerfstudio and instant-ngp write it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from common.data.collection import stack_views
from common.data.images import SUFFIXES, read_image_with_alpha, read_mask
from common.data.object_frame import OPAQUE, Frame, frame_views
from common.data.views import Views
from common.errors import UserError, naming

FILES = ("transforms.json", "transforms_train.json")


def read_transforms(file: Path, frame: Frame) -> tuple[Views, list[str]]:
    """All views of a transforms file and their image names, in a frame around their visual hull.

    Masks are the pictures' alpha, or the files of ``mask_path``. Raises UserError where the file,
    its images or masks are missing or do not fit together, and for distorted lenses.
    """
    with naming(file):
        frames, document = _load_transforms(file)
        images, masks, names = [], [], []
        for entry in frames:
            image_file = _frame_file(file, entry)
            image, alpha = read_image_with_alpha(image_file)
            images.append((image_file, image))
            masks.append(_frame_mask(file.parent, entry, image_file, alpha))
            names.append(image_file.name)
        stacked = stack_views(images)
        height, width = stacked.shape[1:3]
        projections = np.stack(
            [
                _intrinsics({**document, **entry}, height, width) @ _world_to_camera(entry, index)
                for index, entry in enumerate(frames)
            ]
        )
        views = frame_views(file, stacked, stack_views(masks, (height, width)), projections, frame)
    return views, names


def _load_transforms(file: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    try:
        document = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"not valid JSON ({error}); export the cameras again") from error
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not all(isinstance(entry, dict) for entry in frames):
        raise UserError('expected {"frames": [{...}, ...]}; export the cameras again')
    if not frames:
        raise UserError("frames is empty; add at least one view")
    return frames, document


def _frame_file(file: Path, entry: dict[str, Any]) -> Path:
    """The frame's image; Blender scenes leave its suffix out."""
    name = entry.get("file_path")
    if not isinstance(name, str):
        raise UserError(f"{file}: a frame has no file_path; add it")
    plain = file.parent / name
    for candidate in (plain, *(plain.with_name(plain.name + suffix) for suffix in SUFFIXES)):
        if candidate.is_file():
            return candidate
    raise UserError(f"{file}: frame {name} has no image at {plain}(.png, .jpg); add or remove it")


def _frame_mask(
    path: Path, entry: dict[str, Any], image_file: Path, alpha: np.ndarray | None
) -> tuple[Path, np.ndarray]:
    if "mask_path" in entry:
        mask_file = path / str(entry["mask_path"])
        return mask_file, read_mask(mask_file, OPAQUE)
    if alpha is None:
        raise UserError(
            f"{image_file}: no alpha channel and no mask_path in its frame; the object's mask is "
            "needed, so add either"
        )
    return image_file, alpha > OPAQUE


def _intrinsics(camera: dict[str, Any], height: int, width: int) -> Float[np.ndarray, "3 3"]:
    """K in our pixels of one frame, whose own keys come before the document's.

    These files count pixels from the image's corner, so centres lie at halves.
    """
    distortion = [key for key in ("k1", "k2", "k3", "k4", "p1", "p2") if _number(camera, key, 0.0)]
    if distortion or "FISHEYE" in str(camera.get("camera_model", "")).upper():
        raise UserError(
            f"the lens is distorted ({', '.join(distortion) or 'fisheye'}); undistort the images "
            "(colmap image_undistorter does) and export pinhole cameras"
        )
    full_width = _number(camera, "w", float(width))
    full_height = _number(camera, "h", float(height))
    if not (full_width > 0 and full_height > 0):
        raise UserError(f"w x h is {full_width:g} x {full_height:g}; expected positive numbers")
    if not 0.98 < (full_width / full_height) / (width / height) < 1.02:
        raise UserError(
            f"w x h is {full_width:g} x {full_height:g} but the images have {width} x {height} "
            "pixels, another shape; use the images these cameras were made for"
        )
    if "fl_x" in camera:
        focal_x = _number(camera, "fl_x")
        focal_y = _number(camera, "fl_y", focal_x)
    elif "camera_angle_x" in camera:
        focal_x = 0.5 * full_width / math.tan(0.5 * _number(camera, "camera_angle_x"))
        focal_y = focal_x
    else:
        raise UserError("neither fl_x nor camera_angle_x gives the focal length; add one")
    if not (focal_x > 0 and focal_y > 0):
        raise UserError(f"focal lengths {focal_x} and {focal_y}; expected positive numbers")
    centre_x = _number(camera, "cx", full_width / 2)
    centre_y = _number(camera, "cy", full_height / 2)
    x, y = width / full_width, height / full_height
    return np.array(
        [[x * focal_x, 0, x * centre_x - 0.5], [0, y * focal_y, y * centre_y - 0.5], [0, 0, 1]]
    )


def _number(camera: dict[str, Any], key: str, default: float | None = None) -> float:
    value = camera.get(key, default)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{key} is {value!r}; expected a number")
    return float(value)


def _world_to_camera(entry: dict[str, Any], index: int) -> Float[np.ndarray, "3 4"]:
    """The frame's inverse pose, from OpenGL camera axes (y up, z backward) to OpenCV's."""
    where = f"frame {index} ({entry.get('file_path')})"
    try:
        pose = np.asarray(entry.get("transform_matrix"), dtype=np.float64)
    except (ValueError, TypeError):
        pose = np.empty(0)
    if pose.shape not in ((4, 4), (3, 4)) or not np.isfinite(pose).all():
        raise UserError(
            f"{where}: transform_matrix is not a 4x4 matrix of finite numbers; export it again"
        )
    rotation = pose[:3, :3] @ np.diag([1, -1, -1])
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
        raise UserError(
            f"{where}: transform_matrix does not hold a rotation; it must be camera-to-world, "
            "rigid and not mirrored"
        )
    return np.concatenate([rotation.T, -rotation.T @ pose[:3, 3:]], axis=1)
