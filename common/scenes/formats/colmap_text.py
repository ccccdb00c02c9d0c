"""COLMAP's text files: blanks between entries, a line to a record, comments after #."""

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.scenes.formats.colmap_model import CameraRecord, ImageRecord, PointRecords, camera_model

_Line = tuple[int, str]  # number from 1, text


def read_cameras(path: Path) -> list[CameraRecord]:
    """All records of a ``cameras.txt``; UserError where it is damaged or a model is unknown."""
    cameras = []
    for number, line in _records(_lines(path)):
        with _explained(path, number, "CAMERA_ID MODEL WIDTH HEIGHT and the model's parameters"):
            camera_id, name, width, height, *parameters = line.split()
            if len(parameters) != camera_model(name).parameters:
                raise ValueError(f"{len(parameters)} parameters")
            cameras.append(
                CameraRecord(
                    int(camera_id), name, (int(width), int(height)), tuple(map(float, parameters))
                )
            )
    return cameras


def read_images(path: Path) -> list[ImageRecord]:
    """All records of an ``images.txt`` without their 2D points; UserError where it is damaged."""
    images = []
    lines = _lines(path)
    for number, line in _records(lines):
        with _explained(path, number, "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"):
            # The name comes last and may have blanks.
            image_id, *pose, camera_id, name = line.split(maxsplit=9)
            if len(pose) != 7:
                raise ValueError("too few entries")
            quaternion, translation = tuple(map(float, pose[:4])), tuple(map(float, pose[4:]))
            images.append(ImageRecord(int(image_id), quaternion, translation, int(camera_id), name))
        number, points = next(lines, (number + 1, ""))
        # Else a file without these lines would lose every second image in silence.
        with _explained(path, number, "the 2D points of the image above, X Y POINT3D_ID each"):
            if len(points.split()) % 3:
                raise ValueError("no multiple of three entries")
    return images


def read_points(path: Path) -> PointRecords:
    """All records of a ``points3D.txt``; UserError where it is damaged."""
    ids, points, lengths, images = array("Q"), array("d"), array("Q"), array("I")
    for number, line in _records(_lines(path)):
        with _explained(path, number, "POINT3D_ID X Y Z R G B ERROR and pairs IMAGE_ID POINT2D"):
            fields = line.split()
            if len(fields) < 8 or len(fields) % 2:
                raise ValueError(f"{len(fields)} entries")
            ids.append(int(fields[0]))
            points.extend(map(float, fields[1:4]))
            images.extend(map(int, fields[8::2]))
            lengths.append(len(fields) // 2 - 4)
    return PointRecords(
        np.array(ids, dtype=np.uint64),
        np.array(points, dtype=np.float64).reshape(-1, 3),
        np.array(lengths, dtype=np.uint64),
        np.array(images, dtype=np.uint32),
    )


def _lines(path: Path) -> Iterator[_Line]:
    """Lines without their ends, also of files that an editor gave a byte-order mark."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from ((number, line.strip()) for number, line in enumerate(file, start=1))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text ({error.reason}); rename photographs whose names are not "
            "UTF-8 and export the model again"
        ) from error


def _records(lines: Iterator[_Line]) -> Iterator[_Line]:
    """Lines that are neither empty nor comments."""
    return ((number, line) for number, line in lines if line and line[0] != "#")


@contextmanager
def _explained(path: Path, number: int, expected: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{path}, line {number}: expected {expected} ({error}); mend the line or export the "
            "model again"
        ) from error
    except UserError as error:
        raise UserError(f"{path}, line {number}: {error}") from error
