"""Freed memory is used again without the system's help."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from common.allocator import keep_freed_memory

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
    from common import allocator

    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("asked for mallopt"))
    allocator.keep_freed_memory()
