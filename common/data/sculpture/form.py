"""The form of the sculpture: a teapot with handle and spout on a fluted pedestal.

Parts are designed in units where the belly is 0.9 wide and its foot stands at y = 0.3; y is up, the
spout points to +x. The whole is then placed in the unit sphere.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from common.data.shapes import Shape, Vector, capsule, cylinder, difference, sphere, union

# The sphere around the designed parts, and the radius it gets in the object frame.
CENTRE = (0.072, 0.565, 0.0)
DESIGNED_RADIUS = 0.811
RADIUS = 0.9
SCALE = RADIUS / DESIGNED_RADIUS
# The belly's section is a rounded rectangle: arcs of this radius about (BELLY_ARC, BELLY_HEIGHT).
BELLY_RADIUS, BELLY_HEIGHT, BELLY_ROUNDING = 0.45, 0.62, 0.265
BELLY_ARC = BELLY_RADIUS - BELLY_ROUNDING


@dataclass(frozen=True)
class Sculpture:
    """The parts, in designed units; ``belly`` is the pot without spout and handle."""

    belly: Shape
    pot: Shape
    lid: Shape
    knob: Shape
    stone: Shape
    beads: Shape

    @property
    def parts(self) -> tuple[Shape, ...]:
        """The solids whose union is the sculpture."""
        return self.pot, self.lid, self.knob, self.stone, self.beads

    def distance(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Signed distance in the object frame (negative inside), at most the true one."""
        return union(*self.parts).distance(designed(points)) * SCALE


