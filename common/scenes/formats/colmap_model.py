"""What COLMAP's files hold, before it is checked, and what its camera models mean.

Formats: https://colmap.github.io/format.html; camera models: https://colmap.github.io/cameras.html.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt32, UInt64

from common.errors import UserError
from common.scenes.capture import Distortion
from common.scenes.formats.matrices import sane

# In the order of the numbers that binary files know them by.
MODEL_NAMES = (
    "SIMPLE_PINHOLE",
    "PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "OPENCV_FISHEYE",
    "FULL_OPENCV",
    "FOV",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "THIN_PRISM_FISHEYE",
    "RAD_TAN_THIN_PRISM_FISHEYE",
    "SIMPLE_DIVISION",
    "DIVISION",
    "SIMPLE_FISHEYE",
    "FISHEYE",
    "EUCM",
    "EQUIRECTANGULAR",
)


@dataclass(frozen=True)
class CameraModel:
    """The parameters of a model: f or fx fy, then cx cy, then coefficients in OpenCV's order."""

    focal_lengths: Literal[1, 2]
    distortion: Literal["brown", "fisheye"]
    coefficients: int

    @property
    def parameters(self) -> int:
        """How many numbers describe a camera."""
        return self.focal_lengths + 2 + self.coefficients


MODELS = {
    "SIMPLE_PINHOLE": CameraModel(1, "brown", 0),
    "PINHOLE": CameraModel(2, "brown", 0),
    "SIMPLE_RADIAL": CameraModel(1, "brown", 1),
    "RADIAL": CameraModel(1, "brown", 2),
    "OPENCV": CameraModel(2, "brown", 4),
    "FULL_OPENCV": CameraModel(2, "brown", 8),
    "SIMPLE_FISHEYE": CameraModel(1, "fisheye", 0),
    "FISHEYE": CameraModel(2, "fisheye", 0),
    "SIMPLE_RADIAL_FISHEYE": CameraModel(1, "fisheye", 1),
    "RADIAL_FISHEYE": CameraModel(1, "fisheye", 2),
    "OPENCV_FISHEYE": CameraModel(2, "fisheye", 4),
}


@dataclass(frozen=True)
class CameraRecord:
    """One lens, which several images may share."""

    camera_id: int
    model: str
    size: tuple[int, int]  # width, height
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ImageRecord:
    """One registered image and its pose, from the world to the camera."""

    image_id: int
    quaternion: tuple[float, ...]  # w, x, y, z
    translation: tuple[float, ...]
    camera_id: int
    name: str  # relative to the folder of the images


@dataclass(frozen=True)
class PointRecords:
    """Triangulated points and, one after the other, the ids of the images that saw each."""

    ids: UInt64[np.ndarray, "P"]
    points: Float[np.ndarray, "P 3"]
    track_lengths: UInt64[np.ndarray, "P"]
    track_images: UInt32[np.ndarray, "T"]


def camera_model(name: str) -> CameraModel:
    """The layout of a model's parameters; UserError for a lens that Distortion cannot describe."""
    if name not in MODELS:
        raise UserError(
            f"the camera model {name} is not one of {', '.join(MODELS)}; undistort the photographs "
            "with `colmap image_undistorter` and give the folder it writes"
        )
    return MODELS[name]


def lens(camera: CameraRecord) -> tuple[Float[np.ndarray, "3 3"], Distortion | None]:
    """K in our pixels and the distortion; UserError for sizes or numbers no camera has.

    COLMAP counts pixels from the image's corner, so that centres lie at halves.
    """
    model = camera_model(camera.model)
    width, height = camera.size
    if not (1 <= width <= _LARGEST_SIDE and 1 <= height <= _LARGEST_SIDE):
        raise UserError(
            f"camera {camera.camera_id} is for {width} x {height} pixels; expected 1 to "
            f"{_LARGEST_SIDE} on a side, so run COLMAP again"
        )
    focal_x, focal_y = camera.parameters[0], camera.parameters[model.focal_lengths - 1]
    centre_x, centre_y, *coefficients = camera.parameters[model.focal_lengths :]
    if not (sane(camera.parameters) and focal_x > 0 and focal_y > 0):
        raise UserError(
            f"camera {camera.camera_id} has parameters {_listed(camera.parameters)}; expected "
            "finite numbers and positive focal lengths, so run COLMAP again"
        )
    k = np.array([[focal_x, 0, centre_x - 0.5], [0, focal_y, centre_y - 0.5], [0, 0, 1]])
    if model.distortion == "brown" and not any(coefficients):
        return k, None
    return k, Distortion(model.distortion, tuple(coefficients))


def pose(image: ImageRecord) -> Float[np.ndarray, "4 4"]:
    """``world_from_camera``; UserError where the quaternion is not one of a rotation."""
    norm = np.linalg.norm(image.quaternion) if sane(image.quaternion) else np.nan
    if not (0.5 < norm < 2 and sane(image.translation)):
        raise UserError(
            f"image {image.name} has quaternion {_listed(image.quaternion)} and translation "
            f"{_listed(image.translation)}; expected a unit quaternion and finite numbers, so run "
            "COLMAP again or remove the image"
        )
    w, x, y, z = np.array(image.quaternion) / norm
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = rotation.T
    world_from_camera[:3, 3] = -rotation.T @ image.translation
    return world_from_camera


_LARGEST_SIDE = 100_000  # pixels


def _listed(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.4g}" for number in numbers)
