"""Sums are taken in one order while a training lasts, and as before once it has ended."""

import os

import pytest
import torch

from common.training.determinism import repeatable

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_on_a_cpu_threads_add_in_one_order() -> None:
    """Picking rows adds their gradients up: by default several threads do, in any order."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(16, (2**17,), generator=generator)
    weight = torch.randn(2**17, 8, generator=generator)

    def gradient() -> torch.Tensor:
        table = torch.zeros(16, 8, requires_grad=True)
        (table[rows] * weight).sum().backward()
        return table.grad

    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with repeatable(CPU, wanted=False):
            first = gradient()
            assert all(torch.equal(gradient(), first) for _ in range(10))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("device, wanted, is_on", [(CPU, False, True), (GPU, False, False)])
def test_what_was_set_is_set_again(device, wanted, is_on) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), repeatable(device, wanted):
        assert torch.are_deterministic_algorithms_enabled() == is_on
        raise KeyError
    assert torch.are_deterministic_algorithms_enabled() == before


def test_on_a_gpu_where_it_is_wanted(monkeypatch) -> None:
    """What is set before the first product; the digits themselves need a GPU."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with repeatable(GPU, wanted=True):
        assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
