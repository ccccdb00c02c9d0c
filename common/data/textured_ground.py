"""A wide floor to stand an object on, with something to recognise at every place and every scale.

Structure from motion finds cameras by details that several photographs share; a smooth object on
white has few. The floor shows opaque discs that cover one another, their radii drawn in proportion
to 1 / r^3: the dead leaves model of natural images, which looks alike at all magnifications
(Matheron 1968; Lee, Mumford and Huang, IJCV 2001).
"""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from common.data.mesh_files import GREY, Part

SIDE = 12.0  # object units, of which an object's ball has 1.8
PIXELS = 3072
SMALLEST, LARGEST = 3.0, 300.0  # radii of discs, pixels
COVER = 3.0  # times the area that all discs have together; they leave 1 / e^3 of it bare
# Greenish, so that wood, cloth and skin stand out against it.
DARK, LIGHT = np.array([20.0, 45.0, 35.0]), np.array([150.0, 210.0, 180.0])
TINT = 25.0


def textured_ground(height: float, seed: int) -> Part:
    """A square at y = ``height`` around the origin, painted by ``seed``."""
    end = SIDE / 2
    west_north, east_north = [-end, height, -end], [end, height, -end]
    west_south, east_south = [-end, height, end], [end, height, end]
    corners = [[west_south, east_south, east_north], [west_south, east_north, west_north]]
    uv = [[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]]
    texture = dead_leaves(PIXELS, np.random.default_rng(seed))
    return Part(np.array(corners), np.array(uv, dtype=float), texture, None, GREY)


def dead_leaves(pixels: int, rng: np.random.Generator) -> UInt8[np.ndarray, "pixels pixels 3"]:
    """Discs in random shades, each over those before it."""
    squared_radius = 1 / _inverse_squares(pixels, rng)
    count = len(squared_radius)
    centre = pixels * rng.random((count, 2))
    shade = DARK + (LIGHT - DARK) * rng.random((count, 1)) + TINT * (rng.random((count, 3)) - 0.5)
    picture = Image.new("RGB", (pixels, pixels), tuple(((DARK + LIGHT) / 2).astype(int)))
    draw = ImageDraw.Draw(picture)
    rows = zip(centre, np.sqrt(squared_radius)[:, None], shade.astype(int).tolist(), strict=True)
    for middle, radius, colour in rows:
        draw.ellipse([*(middle - radius), *(middle + radius)], fill=tuple(colour))
    return np.array(picture)


def _inverse_squares(pixels: int, rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    """1 / r^2 of the discs: uniform where the density of r is in proportion to 1 / r^3."""
    low, high = 1 / LARGEST**2, 1 / SMALLEST**2
    mean_area = np.pi * np.log(high / low) / (high - low)
    return rng.uniform(low, high, round(COVER * pixels**2 / mean_area))
