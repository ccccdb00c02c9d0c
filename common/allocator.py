"""How the C library's allocator treats memory that is freed."""

import ctypes
import platform

# mallopt's parameters (malloc.h), and the highest threshold that glibc takes for the second.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 << 20
KEPT = 512 << 20


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
