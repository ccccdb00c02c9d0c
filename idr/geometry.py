"""The signed distance function: value, gradient and geometry feature of a point in one pass.

f < 0 is inside. Two networks with one interface: the paper's MLP on positional encoding, and a
small MLP on a multi-resolution hash grid, which learns many times faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from common.fields.hash_grid import HashGrid
from common.fields.softplus import softplus_and_slope
from common.training.precision import Precision, multiplied
from idr.config import HashGridConfig, MLPConfig, ModelConfig

BETA = 100.0  # of the softplus between layers: nearly a rectifier, yet twice differentiable
FIT_POINTS = 8192


@dataclass(frozen=True)
class GeometryValues:
    """What the network says of each point; the gradient is not normalised."""

    sdf: Float[Tensor, "N"]
    gradient: Float[Tensor, "N 3"]
    feature: Float[Tensor, "N F"]

    def scattered(self, rows: Bool[Tensor, "M"], others: "GeometryValues") -> "GeometryValues":
        """These in some of M rows, and ``others`` in the rest."""
        order = torch.cat([rows.nonzero()[:, 0], (~rows).nonzero()[:, 0]]).argsort()
        both = zip(vars(self).values(), vars(others).values(), strict=True)
        return GeometryValues(*(torch.cat(pair)[order] for pair in both))


class HashGridGeometry(nn.Module):
    """SDF and feature from a small softplus network on [point, hash encoding]."""

    def __init__(self, config: HashGridConfig, feature: int) -> None:
        super().__init__()
        self.grid = HashGrid(
            config.levels, config.features, config.coarsest, config.finest, config.log2_rows
        )
        widths = [3 + self.grid.out_features] + [config.hidden] * config.layers
        self.hidden = nn.ModuleList(
            nn.Linear(before, after) for before, after in zip(widths[:-1], widths[1:], strict=True)
        )
        self.last = nn.Linear(widths[-1], 1 + feature)
        self.start_level = config.start_levels
        self.feature_length = feature + self.grid.out_features

    def fade_in(self, share: float) -> None:
        """Coarse to fine: from ``start_levels`` levels at share 0 to all of them at 1."""
        levels = len(self.grid.level_weight)
        self.grid.fade_in(self.start_level + share * (levels - self.start_level))

    def sdf(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """The signed distance alone, for the search."""
        return nn.functional.linear(
            self._features(points), self.last.weight[:1], self.last.bias[:1]
        )[:, 0]

    def forward(
        self, points: Float[Tensor, "N 3"], precision: Precision = "highest"
    ) -> GeometryValues:
        """Value, gradient and feature; the gradient is carried forward through the layers.

        ``precision`` is the gradient's alone.
        """
        encoding, derivative = self.grid.with_derivative(points)
        value = torch.cat([points, encoding], dim=-1)
        axes = torch.eye(3, device=points.device, dtype=points.dtype)
        change = torch.cat([axes.expand(len(points), 3, 3), derivative], dim=-1)
        for layer in _linear(self.hidden):
            value, slope = softplus_and_slope(layer(value), BETA)
            with multiplied(precision):
                change = slope[:, None] * nn.functional.linear(change, layer.weight)
        out = self.last(value)
        # Texture is finer than shape: it reaches the encoding without passing through the SDF's
        # layers, and is learnt many times sooner.
        feature = torch.cat([out[:, 1:], encoding], dim=-1)
        return GeometryValues(out[:, 0], change @ self.last.weight[0], feature)

    def _features(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N hidden"]:
        value = torch.cat([points, self.grid(points)], dim=-1)
        for layer in self.hidden:
            value = nn.functional.softplus(layer(value), beta=BETA)
        return value


class MLPGeometry(nn.Module):
    """The paper's network: positional encoding, softplus layers, a skip, weight normalisation.

    Yariv et al. 2020, supplementary; initialised geometrically (Atzmon and Lipman 2020).
    """

    def __init__(self, config: MLPConfig, feature: int) -> None:
        super().__init__()
        self.encoding = BandEncoding(config.frequencies)
        self.skip = config.skip if config.skip < config.layers else 0
        encoded = self.encoding.out_features
        widths = [encoded] + [config.hidden] * config.layers
        layers = []
        for index in range(config.layers):
            # The layer before the skip leaves room for the encoding that joins there.
            out = widths[index + 1] - (encoded if index + 1 == self.skip else 0)
            layers.append(_geometric(nn.Linear(widths[index], out), encoded, index, self.skip))
        self.hidden = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.last = weight_norm(nn.Linear(widths[-1], 1 + feature))
        self.start_frequency = config.start_frequencies
        self.feature_length = feature

    def fade_in(self, share: float) -> None:
        """Coarse to fine: from ``start_frequencies`` bands at share 0 to all of them at 1."""
        bands = self.encoding.bands
        self.encoding.fade_in(self.start_frequency + share * (bands - self.start_frequency))

    def sdf(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        """The signed distance alone, for the search."""
        return nn.functional.linear(
            self._features(points), self.last.weight[:1], self.last.bias[:1]
        )[:, 0]

    def forward(
        self, points: Float[Tensor, "N 3"], precision: Precision = "highest"
    ) -> GeometryValues:
        """Value, gradient and feature; the gradient is carried back through the layers.

        ``precision`` is the gradient's alone.
        """
        with torch.enable_grad():
            if not points.requires_grad:
                points = points.detach().requires_grad_()
            encoded = self.encoding(points)
        with nn.utils.parametrize.cached():
            value, slopes = encoded, []
            for index, layer in enumerate(self.hidden):
                if index == self.skip > 0:
                    value = torch.cat([value, encoded], dim=-1) / 2**0.5
                value, slope = softplus_and_slope(layer(value), BETA)
                slopes.append(slope)
            out = self.last(value)
            with multiplied(precision):
                change = self._carried_back(slopes)
        (gradient,) = torch.autograd.grad(
            encoded, points, change, create_graph=torch.is_grad_enabled()
        )
        return GeometryValues(out[:, 0], gradient, out[:, 1:])

    def _carried_back(self, slopes: Sequence[Float[Tensor, "N _"]]) -> Float[Tensor, "N _"]:
        """The SDF's derivative by the encoding, of the slopes of all layers' softplus."""
        weights = [layer.weight for layer in _linear(self.hidden)]
        change, joined = slopes[-1] * self.last.weight[0], None
        for index in reversed(range(1, len(weights))):
            change = change @ weights[index]
            width = slopes[index - 1].shape[-1]
            if index == self.skip:
                change = change / 2**0.5
                change, joined = change[:, :width], change[:, width:]
            change = change * slopes[index - 1]
        change = change @ weights[0]
        return change if joined is None else change + joined

    def _features(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N hidden"]:
        encoded = self.encoding(points)
        value = encoded
        for index, layer in enumerate(self.hidden):
            if index == self.skip > 0:
                value = torch.cat([value, encoded], dim=-1) / 2**0.5
            value = nn.functional.softplus(layer(value), beta=BETA)
        return value


class BandEncoding(nn.Module):
    """[x, sin(2^k x), cos(2^k x)] for k below ``bands``, each band with a weight (Lin et al. 2021).

    The frequencies are IDR's: without the factor pi.
    """

    weight: Tensor

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands, self.out_features = bands, 3 + 6 * bands
        self.register_buffer("weight", torch.ones(bands))

    def fade_in(self, bands: float) -> None:
        """Use the first ``bands`` bands, the last of them in part."""
        index = torch.arange(self.bands, device=self.weight.device)
        self.weight.copy_((1 - (torch.pi * (bands - index).clamp(0, 1)).cos()) / 2)

    def forward(self, x: Float[Tensor, "N 3"]) -> Float[Tensor, "N features"]:
        """The encoding, points first."""
        scale = 2.0 ** torch.arange(self.bands, device=x.device, dtype=x.dtype)
        angle = x[:, None] * scale[:, None]
        waves = torch.cat([angle.sin(), angle.cos()], dim=-1) * self.weight[:, None]
        return torch.cat([x, waves.flatten(1)], dim=-1)


Geometry = HashGridGeometry | MLPGeometry


def make_geometry(config: ModelConfig) -> Geometry:
    """An untrained network whose zero set is the configured sphere."""
    if config.geometry == "hash_grid":
        geometry: Geometry = HashGridGeometry(config.hash_grid, config.feature)
        _spread_evenly(geometry.hidden)
    else:
        geometry = MLPGeometry(config.mlp, config.feature)
    start_as_sphere(geometry, config.initial_radius)
    return geometry


@torch.no_grad()
def start_as_sphere(geometry: Geometry, radius: float) -> None:
    """Set the last layer so that the first SDF is |x| - radius, by least squares on the ball.

    Geometric initialisation alone gives a radius of 0.41 to 0.48 where 0.6 is asked for; the
    hidden units it makes can represent a sphere well, so the output row is solved for.
    """
    direction = nn.functional.normalize(torch.randn(FIT_POINTS, 3), dim=-1)
    distance = torch.rand(FIT_POINTS, 1) * 1.2
    points = direction * distance
    features = geometry._features(points).double()
    rows = torch.cat([features, torch.ones(FIT_POINTS, 1, dtype=torch.float64)], dim=1)
    # Accuracy counts most at the surface itself.
    weight = torch.exp(-((distance - radius).square()) / 0.08).double() + 0.05
    target = (distance - radius).double()
    left = rows.T @ (weight * rows)
    ridge = 1e-6 * left.diagonal().mean() * torch.eye(len(left), dtype=torch.float64)
    solution = torch.linalg.solve(left + ridge, rows.T @ (weight * target))[:, 0].float()
    matrix, bias = geometry.last.weight.clone(), geometry.last.bias
    matrix[0] = solution[:-1]
    _assign(geometry.last, matrix)
    bias[0] = solution[-1]


def _assign(layer: nn.Linear, weight: Tensor) -> None:
    """Set a layer's weight, through its parametrisation where it has one."""
    if nn.utils.parametrize.is_parametrized(layer):
        layer.weight = weight
    else:
        layer.weight.copy_(weight)


