"""Tables: a top, something to stand on, sometimes an apron, drawers or a lower shelf."""

import numpy as np

from common.data.furniture.legs import four_legs, pedestal, side_panels, sled, stretchers
from common.data.furniture.materials import hard, paint
from common.data.furniture.piece import Part
from common.data.shapes import Shape, box, capsule, cylinder, extrusion, mirrored, union


def table(rng: np.random.Generator) -> list[Part]:
    """A table whose top is 1 long along x."""
    form = rng.choice(["rectangle", "round", "polygon", "oval"], p=[0.55, 0.2, 0.1, 0.15])
    x = 0.5
    z = x if form in ("round", "polygon") else rng.uniform(0.22, 0.5)
    height, thick = rng.uniform(0.3, 0.8), rng.uniform(0.042, 0.085)
    under = height - thick
    surface, frame = hard(rng), hard(rng)
    if rng.random() < 0.5:
        frame = surface
    parts = [Part(_top(rng, form, x, z, height - thick / 2, thick), surface)]
    # The corners of a round top stand over nothing: keep the legs inside its circle.
    inset = rng.uniform(0.8, 0.92) if form == "rectangle" else rng.uniform(0.5, 0.66)
    leg_x, leg_z = inset * x, inset * z
    base = rng.choice(
        ["legs", "pedestal", "panels", "sled", "trestle", "block"],
        p=[0.5, 0.2, 0.1, 0.07, 0.07, 0.06],
    )
    if base == "legs":
        parts.append(Part(four_legs(rng, leg_x, leg_z, under, 0.05), frame))
        parts += _below(rng, leg_x, leg_z, under, frame)
    elif base == "pedestal":
        parts.append(Part(pedestal(rng, rng.uniform(0.5, 0.85) * z, under), frame))
    elif base == "panels":
        parts.append(Part(side_panels(rng, leg_x, leg_z, under), frame))
        parts += _below(rng, leg_x, leg_z, under, frame)
    elif base == "sled":
        parts.append(Part(sled(rng, leg_x, leg_z, under), frame))
    elif base == "trestle":
        parts.append(Part(_trestle(rng, leg_x, leg_z, under), frame))
    else:
        share = rng.uniform(0.5, 0.85, 2)
        block = box((0, under / 2, 0), (share[0] * leg_x, under / 2, share[1] * leg_z), 0.01)
        parts.append(Part(block, frame))
    return parts


def _top(
    rng: np.random.Generator, form: str, x: float, z: float, level: float, thick: float
) -> Shape:
    rounding = rng.uniform(0.05, 0.95) * thick / 2
    if form == "rectangle":
        return box((0, level, 0), (x, thick / 2, z), rounding)
    if form == "round":
        return cylinder((0, level, 0), x, thick / 2, rounding)
    corners = 24 if form == "oval" else int(rng.choice([3, 5, 6, 8]))
    angle = 2 * np.pi * (np.arange(corners) + 0.5) / corners
    section = np.stack([np.cos(angle) * (x - rounding), np.sin(angle) * (z - rounding)], axis=1)
    return extrusion(section.tolist(), "y", thick / 2, level, rounding)


def _below(rng: np.random.Generator, x: float, z: float, under: float, frame) -> list[Part]:
    """What joins the legs: an apron, a shelf, rails, a drawer case, or nothing."""
    joins = rng.choice(
        ["apron", "shelf", "rails", "drawers", "nothing"], p=[0.3, 0.22, 0.13, 0.15, 0.2]
    )
    if joins == "apron":
        depth = rng.uniform(0.025, 0.06)
        return [Part(box((0, under - depth + 0.005, 0), (x, depth, z)), frame)]
    if joins == "shelf":
        level = rng.uniform(0.15, 0.5) * under
        return [Part(box((0, level, 0), (x, 0.024, z), 0.005), frame)]
    if joins == "rails":
        return [Part(stretchers(rng, x, z, under), frame)]
    if joins == "drawers":
        width, depth = x * rng.uniform(0.25, 0.4), rng.uniform(0.1, 0.45) * under
        side = rng.choice([-1.0, 1.0])
        middle = (side * (x - width), under - depth + 0.005, 0)
        case = Part(box(middle, (width, depth, z), 0.005), frame)
        knob = cylinder((middle[0], middle[1], z + 0.01), 0.03, 0.02, 0.01)
        return [case, Part(knob, paint(rng))]
    return []


def _trestle(rng: np.random.Generator, x: float, z: float, under: float) -> Shape:
    """Crossed beams at each end, held by one long rail."""
    radius = rng.uniform(0.025, 0.035)
    cross = mirrored(capsule((x, radius, z), (x, under, -z), radius), "x")
    other = mirrored(capsule((x, radius, -z), (x, under, z), radius), "x")
    return union(cross, other, box((0, under / 2, 0), (x, radius, radius), 0.005))
