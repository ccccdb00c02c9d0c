"""The one theorem: give a found surface depth its gradient.

A ray o + t v meets the surface where f(o + t v) = 0. Differentiating both sides gives
dt/dtheta = -(df/dtheta) / (grad f . v), whatever search found t: DVR's analytic depth gradient
(Niemeyer et al. 2020, Eq. 9) and IDR's differentiable intersection (Yariv et al. 2020, Eq. 3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from common.cameras import Rays

# The least |cos| between ray and surface normal that the derivative is trusted with: at a grazing
# ray the depth's derivative diverges, and 1 / 0.02 bounds its step at fifty times the frontal one.
GRAZING_COSINE = 0.02


@dataclass(frozen=True)
class SurfacePoints:
    """Points on the surface whose depth carries gradients.

    ``gradient`` is the field's spatial gradient there, detached.
    """

    depth: Float[Tensor, "S"]
    point: Float[Tensor, "S 3"]
    gradient: Float[Tensor, "S 3"]


def attach(
    level: Callable[[Float[Tensor, "S 3"]], Float[Tensor, "S"]],
    rays: Rays,
    depth: Float[Tensor, "S"],
) -> SurfacePoints:
    """Return the surface points at ``depth``, differentiable in the field and in the rays.

    ``level`` is the field, negative inside, evaluated once here. Values are those found by the
    search (the form f - f0 stays right where f0 is not exactly zero); derivatives in everything
    that ``level`` and ``rays`` depend on are those of the exact root. Nothing of the search is
    stored. Rays more grazing than GRAZING_COSINE get a bounded derivative of the right sign.
    """
    depth = depth.detach()
    with torch.enable_grad():
        point = rays.at(depth)
        if not point.requires_grad:
            point = point.requires_grad_()
        value = level(point)
        (gradient,) = torch.autograd.grad(value.sum(), point, retain_graph=True)
    return attach_evaluated(rays, depth, value, gradient)


def attach_evaluated(
    rays: Rays, depth: Float[Tensor, "S"], value: Float[Tensor, "S"], gradient: Float[Tensor, "S 3"]
) -> SurfacePoints:
    """The same for a field evaluated already: ``value`` at ``rays.at(depth)``, still in the graph.

    The spatial ``gradient`` is taken as a constant.
    """
    depth, gradient = depth.detach(), gradient.detach()
    slope = (gradient * rays.direction.detach()).sum(dim=-1)
    least = GRAZING_COSINE * gradient.norm(dim=-1) + torch.finfo(slope.dtype).tiny
    # An exactly tangent ray counts as entering, the case the search looks for.
    sign = torch.where(slope > 0, torch.ones_like(slope), -torch.ones_like(slope))
    slope = sign * torch.maximum(slope.abs(), least)
    attached = depth - (value - value.detach()) / slope
    return SurfacePoints(attached, rays.at(attached), gradient)


def evaluated_along(
    moving: Float[Tensor, "S 3"], at: Float[Tensor, "S 3"], values: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """What ``values`` of a field at the leaf ``at`` would be at ``moving``, which is there too.

    Points attached to the surface lie where the field is known; only their derivatives are new. So
    nothing is evaluated again: a gradient that arrives at the values is also sent on to ``moving``,
    through the field's derivative by the point (the chain rule), and nothing else changes.
    """
    return _EvaluatedAlong.apply(moving, at, *values)


class _EvaluatedAlong(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, moving: Tensor, at: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        context.save_for_backward(at, *values)
        return tuple(value.view_as(value) for value in values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        at, *values = context.saved_tensors
        (moved,) = torch.autograd.grad(values, at, gradients, retain_graph=True)
        return moved, None, *gradients
