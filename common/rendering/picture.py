"""What a field looks like through one camera, and how to show it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """Colour, unit normals (object frame), camera-z depth (infinite off the object) and mask."""

    colour: Float[Tensor, "H W 3"]
    normal: Float[Tensor, "H W 3"]
    depth: Float[Tensor, "H W"]
    mask: Bool[Tensor, "H W"]


def panels(picture: Picture) -> list[UInt8[np.ndarray, "H W 3"]]:
    """Colour, normals and depth as pictures; near is light, the background white."""
    normal = torch.where(picture.mask[..., None], picture.normal * 0.5 + 0.5, 1.0)
    shade = torch.ones_like(picture.depth)
    if picture.mask.any():
        depth = picture.depth[picture.mask]
        span = (depth.max() - depth.min()).clamp_min(1e-6)
        shade[picture.mask] = 0.9 - 0.7 * (depth - depth.min()) / span
    grey = shade[..., None].expand(-1, -1, 3)
    return [
        (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        for image in (picture.colour, normal, grey)
    ]


def pooled(picture: Picture, side: int) -> Picture:
    """The picture with ``side`` x ``side`` pixels taken as samples of one.

    Colours are averaged, the white of misses included; normals and depth over the samples that hit;
    the mask holds pixels of which at least half does.
    """
    height, width = picture.depth.shape
    shape = (height // side, side, width // side, side)
    count = picture.mask.view(shape).sum(dim=(1, 3))
    mask = 2 * count >= side * side
    normal = (picture.normal.view(*shape, 3) * picture.mask.view(*shape, 1)).sum(dim=(1, 3))
    depth = picture.depth.where(picture.mask, 0).view(shape).sum(dim=(1, 3)) / count
    return Picture(
        picture.colour.view(*shape, 3).mean(dim=(1, 3)),
        torch.nn.functional.normalize(normal, dim=-1),
        depth.where(mask, torch.inf),
        mask,
    )
