"""A step's forward pass is exact, whatever the processor would rather do."""

import pytest
import torch

from common.config import TrainingConfig
from common.training import precision
from common.training.divergence import Watch
from common.training.loop import Training
from common.training.optimiser import make_optimiser
from common.training.precision import (
    EXACT,
    WIDE,
    WIDE_FOR_ROUNDING,
    Precisions,
    fastest_precisions,
    multiplied,
)
from common.training.processes import Process
from common.training.run_folder import RunFolder
from common.training.state import Progress, State
from tests.make_task import SlopeTask

CPU = torch.device("cpu")


def test_a_block_ends_as_it_began() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), multiplied("medium"):
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize("width", [64, WIDE, WIDE_FOR_ROUNDING])
def test_the_forward_pass_is_exact_here(width) -> None:
    """Random factors of 8 bits more than bfloat16 has, against their product in doubles."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=generator) for _ in range(2))
    true = left.double() @ right.double()
    with multiplied(fastest_precisions(CPU, width).forward):
        error = (left @ right - true).abs().max()
    assert error < 512**0.5 * 1e-5


def test_where_factors_are_rounded_only_gradients_of_wide_layers_are(monkeypatch) -> None:
    monkeypatch.setattr(precision, "_medium_rounds", lambda: True)
    rounded = {width: fastest_precisions(CPU, width) for width in (64, 128, 256, 512)}
    assert rounded[64] == rounded[128] == EXACT
    assert rounded[256] == rounded[512] == Precisions("highest", "medium")


def test_where_they_are_not_the_faster_library_serves_both(monkeypatch) -> None:
    monkeypatch.setattr(precision, "_medium_rounds", lambda: False)
    assert fastest_precisions(CPU, 64) == EXACT
    assert fastest_precisions(CPU, 128) == Precisions("medium", "medium")


def test_a_gpu_rounds_gradients_of_wide_layers_alone() -> None:
    assert fastest_precisions(torch.device("cuda"), 64) == EXACT
    assert fastest_precisions(torch.device("cuda"), 512) == Precisions("highest", "high")


def test_each_pass_has_its_own(tmp_path) -> None:
    seen = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(context, weight):
            seen.append(torch.get_float32_matmul_precision())
            return weight.clone()

        @staticmethod
        def backward(context, gradient):
            seen.append(torch.get_float32_matmul_precision())
            return gradient

    task = SlopeTask([], loss=lambda weight, step: Watched.apply(weight))
    task.precisions = Precisions("high", "medium")
    config = TrainingConfig(iterations=1)
    state = State(task.model, make_optimiser(task.rates, config), Progress(), Watch())
    Training(task, config, RunFolder(tmp_path), Process(0, 1, CPU), state, None).step(0)
    assert seen == ["high", "medium"]
    assert torch.get_float32_matmul_precision() == "highest"
