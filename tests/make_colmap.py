"""Small COLMAP models, written as binary and as text, to read back."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MODEL_NUMBERS = {
    "SIMPLE_PINHOLE": 0,
    "PINHOLE": 1,
    "SIMPLE_RADIAL": 2,
    "RADIAL": 3,
    "OPENCV": 4,
    "OPENCV_FISHEYE": 5,
    "FULL_OPENCV": 6,
    "FOV": 7,
    "SIMPLE_RADIAL_FISHEYE": 8,
    "RADIAL_FISHEYE": 9,
    "THIN_PRISM_FISHEYE": 10,
    "SIMPLE_FISHEYE": 14,
    "FISHEYE": 15,
}
# 640 x 480 with the principal point off the middle.
PARAMETERS = {
    "SIMPLE_PINHOLE": (500.0, 310.0, 250.5),
    "PINHOLE": (500.0, 510.0, 310.0, 250.5),
    "SIMPLE_RADIAL": (500.0, 310.0, 250.5, -0.1),
    "RADIAL": (500.0, 310.0, 250.5, -0.1, 0.02),
    "OPENCV": (500.0, 510.0, 310.0, 250.5, -0.1, 0.02, 0.003, -0.002),
    "FULL_OPENCV": (500.0, 510.0, 310.0, 250.5, 0.1, 0.05, 0.003, -0.002, 0.01, 0.2, 0.03, 0.004),
    "SIMPLE_FISHEYE": (500.0, 310.0, 250.5),
    "FISHEYE": (500.0, 510.0, 310.0, 250.5),
    "SIMPLE_RADIAL_FISHEYE": (500.0, 310.0, 250.5, 0.05),
    "RADIAL_FISHEYE": (500.0, 310.0, 250.5, 0.05, -0.01),
    "OPENCV_FISHEYE": (500.0, 510.0, 310.0, 250.5, 0.05, -0.01, 0.002, -0.001),
}


@dataclass
class Camera:
    number: int
    model: str
    parameters: tuple[float, ...]
    size: tuple[int, int] = (640, 480)


@dataclass
class Image:
    number: int
    name: str | bytes
    camera: int
    quaternion: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    translation: tuple[float, ...] = (0.0, 0.0, 4.0)
    points: tuple[tuple[float, float, int], ...] = ()  # x, y, point


@dataclass
class Point:
    number: int
    xyz: tuple[float, ...]
    seen_by: tuple[int, ...] = ()  # image numbers


@dataclass
class Model:
    cameras: list[Camera]
    images: list[Image]
    points: list[Point]


def small_model() -> Model:
    """Three images of two cameras, neither numbered nor listed in the order of their names."""
    half = float(np.sqrt(0.5))
    return Model(
        [Camera(7, "OPENCV", PARAMETERS["OPENCV"]), Camera(2, "PINHOLE", PARAMETERS["PINHOLE"])],
        [
            Image(5, "c.png", 2, (half, 0, half, 0), (0.5, 0, 5), ((1.5, 2.5, 9), (3, 4, -1))),
            Image(1, "a b.png", 7, (0.5, 0.5, -0.5, 0.5), (0, 1, 6)),
            Image(3, "dir/b.png", 2, (0, 1, 0, 0), (0, 0, 4), ((10.0, 20.0, 4),)),
        ],
        [
            Point(9, (0.1, 0.2, 0.3), (5, 3)),
            Point(4, (-1.0, 0.5, 0.25), (3, 1, 3)),
            Point(6, (0.0, 0.0, 1.0), ()),
        ],
    )


def write_model(folder: Path, model: Model, suffix: str) -> Path:
    """Write ".bin" or ".txt" files."""
    folder.mkdir(parents=True, exist_ok=True)
    if suffix == ".bin":
        (folder / "cameras.bin").write_bytes(cameras_bytes(model.cameras))
        (folder / "images.bin").write_bytes(images_bytes(model.images))
        (folder / "points3D.bin").write_bytes(points_bytes(model.points))
    else:
        (folder / "cameras.txt").write_text(cameras_text(model.cameras), encoding="utf-8")
        (folder / "images.txt").write_text(images_text(model.images), encoding="utf-8")
        (folder / "points3D.txt").write_text(points_text(model.points), encoding="utf-8")
    return folder


def touch_images(folder: Path, model: Model) -> Path:
    """Files under the images' names, which no reader of cameras looks into."""
    for image in model.images:
        path = folder / str(image.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def cameras_bytes(cameras: list[Camera]) -> bytes:
    data = struct.pack("<Q", len(cameras))
    for camera in cameras:
        data += struct.pack("<IiQQ", camera.number, MODEL_NUMBERS[camera.model], *camera.size)
        data += struct.pack(f"<{len(camera.parameters)}d", *camera.parameters)
    return data


def images_bytes(images: list[Image]) -> bytes:
    data = struct.pack("<Q", len(images))
    for image in images:
        name = image.name if isinstance(image.name, bytes) else image.name.encode()
        data += struct.pack("<I", image.number)
        data += struct.pack("<7d", *image.quaternion, *image.translation)
        data += struct.pack("<I", image.camera) + name + b"\0"
        data += struct.pack("<Q", len(image.points))
        data += b"".join(struct.pack("<ddq", *point) for point in image.points)
    return data


def points_bytes(points: list[Point]) -> bytes:
    data = struct.pack("<Q", len(points))
    for point in points:
        data += struct.pack("<Q3d3Bd", point.number, *point.xyz, 10, 20, 30, 0.5)
        data += struct.pack("<Q", len(point.seen_by))
        data += b"".join(struct.pack("<II", image, 0) for image in point.seen_by)
    return data


def cameras_text(cameras: list[Camera]) -> str:
    lines = ["# a comment", ""]
    for camera in cameras:
        lines.append(_joined(camera.number, camera.model, *camera.size, *camera.parameters))
    return "\n".join(lines) + "\n"


def images_text(images: list[Image]) -> str:
    lines = ["# a comment", "# and one more"]
    for image in images:
        pose = (*image.quaternion, *image.translation)
        lines.append(_joined(image.number, *pose, image.camera, image.name))
        lines.append(_joined(*(entry for point in image.points for entry in point)))
    return "\n".join(lines) + "\n"


def points_text(points: list[Point]) -> str:
    lines = ["# a comment"]
    for point in points:
        track = (entry for image in point.seen_by for entry in (image, 0))
        lines.append(_joined(point.number, *point.xyz, 10, 20, 30, 0.5, *track))
    return "\n".join(lines) + "\n"


def _joined(*entries: object) -> str:
    return " ".join(str(entry) for entry in entries)
