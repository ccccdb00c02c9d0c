"""Products of small matrices that are never rounded.

``torch.set_float32_matmul_precision`` lets networks multiply faster. On a GPU, and on CPUs with
units for bfloat16, it would leave ten bits or fewer of a pixel's coordinate, too.
"""

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
