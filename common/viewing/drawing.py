"""From a field, a camera and a size to a picture; and which sizes to draw one after the other."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from common.cameras import Cameras, Rays, pixel_grid
from common.rendering.picture import Picture, panels
from common.viewing.run_view import Mode, RunView

Size = tuple[int, int]  # height, width

TILE = 2**12  # rays between two questions whether to go on
_PANEL: dict[Mode, int] = {"colour": 0, "view direction": 0, "normal": 1, "depth": 2}


@dataclass(frozen=True)
class Drawing:
    """A picture, white where there is nothing, and its camera-z depth, infinite there."""

    image: UInt8[np.ndarray, "H W 3"]
    depth: Float[np.ndarray, "H W"]


def never() -> bool:
    """Nobody has lost interest in the picture."""
    return False


@torch.no_grad()
def draw(
    view: RunView,
    camera: Cameras,
    size: Size,
    mode: Mode,
    abandoned: Callable[[], bool] = never,
) -> Drawing | None:
    """What the one ``camera`` sees at another size of picture, as scripts/render.py colours it.

    None where it was ``abandoned``, which is asked at every tile. Raises ValueError for a mode that
    the view has not.
    """
    if mode not in view.modes:
        raise ValueError(f"mode {mode!r}: this run has {', '.join(view.modes)}")
    camera = camera.to(view.device).resized(*size)
    tiles = []
    for pixel in pixel_grid(*size).to(view.device).split(TILE):
        if abandoned():
            return None
        tiles.append(_trace(view, camera, pixel, mode))
    colour, depth = (torch.cat(part).cpu() for part in zip(*tiles, strict=True))
    colour, depth = colour.view(*size, 3), depth.view(size)
    picture = Picture(colour, colour, depth, depth.isfinite())
    return Drawing(panels(picture)[_PANEL[mode]], depth.numpy())


def _trace(
    view: RunView, camera: Cameras, pixel: Float[Tensor, "R 2"], mode: Mode
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R"]]:
    """What is painted, or white, and camera-z depth of some pixels."""
    first = torch.zeros(len(pixel), dtype=torch.long, device=pixel.device)
    rays = camera.rays(first, pixel)
    distance = view.find(rays)
    colour = torch.ones_like(rays.direction)
    found = distance.isfinite().nonzero()[:, 0]
    if mode != "depth" and len(found):
        direction = rays.direction[found]
        points = Rays(rays.origin[found], direction).at(distance[found])
        colour[found] = view.paint(points, -direction, mode)
    return colour, distance / camera.unit_z_directions(first, pixel).norm(dim=-1)


def pinhole(pose: Float[Tensor, "4 4"], field_of_view: float, size: Size) -> Cameras:
    """One camera that sees ``field_of_view`` radians from top to bottom, its axis in the middle."""
    height, width = size
    focal = height / 2 / math.tan(field_of_view / 2)
    intrinsics = pose.new_tensor(
        [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
    )
    return Cameras(intrinsics[None], pose[None], height, width)


def size_within(window: Size, pixels: int) -> Size:
    """The window's own size, or one of its shape with about so many ``pixels`` if those are less.

    At least one pixel.
    """
    scale = min(1.0, math.sqrt(pixels / (window[0] * window[1])))
    return max(round(window[0] * scale), 1), max(round(window[1] * scale), 1)


def finer(size: Size, finest: Size) -> Size:
    """Twice the height and width, and never more than the ``finest``."""
    return min(2 * size[0], finest[0]), min(2 * size[1], finest[1])
