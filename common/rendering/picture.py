"""What a field looks like through one camera, and how to show it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

Panel = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class Picture:
    """Colour, unit normals (object frame), camera-z depth (infinite off the object) and mask."""

    colour: Float[Tensor, "H W 3"]
    normal: Float[Tensor, "H W 3"]
    depth: Float[Tensor, "H W"]
    mask: Bool[Tensor, "H W"]


def panels(picture: Picture) -> list[Panel]:
    """Colour, normals and depth as pictures; near is light, the background white."""
    return [
        colour_panel(picture),
        normal_panel(picture),
        depth_panel(picture.depth, depth_range([picture.depth])),
    ]


def colour_panel(picture: Picture) -> Panel:
    """Colour in 8 bits."""
    return _in_bytes(picture.colour)


def normal_panel(picture: Picture) -> Panel:
    """Normals from -1 to 1 as RGB from black to white."""
    return _in_bytes(torch.where(picture.mask[..., None], picture.normal * 0.5 + 0.5, 1.0))


def mask_panel(picture: Picture) -> Panel:
    """White on the object, else black."""
    return _in_bytes(picture.mask[..., None].expand(-1, -1, 3).float())


def depth_panel(depth: Float[Tensor, "H W"], span: tuple[float, float]) -> Panel:
    """Depths from the least to the greatest of a range as light to dark grey, white where inf."""
    near, far = span
    shade = 0.9 - 0.7 * (depth - near) / max(far - near, 1e-6)
    return _in_bytes(shade.where(depth.isfinite(), 1)[..., None].expand(-1, -1, 3))


def depth_range(depths: Sequence[Float[Tensor, "H W"]]) -> tuple[float, float]:
    """Least and greatest finite depth of a series; (0, 1) where there is none."""
    found = [depth[depth.isfinite()] for depth in depths]
    spans = [(float(some.min()), float(some.max())) for some in found if len(some)]
    if not spans:
        return 0.0, 1.0
    return min(near for near, _ in spans), max(far for _, far in spans)


def _in_bytes(image: Float[Tensor, "H W 3"]) -> Panel:
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


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
