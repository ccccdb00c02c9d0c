"""One object photographed from several sides: IDR / NeuS folders and NeRF transforms files."""

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from common.cameras import Cameras
from common.data.camera_file import cameras_from_projections, read_matrices, shared_frame
from common.data.collection import stack_views
from common.data.images import SUFFIXES, read_image, read_image_with_alpha, read_mask
from common.data.normalisation import check_object_in_ball, hull_sphere
from common.data.npz import open_npz
from common.data.pairing import check_counts, view_files
from common.data.views import Views
from common.errors import UserError, naming

Frame = Literal["cube", "sphere"]

_CAMERA_FILES = ("cameras.npz", "cameras_sphere.npz")
_IMAGE_FOLDERS = ("image", "rgb", "images")
_TRANSFORMS = ("transforms.json", "transforms_train.json")
_OPAQUE = 127.5  # a mask pixel brighter than this is object


def scene_kind(path: Path) -> Literal["collection", "idr", "transforms"]:
    """What a data folder holds; UserError saying what was looked for where it fits nothing."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; check data.path")
    if camera_file := _first_existing(path, _CAMERA_FILES):
        with open_npz(camera_file) as archive:
            if "camera_mat_0" not in archive:
                return "idr"
        raise UserError(
            f"{path}: this is one object of a collection; set data.path to "
            f"{path.resolve().parents[1]}, the folder above its category"
        )
    if _first_existing(path, _TRANSFORMS):
        return "transforms"
    if any(path.glob("*/*/cameras.npz")) or any(path.glob("*/*.lst")):
        return "collection"
    if scenes := sorted({file.parent.name for file in path.glob("*/cameras*.npz")}):
        raise UserError(
            f"{path}: a folder of scenes or objects ({', '.join(scenes[:4])}); set data.path to "
            "one scene, or for a collection to the folder above the category"
        )
    raise UserError(
        f"{path}: neither a scene (cameras.npz or cameras_sphere.npz; transforms.json or "
        "transforms_train.json) nor a collection (<category>/<object>/cameras.npz); COLMAP models "
        "and Middlebury folders become one by scripts/prepare_scene.py"
    )


def read_scene(path: Path, *, frame: Frame) -> tuple[Views, list[str]]:
    """All views of a scene and their image names.

    ``frame`` "sphere": the object is inside the unit sphere (IDR); "cube": half that size, so that
    the sphere touches the faces of [-0.5, 0.5]^3 (DVR). An IDR folder brings that sphere along
    (``scale_mat``); a transforms file does not, and gets one around its masks' visual hull. Raises
    UserError where files do not fit together or the folder is no scene.
    """
    path = Path(path)
    kind = scene_kind(path)
    if kind == "collection":
        raise UserError(f"{path}: a collection, not one scene; choose the folder of a scene")
    return _read_idr(path, frame) if kind == "idr" else _read_transforms(path, frame)


def _read_idr(path: Path, frame: Frame) -> tuple[Views, list[str]]:
    camera_file = _find(path, _CAMERA_FILES)
    image_folder = _find(path, _IMAGE_FOLDERS)
    image_files = view_files(image_folder, SUFFIXES)
    mask_files = view_files(path / "mask", SUFFIXES)
    check_counts({image_folder: len(image_files), path / "mask": len(mask_files)})
    count = len(image_files)
    matrices = read_matrices(camera_file, ("world_mat", "scale_mat"), count=count)
    images = stack_views([(file, read_image(file)) for file in image_files])
    height, width = images.shape[1:3]
    masks = stack_views([(file, read_mask(file, _OPAQUE)) for file in mask_files], (height, width))
    _check_masks(path / "mask", masks)
    world_from_object = shared_frame(camera_file, matrices["scale_mat"]) @ _sphere_from(frame)
    projections = (matrices["world_mat"] @ world_from_object)[:, :3]
    cameras, _ = cameras_from_projections(
        camera_file, range(count), projections, height, width, _half_size(frame)
    )
    views = _views(images, masks, cameras, world_from_object)
    # The inscribed ball for the sphere, and for the cube the same ball.
    check_object_in_ball(camera_file, views.masks, cameras, radius=_half_size(frame))
    return views, [file.name for file in image_files]


def _read_transforms(path: Path, frame: Frame) -> tuple[Views, list[str]]:
    file = _find(path, _TRANSFORMS)
    with naming(file):
        frames, document = _load_transforms(file)
        images, masks, names = [], [], []
        for entry in frames:
            image_file = _frame_file(file, entry)
            image, alpha = read_image_with_alpha(image_file)
            images.append((image_file, image))
            masks.append(_frame_mask(path, entry, image_file, alpha))
            names.append(image_file.name)
        stacked = stack_views(images)
        height, width = stacked.shape[1:3]
        mask_stack = stack_views(masks, (height, width))
        _check_masks(file, mask_stack)
        projections = np.stack(
            [
                _intrinsics({**document, **entry}, height, width) @ _world_to_camera(entry, index)
                for index, entry in enumerate(frames)
            ]
        )
        # Any frame will do to find the object: here the file's own.
        numbers = range(len(frames))
        in_world, _ = cameras_from_projections(file, numbers, projections, height, width, None)
        centre, radius = hull_sphere(torch.from_numpy(mask_stack), in_world)
        world_from_sphere = np.diag([radius, radius, radius, 1.0])
        world_from_sphere[:3, 3] = centre.numpy()
        world_from_object = world_from_sphere @ _sphere_from(frame)
        cameras, _ = cameras_from_projections(
            file, numbers, projections @ world_from_object, height, width, _half_size(frame)
        )
    return _views(stacked, mask_stack, cameras, world_from_object), names


def _views(
    images: np.ndarray, masks: np.ndarray, cameras: Cameras, world_from_object: np.ndarray
) -> Views:
    return Views(
        images=torch.from_numpy(images),
        masks=torch.from_numpy(masks),
        cameras=cameras,
        depth=None,
        hull_depth=None,
        sparse=None,
        world_from_object=torch.tensor(world_from_object, dtype=torch.float32),
    )


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
        return mask_file, read_mask(mask_file, _OPAQUE)
    if alpha is None:
        raise UserError(
            f"{image_file}: no alpha channel and no mask_path in its frame; the object's mask is "
            "needed, so add either"
        )
    return image_file, alpha > _OPAQUE


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


def _check_masks(where: Path, masks: np.ndarray) -> None:
    if not masks.any():
        raise UserError(
            f"{where}: no mask marks any object; it must be white (255), or opaque in alpha"
        )


def _first_existing(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((path / name for name in names if (path / name).exists()), None)


def _find(path: Path, names: tuple[str, ...]) -> Path:
    found = _first_existing(path, names)
    if found is None:
        raise UserError(f"{path}: none of {', '.join(names)} is here; add or rename one")
    return found


def _sphere_from(frame: Frame) -> Float[np.ndarray, "4 4"]:
    """From object coordinates to those where the object is inside the unit sphere."""
    return np.diag([2.0, 2.0, 2.0, 1.0]) if frame == "cube" else np.eye(4)


def _half_size(frame: Frame) -> float:
    return 0.5 if frame == "cube" else 1.0
