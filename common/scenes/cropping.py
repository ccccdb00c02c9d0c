"""Pictures cut to their object, so that no pixel is spent on what surrounds it."""

import math
from dataclasses import replace

import numpy as np

from common.scenes.development import Pictures

MARGIN = 0.05  # of the object's longer side, around it


def crop_to_object(pictures: Pictures) -> Pictures:
    """Windows of one size, each around its view's mask; the cameras move with them.

    A view without object is cut about its middle.
    """
    height, width = pictures.masks.shape[1:]
    boxes = [_box(mask) for mask in pictures.masks]
    longest = [max(high[axis] - low[axis] for low, high in boxes) for axis in range(2)]
    margin = 2 * math.ceil(MARGIN * max(longest))
    tall, wide = min(longest[0] + margin, height), min(longest[1] + margin, width)
    windows, intrinsics = [], pictures.intrinsics.copy()
    for view, (low, high) in enumerate(boxes):
        top = _start(low[0], high[0], tall, height)
        left = _start(low[1], high[1], wide, width)
        windows.append((view, slice(top, top + tall), slice(left, left + wide)))
        intrinsics[view, 0] -= left * intrinsics[view, 2]
        intrinsics[view, 1] -= top * intrinsics[view, 2]
    return replace(
        pictures,
        images=np.stack([pictures.images[window] for window in windows]),
        masks=np.stack([pictures.masks[window] for window in windows]),
        intrinsics=intrinsics,
        coverage=None
        if pictures.coverage is None
        else np.stack([pictures.coverage[window] for window in windows]),
    )


def _box(mask: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """First row and column of the object, and those after its last."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        middle = mask.shape[0] // 2, mask.shape[1] // 2
        return middle, middle
    return (int(rows[0]), int(columns[0])), (int(rows[-1]) + 1, int(columns[-1]) + 1)


def _start(low: int, high: int, length: int, limit: int) -> int:
    return min(max((low + high - length) // 2, 0), limit - length)
