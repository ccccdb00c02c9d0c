"""The average of a model's weights over the steps of its training.

It lies nearer to the minimum than the weights that jump around it (Polyak and Juditsky 1992).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of a model's parameters, which starts as they are.

    ``decay`` is what remains of it at a step. Buffers are not averaged: the model's own count.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.parameters = dict(model.named_parameters())
        self.values = {name: weight.detach().clone() for name, weight in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights that ``step`` steps have led to.

        At step n of all they count (1 - decay) / (1 - decay^n), as the sum of decay^(n - i) w_i
        over the sum of decay^(n - i) does: unbiased from the first step on (Kingma and Ba 2015,
        Sec. 3).
        """
        weight = (1 - self.decay) / (1 - self.decay**step)
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with the averaged weights, for as long as it is only looked at."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, weight in self.parameters.items():
            weight.data, self.values[name] = self.values[name], weight.data

    def state(self) -> dict[str, Tensor]:
        """The model's state with averaged weights; no memory of it is the model's."""
        state = self.model.state_dict()
        return {name: self.values.get(name, value).clone() for name, value in state.items()}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Continue the average of such a state."""
        for name, value in self.values.items():
            value.copy_(state[name])
