"""Are pixels counted from their centres, as they should be, or from another corner of them?

Half a pixel moves no hull by much, but outlines then meet less exactly: the shift of all principal
points is found with which they meet best.
"""

import numpy as np
from jaxtyping import Float, Int

from common.scenes.checks.alternatives import LONGEST as HULL_LONGEST
from common.scenes.checks.carving import Hull, MaskTables, spread
from common.scenes.checks.corrections import chosen
from common.scenes.checks.findings import Alternative
from common.scenes.development import Pictures

LONGEST, DEPTHS = 640, 96  # pixels of the masks that are looked at; samples along a ray
VIEWS, RAYS = 40, 120  # of each view
FARTHEST = 2.0  # pixels; further it is no convention that is wrong
CERTAIN = 3  # standard errors
NEAR = 0.2  # pixels: how far the shift found may be from a multiple of a half
SHIFT_PIXELS = "--shift-pixels"


def shifted_pixels(
    pictures: Pictures, views: Int[np.ndarray, "n"], scale: float
) -> tuple[Alternative, ...]:
    """The shift by half a pixel, or one, with which outlines meet best, where it is certain.

    ``scale`` is how many pixels of these pictures one of the camera files' has.
    """
    views = spread(views, VIEWS)
    shift, error = (one / scale for one in pixel_shift(pictures, views))
    value = round(2 * shift) / 2
    plausible = 0 < abs(value) < FARTHEST / scale and abs(shift - value) < NEAR
    if not plausible or abs(shift) < CERTAIN * error:
        return ()
    remedy = chosen({SHIFT_PIXELS: value})
    intrinsics = _moved(value * scale) @ pictures.intrinsics[views]
    tables = MaskTables(pictures.masks[views], HULL_LONGEST)
    iou = Hull(tables, intrinsics, pictures.world_from_camera[views]).iou(RAYS)
    return (Alternative(remedy.name, remedy.options, float(iou.mean())),)


def pixel_shift(pictures: Pictures, views: Int[np.ndarray, "n"]) -> tuple[float, float]:
    """How far the principal points should move (x and y alike) for outlines to meet best.

    And its standard error over views (jackknife); both in pixels.
    """
    tables = MaskTables(pictures.masks[views], LONGEST)
    intrinsics, poses = pictures.intrinsics[views], pictures.world_from_camera[views]
    unit = 0.5 / tables.shrinking[0, 0]  # half a pixel of the masks looked at
    losses: dict[int, np.ndarray] = {}

    def loss(index: int) -> Float[np.ndarray, "n"]:
        if index not in losses:
            hull = Hull(tables, _moved(index * unit) @ intrinsics, poses, DEPTHS)
            # An outline's pixels are half a pixel inside it, on the average.
            missing = [np.maximum(0.5 - hull.margins(v, RAYS), 0) for v in range(len(views))]
            losses[index] = np.array([one.mean() if len(one) else 0.0 for one in missing])
        return losses[index]

    best, farthest = 0, round(2 * FARTHEST)
    while abs(best) < farthest:
        lower = min((best - 1, best, best + 1), key=lambda index: loss(index).mean())
        if lower == best:
            break
        best = lower
    around = np.stack([loss(best + step) for step in (-1, 0, 1)])
    without = (around.sum(axis=1, keepdims=True) - around) / (len(views) - 1)
    jackknife = best + _vertex(without)
    error = np.sqrt((len(views) - 1) * np.var(jackknife))
    shift = best + _vertex(around.mean(axis=1, keepdims=True))[0]
    return float(shift * unit), float(error * unit)


def _vertex(values: Float[np.ndarray, "3 n"]) -> Float[np.ndarray, "n"]:
    """Where the parabola through values at -1, 0 and 1 is least, if near; else the end."""
    before, middle, after = values
    bend = np.maximum(before - 2 * middle + after, 1e-12)
    return np.clip(0.5 * (before - after) / bend, -1, 1)


def _moved(shift: float) -> Float[np.ndarray, "3 3"]:
    return np.array([[1, 0, shift], [0, 1, shift], [0, 0, 1]])
