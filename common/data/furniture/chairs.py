"""Chairs: a seat, something to stand on, a back, sometimes arms and a cushion."""

import numpy as np

from common.data.furniture.legs import THIN, four_legs, pedestal, side_panels, sled, stretchers
from common.data.furniture.materials import fabric, hard
from common.data.furniture.piece import Part
from common.data.shapes import (
    Shape,
    box,
    capsule,
    cylinder,
    difference,
    extrusion,
    intersection,
    mirrored,
    moved,
    repeated,
    turned,
    union,
)


def chair(rng: np.random.Generator) -> list[Part]:
    """A chair about 1 high whose seat is centred over the origin."""
    x, z = rng.uniform(0.19, 0.31), rng.uniform(0.19, 0.27)
    seat_height, seat_thick = rng.uniform(0.34, 0.52), rng.uniform(0.035, 0.075)
    frame, upholstery = hard(rng), fabric(rng)
    soft = rng.random() < 0.4
    top = seat_height + seat_thick / 2
    parts = [
        Part(_seat(rng, x, z, seat_height, seat_thick), upholstery if soft else frame),
        Part(_base(rng, x, z, seat_height), frame if rng.random() < 0.6 else hard(rng)),
    ]
    back, back_is_soft = _back(rng, x, rng.uniform(0.3, 0.58))
    tilt = -rng.uniform(0.0, 0.28)
    pivot = (0, top - 0.02, -z + 0.03)
    back = turned(moved(back, pivot), "x", tilt, pivot)
    parts.append(Part(back, upholstery if back_is_soft and soft else frame))
    if rng.random() < 0.4:
        parts.append(Part(_arms(rng, x, z, top), frame))
    if not soft and rng.random() < 0.35:
        thick = rng.uniform(0.02, 0.04)
        cushion = box((0, top + thick - 0.01, 0.02), (0.85 * x, thick, 0.82 * z), 0.9 * thick)
        parts.append(Part(cushion, upholstery))
    return parts


def _seat(rng: np.random.Generator, x: float, z: float, height: float, thick: float) -> Shape:
    form = rng.choice(["square", "trapezoid", "round"], p=[0.5, 0.3, 0.2])
    rounding = rng.uniform(0.1, 0.9) * thick / 2
    if form == "square":
        return box((0, height, 0), (x, thick / 2, z), rounding)
    if form == "round":
        return cylinder((0, height, 0), max(x, z), thick / 2, rounding)
    back = x * rng.uniform(0.65, 0.9) - rounding
    front, depth = x - rounding, z - rounding
    section = [(-back, -depth), (back, -depth), (front, depth), (-front, depth)]
    return extrusion(section, "y", thick / 2, height, rounding)


def _base(rng: np.random.Generator, x: float, z: float, height: float) -> Shape:
    form = rng.choice(
        ["legs", "pedestal", "sled", "panels", "cantilever"], p=[0.62, 0.14, 0.1, 0.06, 0.08]
    )
    x, z = 0.85 * x, 0.85 * z
    if form == "pedestal":
        return pedestal(rng, rng.uniform(0.16, 0.26), height)
    if form == "sled":
        return sled(rng, x, z, height)
    if form == "panels":
        return side_panels(rng, x, z, height)
    if form == "cantilever":
        radius = rng.uniform(THIN, 0.03)
        upright = capsule((x, height, z), (x, radius, z), radius)
        runner = capsule((x, radius, z), (x, radius, -z), radius)
        joint = box((0, radius, -z), (x, radius, radius), 0.5 * radius)
        return union(mirrored(union(upright, runner), "x"), joint)
    legs = four_legs(rng, x, z, height, 0.035)
    if rng.random() < 0.3:
        legs = union(legs, stretchers(rng, x, z, height))
    return legs


