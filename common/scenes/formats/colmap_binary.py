"""COLMAP's binary files. Little-endian, packed, and every count is held against the bytes left."""

import mmap
from pathlib import Path
from struct import Struct

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from common.errors import UserError
from common.scenes.formats.colmap_model import (
    MODEL_NAMES,
    CameraRecord,
    ImageRecord,
    PointRecords,
    camera_model,
)

_COUNT = Struct("<Q")
_CAMERA = Struct("<IiQQ")  # id, model, width, height; then the parameters
_IMAGE = Struct("<I4d3dI")  # id, quaternion, translation, camera; then the name and a 0
_POINT_2D = Struct("<ddq")  # x, y, point
_POINT = np.dtype(
    [("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")]
)
_TRACK = np.dtype([("image", "<u4"), ("point_2d", "<u4")])
_LONGEST_NAME = 4096  # bytes


def read_cameras(path: Path) -> list[CameraRecord]:
    """All records of a ``cameras.bin``; UserError where it is damaged or a model is unknown."""
    file = _Bytes(path)
    cameras = []
    for _ in range(file.count(_CAMERA.size)):
        camera_id, number, width, height = file.take(_CAMERA)
        name = MODEL_NAMES[number] if 0 <= number < len(MODEL_NAMES) else f"number {number}"
        parameters = file.take(Struct(f"<{camera_model(name).parameters}d"))
        cameras.append(CameraRecord(camera_id, name, (width, height), parameters))
    file.end()
    return cameras


def read_images(path: Path) -> list[ImageRecord]:
    """All records of an ``images.bin`` without their 2D points; UserError where it is damaged."""
    file = _Bytes(path)
    images = []
    for _ in range(file.count(_IMAGE.size + 1 + _COUNT.size)):
        image_id, *pose, camera_id = file.take(_IMAGE)
        name = file.text()
        file.skip(file.count(_POINT_2D.size) * _POINT_2D.size)
        images.append(ImageRecord(image_id, tuple(pose[:4]), tuple(pose[4:]), camera_id, name))
    file.end()
    return images


def read_points(path: Path) -> PointRecords:
    """All records of a ``points3D.bin``; UserError where it is damaged."""
    file = _Bytes(path)
    count = file.count(_POINT.itemsize)
    starts = np.empty(count, dtype=np.int64)
    # Only the walk from record to record is serial; their contents are gathered at once.
    for index in range(count):
        starts[index] = file.offset
        file.skip(_POINT.itemsize - _COUNT.size)
        file.skip(file.count(_TRACK.itemsize) * _TRACK.itemsize)
    file.end()
    records = _gather(file.data, starts, _POINT)
    lengths = records["track"].astype(np.int64)
    before = np.cumsum(lengths) - lengths  # elements of the tracks of earlier points
    element = np.arange(lengths.sum()) - np.repeat(before, lengths)
    element *= _TRACK.itemsize
    element += np.repeat(starts + _POINT.itemsize, lengths)
    track_images = _gather(file.data, element, _TRACK)["image"]
    return PointRecords(records["id"], records["xyz"], records["track"], track_images)


def _gather(data: bytes | mmap.mmap, starts: np.ndarray, record: np.dtype) -> np.ndarray:
    """Records that begin at these bytes."""
    if not len(starts):
        return np.empty(0, dtype=record)
    windows = sliding_window_view(np.frombuffer(data, dtype=np.uint8), record.itemsize)
    return windows[starts].view(record)[:, 0]


class _Bytes:
    """A file read from front to back, never beyond its end."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, 0
        with path.open("rb") as file:
            # Mapped, since most of an images.bin is 2D points that are stepped over.
            empty = path.stat().st_size == 0
            self.data = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.size = len(self.data)

    def take(self, layout: Struct) -> tuple:
        start = self.offset
        self.skip(layout.size)
        return layout.unpack_from(self.data, start)

    def skip(self, size: int) -> None:
        if size > self.size - self.offset:
            raise UserError(
                f"{self.path}: cut short after {self.size} bytes; copy the file or run COLMAP again"
            )
        self.offset += size

    def count(self, smallest: int) -> int:
        """The number of records that follow, each of at least ``smallest`` bytes."""
        start = self.offset
        (count,) = self.take(_COUNT)
        if count * smallest > self.size - self.offset:
            raise UserError(
                f"{self.path}: promises {count} records at byte {start}, more than the "
                f"{self.size - self.offset} bytes left can hold; copy the file or run COLMAP again"
            )
        return count

    def text(self) -> str:
        """A name that ends with a 0."""
        start = self.offset
        end = self.data.find(b"\0", start, start + _LONGEST_NAME + 1)
        if end < 0:
            raise UserError(
                f"{self.path}: the image name at byte {start} does not end within "
                f"{_LONGEST_NAME} bytes; copy the file or run COLMAP again"
            )
        self.offset = end + 1
        name = self.data[start:end]
        try:
            return name.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.path}: the image name {name!r} is not UTF-8; rename the photograph and run "
                "COLMAP again"
            ) from error

    def end(self) -> None:
        if self.offset < self.size:
            raise UserError(
                f"{self.path}: {self.size - self.offset} bytes follow the last record; copy the "
                "file or run COLMAP again"
            )
