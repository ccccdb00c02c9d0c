"""Weigh named loss terms."""

from collections.abc import Mapping

from torch import Tensor


def weighted_total(terms: Mapping[str, Tensor], weights: Mapping[str, float | int]) -> Tensor:
    """Sum of weight * term over the terms with a weight.

    A term without a weight, or a non-zero weight without its term, is an error in the program.
    """
    wanted = {name for name, weight in weights.items() if weight}
    if wanted != set(terms):
        raise ValueError(
            f"loss terms {sorted(terms)} do not match the weighted ones {sorted(wanted)}"
        )
    return sum((weights[name] * terms[name] for name in sorted(terms)), start=0.0)  # type: ignore[return-value]
