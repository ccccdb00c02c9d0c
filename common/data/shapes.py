"""Solids as signed distance functions: primitives and the ways to combine them.

Every distance is negative inside, zero exactly on the surface, and 1-Lipschitz, so that a sphere
tracer cannot step through a wall. Away from the surface it may be less than the true distance
(after a union inside, or an intersection outside), never more. Every shape carries an axis-aligned
box that contains it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Distance = Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]]
Vector = Sequence[float | int] | np.ndarray
AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Shape:
    """A solid {distance < 0} and the corners of a box around it."""

    distance: Distance
    lower: np.ndarray
    upper: np.ndarray


def sphere(centre: Vector, radius: float) -> Shape:
    """A ball."""
    middle = np.asarray(centre, dtype=float)

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        x, y, z = _from(middle, points)
        return (x * x + y * y + z * z).sqrt() - radius

    return Shape(distance, middle - radius, middle + radius)


def box(centre: Vector, half: Vector, rounding: float = 0.0) -> Shape:
    """A box of these outer half sides, its edges rounded with this radius."""
    middle, half_sides = np.asarray(centre, dtype=float), np.asarray(half, dtype=float)
    rounding = min(rounding, 0.999 * half_sides.min())

    (cx, cy, cz), (hx, hy, hz) = middle.tolist(), (half_sides - rounding).tolist()

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        x, y, z = points.unbind(-1)
        x, y, z = (x - cx).abs() - hx, (y - cy).abs() - hy, (z - cz).abs() - hz
        nearest_face = torch.maximum(torch.maximum(x, y), z).clamp(max=0)
        x, y, z = x.clamp(min=0), y.clamp(min=0), z.clamp(min=0)
        return (x * x + y * y + z * z).sqrt() + nearest_face - rounding

    return Shape(distance, middle - half_sides, middle + half_sides)


def cylinder(centre: Vector, radius: float, half_height: float, rounding: float = 0.0) -> Shape:
    """An upright (y) cylinder of these outer sizes, its rims rounded with this radius."""
    middle = np.asarray(centre, dtype=float)
    rounding = min(rounding, 0.999 * radius, 0.999 * half_height)

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        x, y, z = _from(middle, points)
        across = _length(x, z) - (radius - rounding)
        along = y.abs() - (half_height - rounding)
        return _extruded(across, along) - rounding

    reach = np.array([radius, half_height, radius])
    return Shape(distance, middle - reach, middle + reach)


def round_cone(start: Vector, end: Vector, start_radius: float, end_radius: float) -> Shape:
    """The convex hull of two balls: a capsule where radii agree; a ball that holds the other."""
    a, b = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    length = float(np.linalg.norm(b - a))
    if length <= abs(start_radius - end_radius):
        return sphere(*((start, start_radius) if start_radius > end_radius else (end, end_radius)))
    axis = ((b - a) / length).tolist()
    sine = (start_radius - end_radius) / length
    cosine = float(np.sqrt(1 - sine * sine))

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        x, y, z = _from(a, points)
        along = x * axis[0] + y * axis[1] + z * axis[2]
        across = (x * x + y * y + z * z - along * along).clamp(min=0).sqrt()
        # The hull's straight side leans by asin(sine): slide along the axis to the ball whose
        # surface is nearest, then measure from that ball.
        nearest = (along - across * sine / cosine).clamp(0, length)
        radius = start_radius + nearest * ((end_radius - start_radius) / length)
        return _length(along - nearest, across) - radius

    lower = np.minimum(a - start_radius, b - end_radius)
    upper = np.maximum(a + start_radius, b + end_radius)
    return Shape(distance, lower, upper)


def capsule(start: Vector, end: Vector, radius: float) -> Shape:
    """All points within ``radius`` of a segment."""
    return round_cone(start, end, radius, radius)


def extrusion(
    polygon: Sequence[Vector],
    axis: str,
    half_length: float,
    centre: float = 0.0,
    rounding: float = 0.0,
) -> Shape:
    """A prism along ``axis`` whose section is a polygon in the two other coordinates, in order.

    ``rounding`` grows the section and rounds its edges.
    """
    index = AXES[axis]
    others = [i for i in range(3) if i != index]
    corners = np.asarray(polygon, dtype=float)
    section = _polygon_distance(corners)

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        across = section(points[:, others[0]], points[:, others[1]])
        along = (points[:, index] - centre).abs() - (half_length - rounding)
        return _extruded(across, along) - rounding

    lower, upper = np.empty(3), np.empty(3)
    lower[others], upper[others] = corners.min(0) - rounding, corners.max(0) + rounding
    lower[index], upper[index] = centre - half_length, centre + half_length
    return Shape(distance, lower, upper)


def lathe(profile: Sequence[Vector], rounding: float = 0.0) -> Shape:
    """A closed polygon of (radius, height) corners turned about the y axis."""
    corners = np.asarray(profile, dtype=float)
    section = _polygon_distance(corners)

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        x, y, z = points.unbind(-1)
        return section(_length(x, z), y) - rounding

    reach = corners[:, 0].max() + rounding
    low, high = corners[:, 1].min() - rounding, corners[:, 1].max() + rounding
    return Shape(distance, np.array([-reach, low, -reach]), np.array([reach, high, reach]))


def union(*shapes: Shape) -> Shape:
    """Everything inside any of the shapes."""

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        nearest = shapes[0].distance(points)
        for shape in shapes[1:]:
            nearest = torch.minimum(nearest, shape.distance(points))
        return nearest

    lower = np.min([shape.lower for shape in shapes], axis=0)
    return Shape(distance, lower, np.max([shape.upper for shape in shapes], axis=0))


def intersection(first: Shape, second: Shape) -> Shape:
    """Everything inside both shapes."""

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        return torch.maximum(first.distance(points), second.distance(points))

    lower = np.maximum(first.lower, second.lower)
    return Shape(distance, lower, np.minimum(first.upper, second.upper))


def difference(solid: Shape, cut: Shape) -> Shape:
    """The first shape without the second."""

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        return torch.maximum(solid.distance(points), -cut.distance(points))

    return Shape(distance, solid.lower, solid.upper)


def moved(shape: Shape, offset: Vector) -> Shape:
    """The shape translated."""
    shift = np.asarray(offset, dtype=float)

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        return shape.distance(points - _like(shift, points))

    return Shape(distance, shape.lower + shift, shape.upper + shift)


def turned(shape: Shape, axis: str, angle: float, pivot: Vector = (0.0, 0.0, 0.0)) -> Shape:
    """The shape turned by ``angle`` radians (right-handed) about an axis through ``pivot``."""
    cosine, sine = np.cos(angle), np.sin(angle)
    first, second = [(1, 2), (2, 0), (0, 1)][AXES[axis]]
    rotation = np.eye(3)
    rotation[[first, first, second, second], [first, second, first, second]] = (
        cosine,
        -sine,
        sine,
        cosine,
    )
    centre = np.asarray(pivot, dtype=float)

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        middle = _like(centre, points)
        return shape.distance((points - middle) @ _like(rotation, points) + middle)

    corners = np.stack(np.meshgrid(*zip(shape.lower, shape.upper, strict=True)), -1).reshape(-1, 3)
    corners = (corners - centre) @ rotation.T + centre
    return Shape(distance, corners.min(0), corners.max(0))


def mirrored(shape: Shape, *axes: str) -> Shape:
    """The half of the shape on the positive side of each axis, and its mirror images."""
    folded = [AXES[axis] for axis in axes]

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        columns = list(points.unbind(-1))
        for index in folded:
            columns[index] = columns[index].abs()
        return shape.distance(torch.stack(columns).T)

    lower = shape.lower.copy()
    lower[folded] = -shape.upper[folded]
    return Shape(distance, lower, shape.upper)


def repeated(shape: Shape, axis: str, spacing: float, count: int) -> Shape:
    """``count`` copies in a row centred where the shape is.

    The shape must be symmetric across the axis and no longer along it than ``spacing``.
    """
    index = AXES[axis]
    centre = float(shape.lower[index] + shape.upper[index]) / 2
    first = -(count - 1) / 2

    def distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        columns = list(points.unbind(-1))
        place = (columns[index] - centre) / spacing
        copy = ((place - first).round().clamp(0, count - 1) + first) * spacing
        columns[index] = columns[index] - copy
        return shape.distance(torch.stack(columns).T)

    lower, upper = shape.lower.copy(), shape.upper.copy()
    lower[index] += first * spacing
    upper[index] -= first * spacing
    return Shape(distance, lower, upper)


def _polygon_distance(
    corners: np.ndarray,
) -> Callable[[Float[Tensor, "N"], Float[Tensor, "N"]], Float[Tensor, "N"]]:
    """Exact signed distance to a simple polygon in the plane, corners in either order."""
    edges = np.roll(corners, -1, axis=0) - corners
    length = np.linalg.norm(edges, axis=1)
    columns = np.stack([*corners.T, *(edges.T / length), length / 2])

    def distance(x: Float[Tensor, "N"], y: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        # A row an edge: with few points, what counts is how often torch is called.
        start_x, start_y, along_x, along_y, half = _like(columns, x)[:, :, None]
        dx, dy = x - start_x, y - start_y
        across = torch.addcmul(dy * along_x, dx, along_y, value=-1)
        from_middle = dx.mul_(along_x).addcmul_(dy, along_y).sub_(half).abs_()
        beyond = from_middle.sub_(half).clamp_(min=0)
        root = beyond.square_().addcmul_(across, across).amin(dim=0).sqrt_()
        # Even-odd rule: count the edges that cross the horizontal line through the point to its
        # right; across > 0 says on which side of the edge the point lies.
        below = y < start_y
        crosses = (below != below.roll(-1, 0)) & ((across > 0) == (along_y > 0))
        odd = crosses.sum(dim=0, dtype=torch.uint8) & 1  # a byte overflows without harm to this
        return torch.where(odd.bool(), -root, root)

    return distance


def _from(centre: np.ndarray, points: Tensor) -> list[Tensor]:
    """Coordinates relative to a centre; column by column, which torch does fastest."""
    x, y, z = points.unbind(-1)
    return [x - centre[0].item(), y - centre[1].item(), z - centre[2].item()]


def _length(x: Tensor, y: Tensor) -> Tensor:
    # Several times faster than torch.hypot, whose care for overflow is not needed here.
    return (x * x + y * y).sqrt()


def _extruded(across: Tensor, along: Tensor) -> Tensor:
    """Distance to a prism from the distance to its section and to its two ends."""
    outside = _length(across.clamp(min=0), along.clamp(min=0))
    return outside + torch.maximum(across, along).clamp(max=0)


def _like(values: np.ndarray, points: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=points.dtype, device=points.device)
