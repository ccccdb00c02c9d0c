"""Loss terms of IDR (Yariv et al. 2020, Sec. 3.4), each a mean over the step's rays."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.training.schedule import iteration_of
from idr.config import LossConfig


def rgb(
    predicted: Float[Tensor, "S 3"], true: Float[Tensor, "S 3"], rays: int
) -> Float[Tensor, ""]:
    """L1 colour difference, summed over channels, of the surface rays; over all rays (Eq. 7)."""
    return (predicted - true).abs().sum() / rays


def mask(
    least_sdf: Float[Tensor, "M"], inside: Bool[Tensor, "M"], alpha: float, rays: int
) -> Float[Tensor, ""]:
    """Cross-entropy of sigmoid(-alpha f) at the rays' least SDF with the mask (Eq. 8).

    Of the rays that are not surface rays inside the mask; divided by alpha and all rays.
    """
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        -alpha * least_sdf, inside.to(least_sdf), reduction="sum"
    )
    return entropy / (alpha * rays)


def outline(
    least_sdf: Float[Tensor, "M"],
    coverage: Float[Tensor, "M"],
    footprint: Float[Tensor, "M"],
    rays: int,
) -> Float[Tensor, ""]:
    """How far, in pixels, outlines lie from where the object covers so much of their pixels.

    An outline at a distance d from a pixel's centre, in pixels, leaves 1/2 - d of it covered; and d
    is the ray's least SDF over the pixel's ``footprint`` there. Sums to a mean over all rays.
    """
    return (least_sdf / footprint - (0.5 - coverage)).abs().sum() / rays


def eikonal(gradient: Float[Tensor, "N 3"]) -> Float[Tensor, ""]:
    """Mean square deviation of the gradient's length from one (Eq. 9; Gropp et al. 2020)."""
    return (gradient.norm(dim=-1) - 1).square().mean()


def smoothness(
    gradient: Float[Tensor, "N 3"], beside: Float[Tensor, "N 3"], surface: Bool[Tensor, "N"]
) -> Float[Tensor, ""]:
    """Mean distance of the normals of neighbouring points (as in DVR, Eq. 14, unsquared).

    Zero for those that are not on the ``surface``. Unsquared, so that many small bumps cost more
    than one crease.
    """
    normals = (torch.nn.functional.normalize(g, dim=-1) for g in (gradient, beside))
    first, second = normals
    apart = ((first - second).square().sum(dim=-1) + 1e-8).sqrt() * surface
    return apart.sum() / max(len(apart), 1)  # there may be no point


def alpha_at(config: LossConfig, step: int, iterations: int) -> float:
    """Sharpness of the soft silhouette at a step."""
    grown = sum(step >= iteration_of(at, iterations) for at in config.alpha_milestones)
    return config.alpha * config.alpha_factor**grown
