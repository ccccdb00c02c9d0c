"""A training step as a benchmark takes it."""

from collections.abc import Callable, Mapping

from pydantic import BaseModel
from torch import Tensor

from common.training.precision import Precisions, multiplied
from common.training.terms import weighted_total


def learn(
    terms: Callable[[], Mapping[str, Tensor]], losses: BaseModel, precisions: Precisions
) -> None:
    """Compute loss terms and the gradient of their total, weighed by the configured ``losses``."""
    with multiplied(precisions.forward):
        found = terms()
        loss = weighted_total(found, {name: getattr(losses, name) for name in found})
    with multiplied(precisions.backward):
        loss.backward()
