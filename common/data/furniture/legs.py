"""What furniture stands on. Sizes are in units of the finished piece, roughly 1 long."""

from collections.abc import Callable

import numpy as np

from common.data.shapes import (
    Shape,
    box,
    cylinder,
    lathe,
    mirrored,
    moved,
    round_cone,
    sphere,
    turned,
    union,
)

THIN = 0.024  # the least radius that a 64-pixel image still shows


def four_legs(rng: np.random.Generator, x: float, z: float, height: float, stout: float) -> Shape:
    """Four legs with their tops at (+-x, height, +-z), standing on y = 0.

    ``stout`` is the radius of the thickest leg there may be.
    """
    make_leg = LEGS[rng.choice(len(LEGS))]
    leg = make_leg(rng, x, z, height, rng.uniform(THIN, max(stout, THIN * 1.1)))
    return mirrored(leg, "x", "z")


def _square(rng: np.random.Generator, x: float, z: float, height: float, radius: float) -> Shape:
    half = (radius, height / 2, radius * rng.uniform(0.9, 1.3))
    return box((x, height / 2, z), half, rng.uniform(0.1, 0.6) * radius)


def _round(rng: np.random.Generator, x: float, z: float, height: float, radius: float) -> Shape:
    return cylinder((x, height / 2, z), radius, height / 2, 0.2 * radius)


def _splayed(rng: np.random.Generator, x: float, z: float, height: float, radius: float) -> Shape:
    splay = rng.uniform(0.0, 0.3, 2) * height
    foot = max(THIN * 0.9, radius * rng.uniform(0.6, 1.0))
    return round_cone((x, height - radius, z), (x + splay[0], foot, z + splay[1]), radius, foot)


def _leaning(rng: np.random.Generator, x: float, z: float, height: float, radius: float) -> Shape:
    """A square leg that leans outwards."""
    leg = box((x, height / 2, z), (radius, height / 2, radius), 0.2 * radius)
    lean = rng.uniform(0.03, 0.2, 2)
    leg = turned(leg, "z", lean[0], (x, height, z))
    return turned(leg, "x", -lean[1], (x, height, z))


def _turned(rng: np.random.Generator, x: float, z: float, height: float, radius: float) -> Shape:
    """A leg from the lathe: a vase of cones between beads."""
    waist = rng.uniform(0.3, 0.7) * height
    thin = max(THIN * 0.9, radius * rng.uniform(0.5, 0.8))
    upper = round_cone((x, height, z), (x, waist, z), radius, thin)
    lower = round_cone((x, waist, z), (x, thin, z), thin, max(THIN, 0.8 * radius))
    bead = sphere((x, waist, z), radius * rng.uniform(1.1, 1.4))
    return union(upper, lower, bead)


LEGS: list[Callable[[np.random.Generator, float, float, float, float], Shape]] = [
    _square,
    _square,
    _round,
    _splayed,
    _splayed,
    _leaning,
    _turned,
]


def side_panels(rng: np.random.Generator, x: float, z: float, height: float) -> Shape:
    """A board at each end instead of legs."""
    thick = rng.uniform(THIN, 0.045)
    board = box((x, height / 2, 0), (thick, height / 2, z * rng.uniform(0.6, 1.0)), 0.005)
    return mirrored(board, "x")


def sled(rng: np.random.Generator, x: float, z: float, height: float) -> Shape:
    """Two upright rectangular frames, each of two posts and a runner on the floor."""
    radius = rng.uniform(THIN, 0.032)
    post = box((x, height / 2, z), (radius, height / 2, radius), 0.3 * radius)
    runner = box((x, radius, 0), (radius, radius, z + radius), 0.3 * radius)
    return union(mirrored(post, "x", "z"), mirrored(runner, "x"))


def pedestal(rng: np.random.Generator, reach: float, height: float) -> Shape:
    """One column on a foot: a disc, a cross of beams, a star of five, or a bell."""
    radius = rng.uniform(0.03, 0.06)
    foot = rng.choice(["disc", "cross", "star", "bell"])
    if foot == "bell":
        waist = rng.uniform(0.3, 0.6) * height
        return lathe(
            [
                (0, 0),
                (reach, 0),
                (reach, 0.04),
                (radius, waist),
                (radius * 1.6, height),
                (0, height),
            ]
        )
    column = cylinder((0, height / 2, 0), radius, height / 2, 0.2 * radius)
    if foot == "disc":
        return union(column, cylinder((0, 0.024, 0), reach, 0.024, 0.008))
    arms = 4 if foot == "cross" else 5
    rise = rng.uniform(0.0, 0.2) * height
    start = rng.uniform(0, 2 * np.pi / arms) if foot == "star" else np.pi / 4
    beams = []
    for angle in start + np.arange(arms) * (2 * np.pi / arms):
        tip = (reach * np.cos(angle), THIN, reach * np.sin(angle))
        beams.append(round_cone((0, 0.03 + rise, 0), tip, 0.03, THIN))
    return union(moved(column, (0, 0.01, 0)), *beams)


def stretchers(rng: np.random.Generator, x: float, z: float, height: float) -> Shape:
    """Rails between straight legs: at the sides with one between them, or all the way round."""
    radius, level = rng.uniform(THIN * 0.9, THIN * 1.2), rng.uniform(0.2, 0.6) * height
    side = mirrored(box((x, level, 0), (radius, radius, z), 0.3 * radius), "x")
    if rng.random() < 0.5:
        return union(side, box((0, level, 0), (x, radius, radius), 0.3 * radius))
    return union(side, mirrored(box((0, level, z), (x, radius, radius), 0.3 * radius), "z"))
