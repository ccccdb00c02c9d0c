"""Denormals are zero where it is asked for, on all threads, and nowhere else."""

import subprocess
import sys

import pytest
import torch

from common.denormals import flushed_denormals

COUNTS = """
import torch
from common.denormals import flushed_denormals, start_threads

torch.set_num_threads(2)
start_threads()

def left():
    return int((torch.full((1 << 20,), 1e-30) * 1e-10).count_nonzero())

with flushed_denormals():
    print(left())
print(left() > 0)
"""
CAN = torch.set_flush_denormal(False)


@pytest.mark.skipif(not CAN, reason="this processor cannot flush denormals")
def test_denormals_are_zero_in_every_thread_inside_alone() -> None:
    """Half of the elements are another thread's; by default 1e-40 is not zero."""
    outcome = subprocess.run([sys.executable, "-c", COUNTS], capture_output=True, text=True)
    assert outcome.stdout.split() == ["0", "True"]


@pytest.mark.skipif(not CAN, reason="this processor cannot flush denormals")
def test_an_error_restores_them() -> None:
    with pytest.raises(ZeroDivisionError), flushed_denormals():
        assert torch.tensor(1e-30) * 1e-10 == 0
        raise ZeroDivisionError
    assert torch.tensor(1e-30) * 1e-10 != 0


@pytest.mark.skipif(not CAN, reason="this processor cannot flush denormals")
def test_the_end_of_an_inner_one_is_not_that_of_the_outer() -> None:
    with flushed_denormals():
        with flushed_denormals():
            pass
        assert torch.tensor(1e-30) * 1e-10 == 0
    assert torch.tensor(1e-30) * 1e-10 != 0
