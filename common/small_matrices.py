"""Products of small matrices that are never rounded.

``torch.set_float32_matmul_precision`` lets networks multiply faster. On a GPU, and on CPUs with
units for bfloat16, it would leave ten bits or fewer of a pixel's coordinate, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor


def product(
    left: Float[Tensor, "*#n rows inner"], right: Float[Tensor, "*#n inner columns"]
) -> Float[Tensor, "... rows columns"]:
    """The matrix product, of which no term is rounded beyond its own precision; broadcasts."""
    total = left[..., :, :1] * right[..., :1, :]
    for index in range(1, left.shape[-1]):
        total = total + left[..., :, index, None] * right[..., None, index, :]
    return total


@contextmanager
def full_precision() -> Iterator[None]:
    """Every product of matrices in full precision, for what is not worth writing otherwise."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
