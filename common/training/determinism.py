"""The same digits from the same seed, however the machine's threads take turns."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def repeatable(device: torch.device, wanted: bool) -> Iterator[None]:
    """Let sums be taken in one order: on a CPU always, on a GPU where it is ``wanted``.

    By default several threads add to the same numbers in any order (the gradient of picking rows,
    for one), so that the last digits depend on what else the machine does. On a CPU order costs
    next to nothing; on a GPU it is slower, and an operation that has no such form raises
    RuntimeError.
    """
    switches: Any = torch.utils.deterministic
    before, filled = (
        torch.are_deterministic_algorithms_enabled(),
        switches.fill_uninitialized_memory,
    )
    if wanted and device.type == "cuda":
        # cuBLAS reads this when it is first used; with it, its workspaces are fixed.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted or device.type == "cpu")
    switches.fill_uninitialized_memory = False  # nothing here reads what was not written
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        switches.fill_uninitialized_memory = filled
