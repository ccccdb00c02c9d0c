"""Sofas and armchairs: plinth, cushions, back and arms, some with a chaise at one end."""

import numpy as np

from common.data.furniture.legs import four_legs
from common.data.furniture.materials import fabric, hard
from common.data.furniture.piece import Part
from common.data.shapes import Shape, box, capsule, mirrored, repeated, turned, union


def sofa(rng: np.random.Generator) -> list[Part]:
    """A sofa 1 wide, from a deep armchair to a long settee."""
    x, z = 0.5, rng.uniform(0.2, 0.4)
    floor = rng.choice([0.0, rng.uniform(0.05, 0.14)], p=[0.3, 0.7])
    seat = floor + rng.uniform(0.1, 0.2)
    back_top = seat + rng.uniform(0.14, 0.36)
    arm_width = rng.choice([0.0, rng.uniform(0.04, 0.12)], p=[0.2, 0.8])
    back_thick = rng.uniform(0.05, 0.12)
    cover, cushions = fabric(rng), fabric(rng)
    if rng.random() < 0.5:
        cushions = cover
    inner = x - arm_width
    soft = rng.uniform(0.008, 0.035)
    body = box((0, (floor + seat) / 2, 0), (inner, (seat - floor) / 2, z), soft)
    parts = [
        Part(body, cover),
        Part(_back(rng, x, z, floor, back_top, back_thick, soft), cover),
        Part(_cushions(rng, inner, z, seat, back_thick, soft), cushions),
    ]
    if arm_width:
        parts.append(Part(_arms(rng, x, z, floor, seat, back_top, arm_width, soft), cover))
    if floor:
        parts.append(Part(four_legs(rng, 0.88 * x, 0.82 * z, floor + 0.03, 0.035), hard(rng)))
    if rng.random() < 0.25:
        parts += _chaise(rng, inner, z, floor, seat, soft, cover)
    if rng.random() < 0.5:
        parts += _pillows(rng, inner, z, seat, back_thick)
    return parts


def _back(
    rng: np.random.Generator,
    x: float,
    z: float,
    floor: float,
    top: float,
    thick: float,
    soft: float,
) -> Shape:
    middle = (0, (floor + top) / 2, -z + thick)
    board = box(middle, (x, (top - floor) / 2, thick), min(2 * soft, 0.9 * thick))
    if rng.random() < 0.3:
        roll = capsule((-x + thick, top, -z + thick), (x - thick, top, -z + thick), thick)
        board = union(board, roll)
    return turned(board, "x", -rng.uniform(0.0, 0.15), (0, floor, -z))


def _cushions(
    rng: np.random.Generator, inner: float, z: float, seat: float, back_thick: float, soft: float
) -> Shape:
    """A row of seat cushions, and sometimes a row of back cushions before the back."""
    count = int(rng.integers(1, 4))
    width = 2 * inner / count
    thick = rng.uniform(0.03, 0.055)
    back = -z + 1.8 * back_thick
    front = z + rng.uniform(0.0, 0.02)
    seat_cushion = box(
        (0, seat + thick * 0.7, (back + front) / 2),
        (width / 2 - 0.006, thick, (front - back) / 2),
        min(2 * soft, 0.9 * thick),
    )
    row = repeated(seat_cushion, "x", width, count)
    if rng.random() < 0.5:
        return row
    high, deep = rng.uniform(0.08, 0.15), rng.uniform(0.035, 0.06)
    back_cushion = box(
        (0, seat + 1.5 * thick + high, back + deep * 0.6),
        (width / 2 - 0.008, high, deep),
        0.9 * deep,
    )
    return union(row, repeated(back_cushion, "x", width, count))


def _arms(
    rng: np.random.Generator,
    x: float,
    z: float,
    floor: float,
    seat: float,
    back_top: float,
    width: float,
    soft: float,
) -> Shape:
    top = seat + rng.uniform(0.3, 0.9) * (back_top - seat)
    middle = (x - width / 2, (floor + top) / 2, 0)
    arm = box(middle, (width / 2, (top - floor) / 2, z), min(2 * soft, 0.45 * width))
    form = rng.choice(["box", "roll", "flare"])
    if form == "roll":
        radius = width / 2 * rng.uniform(1.0, 1.35)
        roll = capsule((x - width / 2, top, -z + radius), (x - width / 2, top, z - radius), radius)
        arm = union(arm, roll)
    elif form == "flare":
        arm = turned(arm, "z", -rng.uniform(0.05, 0.3), (x - width / 2, floor, 0))
    return mirrored(arm, "x")


def _chaise(
    rng: np.random.Generator, inner: float, z: float, floor: float, seat: float, soft: float, cover
) -> list[Part]:
    """A long seat in front of one end."""
    side, half = rng.choice([-1.0, 1.0]), inner * rng.uniform(0.3, 0.42)
    reach = rng.uniform(0.1, 0.22)
    x = side * (inner - half)
    body = box((x, (floor + seat) / 2, z + reach - 0.02), (half, (seat - floor) / 2, reach), soft)
    pad = box((x, seat + 0.02, z + reach - 0.02), (half, 0.035, reach), 0.03)
    return [Part(union(body, pad), cover)]


def _pillows(
    rng: np.random.Generator, inner: float, z: float, seat: float, back_thick: float
) -> list[Part]:
    parts = []
    for side in (-1.0, 1.0)[: int(rng.integers(1, 3))]:
        half, thick = rng.uniform(0.06, 0.1), rng.uniform(0.025, 0.035)
        x = side * (inner - half) * rng.uniform(0.75, 1.0)
        middle = (x, seat + 0.06 + half, -z + 2 * back_thick + 0.05)
        pillow = turned(
            box(middle, (half, half, thick), 0.9 * thick), "x", -rng.uniform(0.1, 0.4), middle
        )
        parts.append(Part(turned(pillow, "z", rng.uniform(-0.4, 0.4), middle), fabric(rng)))
    return parts
