"""How exactly a training step's products of float32 matrices are computed.

A search that ends where |f| < 5e-5 needs all of float32's digits: where factors are rounded to
bfloat16, a fifth of IDR's rays end elsewhere, and with TF32 it asks five times as often. A gradient
is a sum over thousands of points, whose rounding errors cancel: it changes by two parts in a
thousand. So the forward pass is exact, and the backward pass is whatever is fastest; so is the
SDF's own gradient in training, whose rounding adds nothing to what the backward pass rounds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

Precision = Literal["highest", "high", "medium"]


@dataclass(frozen=True)
class Precisions:
    """Of both passes, as ``torch.set_float32_matmul_precision`` names them."""

    forward: Precision
    backward: Precision


EXACT = Precisions("highest", "highest")  # as PyTorch does it unless told otherwise
# Narrower layers spend their time between products.
WIDE, WIDE_FOR_ROUNDING = 128, 256


def fastest_precisions(device: torch.device, width: int) -> Precisions:
    """For networks of layers as wide as this.

    On a CPU "medium" means oneDNN's products. Where they do not round, they are as exact as the
    default's (1e-6 was measured) and, of wide layers on an AMD processor, faster.
    """
    if device.type == "cpu" and not _medium_rounds():
        return Precisions("medium", "medium") if width >= WIDE else EXACT
    if width < WIDE_FOR_ROUNDING:
        return EXACT
    return Precisions("highest", "medium" if device.type == "cpu" else "high")


@cache
def _medium_rounds() -> bool:
    """Whether "medium" products go through this processor's units for bfloat16."""
    factor = torch.full((256, 256), 1 + 2**-12)
    with multiplied("medium"):
        return not torch.equal(factor @ torch.eye(256), factor)


@contextmanager
def multiplied(precision: Precision) -> Iterator[None]:
    """Every product of float32 matrices within the block at this precision."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