@torch.no_grad()
def _geometric(layer: nn.Linear, encoded: int, index: int, skip: int) -> nn.Linear:
    """Weights by which the first hidden units see the point itself and nothing finer."""
    nn.init.normal_(layer.weight, 0.0, (2 / layer.out_features) ** 0.5)
    nn.init.zeros_(layer.bias)
    if index == 0:
        layer.weight[:, 3:] = 0
    elif index == skip:
        layer.weight[:, layer.in_features - (encoded - 3) :] = 0
    return layer


@torch.no_grad()
def _spread_evenly(hidden: nn.ModuleList) -> None:
    """A few units represent a sphere only if their directions are even, here Fibonacci's spiral.

    Later layers begin near the identity, and the first does not see the encoding yet.
    """
    first, *later = _linear(hidden)
    index = torch.arange(first.out_features) + 0.5
    height = 1 - 2 * index / first.out_features
    angle = torch.pi * (1 + 5**0.5) * index
    around = (1 - height.square()).sqrt()
    nn.init.zeros_(first.weight)
    first.weight[:, :3] = torch.stack([around * angle.cos(), around * angle.sin(), height], dim=1)
    nn.init.zeros_(first.bias)
    for layer in later:
        nn.init.normal_(layer.weight, 0.0, 0.3 / layer.out_features**0.5)
        layer.weight += torch.eye(layer.out_features)
        nn.init.zeros_(layer.bias)


def _linear(layers: nn.ModuleList) -> list[nn.Linear]:
    """A ModuleList forgets what it holds."""
    return cast(list[nn.Linear], list(layers))
