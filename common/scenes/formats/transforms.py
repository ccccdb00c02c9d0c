"""NeRF's ``transforms.json``, as Blender scenes, nerfstudio and instant-ngp write it.

Poses are camera-to-world with OpenGL axes (y up, z backward); pixels count from the picture's
corner, so centres lie at halves. Keys that only tell another program where to put its volume
(aabb_scale, scale, offset, orientation_override) move nothing here, nor does applied_transform,
which says where this world came from: the world is that of ``transform_matrix``.
"""

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from common.data.images import SUFFIXES, image_size
from common.errors import UserError, naming
from common.scenes.capture import Capture, Distortion, Photograph
from common.scenes.formats.matrices import nearest_rigid, sane

FILES = ("transforms.json", "transforms_train.json")
OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
BROWN_KEYS = ("k1", "k2", "p1", "p2", "k3")  # in OpenCV's order
FISHEYE_KEYS = ("k1", "k2", "k3", "k4")
_FOCAL = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y")
_PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE")
_FISHEYE = ("SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE", "FISHEYE")
_LARGEST = 10**6  # pixels along a side
_HUGE = 1e15  # no camera has such a number


def holds_transforms(path: Path) -> bool:
    """Whether this is a transforms file, or a folder with one."""
    return (path.suffix == ".json" and path.is_file()) or _find_file(path) is not None


def read_transforms(path: Path) -> Capture:
    """The views of a transforms file, or of a folder's transforms.json or transforms_train.json.

    Frames without an image are left out, with a note. Image paths may lead anywhere, since they are
    only read. Raises UserError where no frame has an image, one image has two frames, a named mask
    is missing, or the numbers are no camera's.
    """
    file = path if path.is_file() else _find_file(path)
    if file is None:
        raise UserError(f"{path}: none of {', '.join(FILES)} is here; add or rename one")
    with naming(file):
        document = _load(file)
        photographs, missing = [], []
        for index, frame in enumerate(document["frames"]):
            with naming(f"frame {index} ({frame.get('file_path')!r:.80})"):
                image = _image_file(file.parent, frame)
                if image is None:
                    missing.append(frame["file_path"])
                else:
                    photographs.append(_photograph(file.parent, image, document, frame))
        _check_images(photographs, missing)
    return Capture(file, tuple(photographs), notes=_notes(file, document, missing))


