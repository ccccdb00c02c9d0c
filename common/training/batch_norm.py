"""Batch normalisation within groups of a step's pictures, however many processes share them.

Each process by itself would normalise with the mean and variance of its own share (Ioffe and
Szegedy 2015, Alg. 1): a run would depend on their number, or else they would wait for each other at
every layer, forward and back. Groups that no process shares with another need neither (Hoffer,
Hubara and Soudry 2017, "ghost" batch normalisation).
"""

import torch
from torch import Tensor, nn

from common.training.processes import Process, Share, mean_over


class GroupedBatchNorm(nn.BatchNorm2d):
    """A BatchNorm2d that, in training, normalises every ``groups``-th picture together.

    Processes share a step's pictures in the same manner (``Share``), so that a group is the same
    pictures whatever their number. Running statistics are the mean of all groups'.
    """

    groups = 1

    def forward(self, input: Tensor) -> Tensor:
        """Maps of shape B C h w, normalised."""
        if not self.training or self.groups == 1:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        # Picture i is the (i // groups)-th of group i % groups: a view makes that channels.
        channels = input.shape[1] * self.groups
        mean, variance, weight, bias = (
            one.repeat(self.groups)
            for one in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        out = nn.functional.batch_norm(
            input.reshape(-1, channels, *input.shape[2:]),
            mean, variance, weight, bias, True, self.momentum, self.eps,
        )  # fmt: skip
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.copy_(mean.unflatten(0, (self.groups, -1)).mean(dim=0))
            self.running_var.copy_(variance.unflatten(0, (self.groups, -1)).mean(dim=0))
        return out.view_as(input)


def group_batch_norms(module: nn.Module, groups: int) -> None:
    """Let the module's BatchNorm2d normalise in so many groups; names and weights stay."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            grouped = GroupedBatchNorm(child.num_features, child.eps, child.momentum)
            grouped._parameters, grouped._buffers = child._parameters, child._buffers
            grouped.groups = groups
            setattr(module, name, grouped)
        else:
            group_batch_norms(child, groups)


def share_groups(module: nn.Module, share: Share, what: str) -> None:
    """Leave each process its groups; UserError, which calls them ``what``, if they do not go up."""
    for norm in _grouped(module):
        norm.groups = share.size(norm.groups, what)


@torch.no_grad()
def average_statistics(module: nn.Module, process: Process) -> None:
    """Give all processes the mean of their running statistics, which is that of all groups."""
    own = [norm.get_buffer(f"running_{of}") for norm in _grouped(module) for of in ("mean", "var")]
    if not own or process.count == 1:
        return
    every = mean_over(torch.cat(own), process)
    for buffer, mean in zip(own, every.split([len(one) for one in own]), strict=True):
        buffer.copy_(mean)


def _grouped(module: nn.Module) -> list[GroupedBatchNorm]:
    return [child for child in module.modules() if isinstance(child, GroupedBatchNorm)]
