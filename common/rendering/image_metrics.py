"""How close a rendered picture is to a photograph, and a silhouette to a mask.

Colours are floats in [0, 1]. All scores are per picture: leading dimensions are kept.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

WINDOW = 11
SIGMA = 1.5
# SSIM's constants (0.01 L)^2 and (0.03 L)^2 for the range L = 1.
C1, C2 = 1e-4, 9e-4
# Pictures that agree to this mean square count as 100 dB, so that a mean over views stays finite.
LEAST_SQUARE = 1e-10


def psnr(
    prediction: Float[Tensor, "*batch H W C"],
    truth: Float[Tensor, "*batch H W C"],
    mask: Bool[Tensor, "*batch H W"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio in dB, -10 log10 of the mean square error, at most 100.

    With a mask only its pixels count; an empty one leaves nothing to compare and gives NaN.
    """
    square = (prediction - truth).square().mean(dim=-1)
    if mask is None:
        mask = torch.ones_like(square, dtype=torch.bool)
    error = (square * mask).sum(dim=(-2, -1)) / mask.sum(dim=(-2, -1))
    return -10 * error.clamp(min=LEAST_SQUARE).log10()


def ssim(
    prediction: Float[Tensor, "*batch H W C"], truth: Float[Tensor, "*batch H W C"]
) -> Float[Tensor, "*batch"]:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 pixels, sigma 1.5, range 1.

    The mean over channels and over the windows that lie within the picture, which must be at least
    11 pixels high and wide.
    """
    height, width, channels = prediction.shape[-3:]
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {WINDOW} pixels, not {height}x{width}")
    x, y = (picture.reshape(-1, height, width, channels) for picture in (prediction, truth))
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x**2
    variance_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * covariance + C2) / (variance_x + variance_y + C2)
    return (luminance * structure).mean(dim=(1, 2, 3)).reshape(prediction.shape[:-3])


def mask_iou(
    predicted: Bool[Tensor, "*batch H W"], truth: Bool[Tensor, "*batch H W"]
) -> Float[Tensor, "*batch"]:
    """Intersection over union of two silhouettes; 1 where both are empty."""
    intersection = (predicted & truth).sum(dim=(-2, -1))
    union = (predicted | truth).sum(dim=(-2, -1))
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)


def _window_mean(pictures: Float[Tensor, "N H W C"]) -> Float[Tensor, "N C h w"]:
    """Gaussian-weighted means over all windows within the pictures."""
    offset = torch.arange(WINDOW) - WINDOW // 2
    weight = torch.exp(-(offset**2) / (2 * SIGMA**2)).to(pictures)
    weight = weight / weight.sum()
    planes = pictures.permute(0, 3, 1, 2)
    for axis in (2, 3):
        planes = (planes.unfold(axis, WINDOW, 1) * weight).sum(dim=-1)
    return planes
