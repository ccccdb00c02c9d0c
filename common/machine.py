"""What a program asks of the machine it runs on, before it starts to work."""

import ctypes
import platform
import sys

# mallopt's parameters (malloc.h), and the highest threshold that glibc takes for the second.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 << 20
KEPT = 512 << 20


def prepare_process() -> None:
    """Keep freed memory and flush denormals, before there are threads."""
    keep_freed_memory()
    flush_denormals()


def keep_freed_memory() -> None:
    """Let this process reuse freed memory, up to 512 MB of it, rather than give it back at once.

    A training step makes and frees the same few thousand arrays over and over. By default glibc
    returns large ones to the system, which clears each page again when it is next touched: ten
    thousand page faults a step. Other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    library.mallopt(TRIM_THRESHOLD, KEPT)


def flush_denormals() -> None:
    """Let numbers nearer to zero than 1.2e-38 be zero, on processors that can.

    Where a unit of IDR's network is off, its softplus, exp(100 x) / 100, and its slope are such
    denormal numbers, for which Intel's processors take a hundred cycles and more: a step on the
    sculpture took two fifths longer. A thread has this from the one that started it.
    """
    # Whoever has not imported PyTorch by now calculates nothing, and need not wait for it.
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(True)
