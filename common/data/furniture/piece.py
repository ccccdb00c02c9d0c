"""A piece of furniture: parts with materials, standing in the unit cube."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from common.data.furniture.materials import Material
from common.data.shapes import Shape


@dataclass(frozen=True)
class Part:
    """A solid of one material."""

    shape: Shape
    material: Material


@dataclass(frozen=True)
class Piece:
    """The union of some parts, placed in the unit cube; y is up and the front faces +z.

    Parts are in the designer's units: object = scale * (designed - centre).
    """

    parts: tuple[Part, ...]
    scale: float
    centre: tuple[float, float, float]

    def distance(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """Signed distance (negative inside), in absolute value at most the true one."""
        designed = self._designed(points)
        nearest = self.parts[0].shape.distance(designed)
        for part in self.parts[1:]:
            nearest = torch.minimum(nearest, part.shape.distance(designed))
        return nearest * self.scale

    def colour(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """sRGB colour in [0, 1] of the part nearest to each point."""
        designed = self._designed(points)
        nearest = torch.stack([part.shape.distance(designed) for part in self.parts]).argmin(dim=0)
        colour = torch.empty_like(points)
        for index, part in enumerate(self.parts):
            own = nearest == index
            colour[own] = part.material.colour(points[own])
        return colour

    def _designed(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        columns = [
            column / self.scale + place
            for column, place in zip(points.unbind(-1), self.centre, strict=True)
        ]
        # Each coordinate in one block of memory: twice as fast for shapes, which use them singly.
        return torch.stack(columns).T


def standing_in_cube(parts: Sequence[Part], longest_side: float) -> Piece:
    """Scale and centre the parts so that their box is centred at 0 and its longest side is this."""
    lower = np.min([part.shape.lower for part in parts], axis=0)
    upper = np.max([part.shape.upper for part in parts], axis=0)
    scale = float(longest_side / (upper - lower).max())
    return Piece(tuple(parts), scale, tuple(((lower + upper) / 2).tolist()))
