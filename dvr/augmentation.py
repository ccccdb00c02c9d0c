"""Chance applied alike to what an encoder sees and what is to be predicted of it."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from common.data.supervision import Supervision
from dvr.config import DataConfig


def augment(
    images: Float[Tensor, "B 3 h w"] | None,
    drawn: Supervision,
    data: DataConfig,
    generators: Sequence[torch.Generator],
) -> tuple[Float[Tensor, "B 3 h w"] | None, Supervision]:
    """Random mirror image and hue, the same for what is seen and what is to be predicted.

    Each object has its own generator.
    """
    if data.mirror == "x":
        flipped = _each(generators) < 0.5
        drawn = drawn.mirrored(flipped)
        if images is not None:
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
    if data.colour_jitter:
        turn = hue_rotation((2 * _each(generators) - 1) * torch.pi * data.colour_jitter)
        drawn = drawn.with_colour((drawn.colour @ turn.transpose(1, 2)).clamp(0, 1))
        if images is not None:
            images = (turn @ images.flatten(2)).clamp(0, 1).unflatten(2, images.shape[2:])
    if data.crop_jitter and images is not None:
        images = shift_and_zoom(images, data.crop_jitter, generators)
    return images, drawn


def _each(generators: Sequence[torch.Generator], *shape: int) -> Float[Tensor, "B *shape"]:
    """A random number of [0, 1), or several, from each generator."""
    return torch.stack([torch.rand(shape, generator=generator) for generator in generators])


def hue_rotation(angle: Float[Tensor, "B"]) -> Float[Tensor, "B 3 3"]:
    """Rotate RGB about the grey axis: grey and white stay, saturation is kept (Rodrigues)."""
    third, angle = torch.full((3, 3), 1 / 3), angle[:, None, None]
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return third + angle.cos() * (torch.eye(3) - third) + angle.sin() * cross


def shift_and_zoom(
    images: Float[Tensor, "B 3 h w"], amount: float, generators: Sequence[torch.Generator]
) -> Float[Tensor, "B 3 h w"]:
    """Move and scale pictures by up to ``amount`` of their size; white comes in at the edges."""
    shift, zoom = _each(generators, 2) - 0.5, _each(generators) - 0.5
    matrix = torch.eye(2, 3) * (1 + zoom * amount)[:, None, None]
    matrix[:, :, 2] = shift * amount
    grid = torch.nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return 1 - torch.nn.functional.grid_sample(1 - images, grid, align_corners=False)
