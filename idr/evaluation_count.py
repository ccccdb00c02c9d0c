"""How often a geometry network is evaluated, counted at the network itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idr.geometry import Geometry


@dataclass
class EvaluationCount:
    """Points at which a network was evaluated: ``search`` without a graph, ``forward`` with one."""

    search: int = 0
    forward: int = 0

    @property
    def total(self) -> int:
        """All evaluations, whatever for."""
        return self.search + self.forward


@contextmanager
def counted(geometry: Geometry) -> Iterator[EvaluationCount]:
    """Count within the block; whoever evaluates ``geometry`` needs to know nothing of it."""
    count = EvaluationCount()

    def first_layer(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if torch.is_grad_enabled():
            count.forward += len(inputs[0])
        else:
            count.search += len(inputs[0])

    hook = geometry.hidden[0].register_forward_hook(first_layer)
    try:
        yield count
    finally:
        hook.remove()
