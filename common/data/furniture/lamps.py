"""Lamps: a shade over a foot, on a stem that is straight, of three legs, or jointed."""

import numpy as np

from common.data.furniture.materials import fabric, hard, paint
from common.data.furniture.piece import Part
from common.data.shapes import (
    Shape,
    box,
    capsule,
    cylinder,
    lathe,
    moved,
    round_cone,
    sphere,
    turned,
    union,
)

WALL = 0.018  # half the thickness of a shade


def lamp(rng: np.random.Generator) -> list[Part]:
    """A lamp about 1 high."""
    form = rng.choice(
        ["vase", "standard", "tripod", "jointed", "arc"], p=[0.35, 0.2, 0.2, 0.15, 0.1]
    )
    foot = hard(rng)
    cover = fabric(rng) if rng.random() < 0.6 else paint(rng)
    if form in ("jointed", "arc"):
        return _hanging(rng, form, foot, cover)
    big = form == "vase"
    height = rng.uniform(0.26, 0.42) if big else rng.uniform(0.18, 0.32)
    radius = rng.uniform(0.2, 0.36) if big else rng.uniform(0.14, 0.26)
    bottom = 1 - height
    parts = [Part(moved(_shade(rng, radius, height), (0, bottom, 0)), cover)]
    if form == "vase":
        parts.append(Part(_vase(rng, bottom), foot))
    elif form == "tripod":
        parts.append(Part(_tripod(rng, bottom), foot))
    else:
        reach = rng.uniform(0.12, 0.22)
        stand = cylinder((0, 0.02, 0), reach, rng.uniform(0.02, 0.04), 0.01)
        if rng.random() < 0.4:
            stand = box((0, 0.02, 0), (reach, 0.022, reach), 0.008)
        parts.append(Part(union(stand, _stem(rng.uniform(0.024, 0.032), bottom)), foot))
    # The stem goes on to the shade's lid or cross: what holds the shade.
    parts.append(Part(_stem(0.022, bottom + height * 0.9), foot))
    return parts


def _stem(radius: float, height: float) -> Shape:
    return cylinder((0, height / 2, 0), radius, height / 2, 0.004)


def _shade(rng: np.random.Generator, radius: float, height: float) -> Shape:
    """A shade, hollow and open below or closed like a lantern, from y = 0 to ``height``."""
    form = rng.choice(["cone", "drum", "dome", "globe", "bell"])
    if form == "globe":
        return sphere((0, height / 2, 0), height / 2)
    if form == "dome":
        angle = np.linspace(0, np.pi / 2, 7)
        outline = np.stack([radius * np.cos(angle), height * np.sin(angle)], axis=1)
    elif form == "bell":
        rise = np.linspace(0, 1, 6)
        narrow = rng.uniform(0.3, 0.5)
        outline = np.stack([radius * (narrow + (1 - narrow) * (1 - rise) ** 2), height * rise], 1)
    else:
        narrow = rng.uniform(0.3, 0.75) if form == "cone" else rng.uniform(0.92, 1.0)
        outline = np.array([[radius, 0.0], [radius * narrow, height]])
    outline = np.clip(outline, WALL, None) - [0, WALL]
    if rng.random() < 0.5:
        closed = [(0.0, outline[-1, 1]), (0.0, outline[0, 1])]
        return lathe(np.concatenate([outline, closed]).tolist(), rounding=WALL)
    # A thin wall: down the inside, and a lid that closes the top.
    lid = [(0.0, outline[-1, 1]), (0.0, outline[-1, 1] - 0.004)]
    inner = outline[::-1] - [0.004, 0.004]
    profile = np.concatenate([outline, lid, np.maximum(inner, [0.001, 0])])
    return moved(lathe(profile.tolist(), rounding=WALL - 0.002), (0, 0.002, 0))


def _vase(rng: np.random.Generator, height: float) -> Shape:
    """A body from the lathe: bottle, gourd, ball, cone or block."""
    form = rng.choice(["gourd", "ball", "block", "cone", "lathe"])
    wide = rng.uniform(0.09, 0.19)
    if form == "ball":
        ball = sphere((0, wide, 0), wide)
        return union(ball, cylinder((0, 0.02, 0), 0.7 * wide, 0.02, 0.005))
    if form == "block":
        body = box((0, height * 0.4, 0), (wide * 0.75, height * 0.4, wide * 0.75), 0.02)
        return turned(body, "y", rng.choice([0.0, np.pi / 4]))
    if form == "cone":
        return round_cone((0, wide, 0), (0, height, 0), wide, 0.03)
    if form == "gourd":
        small = wide * rng.uniform(0.5, 0.8)
        lower = sphere((0, wide, 0), wide)
        return union(lower, sphere((0, 2 * wide + 0.7 * small, 0), small))
    levels = np.linspace(0, 0.85 * height, 6)
    radii = np.clip(rng.uniform(0.25, 1.0, 6) * wide, 0.03, None)
    radii[0] = wide
    profile = [(0.0, 0.0), *zip(radii, levels, strict=True), (0.0, levels[-1])]
    return lathe(profile)


def _tripod(rng: np.random.Generator, height: float) -> Shape:
    radius, reach = rng.uniform(0.023, 0.03), rng.uniform(0.18, 0.3)
    start = rng.uniform(0, 2 * np.pi / 3)
    legs = []
    for angle in start + np.arange(3) * (2 * np.pi / 3):
        foot = (reach * np.cos(angle), radius, reach * np.sin(angle))
        legs.append(round_cone((0, height, 0), foot, radius * 1.1, radius))
    return union(*legs)


def _hanging(rng: np.random.Generator, form: str, foot, cover) -> list[Part]:
    """A desk lamp of two jointed arms, or a bow over a heavy foot; the shade hangs in front."""
    radius = rng.uniform(0.024, 0.03)
    reach = rng.uniform(0.12, 0.2)
    stand = cylinder((0, 0.03, 0), reach, 0.03, 0.012)
    if form == "jointed":
        elbow = (0, rng.uniform(0.4, 0.65), -rng.uniform(0.1, 0.3))
        tip = np.array([0, rng.uniform(0.6, 0.85), rng.uniform(0.12, 0.35)])
        arms = union(
            capsule((0, 0.03, 0), elbow, radius),
            capsule(elbow, tip, radius),
            sphere(elbow, 1.5 * radius),
        )
    else:
        bow = np.linspace(0, rng.uniform(0.6, 0.75) * np.pi, 7)
        span = rng.uniform(0.25, 0.35)
        top = rng.uniform(0.6, 0.75)
        joints = np.stack([0 * bow, top + 0.25 * np.sin(bow), span - span * np.cos(bow)], axis=1)
        arms = union(
            capsule((0, 0.03, 0), joints[0], radius),
            *(capsule(a, b, radius) for a, b in zip(joints[:-1], joints[1:], strict=True)),
        )
        tip = joints[-1]
    width, high = rng.uniform(0.11, 0.2), rng.uniform(0.1, 0.2)
    shade = moved(_shade(rng, width, high), tip - [0, high * 0.8, 0])
    shade = turned(shade, "x", -rng.uniform(0.0, 0.7), tip)
    return [Part(union(stand, arms), foot), Part(shade, cover)]
