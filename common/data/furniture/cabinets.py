"""Cabinets: a case with doors, drawers or open shelves, on legs, on a plinth or on the floor."""

import numpy as np

from common.data.furniture.legs import four_legs
from common.data.furniture.materials import hard, metal
from common.data.furniture.piece import Part
from common.data.shapes import Shape, box, cylinder, difference, repeated, sphere, turned


def cabinet(rng: np.random.Generator) -> list[Part]:
    """A case whose longer side, width or height, is about 1."""
    tall = rng.random() < 0.5
    x = rng.uniform(0.2, 0.42) if tall else 0.5
    height = 0.95 if tall else rng.uniform(0.4, 0.8)
    z = rng.uniform(0.13, 0.26)
    floor = rng.choice([0.0, rng.uniform(0.05, 0.18)], p=[0.4, 0.6])
    case, front, fittings = hard(rng), hard(rng), metal(rng)
    if rng.random() < 0.5:
        front = case
    body = box((0, (floor + height) / 2, 0), (x, (height - floor) / 2, z), 0.006)
    columns = int(rng.integers(1, 3 if tall else 4))
    rows = int(rng.integers(2, 5)) if tall else int(rng.integers(1, 4))
    see_through = rng.random() < 0.5
    form = rng.choice(["open", "doors", "drawers", "half"])
    parts = []
    middle, half = (floor + height) / 2, (height - floor) / 2
    if form == "open":
        parts.append(Part(_hollowed(body, x, middle, half, z, columns, rows, see_through), case))
    elif form == "half":
        # Shelves above, doors below.
        split = floor + rng.uniform(0.35, 0.6) * (height - floor)
        upper = ((split + height) / 2, (height - split) / 2)
        lower = ((floor + split) / 2, (split - floor) / 2)
        parts.append(
            Part(_hollowed(body, x, *upper, z, columns, max(1, rows - 1), see_through), case)
        )
        parts += _fronts(rng, x, *lower, z, columns, 1, front, fittings)
    else:
        columns = columns if form == "doors" else max(1, columns - 1)
        rows = 1 if form == "doors" else rows + 1
        parts.append(Part(body, case))
        parts += _fronts(rng, x, middle, half, z, columns, rows, front, fittings)
    if floor:
        parts.append(Part(four_legs(rng, 0.88 * x, 0.8 * z, floor + 0.03, 0.04), case))
    elif rng.random() < 0.4:
        parts.append(Part(box((0, 0.02, 0), (x + 0.02, 0.025, z + 0.02), 0.005), case))
    if rng.random() < 0.5:
        parts.append(Part(box((0, height, 0), (x + 0.025, 0.02, z + 0.025), 0.008), front))
    return parts


def _grid_of(shape: Shape, x: float, half: float, columns: int, rows: int) -> Shape:
    """Copies of a shape centred on each field of a front of these half sides."""
    return repeated(repeated(shape, "x", 2 * x / columns, columns), "y", 2 * half / rows, rows)


def _hollowed(
    body: Shape,
    x: float,
    middle: float,
    half: float,
    z: float,
    columns: int,
    rows: int,
    see_through: bool,
) -> Shape:
    """The case with open compartments; walls and shelves stay, and the rear board may."""
    wall = 0.021
    x, half = x - wall, half - wall
    rear = 0.0 if see_through else 0.04
    room = box((0, middle, rear), (x / columns - wall, half / rows - wall, z + 0.01))
    return difference(body, _grid_of(room, x, half, columns, rows))


def _fronts(
    rng: np.random.Generator,
    x: float,
    middle: float,
    half: float,
    z: float,
    columns: int,
    rows: int,
    front,
    fittings,
) -> list[Part]:
    """Doors or drawer fronts standing out from the case, each with a knob or a bar."""
    wide, high = x / columns, half / rows
    gap = 0.012
    panel = box((0, middle, z + 0.008), (wide - gap, high - gap, 0.016), 0.004)
    parts = [Part(_grid_of(panel, x, half, columns, rows), front)]
    if rng.random() < 0.5:
        fitting = sphere((0, middle, z + 0.035), rng.uniform(0.02, 0.028))
    else:
        bar = cylinder((0, 0, 0), 0.02, min(0.08, 0.6 * wide), 0.008)
        if rows > 1:
            bar = turned(bar, "z", np.pi / 2)
        length = bar.upper - bar.lower
        fitting = box((0, middle, z + 0.03), length / 2, 0.01)
    parts.append(Part(_grid_of(fitting, x, half, columns, rows), fittings))
    return parts
