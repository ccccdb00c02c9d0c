"""Softplus and its slope together, for networks whose own derivative is part of the loss."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def softplus_and_slope(
    x: Float[Tensor, "*n"], beta: float
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """log(1 + exp(beta x)) / beta and its derivative sigmoid(beta x), both differentiable once.

    A network that carries its derivative along asks for both, and the losses for the derivatives
    of both: s and beta s (1 - s), by the slope s that is at hand. Left to automatic
    differentiation the second takes three times as many passes over memory.
    """
    return _SoftplusAndSlope.apply(x, beta)


class _SoftplusAndSlope(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        slope = (x * beta).sigmoid_()
        context.save_for_backward(slope)
        context.beta = beta
        return torch.nn.functional.softplus(x, beta=beta), slope

    @staticmethod
    @once_differentiable
    def backward(context: Any, by_value: Tensor, by_slope: Tensor) -> tuple[Tensor, None]:
        (slope,) = context.saved_tensors
        flatter = torch.addcmul(by_slope, by_slope, slope, value=-1)
        return torch.add(by_value, flatter, alpha=context.beta).mul_(slope), None
