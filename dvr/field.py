"""The occupancy network and the texture field: one network with two shallow heads.

Layer names are those of the authors' checkpoints (DVR, Sec. 3.1 and supplementary Sec. 1).
"""

import copy
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.fields.blocks import PositionalEncoding, ResidualBlock, added

# What is added before each block: the shifts of a code, or of the codes of many points, which
# broadcast over the points.
Shifts = Iterable[Float[Tensor, "*m hidden"]]
# Points and the shifts of their codes -> occupancy logits.
Logits = Callable[[Float[Tensor, "*n 3"], Shifts], Float[Tensor, "*n"]]


class OccupancyTextureField(nn.Module):
    """Maps a point and a latent code to an occupancy logit and, if it has colour, RGB in [0, 1].

    The code enters as a shift before each residual block; ``condition`` computes the shifts once
    per object, so that many points share them.
    """

    def __init__(
        self, hidden: int, blocks: int, code: int, colour: bool = True, frequencies: int = 0
    ) -> None:
        super().__init__()
        self.code = code
        self.encoding = PositionalEncoding(frequencies)
        self.fc_p = nn.Linear(self.encoding.out_features, hidden)
        self.fc_c = nn.ModuleList(nn.Linear(code, hidden) for _ in range(blocks if code else 0))
        self.blocks = nn.ModuleList(ResidualBlock(hidden) for _ in range(blocks))
        self.fc_out = nn.Linear(hidden, 4 if colour else 1)
        # The first field is the same for every code: a code can only add what it has learnt.
        for parameter in self.fc_c.parameters():
            nn.init.zeros_(parameter)

    def condition(self, code: Float[Tensor, "B C"]) -> Float[Tensor, "blocks B hidden"]:
        """The shifts that a latent code adds before each block; zeros where there is no code."""
        if not self.fc_c:
            return code.new_zeros(len(self.blocks), len(code), self.fc_p.out_features)
        return torch.stack([layer(code) for layer in self.fc_c])

    def forward(
        self, points: Float[Tensor, "*n 3"], condition: Shifts
    ) -> Float[Tensor, "*n channels"]:
        """Logit, then three colour pre-activations; ``condition`` broadcasts over the points."""
        return self.fc_out(self.trunk(points, condition))

    def logits(self, points: Float[Tensor, "*n 3"], condition: Shifts) -> Float[Tensor, "*n"]:
        """Occupancy logits alone."""
        return self._occupancy(self.trunk(points, condition))

    def half_logits(self) -> Logits:
        """The same through blocks in bfloat16, of shifts in bfloat16; points and logits are not."""
        blocks = copy.deepcopy(self.blocks).bfloat16()
        return lambda points, condition: self._occupancy(self._trunk(blocks, points, condition))

    def colour(self, points: Float[Tensor, "*n 3"], condition: Shifts) -> Float[Tensor, "*n 3"]:
        """RGB of the texture field in [0, 1]."""
        return torch.sigmoid(self.forward(points, condition)[..., 1:])

    def trunk(self, points: Float[Tensor, "*n 3"], condition: Shifts) -> Float[Tensor, "*n hidden"]:
        """The features that both heads read."""
        return self._trunk(self.blocks, points, condition)

    def _trunk(self, blocks: nn.ModuleList, points: Tensor, condition: Shifts) -> Tensor:
        net = self.fc_p(self.encoding(points)).to(next(blocks.parameters()).dtype)
        for block, shift in zip(blocks, condition, strict=True):
            net = block(added(net, shift))
        return torch.relu(net).to(points.dtype)

    def _occupancy(self, features: Float[Tensor, "*n hidden"]) -> Float[Tensor, "*n"]:
        return features @ self.fc_out.weight[0] + self.fc_out.bias[0]

    @torch.no_grad()
    def start_as_sphere(self, radius: float, slope: float, generator: torch.Generator) -> None:
        """Make the first field a ball, whatever the random weights: logit = slope (radius - |p|).

        PyTorch's default leaves a near constant field whose surface may not exist at all; here the
        occupancy head is the ridge regression of the ball on the untrained trunk's features, at
        points of the cube [-0.5, 0.5]^3 drawn densest near its surface. ``slope`` is in logits per
        unit length.
        """
        uniform = torch.rand(2048, 3, generator=generator) - 0.5
        shell = torch.nn.functional.normalize(torch.randn(8192, 3, generator=generator), dim=-1) * (
            radius + 0.05 * torch.randn(8192, 1, generator=generator)
        )
        points = torch.cat([uniform, shell]).to(self.fc_p.weight)
        target = slope * (radius - points.norm(dim=-1))
        code = torch.zeros(1, self.code).to(points)
        features = self.trunk(points, self.condition(code)).double()
        features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
        gram = features.T @ features
        ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
        head = torch.linalg.solve(gram + ridge, features.T @ target.double())
        self.fc_out.weight[0] = head[:-1].to(self.fc_out.weight)
        self.fc_out.bias[0] = head[-1].to(self.fc_out.bias)
