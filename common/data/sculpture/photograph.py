"""Photographs of the sculpture: cameras around it, a sky, a soft lamp, glossy reflections."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from common.cameras import Cameras, Rays, look_at, pixel_grid
from common.data.sculpture.form import RADIUS, Sculpture
from common.data.sculpture.glaze import Finish, finish
from common.data.sphere_tracer import StepGrid, openness, surface_normals, trace

FIELD_OF_VIEW = 35.0  # degrees
LOWEST, HIGHEST = -0.4, 1.0  # sines of the elevations: 70 % of the sphere
SUBPIXELS = 2  # to each side of a pixel
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))

LAMP = (0.55, 0.75, 0.40)  # towards the lamp, in the object frame
LAMP_SIZE = 0.12  # radius over distance: how soft shadows are
LAMPLIGHT = (2.5, 2.3, 2.0)
SKY = (0.62, 0.70, 0.85)
GROUND = (0.42, 0.36, 0.30)  # light from below
SHADOW_RAYS = 2  # for each of a pixel's samples, towards different places of the lamp
LIFT = 0.006  # shadow rays start this far off the surface, or it would shadow itself
EXPOSURE = 1.25
REACHES = ((0.04, 0.25), (0.1, 0.25), (0.22, 0.25))  # of the darkening in corners


def cameras_around(rng: np.random.Generator, views: int, size: int) -> Cameras:
    """Cameras spread evenly over the upper 70 % of a sphere, looking at the origin.

    They are the points of a Fibonacci lattice in random order, so that every n-th view is spread
    as well; each sees the whole ball of radius RADIUS.
    """
    place = rng.permutation(views)
    height = HIGHEST + (LOWEST - HIGHEST) * (place + 0.5) / views
    azimuth = place * GOLDEN_ANGLE + rng.uniform(0, 2 * np.pi)
    across = np.sqrt(1 - height**2)
    outward = np.stack([across * np.sin(azimuth), height, across * np.cos(azimuth)], axis=1)
    half_angle = np.radians(FIELD_OF_VIEW) / 2
    distance = RADIUS / np.sin(half_angle) * rng.uniform(1.0, 1.1, (views, 1))
    centre = torch.tensor(outward * distance, dtype=torch.float32)
    pose = look_at(centre, torch.zeros(views, 3), torch.tensor([0.0, 1.0, 0.0]))
    focal, middle = size / 2 / np.tan(half_angle), (size - 1) / 2
    intrinsics = torch.tensor([[focal, 0, middle], [0, focal, middle], [0, 0, 1]]).float()
    return Cameras(intrinsics.repeat(views, 1, 1), pose, size, size)


def photograph(
    form: Sculpture, grid: StepGrid, camera: Cameras
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """What a single camera sees on white, and how much of each pixel is object, of 255.

    Both are means over SUBPIXELS^2 samples a pixel.
    """
    height, width = camera.height, camera.width
    offsets = (pixel_grid(SUBPIXELS, SUBPIXELS) + 0.5) / SUBPIXELS - 0.5
    pixel = (pixel_grid(height, width)[:, None] + offsets).view(-1, 2)
    # All at once: towards the end of a search few rays are left, and small tensors are slow.
    rays = camera.rays(torch.zeros(len(pixel), dtype=torch.long), pixel)
    depth = trace(form.distance, grid, rays)
    hit = depth.isfinite()
    seen = Rays(rays.origin[hit], rays.direction[hit])
    number = torch.nonzero(hit)[:, 0] % len(offsets)
    colour = torch.ones(len(pixel), 3)
    colour[hit] = shade(form, grid, seen.at(depth[hit]), seen.direction, number)
    mean = colour.view(height, width, len(offsets), 3).mean(dim=2)
    coverage = hit.view(height, width, len(offsets)).float().mean(dim=2)
    image, mask = ((part * 255).round().to(torch.uint8).numpy() for part in (mean, coverage))
    return image, mask


def shade(
    form: Sculpture,
    grid: StepGrid,
    points: Float[Tensor, "N 3"],
    view: Float[Tensor, "N 3"],
    number: Int[Tensor, "N"],
) -> Float[Tensor, "N 3"]:
    """sRGB colour of surface points seen along unit directions ``view``.

    Matt light from sky and lamp; on it the mirror image of both, stronger at grazing angles
    (Schlick 1994), the lamp's spread to a Blinn-Phong lobe. ``number`` chooses the shadow rays.
    """
    normal = surface_normals(form.distance, points)
    surface = finish(form, points)
    lamp = torch.nn.functional.normalize(torch.tensor(LAMP), dim=0)
    lit = _lit(form, grid, points, normal, lamp, number)[:, None] * torch.tensor(LAMPLIGHT)
    open_ = openness(form.distance, points, normal, REACHES)[:, None]
    matt = surface.diffuse * (lit + open_ * _sky(normal))
    towards = (-view * normal).sum(dim=-1, keepdim=True).clamp(min=0)
    fresnel = surface.mirror + (1 - surface.mirror) * 0.6 * (1 - towards) ** 5
    reflected = view + 2 * towards * normal
    glossy = fresnel * open_ * _sky(reflected) + _highlight(surface, normal, view, lamp) * lit
    return _developed(matt + glossy)


def _lit(
    form: Sculpture,
    grid: StepGrid,
    points: Float[Tensor, "N 3"],
    normal: Float[Tensor, "N 3"],
    lamp: Float[Tensor, "3"],
    number: Int[Tensor, "N"],
) -> Float[Tensor, "N"]:
    """The share of the lamp that shines on each point, times the cosine of its incidence."""
    facing = (normal @ lamp).clamp(min=0)
    index = torch.nonzero(facing > 0)[:, 0]
    start = points[index] + LIFT * normal[index]
    way = _lamp_places(lamp)[number[index]]
    start, way = start.repeat_interleave(SHADOW_RAYS, dim=0), way.view(-1, 3)
    free = trace(form.distance, grid, Rays(start, way)).isinf().view(-1, SHADOW_RAYS)
    facing[index] *= free.float().mean(dim=1)
    return facing


def _lamp_places(lamp: Float[Tensor, "3"]) -> Float[Tensor, "S R 3"]:
    """Unit directions to places on a spiral over the lamp's disc, some for each sample."""
    count = SHADOW_RAYS * SUBPIXELS**2
    step = torch.arange(count)
    radius, angle = LAMP_SIZE * ((step + 0.5) / count).sqrt(), GOLDEN_ANGLE * step
    across = torch.nn.functional.normalize(torch.linalg.cross(lamp, torch.eye(3)[0]), dim=0)
    other = torch.linalg.cross(lamp, across)
    offset = (radius * angle.cos())[:, None] * across + (radius * angle.sin())[:, None] * other
    places = torch.nn.functional.normalize(lamp + offset, dim=-1)
    return places.view(SHADOW_RAYS, -1, 3).transpose(0, 1)


def _highlight(
    surface: Finish,
    normal: Float[Tensor, "N 3"],
    view: Float[Tensor, "N 3"],
    lamp: Float[Tensor, "3"],
) -> Float[Tensor, "N 3"]:
    """The lamp's mirror image, spread over a lobe of the same energy."""
    half = torch.nn.functional.normalize(lamp - view, dim=-1)
    cosine = (normal * half).sum(dim=-1).clamp(min=0)
    lobe = (surface.exponent + 8) / 8 * cosine**surface.exponent
    return surface.mirror * lobe[:, None]


def _sky(direction: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Light from a direction, blurred: bright above, the ground's below."""
    up = ((direction[:, 1:2] + 0.5) / 1.5).clamp(0, 1)
    up = up * up * (3 - 2 * up)
    return torch.tensor(GROUND) + up * (torch.tensor(SKY) - torch.tensor(GROUND))


def _developed(light: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """From linear light to sRGB, bright light rolled off as film does."""
    return (1 - torch.exp(-EXPOSURE * light)) ** (1 / 2.2)
