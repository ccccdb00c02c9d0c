"""The paper's training step, network pass for network pass: the oracle of ``IDRModel.forward``.

The authors' program evaluates the geometry anew for the values, their constant copies, the
gradients, the features at the attached points and the normals there; ``IDRModel`` gets the same
from two passes. This plain version exists to be compared with, in results and in cost.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from common.cameras import Cameras, Rays
from common.rendering.cached_search import FieldCache
from idr import losses
from idr.data import PixelBatch
from idr.geometry import Geometry, MLPGeometry
from idr.model import IDRModel, StepOutput, Surface


def reference_step(
    model: IDRModel, batch: PixelBatch, cameras: Cameras, step: int, generator: torch.Generator
) -> StepOutput:
    """Loss terms of a batch as Yariv et al. 2020 compute them (Sec. 3 and supplementary).

    Of a model whose ``search.method`` is "reference" and whose cameras are given. ``generator``
    draws the search's depths and then the uniform points.
    """
    weights = model.config.losses
    rays = cameras.rays(batch.view, batch.pixel)
    traced = model.find_surface(rays, FieldCache(model.cache), batch.mask, generator)
    surface, count = traced.found & batch.mask, len(batch.mask)
    seen = Rays(rays.origin[surface], rays.direction[surface])
    points = rays.at(torch.where(surface, traced.depth, traced.least_depth))
    uniform = torch.rand(
        round(count * model.config.supervision.eikonal_points),
        3,
        generator=generator,
        device=generator.device,
    )

    sdf = model.geometry.sdf(points)
    constant = model.geometry.sdf(points[surface]).detach()
    everywhere = torch.cat([points[surface], 2 * uniform - 1, points]).detach()
    gradient = _gradient(model.geometry, everywhere)
    normal, gradient = gradient[: len(constant)].detach(), gradient[len(constant) :]
    # Equation 3. Nothing guards a grazing ray here.
    slope = (normal * seen.direction).sum(dim=-1)
    at_surface = seen.at(traced.depth[surface] - (sdf[surface] - constant) / slope)
    feature = _feature(model.geometry, at_surface)
    gradient_there = _gradient(model.geometry, at_surface)
    colour = model.colour(
        Surface(at_surface, gradient_there, feature), -seen.direction, batch.view[surface]
    )

    alpha = losses.alpha_at(weights, step, model.config.training.iterations)
    terms = {
        "rgb": losses.rgb(colour, batch.colour[surface], count),
        "mask": losses.mask(sdf[~surface], batch.mask[~surface], alpha, count),
        "eikonal": losses.eikonal(gradient),
    }
    evaluations = traced.evaluations + count + len(everywhere) + 3 * len(constant)
    share = surface.sum() / batch.mask.sum().clamp_min(1)
    return StepOutput(terms, evaluations, share)


def _gradient(geometry: Geometry, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """The gradient by automatic differentiation, of which the losses take another derivative.

    The hash grid's network has but its own.
    """
    if not isinstance(geometry, MLPGeometry):
        return geometry(points).gradient
    if not points.requires_grad:
        points = points.requires_grad_()
    (gradient,) = torch.autograd.grad(geometry.sdf(points).sum(), points, create_graph=True)
    return gradient


def _feature(geometry: Geometry, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N F"]:
    """The geometry feature from a pass of its own.

    The hash grid's network has no cheaper pass than the one that also gives the gradient.
    """
    if isinstance(geometry, MLPGeometry):
        return geometry.last(geometry._features(points))[:, 1:]
    return geometry(points).feature
