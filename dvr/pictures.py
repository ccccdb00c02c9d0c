"""What a field looks like: colour, normals, depth and mask through a camera."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from common.cameras import Cameras, Rays, pixel_grid
from common.data.images import resize_image
from common.rendering.picture import Picture, panels
from dvr.data import Objects
from dvr.model import DVRModel, images_to_input


def object_condition(
    model: DVRModel, objects: Objects, index: int, device: torch.device, view: int = 0
) -> Float[Tensor, "blocks 1 hidden"]:
    """The field's condition for an object seen through one of its input pictures."""
    inputs = objects[index].inputs
    image = None if inputs is None else images_to_input(inputs[view : view + 1]).to(device)
    return model.condition(image, torch.tensor([index], device=device))


def render_view(
    model: DVRModel, condition: Float[Tensor, "blocks 1 hidden"], cameras: Cameras, view: int
) -> Picture:
    """Draw what one camera sees, tile by tile; white where there is nothing."""
    cameras = cameras.to(condition.device)
    pixel = pixel_grid(cameras.height, cameras.width).to(condition.device)
    index = torch.full((len(pixel),), view, device=condition.device)
    rays = cameras.rays(index, pixel)
    per_z = cameras.unit_z_directions(index, pixel).norm(dim=-1)
    with torch.no_grad():
        return _render_rays(model, condition, rays, per_z, (cameras.height, cameras.width))


def _render_rays(
    model: DVRModel, condition: Tensor, rays: Rays, per_z: Tensor, size: tuple[int, int]
) -> Picture:
    samples = model.config.march.evaluation_samples
    zeros = torch.zeros(len(per_z), dtype=torch.long, device=per_z.device)
    hits, _ = model.find_surface(condition, zeros, rays, samples)
    covered = hits.covered.nonzero()[:, 0]
    colour = torch.ones(len(per_z), 3, device=per_z.device)
    normal = torch.zeros_like(colour)
    for some in covered.split(2**15):
        points = Rays(rays.origin[some], rays.direction[some]).at(hits.depth[some])
        if model.config.model.colour:
            colour[some] = model.decoder.colour(points, condition)
        normal[some] = field_normals(model, condition, points)
    return Picture(
        colour.reshape(*size, 3).cpu(),
        normal.reshape(*size, 3).cpu(),
        (hits.depth / per_z).reshape(size).cpu(),
        hits.covered.reshape(size).cpu(),
    )


def field_normals(
    model: DVRModel, condition: Tensor, points: Float[Tensor, "N 3"]
) -> Float[Tensor, "N 3"]:
    """Unit normals of the level function, pointing outwards."""
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model.level(condition)(points).sum(), points)
    return torch.nn.functional.normalize(gradient, dim=-1)


SHEET_ROWS = 16
SHEET_VIEWS = 3


def contact_sheet(
    model: DVRModel, objects: Objects, device: torch.device
) -> UInt8[np.ndarray, "H W 3"]:
    """A row per object, from all over the split: input | predictions and normals | truths.

    Predictions and truths are seen from the same cameras. A scene fills rows with its views.
    """
    many = len(objects) > 1
    picked = np.linspace(0, len(objects) - 1, min(SHEET_ROWS, len(objects))).round().astype(int)
    rows = []
    for index in picked.tolist():
        views, inputs = objects[index].views, objects[index].inputs
        views = views if views.masks.shape[1] <= 200 else views.resized(200)
        condition = object_condition(model, objects, index, device)
        count = min(SHEET_VIEWS if many else SHEET_ROWS, len(views))
        sides = (
            np.linspace(0, len(views) - 1, count + 1).round().astype(int)[1:]
            if many
            else range(count)
        )
        shown = []
        for view in sides:
            colour, normal, _ = panels(render_view(model, condition, views.cameras, int(view)))
            shown.append(np.concatenate([colour, normal], axis=1))
        truths = [views.images[view].numpy() for view in sides]
        if many:
            size = views.masks.shape[1:]
            seen = [] if inputs is None else [resize_image(inputs[0].numpy(), *size)]
            rows.append(np.concatenate([*seen, *shown, *truths], axis=1))
        else:
            rows += [np.concatenate(pair, axis=1) for pair in zip(shown, truths, strict=True)]
    return np.concatenate(rows, axis=0)
