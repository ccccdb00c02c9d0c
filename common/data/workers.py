"""Processes that make data beside each other."""

import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from common.allocator import keep_freed_memory


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """So many processes of one thread each.

    They are spawned, not forked: neither Torch's threads nor Mitsuba survive a fork. Only their
    parent answers to Ctrl-C; they finish what they have begun.
    """
    return ProcessPoolExecutor(workers, get_context("spawn"), _begin)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    torch.set_num_threads(1)
