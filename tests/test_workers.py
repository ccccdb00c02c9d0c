"""Processes that make data."""

import signal

import torch

from common.data.workers import worker_pool


def test_a_worker_has_one_thread_and_leaves_interrupts_to_its_parent():
    with worker_pool(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
        assert pool.submit(signal.getsignal, signal.SIGINT).result() is signal.SIG_IGN