def _back(rng: np.random.Generator, x: float, height: float) -> tuple[Shape, bool]:
    """A back in the plane z = 0 rising from the origin, and whether it may be upholstered."""
    form = rng.choice(["panel", "spindles", "ladder", "curved", "frame", "arch", "splat"])
    half = x * rng.uniform(0.75, 1.0)
    thick = rng.uniform(0.022, 0.042)
    if form == "panel":
        panel = box((0, height / 2, 0), (half, height / 2, thick), rng.uniform(0.1, 0.9) * thick)
        return panel, True
    if form == "curved":
        return _curved_back(rng, half, height, thick), True
    if form == "arch":
        return _arch(rng, half, height, thick), True
    radius = rng.uniform(THIN, 0.03)
    post = box((half - radius, height / 2, 0), (radius, height / 2, radius), 0.4 * radius)
    posts = mirrored(post, "x")
    inner = half - 2 * radius
    rail = rng.uniform(0.025, 0.06)
    top_rail = box((0, height - rail, 0), (half, rail, radius), 0.4 * radius)
    frame = union(posts, top_rail)
    if form == "spindles":
        count = int(rng.integers(2, max(3, int(2 * inner / 0.095)) + 1))
        slat = box((0, height / 2, 0), (THIN * 0.95, height / 2, THIN * 0.9), 0.01)
        return union(frame, repeated(slat, "x", 2 * inner / (count + 0.4), count)), False
    if form == "ladder":
        count = int(rng.integers(2, 5))
        spacing = (height - 2 * rail) / (count + 0.5)
        thin = min(rng.uniform(0.02, 0.04), 0.4 * spacing)
        slat = box((0, height / 2 - rail, 0), (inner + radius, thin, 0.021), 0.008)
        return union(frame, repeated(slat, "y", spacing, count)), False
    if form == "splat":
        board = box((0, height / 2, 0), (half * rng.uniform(0.2, 0.5), height / 2, 0.021), 0.008)
        return union(frame, board), False
    low = rng.uniform(0.15, 0.4) * height
    panel = box((0, (low + height) / 2, 0), (inner + radius, (height - low) / 2, 0.021), 0.008)
    return union(frame, panel), True


def _curved_back(rng: np.random.Generator, half: float, height: float, thick: float) -> Shape:
    """An upright part of a tube, hollow towards the front."""
    radius = half * rng.uniform(1.05, 1.8)
    tube = difference(
        cylinder((0, height / 2, radius), radius + thick, height / 2, 0.01),
        cylinder((0, height / 2, radius), radius - thick, height),
    )
    depth = radius - np.sqrt(radius**2 - half**2) + 2 * thick
    low = rng.uniform(0.0, 0.35) * height
    window = box(
        (0, (low + height) / 2, depth / 2 - thick),
        (half, (height - low) / 2, depth / 2 + thick),
        0.03,
    )
    if low < 0.12 * height:
        return intersection(tube, window)
    post = box((0.5 * half, height / 3, 0.12 * half), (0.025, height / 3, 0.022), 0.01)
    return union(intersection(tube, window), mirrored(post, "x"))


def _arch(rng: np.random.Generator, half: float, height: float, thick: float) -> Shape:
    """A board with a half-round top, solid or with an opening of the same form."""
    height = max(height, half * 1.15)

    def outline(inset: float, depth: float) -> Shape:
        # A cylinder lies along y: turn it to face the front.
        disc = turned(cylinder((0, 0, -(height - half)), half - inset, depth), "x", np.pi / 2)
        body = box((0, (height - half) / 2, 0), (half - inset, (height - half) / 2, depth))
        return union(disc, body)

    solid = outline(0.0, thick * 0.9)
    if rng.random() < 0.5:
        return solid
    frame = difference(solid, outline(rng.uniform(0.045, 0.07), 2 * thick))
    bar = box((0, height / 2, 0), (rng.uniform(0.02, 0.05), height / 2 - 0.01, 0.021), 0.005)
    return union(frame, bar)


def _arms(rng: np.random.Generator, x: float, z: float, seat_top: float) -> Shape:
    """Arm rests: a board on a post, a bent rod, or a closed side."""
    rise, radius = rng.uniform(0.13, 0.24), rng.uniform(THIN, 0.032)
    level, front = seat_top + rise, z * rng.uniform(0.4, 0.95)
    form = rng.choice(["board", "rod", "side"])
    if form == "side":
        middle = (x, seat_top + rise / 2 - 0.03, 0)
        return mirrored(box(middle, (radius * 1.2, rise / 2 + 0.03, 0.95 * z), 0.01), "x")
    if form == "rod":
        post = capsule((x, seat_top - 0.02, front), (x, level, front), radius)
        rest = capsule((x, level, front), (x, level + 0.02, -z + 0.03), radius)
        return mirrored(union(post, rest), "x")
    post = box((x, seat_top + rise / 2 - 0.02, front - radius), (radius, rise / 2 + 0.02, radius))
    rest = box((x, level, (front - z) / 2), (radius * 1.3, 0.021, (front + z) / 2), 0.008)
    return mirrored(union(post, rest), "x")
