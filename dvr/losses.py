"""DVR's loss terms (Sec. 3.3 and supplementary Sec. 1.3), one short function each.

Every term is a sum over the rays it concerns divided by the number of all rays (or points) drawn:
an empty selection gives an exact zero with zero gradients, and no term grows when another shrinks.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def rgb(predicted: Float[Tensor, "S 3"], true: Float[Tensor, "S 3"], rays: int) -> Tensor:
    """L1 difference of colours over the surface rays, summed over channels (Eq. 3)."""
    return (predicted - true).abs().sum() / rays


def image_gradient(
    predicted: Float[Tensor, "P s s 3"],
    true: Float[Tensor, "P s s 3"],
    valid: Bool[Tensor, "P s s"],
) -> Tensor:
    """Difference of forward differences at each pixel whose right and lower neighbours are valid.

    Per channel the Euclidean norm over (x, y) of the difference; ``P`` patches of s x s pixels.
    """

    def differences(image: Tensor) -> Tensor:
        here = image[:, :-1, :-1]
        return torch.stack([image[:, :-1, 1:] - here, image[:, 1:, :-1] - here])

    both = valid[:, :-1, :-1] & valid[:, :-1, 1:] & valid[:, 1:, :-1]
    difference = torch.where(both[..., None], differences(predicted) - differences(true), 0.0)
    # The norm's gradient at zero is undefined; the square root is taken where it is not zero.
    squared = difference.square().sum(dim=0)
    positive = squared > 0
    norm = torch.where(positive, squared, 1.0).sqrt() * positive
    return norm.sum() / valid.numel()


def depth_camera_z(predicted: Float[Tensor, "S"], true: Float[Tensor, "S"], rays: int) -> Tensor:
    """L1 difference of camera-z depths over the rays where both are known (Eq. 4)."""
    return (predicted - true).abs().sum() / rays


def depth_points(predicted: Float[Tensor, "S 3"], true: Float[Tensor, "S 3"], rays: int) -> Tensor:
    """Euclidean distance of predicted and true surface points, summed over the rays."""
    return (predicted - true).norm(dim=-1).sum() / rays


def normal_smoothness(
    normal: Float[Tensor, "S 3"], neighbour: Float[Tensor, "S 3"], rays: int
) -> Tensor:
    """Difference of unit normals at surface points and at points close by (Eq. 12, supp.)."""
    squared = (normal - neighbour).square().sum(dim=-1)
    positive = squared > 0
    norm = torch.where(positive, squared, 1.0).sqrt() * positive
    return norm.sum() / rays


def freespace(logits: Float[Tensor, "N"], rays: int) -> Tensor:
    """Cross entropy of points on background rays with emptiness (Eq. 10, supp.)."""
    return F.softplus(logits).sum() / rays


def occupancy(logits: Float[Tensor, "N"], rays: int) -> Tensor:
    """Cross entropy of points on object rays without a surface with occupancy (Eq. 11, supp.)."""
    return F.softplus(-logits).sum() / rays


def hull(logits: Float[Tensor, "B K"], inside: Bool[Tensor, "B K"]) -> Tensor:
    """Mean cross entropy of random points with membership in the masks' visual hull."""
    return F.binary_cross_entropy_with_logits(logits, inside.to(logits))
