"""The object before a plain light or dark background: what differs from the picture's border."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from common.errors import UserError

Background = Literal["light", "dark"]

SMALLEST_HOLE = 0.001  # of the object's area; smaller ones are reflections or noise, and filled
SMALLEST_PART = 0.02  # of the largest part's area; smaller ones are dust on the background
NOISE = 6.0  # levels, at least, of a background's own differences
PLAIN = 12.0  # levels by which a plain background's pixels may differ from their median
LIGHT, DARK = 180.0, 75.0  # mean levels of backgrounds that are recognised as such


def background_of(image: UInt8[np.ndarray, "H W 3"]) -> Background | None:
    """What kind of plain background the picture's border shows; None: it is not plain."""
    border = _border(image)
    colour = np.median(border, axis=0)
    # The object may reach over a part of the border.
    if (_distance(border, colour) <= PLAIN).mean() < 0.8:
        return None
    if colour.mean() >= LIGHT:
        return "light"
    return "dark" if colour.mean() <= DARK else None


def mask_by_threshold(
    image: UInt8[np.ndarray, "H W 3"], background: Background
) -> Bool[np.ndarray, "H W"]:
    """What differs from the border's colour by more than an automatic threshold, cleaned.

    Small parts are dropped and small holes filled; large holes show the background and stay.
    Raises UserError where the border is not of the kind that ``background`` says.
    """
    border = _border(image)
    colour = np.median(border, axis=0)
    if (colour.mean() > 127.5) != (background == "light"):
        other = "dark" if background == "light" else "light"
        raise UserError(f"the border is not {background}; choose --masks {other}")
    noise = max(float(np.quantile(_distance(border, colour), 0.8)), NOISE)
    # Above the noise in proportion: an object has both faint and strong parts.
    contrast = np.log1p(_distance(image, colour) / noise)
    return cleaned(contrast > otsu(contrast))


def otsu(values: Float[np.ndarray, "*s"], bins: int = 256) -> float:
    """The threshold between two classes of least variance within them (Otsu 1979)."""
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = below[-1] + counts[-1] - below
    sums = np.cumsum(counts * centres)
    difference = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below.astype(float) * above * difference**2
    # Between classes far apart, every threshold is as good: take the middle of the gap.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1 + best].mean())


def cleaned(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The mask without small parts and small holes, as the constants above have it."""
    parts, areas = _parts(mask)
    if len(areas) == 0:
        return mask
    kept = np.append(False, areas >= SMALLEST_PART * areas.max())[parts]
    holes, areas = _parts(~kept)
    filled = np.append(False, areas < SMALLEST_HOLE * kept.sum())[holes]
    return kept | filled


def _parts(mask: Bool[np.ndarray, "H W"]) -> tuple[Int[np.ndarray, "H W"], Int[np.ndarray, "n"]]:
    """Connected parts, labelled from 1, and their areas."""
    labels, count = ndimage.label(mask)
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]


def _border(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "n 3"]:
    """The picture's outermost pixels, a fiftieth of its shorter side wide."""
    width = max(min(image.shape[:2]) // 50, 1)
    inner = np.zeros(image.shape[:2], dtype=bool)
    inner[width:-width, width:-width] = True
    return image[~inner]


def _distance(
    pixels: UInt8[np.ndarray, "*s 3"], colour: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "*s"]:
    return np.abs(pixels - colour).max(axis=-1)
