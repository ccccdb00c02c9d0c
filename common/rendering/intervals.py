"""Which part of a ray lies inside the volume where a field is learnt."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.cameras import Rays


@dataclass(frozen=True)
class Intervals:
    """Depths between which each ray lies in the volume; they count only where ``crosses``."""

    near: Float[Tensor, "R"]
    far: Float[Tensor, "R"]
    crosses: Bool[Tensor, "R"]


def cube_intervals(rays: Rays, half_size: float = 0.5) -> Intervals:
    """Intersect rays with the cube [-half_size, half_size]^3 by the slab method.

    Depths are ray parameters: a cube behind the origin is missed, an origin inside starts at 0, a
    ray along a face or through a corner has a (possibly empty) interval like any other.
    """
    origin, direction = rays.origin, rays.direction
    # A component of exactly zero never crosses its slabs: it is inside both or outside for good.
    parallel = direction == 0
    inverse = 1 / torch.where(parallel, torch.ones_like(direction), direction)
    first, second = (-half_size - origin) * inverse, (half_size - origin) * inverse
    inside = origin.abs() <= half_size
    infinity = torch.full_like(origin, torch.inf)
    enter = torch.where(
        parallel, torch.where(inside, -infinity, infinity), torch.minimum(first, second)
    )
    leave = torch.where(
        parallel, torch.where(inside, infinity, -infinity), torch.maximum(first, second)
    )
    near = enter.amax(dim=-1).clamp_min(0)
    far = leave.amin(dim=-1)
    return Intervals(near, far, far > near)


def sphere_intervals(rays: Rays, radius: float = 1.0) -> Intervals:
    """Intersect rays with the ball of this radius around the origin.

    A ball behind the origin is missed, an origin inside starts at 0, a tangent ray has an empty
    interval. Directions must be unit vectors.
    """
    middle = -(rays.origin * rays.direction).sum(dim=-1)
    # From the nearest point itself: middle^2 - |origin|^2 would cancel for cameras far away.
    nearest = rays.origin + middle[..., None] * rays.direction
    half = (radius**2 - nearest.square().sum(dim=-1)).clamp_min(0).sqrt()
    near, far = (middle - half).clamp_min(0), middle + half
    return Intervals(near, far, far > near)
