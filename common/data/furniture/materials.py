"""Solid textures: colours as functions of the point, so that a cut shows the same wood as a face.

No detail is finer than about 0.05 of the unit cube: what a 64-pixel image can still show.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Colour = tuple[float, float, float]
Pattern = Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]]


@dataclass(frozen=True)
class Material:
    """Two sRGB colours in [0, 1] mixed by a pattern: 0 is the first, 1 the second."""

    first: Colour
    second: Colour
    pattern: Pattern

    def colour(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """The colour at each point."""
        mix = self.pattern(points)[:, None]
        return points.new_tensor(self.first) * (1 - mix) + points.new_tensor(self.second) * mix


def wood(rng: np.random.Generator) -> Material:
    """Growth rings about an axis near the x, y or z axis, bent by slow noise."""
    hue, saturation = rng.uniform(0.045, 0.115), rng.uniform(0.35, 0.75)
    value = rng.uniform(0.3, 0.9)
    axis = rng.permutation(np.eye(3))[:2] + rng.normal(0, 0.08, (2, 3))
    centre = rng.uniform(-0.6, 0.6, 2)
    frequency = 2 * np.pi / rng.uniform(0.06, 0.12)
    bend = noise(rng, wavelength=0.4)

    def rings(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        across = points @ torch.as_tensor(axis.T, dtype=points.dtype)
        radius = (across - torch.as_tensor(centre, dtype=points.dtype)).norm(dim=-1)
        return 0.5 + 0.5 * torch.sin(frequency * radius + 3 * bend(points))

    dark = value * rng.uniform(0.66, 0.86)
    return Material(
        colorsys.hsv_to_rgb(hue, saturation, value),
        colorsys.hsv_to_rgb(hue, min(1.0, saturation * 1.15), dark),
        rings,
    )


def fabric(rng: np.random.Generator) -> Material:
    """Cloth: plain with blotches, or striped, or checked."""
    first = _lively_colour(rng)
    weave = rng.choice(["plain", "stripes", "checks"], p=[0.5, 0.25, 0.25])
    if weave == "plain":
        shade = rng.uniform(0.7, 0.85)
        second = _darker(first, shade)
        return Material(first, second, noise(rng, wavelength=rng.uniform(0.06, 0.15)))
    second = _lively_colour(rng) if rng.random() < 0.5 else (0.93, 0.91, 0.86)
    axes = rng.permutation(3)[: 1 if weave == "stripes" else 2].tolist()
    return Material(first, second, _bands(rng, axes))


def paint(rng: np.random.Generator) -> Material:
    """Lacquer or plastic: nearly one colour."""
    first = _lively_colour(rng) if rng.random() < 0.6 else (rng.uniform(0.15, 0.95),) * 3
    return Material(first, _darker(first, 0.9), noise(rng, wavelength=0.4))


def metal(rng: np.random.Generator) -> Material:
    """A grey, or brass, with slow variation along the height."""
    value = rng.uniform(0.2, 0.8)
    saturation = rng.choice([0.03, 0.5], p=[0.7, 0.3])
    first = colorsys.hsv_to_rgb(0.12, saturation, value)
    second = colorsys.hsv_to_rgb(0.12, saturation, 0.75 * value)
    return Material(first, second, noise(rng, wavelength=0.25))


def hard(rng: np.random.Generator) -> Material:
    """Something to build with."""
    return [wood, paint, metal][rng.choice(3, p=[0.6, 0.25, 0.15])](rng)


def noise(rng: np.random.Generator, wavelength: float) -> Pattern:
    """Smooth noise in [0, 1]: plane waves of random directions, phases and lengths near this."""
    waves = 6
    direction = rng.normal(size=(waves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    frequency = direction * (2 * np.pi / (wavelength * rng.uniform(0.7, 1.5, (waves, 1))))
    phase = rng.uniform(0, 2 * np.pi, waves)

    def pattern(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        angle = points @ torch.as_tensor(frequency.T, dtype=points.dtype)
        wave = torch.sin(angle + torch.as_tensor(phase, dtype=points.dtype))
        return (0.5 + wave.sum(dim=-1) * (0.5 / waves**0.5)).clamp(0, 1)

    return pattern


def _bands(rng: np.random.Generator, axes: list[int]) -> Pattern:
    """Stripes across one axis, or the checks of stripes across two."""
    frequency = np.pi / rng.uniform(0.05, 0.12)
    phase = rng.uniform(0, 2 * np.pi, 3).tolist()

    def pattern(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        product = torch.ones_like(points[:, 0])
        for axis in axes:
            product = product * torch.sin(frequency * points[:, axis] + phase[axis])
        # A steep but continuous edge: a jump would alias.
        return (0.5 + 4 * product).clamp(0, 1)

    return pattern


def _lively_colour(rng: np.random.Generator) -> Colour:
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.25, 0.85), rng.uniform(0.4, 0.95))


def _darker(colour: Colour, share: float) -> Colour:
    red, green, blue = colour
    return share * red, share * green, share * blue
