"""Where an object is and how large, as its silhouettes tell."""

import itertools
import math
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.cameras import Cameras
from common.data.hull import distance_to_mask, near_masks
from common.errors import UserError

HALVINGS = 8  # a cell is then 1 / 128 of the nearest camera's distance
LARGEST = 512  # pixels; finer masks cost time and tighten the sphere by less than a cell


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


def hull_sphere(masks: Bool[Tensor, "V H W"], cameras: Cameras) -> tuple[Float[Tensor, "3"], float]:
    """Centre and radius of a sphere that contains the masks' visual hull, however thin its parts.

    Cells about the point all cameras look at, as far out as the nearest camera, are halved and
    those that cannot hold any of the hull discarded (an octree). Raises UserError where none is
    left.
    """
    masks, cameras = _shrunk(masks, cameras)
    away = torch.stack([distance_to_mask(mask) for mask in masks])
    origin = look_at_centre(cameras)
    cell = float(2 * (cameras.centre - origin).norm(dim=-1).min())
    cells = origin[None]
    child = torch.tensor(list(itertools.product((-0.25, 0.25), repeat=3))).to(origin)
    for _ in range(HALVINGS):
        cells, cell = (cells[:, None] + cell * child).reshape(-1, 3), cell / 2
        corner = cell * math.sqrt(3) / 2
        cells = cells[near_masks(cells, corner, away, cameras, 0.5)]
    # Small as they now are, cells are where their centres are: beside most pictures, or not.
    pixel, z = cameras.project(cells)
    limit = torch.tensor([masks.shape[2] - 1, masks.shape[1] - 1], device=masks.device)
    seen = (z > 0) & ((pixel >= 0) & (pixel <= limit)).all(dim=-1)
    cells = cells[seen.float().mean(dim=0) >= 0.5]
    if len(cells) == 0:
        raise UserError(
            "no point lies inside all masks; check that masks (object white), images and "
            "cameras belong together"
        )
    centre = (cells.amin(dim=0) + cells.amax(dim=0)) / 2
    return centre, float((cells - centre).norm(dim=-1).max()) + corner


def _shrunk(masks: Bool[Tensor, "V H W"], cameras: Cameras) -> tuple[Tensor, Cameras]:
    """The same at no more than LARGEST pixels a side; a pixel that any object touches is object."""
    factor = math.ceil(max(masks.shape[1:]) / LARGEST)
    if factor == 1:
        return masks, cameras
    height, width = (-(-side // factor) * factor for side in masks.shape[1:])
    padding = (0, width - masks.shape[2], 0, height - masks.shape[1])
    padded = torch.nn.functional.pad(masks, padding)
    pooled = torch.nn.functional.max_pool2d(padded.float(), factor) > 0
    # Padding adds pixels beyond the border, and moves none.
    wider = Cameras(cameras.intrinsics, cameras.object_from_camera, height, width)
    return pooled, wider.resized(height // factor, width // factor)


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
