"""Splits colours that depend on the view into a texture and what a clear coat mirrors.

c(x, v) = D(x) + F(n . v) E(r): D is the light that a point sends everywhere, E the surroundings as
the coat blurs them, looked up at the mirrored direction r, and F the reflectance of a dielectric
(Schlick 1994). All in linear light. A viewer with physically based materials draws exactly this.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample, pad

REFLECTANCE = 0.04  # of plastic and glass, head on: refractive index 1.5
HEIGHT = 32  # of the environment; glossy paint blurs it by more than its six degrees a pixel
ROUNDS = 30
FEW = 1e-6  # keeps directions in which nothing was seen dark


@dataclass(frozen=True)
class Observations:
    """Colours of surface points as cameras see them."""

    point: Int[Tensor, "K"]  # below the number of points
    mirrored: Float[Tensor, "K 3"]  # unit, the direction that a mirror would show
    cosine: Float[Tensor, "K"]  # of view and normal
    colour: Float[Tensor, "K 3"]  # linear
    weight: Float[Tensor, "K 3"]


def fit_environment(seen: Observations) -> Float[Tensor, "h w 3"]:
    """The environment with which the points' own colours explain best what was seen.

    Alternating least squares: every point's colour is what remains of its observations, and every
    direction's radiance what remains of those that mirror it; none is negative.
    """
    count = int(seen.point.max()) + 1
    reflectance = fresnel(seen.cosine)[:, None]
    pixel = _pixel(seen.mirrored)
    weight = seen.weight
    total = _summed(weight, seen.point, count)
    power = _blurred(_summed(weight * reflectance**2, pixel, 2 * HEIGHT**2)) + FEW
    environment = torch.zeros(2 * HEIGHT**2, 3).to(seen.colour)
    for _ in range(ROUNDS):
        own = seen.colour - reflectance * environment[pixel]
        own = (_summed(weight * own, seen.point, count) / total).clamp(min=0)
        rest = weight * reflectance * (seen.colour - own[seen.point])
        blurred = _blurred(_summed(rest, pixel, 2 * HEIGHT**2))
        environment = (blurred / power).clamp(min=0).reshape(-1, 3)
    return environment.reshape(HEIGHT, 2 * HEIGHT, 3)


def mirror(
    environment: Float[Tensor, "h w 3"],
    mirrored: Float[Tensor, "N 3"],
    cosine: Float[Tensor, "N"],
) -> Float[Tensor, "N 3"]:
    """The light that the coat sends on, F(n . v) E(r)."""
    width = environment.shape[1]
    row, column = _place(mirrored)
    # A column more on both sides, so that interpolation goes on around the back.
    picture = pad(environment.permute(2, 0, 1)[None], (1, 1, 0, 0), mode="circular")
    place = torch.stack([2 * (column * width + 1) / (width + 2) - 1, 2 * row - 1], dim=-1)
    found = grid_sample(picture, place[None, None], padding_mode="border", align_corners=False)
    return fresnel(cosine)[:, None] * found[0, :, 0].T


def fresnel(cosine: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Schlick's reflectance of a dielectric."""
    return REFLECTANCE + (1 - REFLECTANCE) * (1 - cosine.clamp(0, 1)) ** 5


def to_linear(colour: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """From sRGB to linear light (IEC 61966-2-1)."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def visible(colour: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """How much an sRGB value changes with its linear light: what is dark shows errors most."""
    return torch.where(
        colour <= 0.04045, 12.92, 1.055 / 2.4 * ((colour.clamp(min=0.04) + 0.055) / 1.055) ** -1.4
    )


def to_srgb(light: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """From linear light, clipped to [0, 1], to sRGB."""
    light = light.clamp(0, 1)
    power = 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(light <= 0.0031308, 12.92 * light, power)


def _place(direction: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """Where in an equirectangular picture a direction is, from its upper left corner, in [0, 1].

    y is up and +x in the middle, as web viewers take such pictures.
    """
    x, y, z = direction.unbind(dim=-1)
    row = torch.arccos(y.clamp(-1, 1)) / torch.pi
    return row, torch.atan2(z, x) / (2 * torch.pi) + 0.5


def _pixel(direction: Float[Tensor, "N 3"]) -> Int[Tensor, "N"]:
    row, column = _place(direction)
    y = (row * HEIGHT).long().clamp(0, HEIGHT - 1)
    return y * 2 * HEIGHT + (column * 2 * HEIGHT).long().clamp(0, 2 * HEIGHT - 1)


def _summed(values: Float[Tensor, "K C"], index: Int[Tensor, "K"], count: int) -> Tensor:
    return values.new_zeros(count, values.shape[1]).index_add_(0, index, values)


def _blurred(values: Float[Tensor, "P C"]) -> Float[Tensor, "P C"]:
    """Means with the neighbours, 1 : 2 : 1, so that thinly seen directions lean on others."""
    picture = values.reshape(HEIGHT, 2 * HEIGHT, -1)
    around = (picture.roll(1, dims=1) + picture.roll(-1, dims=1) + 2 * picture) / 4
    above = torch.cat([around[:1], around[:-1]])
    below = torch.cat([around[1:], around[-1:]])
    return ((above + below + 2 * around) / 4).reshape(values.shape)
