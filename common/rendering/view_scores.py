"""How close the picture of a trained field is to the photograph of the same view."""

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from common.rendering.image_metrics import WINDOW, mask_iou, psnr, ssim
from common.rendering.picture import Picture

PICTURE_SCORES = ("psnr", "psnr_whole", "ssim", "mask_iou")


def view_scores(
    picture: Picture, image: UInt8[Tensor, "H W 3"], mask: Bool[Tensor, "H W"]
) -> dict[str, float]:
    """PSNR inside the mask (misses count as white) and over all, SSIM and mask IoU.

    The photograph is put on white outside its mask. Without any object in it there is nothing to
    compare, and pictures of less than a window have no SSIM.
    """
    if not mask.any():
        return {}
    true = torch.where(mask[..., None], image.float() / 255, 1.0)
    scores = {
        "psnr": psnr(picture.colour, true, mask),
        "psnr_whole": psnr(picture.colour, true),
        "mask_iou": mask_iou(picture.mask, mask),
    }
    if min(mask.shape) >= WINDOW:
        scores["ssim"] = ssim(picture.colour, true)
    return {name: float(scores[name]) for name in PICTURE_SCORES if name in scores}
