"""The shape of one scene with the appearance of another, along a smooth camera path.

Yariv et al. 2020, Sec. 4.3: geometry and appearance are two networks, so those of two runs can be
put together. The appearance network is given the other's points and normals. Features are numbers
that mean something to their own run alone, so they are the appearance run's own at those points:
the space around a surface wears its material.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline, PchipInterpolator

from common.cameras import Cameras, look_at
from common.errors import UserError

STATIONS = 6


def closed_path(cameras: Cameras, count: int) -> Cameras:
    """``count`` cameras on a smooth closed curve through some of these, looking at the origin.

    The stations surround the cameras' common axis: the direction in which most of them stand, or
    the upward one where they stand all around. Directions follow a periodic cubic spline and
    distances one that does not overshoot (Fritsch and Carlson 1980). Intrinsics are the first
    camera's. Raises UserError where fewer than three cameras surround that axis.
    """
    centre = cameras.centre.detach().double().cpu().numpy()
    up = -cameras.object_from_camera[:, :3, 1].detach().double().cpu().mean(dim=0)
    stations = centre[_stations(centre, up.numpy())]
    closed = np.concatenate([stations, stations[:1]])
    time = np.concatenate([[0], np.linalg.norm(np.diff(closed, axis=0), axis=1).cumsum()])
    radius = np.linalg.norm(closed, axis=1)
    moments = np.arange(count) / count * time[-1]
    direction = CubicSpline(time, closed / radius[:, None], bc_type="periodic")(moments)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    # One more round on either side makes the distances periodic too.
    rounds = np.concatenate([time[:-1] - time[-1], time, time[1:] + time[-1]])
    distances = np.concatenate([radius[:-1], radius, radius[1:]])
    distance = PchipInterpolator(rounds, distances)(moments)
    path = torch.from_numpy(direction * distance[:, None]).to(cameras.intrinsics)
    pose = look_at(path, torch.zeros_like(path), up.to(path))
    intrinsics = cameras.intrinsics[:1].expand(count, 3, 3).contiguous()
    return Cameras(intrinsics, pose, cameras.height, cameras.width)


def _stations(centre: Float[np.ndarray, "V 3"], up: Float[np.ndarray, "3"]) -> list[int]:
    """Cameras nearest to even places on the circle of median slant, in order around its axis."""
    direction = centre / np.linalg.norm(centre, axis=1, keepdims=True)
    mean = direction.mean(axis=0)
    axis = mean if np.linalg.norm(mean) > 0.5 else up
    axis = axis / np.linalg.norm(axis)
    first = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    slant = np.median(np.arccos((direction @ axis).clip(-1, 1)))
    angle = 2 * np.pi * np.arange(STATIONS)[:, None] / STATIONS
    around = np.cos(angle) * first + np.sin(angle) * second
    ideal = np.cos(slant) * axis + np.sin(slant) * around
    chosen = np.unique((ideal @ direction.T).argmax(axis=1))
    if len(chosen) < 3:
        raise UserError(
            f"the run's {len(centre)} cameras do not surround the object, so no closed path leads "
            "through them; use --orbit"
        )
    azimuth = np.arctan2(direction[chosen] @ second, direction[chosen] @ first)
    return chosen[azimuth.argsort()].tolist()
