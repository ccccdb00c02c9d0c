"""What the sculpture's surface is made of: painted glaze, gold and veined stone.

Every pattern is a continuous function of the point: edges are EDGE wide, which is about a pixel of
a 200-pixel picture, so none aliases.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from common.data.sculpture.form import BELLY_HEIGHT, Sculpture, designed

EDGE = 0.01  # designed units
Colour = tuple[float, float, float]

# Linear reflectances.
TEAL: Colour = (0.005, 0.115, 0.13)
DEEP: Colour = (0.004, 0.045, 0.085)
CREAM: Colour = (0.80, 0.69, 0.48)
COBALT: Colour = (0.015, 0.045, 0.33)
CORAL: Colour = (0.70, 0.10, 0.045)
GOLD: Colour = (0.62, 0.36, 0.07)
SAND: Colour = (0.46, 0.27, 0.17)
VEIN: Colour = (0.26, 0.13, 0.08)


@dataclass(frozen=True)
class Finish:
    """How points reflect light: all of it linear, in [0, 1] but for the exponent."""

    diffuse: Float[Tensor, "N 3"]
    mirror: Float[Tensor, "N 3"]  # reflected at the surface, seen straight on
    exponent: Float[Tensor, "N"]  # of the highlight (Blinn-Phong): the higher the smaller


def finish(form: Sculpture, points: Float[Tensor, "N 3"]) -> Finish:
    """The finish of surface points of the object frame."""
    place = designed(points)
    nearest = torch.stack([part.distance(place) for part in form.parts]).argmin(dim=0)
    pot, lid, knob, stone, beads = (nearest == index for index in range(5))
    gold = knob | beads
    diffuse = torch.empty_like(points)
    diffuse[pot] = _pot(form, place[pot])
    diffuse[lid] = _lid(place[lid])
    diffuse[stone] = _stone(place[stone])
    diffuse[gold] = points.new_tensor(GOLD) * 0.45
    mirror = points.new_full(points.shape, 0.06)
    mirror[stone] = 0.025
    mirror[gold] = points.new_tensor(GOLD) * 0.6
    exponent = points.new_full(points.shape[:1], 90.0)
    exponent[stone], exponent[gold] = 14.0, 35.0
    return Finish(diffuse, mirror, exponent)


def _pot(form: Sculpture, place: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Teal with a painted cream band around the belly; the glaze runs darker into the gadroons."""
    x, y, z = place.unbind(-1)
    angle = torch.atan2(z, x)
    height = y - (BELLY_HEIGHT + 0.085)
    colour = _mixed(TEAL, DEEP, _step(0.53 + 0.018 * torch.sin(9 * angle + 1) - y, 0.05))
    band = _step(0.105 - height.abs())
    painted = _mixed(CREAM, COBALT, _vine(height, angle))
    painted = _over(painted, CORAL, _berries(height, angle))
    # Spout and handle grow out of the band unpainted.
    band = band * _step(0.012 - form.belly.distance(place))
    colour = colour + band[:, None] * (painted - colour)
    lines = _step(0.011 - (height.abs() - 0.115).abs()) * _step(0.012 - form.belly.distance(place))
    colour = _over(colour, GOLD, lines)
    lip = _step(0.01 - (y - 0.93).abs()) * _step(0.3 - (x * x + z * z).sqrt())
    mouth = _step(x - 0.765)
    return _over(colour, GOLD, torch.maximum(lip, mouth))


def _vine(height: Tensor, angle: Tensor) -> Float[Tensor, "N"]:
    """A wave around the belly, of eight turns."""
    # The wave leans: divide by its slope, or it would be thin where it is steep.
    rise = 0.045 * 8 / 0.43 * torch.cos(8 * angle)
    apart = (height - 0.045 * torch.sin(8 * angle)).abs() / (1 + rise * rise).sqrt()
    return _step(0.013 - apart)


def _berries(height: Tensor, angle: Tensor) -> Float[Tensor, "N"]:
    """A dot in each bay of the wave, above and below in turn."""
    bay = angle * 16 / (2 * torch.pi) - 0.5  # crests at even, troughs at odd numbers
    nearest = bay.round()
    across = (bay - nearest) * (2 * torch.pi / 16 * 0.43)
    side = 1 - 2 * (nearest.abs() % 2)
    return _step(0.027 - (across**2 + (height + 0.035 * side) ** 2).sqrt())


def _lid(place: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """A star of cream petals around the knob."""
    x, y, z = place.unbind(-1)
    radius, angle = (x * x + z * z).sqrt(), torch.atan2(z, x)
    petals = 0.115 + 0.045 * torch.cos(8 * angle)
    colour = _mixed(TEAL, CREAM, _step(petals - radius))
    colour = _over(colour, COBALT, _step(petals * 0.72 - radius))
    return _over(colour, GOLD, _step(0.052 - radius))


def _stone(place: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Warm sandstone with slow dark veins."""
    x, y, z = place.unbind(-1)
    bent = y + 0.05 * torch.sin(9 * x + 2) + 0.06 * torch.sin(7 * z + 4 * x)
    vein = (0.5 + 0.5 * torch.sin(48 * bent + 2.5 * torch.sin(6 * z + 5 * x))).square()
    return _mixed(SAND, VEIN, 0.75 * vein)


def _step(inside: Tensor, width: float = EDGE) -> Tensor:
    """0 where ``inside`` is well below zero, 1 well above, smooth over ``width``."""
    share = (0.5 + inside / width).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _mixed(first: Colour, second: Colour, share: Float[Tensor, "N"]) -> Float[Tensor, "N 3"]:
    a, b = share.new_tensor(first), share.new_tensor(second)
    return a + share[:, None] * (b - a)


def _over(
    colour: Float[Tensor, "N 3"], paint: Colour, share: Float[Tensor, "N"]
) -> Float[Tensor, "N 3"]:
    return colour + share[:, None] * (colour.new_tensor(paint) - colour)
