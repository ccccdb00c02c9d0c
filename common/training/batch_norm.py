"""Batch normalisation over the whole batch of a step, however many processes share it.

Each process by itself would normalise with the mean and variance of its own share (Ioffe and
Szegedy 2015, Alg. 1): another function, so that a run would depend on their number. PyTorch's own
remedy needs a GPU.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SharedBatchNorm(nn.BatchNorm2d):
    """A BatchNorm2d whose statistics, in training, are those of all processes' equal shares."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps of shape B C h w, normalised."""
        if not self.training:
            return super().forward(input)
        mean, variance = _of_all(input.detach())
        count = input[:, 0].numel() * dist.get_world_size()
        self._remember(mean, variance, count)
        return _Normalise.apply(input, self.weight, self.bias, mean, variance, self.eps)

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics as BatchNorm2d does: an unbiased variance, its momentum."""
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            raise ValueError("SharedBatchNorm keeps running statistics with a momentum")
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)


def _of_all(share: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every channel over all processes' equal shares of the maps.

    Shares' own variances do not add up to the whole's, for their means differ too (Chan, Golub and
    LeVeque 1983, Eq. 2.1).
    """
    variance, mean = torch.var_mean(share, dim=(0, 2, 3), correction=0)
    means, variances = _from_all(torch.stack([mean, variance])).unbind(dim=1)
    mean = means.mean(dim=0)
    return mean, variances.mean(dim=0) + (means - mean).square().mean(dim=0)


def _from_all(own: Tensor) -> Tensor:
    """Every process's tensor, stacked: for few numbers quicker than a reduction."""
    shares = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(shares, own)
    return torch.stack(shares)


class _Normalise(torch.autograd.Function):
    """Maps normalised with the statistics of all processes, on which each one's loss depends.

    With fixed statistics the gradient is PyTorch's own. Theirs adds to it the mean gradient, and
    the mean product of gradient and output, over all maps of all processes (Ioffe and Szegedy 2015,
    Sec. 3): one exchange.
    """

    @staticmethod
    def forward(
        context: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> Tensor:
        context.save_for_backward(input, weight, mean, variance)
        context.eps = eps
        return nn.functional.batch_norm(input, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, variance = context.saved_tensors
        of_input, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, input, weight, mean, variance, None, None, False, context.eps, [True] * 3
        )
        totals = _from_all(torch.stack([of_bias, of_weight])).mean(dim=0)
        mean_gradient, mean_product = totals / input[:, 0].numel()
        inverse = (variance + context.eps).rsqrt()
        slope = weight * inverse.square() * mean_product
        shift = weight * inverse * mean_gradient - slope * mean
        of_input -= torch.addcmul(shift[:, None, None], slope[:, None, None], input)
        return of_input, of_weight, of_bias, None, None, None


def share_batch_norms(module: nn.Module) -> None:
    """Let the module's BatchNorm2d have the same parameters and buffers but shared statistics."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared._parameters, shared._buffers = child._parameters, child._buffers
            setattr(module, name, shared)
        else:
            share_batch_norms(child)
