"""Beds: a frame, a mattress under a blanket, pillows, a head and sometimes a foot."""

import numpy as np

from common.data.furniture.legs import THIN, four_legs
from common.data.furniture.materials import fabric, hard
from common.data.furniture.piece import Part
from common.data.shapes import Shape, box, capsule, cylinder, mirrored, moved, repeated, union


def bed(rng: np.random.Generator) -> list[Part]:
    """A bed 1 long whose head is at the rear (-z)."""
    x, z = rng.uniform(0.22, 0.45), 0.5
    floor = rng.uniform(0.04, 0.16)
    rail, mattress = rng.uniform(0.03, 0.06), rng.uniform(0.05, 0.1)
    frame, sheet, cover = hard(rng), fabric(rng), fabric(rng)
    level = floor + 2 * rail
    top = level + mattress
    parts = [
        Part(box((0, floor + rail, 0), (x, rail, z), 0.008), frame),
        Part(
            box(
                (0, level + mattress / 2 - 0.01, 0), (0.95 * x, mattress / 2 + 0.01, 0.96 * z), 0.03
            ),
            sheet,
        ),
        Part(four_legs(rng, 0.9 * x, 0.9 * z, floor + 0.02, 0.04), frame),
    ]
    start = rng.uniform(-0.25, 0.1)
    blanket = box(
        (0, top - 0.035, (start + 0.98 * z) / 2), (0.985 * x, 0.06, (0.98 * z - start) / 2), 0.03
    )
    parts.append(Part(blanket, cover))
    parts.append(Part(_pillows(rng, x, z, top), fabric(rng)))
    parts.append(Part(moved(_board(rng, x, top + rng.uniform(0.1, 0.32)), (0, 0, -z)), frame))
    if rng.random() < 0.4:
        foot = _board(rng, x, level + rng.uniform(0.03, 0.16))
        parts.append(Part(moved(foot, (0, 0, z)), frame))
    return parts


def _pillows(rng: np.random.Generator, x: float, z: float, top: float) -> Shape:
    thick, deep = rng.uniform(0.03, 0.045), rng.uniform(0.07, 0.11)
    rear = -0.92 * z + deep
    if x < 0.3:
        return box((0, top + 0.6 * thick, rear), (0.7 * x, thick, deep), 0.95 * thick)
    pillow = box((0.48 * x, top + 0.6 * thick, rear), (0.42 * x, thick, deep), 0.95 * thick)
    return mirrored(pillow, "x")


def _board(rng: np.random.Generator, x: float, height: float) -> Shape:
    """A head or foot: a board, bars between posts, or a rolled top."""
    form = rng.choice(["board", "bars", "roll", "posts"])
    thick = rng.uniform(0.023, 0.042)
    if form == "board":
        return box((0, height / 2, 0), (x, height / 2, thick), rng.uniform(0.1, 0.9) * thick)
    if form == "roll":
        board = box((0, height / 2, 0), (x, height / 2, 0.02), 0.01)
        return union(board, capsule((-x, height, 0), (x, height, 0), thick * 1.3))
    radius = rng.uniform(THIN, 0.034)
    tall = height * rng.uniform(1.0, 1.25)
    posts = mirrored(cylinder((x, tall / 2, 0), radius, tall / 2, 0.3 * radius), "x")
    rail = box((0, height - 0.03, 0), (x, 0.03, 0.021), 0.006)
    if form == "posts":
        return union(posts, box((0, 0.75 * height, 0), (x, 0.22 * height, 0.021), 0.006))
    count = int(rng.integers(3, 7))
    bar = box((0, height / 2, 0), (THIN, height / 2, 0.021), 0.006)
    return union(posts, rail, repeated(bar, "x", 2 * x / (count + 0.5), count))
