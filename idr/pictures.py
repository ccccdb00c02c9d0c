"""Draw what cameras see of a trained surface."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from common.cameras import Cameras, Rays, pixel_grid
from common.rendering.cached_search import FieldCache
from common.rendering.picture import Picture, pooled
from idr.model import IDRModel

RAYS_AT_ONCE = 2**15


def render_view(
    model: IDRModel,
    cache: FieldCache,
    cameras: Cameras,
    view: int,
    appearance: IDRModel | None = None,
) -> Picture:
    """What one camera sees, tile by tile; white where there is nothing.

    ``cache`` is the model's (``model.cached``); ``appearance`` lends another model's colours. With
    ``rendering.samples`` above one, outlines blend with the white background.
    """
    device, samples = model.cache.device, model.config.rendering.samples
    cameras = cameras.to(device).resized(cameras.height * samples, cameras.width * samples)
    pixel = pixel_grid(cameras.height, cameras.width).to(device)
    index = torch.full((len(pixel),), view, device=device)
    parts = [
        trace_pixels(model, cache, cameras, view_part, pixel_part, appearance)
        for view_part, pixel_part in zip(
            index.split(RAYS_AT_ONCE), pixel.split(RAYS_AT_ONCE), strict=True
        )
    ]
    size = (cameras.height, cameras.width)
    colour, normal, depth, mask = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    picture = Picture(
        colour.reshape(*size, 3), normal.reshape(*size, 3), depth.reshape(size), mask.reshape(size)
    )
    return picture if samples == 1 else pooled(picture, samples)


@torch.no_grad()
def trace_pixels(
    model: IDRModel,
    cache: FieldCache,
    cameras: Cameras,
    view: Int[Tensor, "R"],
    pixel: Tensor,
    appearance: IDRModel | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colour (R, 3), unit normal (R, 3), camera-z depth (R) and mask (R) of some pixels."""
    rays = cameras.rays(view, pixel)
    traced = model.find_surface(rays, cache)
    found = traced.found.nonzero()[:, 0]
    seen = Rays(rays.origin[found], rays.direction[found])
    points = seen.at(traced.depth[found])
    surface = model.surface(points)
    colour = torch.ones(len(pixel), 3, device=pixel.device)
    if appearance is None:
        colour[found] = model.colour(surface, -seen.direction)
    else:
        # The features of one run mean nothing to another: the lender's own are taken there.
        lent = replace(surface, feature=appearance.surface(points).feature)
        colour[found] = appearance.colour(lent, -seen.direction)
    normal = torch.zeros_like(colour)
    normal[found] = surface.normal
    depth = torch.full_like(traced.depth, torch.inf)
    per_z = cameras.unit_z_directions(view[found], pixel[found]).norm(dim=-1)
    depth[found] = traced.depth[found] / per_z
    return colour, normal, depth, traced.found
