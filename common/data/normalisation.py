"""Where an object is and how large, as its silhouettes tell."""

import math
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.cameras import Cameras
from common.data.hull import on_masks
from common.errors import UserError


def look_at_centre(cameras: Cameras) -> Float[Tensor, "3"]:
    """The point nearest (least squares) to all optical axes; UserError where they are parallel."""
    axis = cameras.object_from_camera[:, :3, 2].double()
    # Distance to an axis is |(I - a a^T)(p - c)|.
    across = torch.eye(3).to(axis) - axis[:, :, None] * axis[:, None, :]
    normal = across.sum(dim=0)
    if torch.linalg.eigvalsh(normal)[0] < 1e-3 * len(cameras):
        raise UserError(
            "the cameras' axes are parallel, so they do not show where the object is; "
            "add views from other sides"
        )
    right = (across @ cameras.centre.double()[..., None]).sum(dim=0)
    return torch.linalg.solve(normal, right)[:, 0].float()


def hull_sphere(
    masks: Bool[Tensor, "V H W"], cameras: Cameras, resolution: int = 48
) -> tuple[Float[Tensor, "3"], float]:
    """Centre and radius of a sphere that contains the masks' visual hull, with a tenth to spare.

    The hull is carved on a grid about the point all cameras look at, first as far out as the
    nearest camera, then once more where something was left. Raises UserError where nothing is.
    """
    centre = look_at_centre(cameras)
    half = (cameras.centre - centre).norm(dim=-1).min()
    for _ in range(2):
        steps = torch.linspace(-1, 1, resolution) * half
        cell = steps[1] - steps[0]
        grid = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1)
        points = centre + grid.reshape(-1, 3)
        hull = points[on_masks(points, masks, cameras, 0.5)]
        if len(hull) == 0:
            raise UserError(
                "no point lies inside all masks; check that masks (object white), images and "
                "cameras belong together"
            )
        low, high = hull.amin(dim=0), hull.amax(dim=0)
        centre = (low + high) / 2
        half = (high - low).max() / 2 + cell
    radius = (hull - centre).norm(dim=-1).max() + cell * math.sqrt(3) / 2
    return centre, float(1.1 * radius)


def check_object_in_ball(
    where: Path, masks: Bool[Tensor, "V H W"], cameras: Cameras, radius: float
) -> None:
    """Refuse cameras or a scale_mat by which most of the masks lie off the ball at the origin.

    Looks at a few hundred pixels of each mask. The object may stick out a little.
    """
    stride = max(1, math.isqrt(masks[0].numel() // 400))
    rows, columns = (torch.arange(size)[::stride] for size in masks.shape[1:])
    view, row, column = masks[:, ::stride, ::stride].nonzero(as_tuple=True)
    if len(view) == 0:
        return
    rays = cameras.rays(view, torch.stack([columns[column], rows[row]], dim=-1).float())
    off_axis = torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1)
    share = (off_axis < radius).float().mean()
    if share < 0.5:
        raise UserError(
            f"{where}: only {share:.0%} of the masks' pixels look at the ball of radius "
            f"{radius:.3g} that should contain the object; check scale_mat, and that masks and "
            "cameras match"
        )
