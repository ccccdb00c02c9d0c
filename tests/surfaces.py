"""Analytic surfaces with exact values, depths and normals, for tests of search and derivative."""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.cameras import Rays


@dataclass(frozen=True)
class Sphere:
    """|p - centre| - radius."""

    radius: Tensor
    centre: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        return (points - self.centre).norm(dim=-1) - self.radius

    def exact_depth(self, rays: Rays) -> Tensor:
        """Nearest positive root for rays that hit, NaN for rays that miss."""
        offset = rays.origin - self.centre
        b = (offset * rays.direction).sum(dim=-1)
        return -b - (b.square() - offset.square().sum(dim=-1) + self.radius.square()).sqrt()


def rays_towards(target: Tensor, distance: float, generator: torch.Generator) -> Rays:
    """Rays from random points at ``distance`` from the origin through the targets."""
    origin = torch.nn.functional.normalize(
        torch.randn(len(target), 3, generator=generator, dtype=target.dtype), dim=-1
    )
    origin = origin * distance
    return Rays(origin, torch.nn.functional.normalize(target - origin, dim=-1))
