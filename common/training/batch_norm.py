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
        mean = _Mean.apply(input.mean(dim=(0, 2, 3)))
        centred = input - mean[:, None, None]
        variance = _Mean.apply(centred.square().mean(dim=(0, 2, 3)))
        count = input[:, 0].numel() * dist.get_world_size()
        self._remember(mean.detach(), variance.detach(), count)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale[:, None, None] + self.bias[:, None, None]

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics as BatchNorm2d does: an unbiased variance, its momentum."""
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            raise ValueError("SharedBatchNorm keeps running statistics with a momentum")
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)


class _Mean(torch.autograd.Function):
    """The mean over all processes; every process's loss depends on it, hence gradients too."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return _mean(value)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _mean(gradient)


def _mean(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / dist.get_world_size()


def share_batch_norms(module: nn.Module) -> None:
    """Let the module's BatchNorm2d have the same parameters and buffers but shared statistics."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared._parameters, shared._buffers = child._parameters, child._buffers
            setattr(module, name, shared)
        else:
            share_batch_norms(child)
