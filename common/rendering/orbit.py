"""Camera paths for films."""

import torch

from common.cameras import Cameras, look_at


def orbit_cameras(cameras: Cameras, count: int) -> Cameras:
    """``count`` cameras on a full circle around the origin, at the given cameras' mean distance.

    The circle's axis is the given cameras' mean upward direction and its height their mean height
    along it, so that an orbit shows the object as its photographs do. Intrinsics are the first
    camera's.
    """
    up = torch.nn.functional.normalize(-cameras.object_from_camera[:, :3, 1].mean(dim=0), dim=0)
    distance = cameras.centre.norm(dim=-1).mean()
    height = (cameras.centre @ up).mean()
    # Any direction across the axis will do to begin with; the one least along it is safe.
    axis = torch.eye(3)[up.abs().argmin()].to(up)
    first = torch.nn.functional.normalize(torch.linalg.cross(up, axis), dim=0)
    second = torch.linalg.cross(up, first)
    angle = 2 * torch.pi * torch.arange(count, device=up.device) / count
    radius = (distance.square() - height.square()).clamp_min(1e-6).sqrt()
    around = angle.cos()[:, None] * first + angle.sin()[:, None] * second
    centre = radius * around + height * up
    pose = look_at(centre, torch.zeros_like(centre), up)
    intrinsics = cameras.intrinsics[:1].expand(count, 3, 3).contiguous()
    return Cameras(intrinsics, pose, cameras.height, cameras.width)
