"""The colour of a surface point seen from a direction: BRDF and light in one network."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from idr.config import AppearanceConfig
from idr.geometry import BandEncoding


class Appearance(nn.Module):
    """M(x, n, z, v) of the paper (its Sec. 3.2): RGB in [0, 1].

    The configuration may leave out the normal, the feature or the view direction (the paper's
    ablations), and may add a code per photograph for light that changes between them.
    """

    def __init__(self, config: AppearanceConfig, feature: int, images: int) -> None:
        super().__init__()
        self.config = config
        self.view_encoding = BandEncoding(config.view_frequencies)
        self.codes = nn.Embedding(images, config.image_code) if config.image_code else None
        width = 3 + config.image_code
        width += {"none": 0, "direct": 0, "reflected": 1}[config.view]
        width += 0 if config.view == "none" else self.view_encoding.out_features
        width += 3 if config.normal else 0
        width += feature if config.feature else 0
        widths = [width] + [config.hidden] * config.layers + [3]
        layers = [
            nn.Linear(before, after) for before, after in zip(widths[:-1], widths[1:], strict=True)
        ]
        self.layers = nn.ModuleList(
            weight_norm(layer) if config.weight_norm else layer for layer in layers
        )
        if self.codes is not None:
            nn.init.zeros_(self.codes.weight)

    def forward(
        self,
        point: Float[Tensor, "N 3"],
        normal: Float[Tensor, "N 3"],
        feature: Float[Tensor, "N F"],
        view: Float[Tensor, "N 3"],
        image: Int[Tensor, "N"] | None,
    ) -> Float[Tensor, "N 3"]:
        """Colours; ``view`` points from the surface to the camera.

        ``image`` is the photograph whose code is meant; None: the mean of all photographs.
        """
        inputs = [point]
        if self.config.view == "reflected":
            along = (normal * view).sum(dim=-1, keepdim=True)
            inputs += [self.view_encoding(2 * along * normal - view), along]
        elif self.config.view == "direct":
            inputs.append(self.view_encoding(view))
        if self.config.normal:
            inputs.append(normal)
        if self.config.feature:
            inputs.append(feature)
        if self.codes is not None:
            mean = self.codes.weight.mean(dim=0).expand(len(point), -1)
            inputs.append(mean if image is None else self.codes(image))
        value = torch.cat(inputs, dim=-1)
        for layer in self.layers[:-1]:
            value = torch.relu(layer(value))
        return torch.sigmoid(self.layers[-1](value))
