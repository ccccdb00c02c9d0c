"""The smallest task that the training loop can be given."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from common.training.logs import Log
from common.training.loop import StepResult
from common.training.precision import EXACT


class Slope(torch.nn.Module):
    """One weight, whose loss is the weight itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self) -> torch.Tensor:
        return self.weight


class Steps(torch.utils.data.Dataset):
    """The step's number is its batch."""

    def __getitem__(self, step: int) -> int:
        return step


class SlopeTask:
    """A task that validates with given scores, and whose loss is as asked."""

    workers = 0
    weights = {"slope": 1.0}
    precisions = EXACT

    def __init__(
        self,
        scores: Iterable[dict[str, float]],
        loss: Callable[[Tensor, int], Tensor] = lambda weight, step: weight,
        share: Callable[[int], float] = lambda step: 1.0,
    ) -> None:
        self.model = Slope()
        self.rates = [(list(self.model.parameters()), 1.0)]
        self.batches = Steps()
        self.scores, self.loss, self.share = iter(scores), loss, share

    def step(self, model, batch, step) -> StepResult:
        notes = {"surface_share": torch.tensor(self.share(step))}
        return StepResult({"slope": self.loss(model(), step)}, 1, 1, notes)

    def validate(self) -> dict[str, float]:
        return next(self.scores)

    def show(self, log: Log, step: int) -> None:
        pass