def designed(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Points of the object frame in designed units."""
    columns = [
        column / SCALE + place for column, place in zip(points.unbind(-1), CENTRE, strict=True)
    ]
    # Each coordinate in one block of memory: twice as fast for shapes, which use them singly.
    return torch.stack(columns).T


def sculpture() -> Sculpture:
    """The teapot and its pedestal."""
    belly = _belly()
    pot = smooth_union(smooth_union(belly, _spout(), 0.09), _handle(), 0.05)
    return Sculpture(belly, difference(pot, _mouth()), _lid(), _knob(), _stone(), _beads())


def _belly() -> Shape:
    """A rounded body with gadroons (a wreath of flutes) below, a foot and a collar."""
    body = cylinder((0, BELLY_HEIGHT, 0), BELLY_RADIUS, 0.275, BELLY_ROUNDING)
    flute = arc((BELLY_ARC, BELLY_HEIGHT), BELLY_ROUNDING + 0.032, -75, -12, 0.05)
    body = smooth_difference(body, around(flute, 18), 0.02)
    foot = cylinder((0, 0.345, 0), 0.235, 0.035, 0.02)
    collar = cylinder((0, 0.905, 0), 0.235, 0.03, 0.025)
    return smooth_union(smooth_union(body, foot, 0.04), collar, 0.04)


SPOUT_START, SPOUT_BEND, SPOUT_END = (0.38, 0.78), (0.855, 0.694), 112.0


def _spout() -> Shape:
    """An S of two arcs that meet with one tangent, slimmer towards the mouth."""
    lower = arc(SPOUT_START, 0.26, -85, -10, 0.0)
    # The second arc's centre lies on the line from the first one's through where they meet.
    upper = arc(SPOUT_BEND, 0.222, SPOUT_END, 170, 0.0)
    return tapered(union(lower, upper), (0.5, 0.085), (0.9, 0.048))


def _mouth() -> Shape:
    """What is hollowed from the spout's end."""
    angle = np.radians(SPOUT_END)
    end = np.array(SPOUT_BEND) + 0.222 * np.array([np.cos(angle), np.sin(angle)])
    along = np.array([np.sin(angle), -np.cos(angle)])
    start, stop = (np.append(end + reach * along, 0.0) for reach in (0.0, 0.12))
    return capsule(start, stop, 0.033)


def _handle() -> Shape:
    """An ear whose ends are buried in the belly."""
    return arc((-0.43, 0.635), 0.255, 55, 295, 0.046)


def _lid() -> Shape:
    """A dome on a rim, with a neck for the knob."""
    rim = cylinder((0, 0.94, 0), 0.20, 0.04, 0.035)
    dome = smooth_union(rim, sphere((0, 0.84, 0), 0.195), 0.04)
    return smooth_union(dome, cylinder((0, 1.03, 0), 0.05, 0.06, 0.02), 0.06)


def _knob() -> Shape:
    return sphere((0, 1.12, 0), 0.065)


def _stone() -> Shape:
    """A plinth, a fluted column and a capital."""
    plinth = union(
        cylinder((0, 0.02, 0), 0.50, 0.04, 0.02), cylinder((0, 0.06, 0), 0.40, 0.03, 0.02)
    )
    flute = capsule((0.335, 0.15, 0), (0.335, 0.225, 0), 0.05)
    column = cylinder((0, 0.18, 0), 0.33, 0.13, 0.01)
    carved = smooth_difference(column, around(flute, 16), 0.012)
    capital = cylinder((0, 0.292, 0), 0.385, 0.03, 0.028)
    return smooth_union(smooth_union(plinth, carved, 0.02), capital, 0.02)


def _beads() -> Shape:
    """A string of beads on the plinth."""
    return around(sphere((0.452, 0.075, 0), 0.036), 32)


def smooth_union(first: Shape, second: Shape, width: float) -> Shape:
    """Everything inside either shape, and a fillet where their surfaces are within ``width``.

    The polynomial smooth minimum: its gradient is a convex combination of the two, so it stays
    1-Lipschitz.
    """

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        a, b = first.distance(points), second.distance(points)
        near = (width - (a - b).abs()).clamp(min=0)
        return torch.minimum(a, b) - near * near / (4 * width)

    # The fillet stands out by at most a quarter of its width.
    lower = np.minimum(first.lower, second.lower) - width / 4
    return Shape(distance, lower, np.maximum(first.upper, second.upper) + width / 4)


def smooth_difference(solid: Shape, cut: Shape, width: float) -> Shape:
    """The first shape without the second, the edge between them rounded; 1-Lipschitz as above."""

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        a, b = solid.distance(points), -cut.distance(points)
        near = (width - (a - b).abs()).clamp(min=0)
        return torch.maximum(a, b) + near * near / (4 * width)

    return Shape(distance, solid.lower, solid.upper)


def arc(
    centre: Vector, radius: float, start: float | int, end: float | int, thickness: float
) -> Shape:
    """All points within ``thickness`` of a circular arc in the plane z = 0.

    Angles in degrees from x towards y, ``start`` < ``end``, less than a full turn apart.
    """
    middle, half = np.radians(start + end) / 2, np.radians(end - start) / 2
    cosine, sine = float(np.cos(middle)), float(np.sin(middle))
    end_x, end_y = float(np.cos(half)), float(np.sin(half))

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        x, y, z = points.unbind(-1)
        x, y = x - centre[0], y - centre[1]
        # Turned so that the arc is symmetric about the x axis.
        x, y = cosine * x + sine * y, (cosine * y - sine * x).abs()
        beside = end_y * x - end_x * y >= 0
        to_circle = (x * x + y * y).sqrt() - radius
        to_end = (x - radius * end_x).square() + (y - radius * end_y).square()
        planar = torch.where(beside, to_circle * to_circle, to_end)
        return (planar + z * z).sqrt() - thickness

    reach = radius + thickness
    place = np.array([*centre, 0.0])
    size = np.array([reach, reach, thickness])
    return Shape(distance, place - size, place + size)


def tapered(curve: Shape, low: tuple[float, float], high: tuple[float, float]) -> Shape:
    """A curve thickened by a radius that changes evenly between two (height, radius) pairs."""
    (y0, r0), (y1, r1) = low, high
    slope = (r1 - r0) / (y1 - y0)

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        radius = r0 + slope * (points[:, 1].clamp(y0, y1) - y0)
        # The radius adds its slope to the distance's gradient of length 1.
        return (curve.distance(points) - radius) / (1 + abs(slope))

    grown = max(r0, r1)
    return Shape(distance, curve.lower - grown, curve.upper + grown)


def around(shape: Shape, count: int) -> Shape:
    """``count`` copies about the y axis of a shape on its +x side, symmetric in z."""
    sector = 2 * np.pi / count

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        x, y, z = points.unbind(-1)
        angle = torch.atan2(z, x)
        angle = angle - (angle / sector).round() * sector
        radius = (x * x + z * z).sqrt()
        folded = torch.stack([radius * angle.cos(), y, radius * angle.sin()])
        return shape.distance(folded.T)

    reach = float(np.hypot(shape.upper[0], max(abs(shape.lower[2]), abs(shape.upper[2]))))
    lower = np.array([-reach, shape.lower[1], -reach])
    return Shape(distance, lower, np.array([reach, shape.upper[1], reach]))
