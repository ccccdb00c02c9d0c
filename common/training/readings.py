"""The numbers of a step, brought from the device together: a step waits for it once."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from common.training.processes import Process, mean_over


@dataclass(frozen=True)
class Reading:
    """Loss, gradient norm, unweighted terms and further notes; means over the processes."""

    loss: float
    gradient_norm: float
    terms: dict[str, float]
    notes: dict[str, float]


def read(
    loss: Float[Tensor, ""],
    gradient_norm: Float[Tensor, ""],
    terms: Mapping[str, Tensor],
    notes: Mapping[str, Tensor],
    process: Process,
) -> Reading:
    """One transfer for all of them, and one exchange among the processes: all read the same."""
    scalars = [loss, gradient_norm, *terms.values(), *notes.values()]
    on_device = torch.stack([scalar.detach().to(loss.device, torch.float32) for scalar in scalars])
    total, norm, *rest = mean_over(on_device, process).tolist()
    of_terms, of_notes = rest[: len(terms)], rest[len(terms) :]
    return Reading(
        total,
        norm,
        dict(zip(terms, of_terms, strict=True)),
        dict(zip(notes, of_notes, strict=True)),
    )
