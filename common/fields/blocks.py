"""Layers that neural fields are built from."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + W1 relu(W0 relu(x)), the identity at initialisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc_0 = nn.Linear(width, width)
        self.fc_1 = nn.Linear(width, width)
        nn.init.zeros_(self.fc_1.weight)
        nn.init.zeros_(self.fc_1.bias)

    def forward(self, x: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        """The block's output, of the input's shape."""
        hidden = self.fc_0(torch.relu(x))
        hidden = torch.relu(hidden) if torch.is_grad_enabled() else torch.relu_(hidden)
        return added(self.fc_1(hidden), x)


def added(fresh: Float[Tensor, "*n width"], other: Float[Tensor, "*m width"]) -> Tensor:
    """The sum, of the shape of ``fresh``, a value that nobody else needs.

    In its memory where no gradients are recorded: a search, whose time is half memory's, takes a
    fifth less. Autograd would copy what is changed in place.
    """
    return fresh + other if torch.is_grad_enabled() else fresh.add_(other)


class PositionalEncoding(nn.Module):
    """[x, sin(2^k pi x), cos(2^k pi x)], k below ``frequencies`` (Mildenhall et al. 2020 Eq. 4)."""

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.out_features = 3 + 6 * frequencies
        self.frequencies = frequencies

    def forward(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n features"]:
        """The encoding; with no frequencies, the points themselves."""
        if self.frequencies == 0:
            return x
        bands = torch.pi * 2.0 ** torch.arange(self.frequencies, device=x.device, dtype=x.dtype)
        angles = (x[..., None, :] * bands[:, None]).flatten(-2)
        return torch.cat([x, angles.sin(), angles.cos()], dim=-1)