def _find_file(folder: Path) -> Path | None:
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def _load(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # bad syntax, letters, numbers or nesting
        raise UserError(f"not valid JSON ({error}); export the cameras again") from error
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise UserError('expected {"frames": [{...}, ...]}; export the cameras again')
    if not frames:
        raise UserError("frames is empty; add at least one view")
    return document


def _image_file(folder: Path, frame: dict[str, Any]) -> Path | None:
    """The frame's image, where it is there; Blender scenes leave its suffix out."""
    name = frame.get("file_path")
    if not isinstance(name, str):
        raise UserError("no file_path; add it")
    plain = os.path.join(folder, name.replace("\\", "/"))
    candidates = (plain, *(plain + suffix for suffix in SUFFIXES))
    return next((Path(candidate) for candidate in candidates if os.path.isfile(candidate)), None)


def _photograph(
    folder: Path, image: Path, document: dict[str, Any], frame: dict[str, Any]
) -> Photograph:
    """One frame, whose own keys come before the document's."""
    if any(key in frame for key in _FOCAL):
        document = {key: value for key, value in document.items() if key not in _FOCAL}
    camera = {**document, **frame}
    size = _size(camera, image)
    mask = folder / str(frame["mask_path"]) if frame.get("mask_path") is not None else None
    if mask is not None and not os.path.isfile(mask):
        raise UserError(f"its mask {mask} is not there; add the file or remove mask_path")
    return Photograph(
        image, _intrinsics(camera, size), size, _pose(frame), mask, _distortion(camera)
    )


def _size(camera: dict[str, Any], image: Path) -> tuple[int, int]:
    """Width and height that the intrinsics are for; the picture may be shrunk since."""
    width, height = image_size(image)
    full_width = _number(camera, "w", float(width))
    full_height = _number(camera, "h", float(height))
    if not (1 <= full_width <= _LARGEST and 1 <= full_height <= _LARGEST):
        raise UserError(
            f"w x h is {full_width:g} x {full_height:g}; expected positive numbers of pixels"
        )
    if not 0.98 < (full_width / full_height) / (width / height) < 1.02:
        raise UserError(
            f"w x h is {full_width:g} x {full_height:g} but the image has {width} x {height} "
            "pixels, another shape; use the images these cameras were made for"
        )
    return round(full_width), round(full_height)


def _intrinsics(camera: dict[str, Any], size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    width, height = size
    if "fl_x" in camera:
        focal_x = _number(camera, "fl_x")
        focal_y = _number(camera, "fl_y", focal_x)
    elif "camera_angle_x" in camera:
        focal_x = _focal_of_angle(camera, "camera_angle_x", width)
        focal_y = focal_x
        if "camera_angle_y" in camera:
            focal_y = _focal_of_angle(camera, "camera_angle_y", height)
    else:
        raise UserError("neither fl_x nor camera_angle_x gives the focal length; add one")
    if not (focal_x > 0 and focal_y > 0):
        raise UserError(f"focal lengths {focal_x} and {focal_y}; expected positive numbers")
    centre_x, centre_y = _number(camera, "cx", width / 2), _number(camera, "cy", height / 2)
    return np.array([[focal_x, 0, centre_x - 0.5], [0, focal_y, centre_y - 0.5], [0, 0, 1]])


def _focal_of_angle(camera: dict[str, Any], key: str, side: int) -> float:
    angle = _number(camera, key)
    if not 0 < angle < math.pi:
        raise UserError(f"{key} is {angle:g}; expected an angle between 0 and pi (radians)")
    return 0.5 * side / math.tan(0.5 * angle)


def _distortion(camera: dict[str, Any]) -> Distortion | None:
    """nerfstudio's and instant-ngp's k and p, in OpenCV's order."""
    model = str(camera.get("camera_model", "OPENCV")).upper()
    if model not in (*_PERSPECTIVE, *_FISHEYE):
        raise UserError(
            f"camera_model {model!r:.40} is neither a pinhole with OPENCV distortion nor "
            "OPENCV_FISHEYE; make pinhole pictures of it first"
        )
    brown = tuple(_number(camera, key, 0.0) for key in BROWN_KEYS)
    fisheye = tuple(_number(camera, key, 0.0) for key in FISHEYE_KEYS)
    if model in _FISHEYE or camera.get("is_fisheye") is True:
        if any(brown[2:4]):
            raise UserError("a fisheye lens with p1 or p2; expected k1 to k4 only, remove them")
        return Distortion("fisheye", fisheye)
    if fisheye[3]:
        raise UserError(
            f"k4 is {fisheye[3]:g}, whose meaning differs between programs where the lens is no "
            "fisheye; undistort the images (colmap image_undistorter does), export pinhole cameras"
        )
    return Distortion("brown", brown) if any(brown) else None


def _number(camera: dict[str, Any], key: str, default: float | None = None) -> float:
    value = camera.get(key, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE:
        return float(value)
    raise UserError(f"{key} is {value!r:.80}; expected a number")


def _pose(frame: dict[str, Any]) -> Float[np.ndarray, "4 4"]:
    """From OpenCV's camera axes to the world."""
    try:
        pose = np.asarray(frame.get("transform_matrix"), dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        pose = np.empty(0)
    if pose.shape not in ((4, 4), (3, 4)) or not sane(pose):
        raise UserError("transform_matrix is not a 4x4 matrix of finite numbers; export it again")
    try:
        return nearest_rigid(pose @ OPENGL_FROM_OPENCV, tolerance=1e-2)
    except ValueError as error:
        raise UserError(
            f"transform_matrix is not rigid ({error}); it must be camera-to-world, 4x4, neither "
            "scaled nor mirrored"
        ) from error


def _check_images(photographs: list[Photograph], missing: list[str]) -> None:
    if not photographs:
        raise UserError(
            f"none of the {len(missing)} frames has an image, the first {missing[0]!r:.80} "
            "(.png, .jpg); put the images where file_path says"
        )
    uses = Counter(os.path.realpath(photograph.image) for photograph in photographs)
    image, most = uses.most_common(1)[0]
    if most > 1:
        raise UserError(f"{image} is the image of {most} frames; remove all of them but one")


def _notes(file: Path, document: dict[str, Any], missing: list[str]) -> tuple[str, ...]:
    notes = []
    if missing:
        names = ", ".join(f"{name!r:.80}" for name in missing[:5]) + (
            ", ..." if len(missing) > 5 else ""
        )
        notes.append(
            f"{len(missing)} of {len(document['frames'])} frames have no image and are left out: "
            f"{names}"
        )
    beside = sorted(other.name for other in file.parent.glob("transforms*.json"))
    if others := [name for name in beside if name != file.name]:
        notes.append(f"only {file.name} is read, not {', '.join(others)}; give one to read it")
    if "ply_file_path" in document:
        notes.append(
            f"sparse points of {document['ply_file_path']!r:.80} are not used: a ply file does not "
            "say which photographs saw them"
        )
    return tuple(notes)
