"""Photographs of a piece of furniture: cameras around it, light, shadow."""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from common.cameras import Cameras, Rays, look_at, pixel_grid
from common.data.furniture.piece import Piece
from common.data.sphere_tracer import StepGrid, openness, surface_normals, trace

FOCAL = 2.1875  # in units where the image spans [-1, 1], as in DVR's ShapeNet renderings
SUN = (0.45, 0.8, 0.55)  # towards the light, in the object frame
SKY = (0.30, 0.32, 0.36)
BOUNCE = (0.20, 0.18, 0.16)  # light from below
SUNLIGHT = (0.80, 0.76, 0.68)
REACHES = ((0.05, 0.35), (0.1, 0.25), (0.2, 0.2))  # of the darkening in corners


def cameras_around(rng: np.random.Generator, views: int, size: int) -> Cameras:
    """Cameras that look at the origin and see the whole cube [-0.5, 0.5]^3.

    Azimuths are stratified over the circle, in a random order; elevations lie in [5, 60] degrees,
    but one view in twelve looks slightly up from below.
    """
    azimuth = 2 * np.pi * (rng.permutation(views) + rng.random(views)) / views
    elevation = np.radians(rng.uniform(5, 60, views))
    below = np.arange(views) % 12 == 11
    elevation[below] = np.radians(rng.uniform(-25, 0, int(below.sum())))
    outward = np.stack(
        [
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ],
        axis=1,
    )
    unit = torch.tensor(outward, dtype=torch.float32)
    pose = look_at(unit, torch.zeros(views, 3), torch.tensor([0.0, 1.0, 0.0]))
    corners = torch.tensor(np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), -1).reshape(-1, 3)).float()
    offset = corners @ pose[:, :3, :3]  # of the corners from the origin, in camera axes
    nearest = (FOCAL * offset[..., :2].abs().amax(dim=-1) - offset[..., 2]).amax(dim=-1)
    distance = nearest * torch.tensor(rng.uniform(1.0, 1.06, views), dtype=torch.float32)
    pose[:, :3, 3] = unit * distance[:, None]
    centre = (size - 1) / 2
    intrinsics = torch.tensor([[FOCAL * centre, 0, centre], [0, FOCAL * centre, centre], [0, 0, 1]])
    return Cameras(intrinsics.repeat(views, 1, 1), pose, size, size)


def photograph(
    piece: Piece, grid: StepGrid, cameras: Cameras
) -> tuple[UInt8[Tensor, "V H W 3"], Bool[Tensor, "V H W"], Float[Tensor, "V H W"]]:
    """Images on white, masks and camera-z depth (inf: background), all at pixel centres."""
    views, height, width = len(cameras), cameras.height, cameras.width
    pixel = pixel_grid(height, width).repeat(views, 1)
    view = torch.arange(views).repeat_interleave(height * width)
    rays = cameras.rays(view, pixel)
    along = trace(piece.distance, grid, rays)
    seen = torch.nonzero(along.isfinite())[:, 0]
    points = Rays(rays.origin[seen], rays.direction[seen]).at(along[seen])
    colour = torch.ones(len(along), 3)
    colour[seen] = shade(piece, grid, points)
    images = (colour * 255).round().to(torch.uint8).view(views, height, width, 3)
    depth = along / cameras.unit_z_directions(view, pixel).norm(dim=-1)
    depth = depth.view(views, height, width)
    return images, depth.isfinite(), depth


def shade(piece: Piece, grid: StepGrid, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """sRGB colour of surface points: matt under a sun with cast shadow and a sky dimmed in corners.

    It does not depend on the viewer, so one colour a point explains every view.
    """
    normal = surface_normals(piece.distance, points)
    sun = torch.nn.functional.normalize(torch.tensor(SUN), dim=0)
    facing = (normal @ sun).clamp(min=0)
    lit = torch.nonzero(facing > 0)[:, 0]
    # Start off the surface, or the point would shadow itself.
    start = points[lit] + 0.006 * normal[lit]
    blocked = trace(piece.distance, grid, Rays(start, sun.expand_as(start))).isfinite()
    facing[lit[blocked]] = 0
    up = (normal[:, 1:2] + 1) / 2
    ambient = (up * torch.tensor(SKY) + (1 - up) * torch.tensor(BOUNCE)) * 1.3
    light = ambient * openness(grid.at, points, normal, REACHES)[:, None]
    light = light + facing[:, None] * torch.tensor(SUNLIGHT)
    linear = piece.colour(points) ** 2.2 * light * 1.25
    return linear.clamp(0, 1) ** (1 / 2.2)
