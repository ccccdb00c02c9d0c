"""The optimiser of both methods."""

from collections.abc import Sequence

import torch
from torch import nn

from common.config import TrainingConfig


def make_optimiser(
    rates: Sequence[tuple[list[nn.Parameter], float]], config: TrainingConfig
) -> torch.optim.Adam:
    """Adam over groups of parameters; the schedule sets each group's learning rate.

    ``rates`` are the groups with their rates relative to the schedule's.
    """
    return torch.optim.Adam(
        [{"params": parameters} for parameters, _ in rates],
        lr=config.learning_rate,
        betas=(0.9, config.beta2),
        eps=config.epsilon,
        fused=True,
    )
