"""Freed memory is used again without the system's help, and denormals are zero."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from common.machine import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        some = [torch.ones(1_000_000) for _ in range(3)]
        del some
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
keep_freed_memory()
faults()
print(plain, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_arrays_take_no_new_pages() -> None:
    """By default each of 150 arrays of 4 MB may fault a thousand times."""
    outcome = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True)
    plain, kept = map(int, outcome.stdout.split())
    assert kept < 100
    assert kept < plain


def test_other_libraries_are_left_alone(monkeypatch) -> None:
    from common import machine

    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: pytest.fail("asked for mallopt"))
    machine.keep_freed_memory()


DENORMALS = """
import torch
from common.machine import flush_denormals

torch.set_num_threads(2)
CAN = torch.set_flush_denormal(True)
torch.set_flush_denormal(False)

def left():
    return int((torch.full((1 << 20,), 1e-30) * 1e-10).count_nonzero())

flush_denormals()
print(CAN, left())
"""


def test_denormals_are_zero_in_every_thread() -> None:
    """One element in two is another thread's; by default 1e-40 is not zero."""
    outcome = subprocess.run([sys.executable, "-c", DENORMALS], capture_output=True, text=True)
    can, left = outcome.stdout.split()
    assert left == "0" if can == "True" else left == str(1 << 20)


def test_whoever_does_not_calculate_does_not_wait_for_pytorch() -> None:
    code = (
        "import sys; from common.errors import run_command; run_command(lambda: None); "
        "print('torch' in sys.modules)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.stdout.strip() == "False"
