"""Seconds and peak memory of a part of the work, on any device."""

import ctypes
import sys
import time
from pathlib import Path

import torch

CLEAR_PEAK = Path("/proc/self/clear_refs")  # Linux forgets a process's peak memory on writing 5


def now(device: torch.device) -> float:
    """Seconds, with the device's work done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measures_memory(device: torch.device) -> bool:
    """Whether the peak of a part of the work can be told from that of the whole process."""
    return device.type == "cuda" or CLEAR_PEAK.exists()


def reset_peak(device: torch.device) -> int:
    """Forget earlier peaks of memory; bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if not measures_memory(device):
        return 0  # then the peak is that of the whole process so far
    # What earlier work freed counts as used until the C library hands it back.
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR_PEAK.write_text("5")
    return _status_bytes("VmRSS")


def peak_bytes(device: torch.device) -> int:
    """Peak memory since the last reset, of the device or of this process; 0 on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if measures_memory(device):
        return _status_bytes("VmHWM")
    try:
        import resource  # of POSIX systems alone
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status_bytes(name: str) -> int:
    """A line of Linux's own account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024
