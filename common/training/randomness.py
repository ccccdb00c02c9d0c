"""Random numbers of a step, for the process's share of its rows."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from common.training.processes import WHOLE, Share


@dataclass(frozen=True)
class Random:
    """Rows drawn from a generator that every process seeds alike.

    Rows for all processes are drawn and this one's are kept, so that a row has the same numbers
    however many they are.
    """

    generator: torch.Generator
    share: Share = WHOLE

    def uniform(self, rows: int, *row: int) -> Tensor:
        """Of [0, 1), shape (rows, *row)."""
        return self._drawn(torch.rand, rows, *row)

    def normal(self, rows: int, *row: int) -> Tensor:
        """Of mean 0 and variance 1, shape (rows, *row)."""
        return self._drawn(torch.randn, rows, *row)

    def _drawn(self, draw: Callable[..., Tensor], rows: int, *row: int) -> Tensor:
        device = self.generator.device
        whole = draw(rows * self.share.count, *row, generator=self.generator, device=device)
        return self.share.of(whole)
