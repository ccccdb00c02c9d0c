"""Camera paths for films: closed curves at an even speed, on which the object stays in view."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial.transform import Rotation, RotationSpline

from common.cameras import Cameras, look_at
from common.errors import UserError

PathKind = Literal["orbit", "cameras", "spiral"]
PATHS: tuple[PathKind, ...] = get_args(PathKind)

STATIONS = 10
TURNS = 3
LEAST_SWING = np.radians(15)
FINE = 10_000  # steps along which a curve's length is measured
# An end of a spline on rotations is felt less than a millionth this many stations away from it.
FAR = 12

Curve = Callable[[Float[np.ndarray, "N"]], Float[np.ndarray, "N 3"]]


def camera_path(kind: PathKind, cameras: Cameras, count: int) -> Cameras:
    """``count`` cameras on a closed path, from the side of the first of the given ones.

    ``orbit``: a circle around the mean upward direction, at the cameras' mean distance and height.
    ``spiral``: TURNS turns around the cameras' common axis, between its ends and back.
    ``cameras``: a smooth curve through at most STATIONS of the cameras. The frame is the object's,
    its origin what is looked at. Raises UserError where the cameras allow no such path.
    """
    drawn = {"orbit": _orbit, "cameras": _through_cameras, "spiral": _spiral}
    return drawn[kind](cameras, count)


def _orbit(cameras: Cameras, count: int) -> Cameras:
    centre, up = _centres(cameras), _up(cameras)
    slant = np.arccos((centre @ up).mean() / np.linalg.norm(centre, axis=1).mean())
    around = _around(up, centre)
    turn = 2 * np.pi * np.arange(count) / count
    return _looking_in(cameras, around(np.full(count, slant), turn))


def _spiral(cameras: Cameras, count: int) -> Cameras:
    """Sideways the cameras' middle 80 % are kept to, or LEAST_SWING where they stand on a ring."""
    centre = _centres(cameras)
    axis = _common_axis(cameras)
    slant = np.arccos((_unit(centre) @ axis).clip(-1, 1))
    low, high = np.quantile(slant, [0.1, 0.9])
    half = max((high - low) / 2, LEAST_SWING)
    # On the axis itself there is no telling which way is up.
    middle = ((low + high) / 2).clip(half + 0.1, np.pi - half - 0.1)
    around = _around(axis, centre)

    def curve(moment: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N 3"]:
        return around(middle - half * np.cos(2 * np.pi * moment), 2 * np.pi * TURNS * moment)

    return _looking_in(cameras, curve(_even_moments(curve, count)))


def _through_cameras(cameras: Cameras, count: int) -> Cameras:
    """Directions and distances, rotations and intrinsics are splines through the stations.

    Directions follow a periodic cubic spline, distances and intrinsics one that does not overshoot
    (Fritsch and Carlson 1980), rotations one on SO(3) with a continuous angular acceleration. The
    last is then swung the shortest way to where the object is, as between stations the two splines
    do not know of each other.
    """
    cameras = cameras[_tour(_unit(_centres(cameras))).tolist()]
    centre, matrices = _centres(cameras), _array(cameras.object_from_camera[:, :3, :3])
    closed = np.concatenate([centre, centre[:1]])
    time = np.concatenate([[0], np.linalg.norm(np.diff(closed, axis=0), axis=1).cumsum()])
    time /= time[-1]
    direction = CubicSpline(time, _unit(closed), bc_type="periodic")
    distance = _monotone(time, np.linalg.norm(centre, axis=1))
    intrinsics = _monotone(time, _array(cameras.intrinsics))
    # Where the object is, as each station's own camera sees it: not always straight ahead.
    aim = _monotone(time, np.einsum("vji,vj->vi", matrices, -_unit(centre)))

    def curve(moment: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N 3"]:
        return _unit(direction(moment)) * distance(moment)[:, None]

    moments = _even_moments(curve, count)
    path = curve(moments)
    turned = _rotations(time, matrices)(moments)
    swing = _shortest_rotation(turned.apply(_unit(aim(moments))), -_unit(path))
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, :3, :3] = (swing * turned).as_matrix()
    pose[:, :3, 3] = path
    like = cameras.intrinsics
    return Cameras(
        torch.from_numpy(intrinsics(moments)).to(like),
        torch.from_numpy(pose).to(like),
        cameras.height,
        cameras.width,
    )


def _rotations(time: Float[np.ndarray, "T"], matrices: Float[np.ndarray, "S 3 3"]):
    """A closed spline through rotations: several rounds of an open one, far from whose ends."""
    rounds = range(-(-FAR // len(matrices)) * 2 + 1)
    moments = np.concatenate([time[:-1] + number - len(rounds) // 2 for number in rounds])
    return RotationSpline(moments, Rotation.from_matrix(np.tile(matrices, (len(rounds), 1, 1))))


def _monotone(time: Float[np.ndarray, "T"], values: Float[np.ndarray, "S *v"]):
    """A closed spline that stays within neighbouring values: a round more on either side."""
    moments = np.concatenate([time[:-1] - 1, time[:-1], time + 1])
    return PchipInterpolator(moments, np.concatenate([values, values, values, values[:1]]))


def _shortest_rotation(
    source: Float[np.ndarray, "N 3"], target: Float[np.ndarray, "N 3"]
) -> Rotation:
    """The rotations about the axes across both that take unit vectors to others."""
    cross = np.cross(source, target)
    sine = np.linalg.norm(cross, axis=1, keepdims=True)
    angle = np.arctan2(sine, (source * target).sum(axis=1, keepdims=True))
    # angle / sine is 1 in the limit of no rotation at all.
    factor = np.divide(angle, sine, out=np.ones_like(sine), where=sine > 0)
    return Rotation.from_rotvec(cross * factor)


def _tour(direction: Float[np.ndarray, "V 3"]) -> Int[np.ndarray, "S"]:
    """At most STATIONS cameras, the first and each time the farthest from all, in a short round."""
    chosen = [0]
    apart = np.linalg.norm(direction - direction[0], axis=1)
    while len(chosen) < STATIONS and apart.max() > 0.01:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, np.linalg.norm(direction - direction[chosen[-1]], axis=1))
    if len(chosen) < 3:
        raise UserError(
            f"--path cameras: of {len(direction)} cameras, {len(chosen)} stand in different "
            "directions, and a closed path needs three; use --path orbit"
        )
    angle = np.arccos((direction[chosen] @ direction[chosen].T).clip(-1, 1))
    return np.array(chosen)[_short_round(angle)]


def _short_round(distance: Float[np.ndarray, "S S"]) -> list[int]:
    """An order that no reversal of a part makes shorter (2-opt: Croes 1958), beginning with 0."""
    count = len(distance)
    order = list(range(count))

    def length(order: list[int]) -> float:
        return float(distance[order, np.roll(order, -1)].sum())

    improves = True
    while improves:
        improves = False
        for first in range(1, count - 1):
            for last in range(first + 2, count + 1):
                other = order[:first] + order[first:last][::-1] + order[last:]
                if length(other) < length(order) - 1e-9:
                    order, improves = other, True
    return order


def _even_moments(curve: Curve, count: int) -> Float[np.ndarray, "count"]:
    """Moments in [0, 1) that divide a closed curve over [0, 1] into parts of equal length."""
    moments = np.linspace(0, 1, FINE + 1)
    steps = np.linalg.norm(np.diff(curve(moments), axis=0), axis=1)
    length = np.concatenate([[0], steps.cumsum()])
    return np.interp(np.arange(count) / count * length[-1], length, moments)


def _around(
    axis: Float[np.ndarray, "3"], centre: Float[np.ndarray, "V 3"]
) -> Callable[[Float[np.ndarray, "N"], Float[np.ndarray, "N"]], Float[np.ndarray, "N 3"]]:
    """Points at the cameras' mean distance: slant from the axis, turn from the first camera."""
    distance = np.linalg.norm(centre, axis=1).mean()
    first = centre[0] - (centre[0] @ axis) * axis
    if np.linalg.norm(first) < 1e-3 * distance:
        # It stands on the axis. Any direction across will do; the one least along it is safe.
        first = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)

    def point(
        slant: Float[np.ndarray, "N"], turn: Float[np.ndarray, "N"]
    ) -> Float[np.ndarray, "N 3"]:
        outwards = np.outer(np.cos(turn), first) + np.outer(np.sin(turn), second)
        return distance * (np.outer(np.cos(slant), axis) + np.sin(slant)[:, None] * outwards)

    return point


def _common_axis(cameras: Cameras) -> Float[np.ndarray, "3"]:
    """Where most cameras stand; upwards where that is not far off or they stand all around."""
    up, mean = _up(cameras), _unit(_centres(cameras)).mean(axis=0)
    one_sided = np.linalg.norm(mean) > 0.5 and mean @ up < np.linalg.norm(mean) * np.cos(np.pi / 4)
    return mean / np.linalg.norm(mean) if one_sided else up


def _looking_in(cameras: Cameras, path: Float[np.ndarray, "N 3"]) -> Cameras:
    """Upright cameras on a path that look at the origin, with the first one's intrinsics."""
    like = cameras.intrinsics
    centre, up = torch.from_numpy(path).to(like), torch.from_numpy(_up(cameras)).to(like)
    pose = look_at(centre, torch.zeros_like(centre), up)
    intrinsics = like[:1].expand(len(path), 3, 3).contiguous()
    return Cameras(intrinsics, pose, cameras.height, cameras.width)


def _up(cameras: Cameras) -> Float[np.ndarray, "3"]:
    """The mean of what is upwards in the pictures."""
    mean = -_array(cameras.object_from_camera[:, :3, 1]).mean(axis=0)
    return mean / np.linalg.norm(mean)


def _centres(cameras: Cameras) -> Float[np.ndarray, "V 3"]:
    return _array(cameras.centre)


def _array(tensor: torch.Tensor) -> Float[np.ndarray, "..."]:
    return tensor.detach().double().cpu().numpy()


def _unit(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
