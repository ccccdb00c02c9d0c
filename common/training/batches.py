"""A step's batch, made in this process or by others that may be lost without any harm.

A batch is a function of its step alone, so whoever makes it, the training is the same.
"""

import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from common.errors import UserError
from common.progress import warn


def batches(source: Dataset, steps: range, workers: int) -> Iterator[Any]:
    """source[step] for each step, prepared ahead by ``workers`` processes (0: by this one).

    Where one of them is lost (killed for the memory it takes, say), one fewer goes on from the step
    that is due. Raises the UserError of a batch that cannot be made.
    """
    loader, due = _loader(source, steps, workers), steps.start
    while due < steps.stop:
        try:
            batch = next(loader)
        except (RuntimeError, ConnectionError, EOFError) as error:
            # Its loss shows by PyTorch's word, or where a batch that it shared is fetched.
            said_so = str(error).startswith("DataLoader worker")
            if not workers or (isinstance(error, RuntimeError) and not said_so):
                raise
            workers -= 1
            warn(
                f"step {due + 1}: a process that loads data was lost (out of memory?); "
                f"{workers or 'none'} go on; data.workers sets their number"
            )
            loader = _loader(source, range(due, steps.stop), workers)
            continue
        if isinstance(batch, UserError):
            raise batch
        due += 1
        yield batch


class _Reporting(Dataset):
    """The same batches, with a UserError in place of a batch that could not be made.

    A loading process would bury the message in the traceback that it sends along.
    """

    def __init__(self, source: Dataset) -> None:
        self._source = source

    def __getitem__(self, step: int) -> Any:
        try:
            return self._source[step]
        except UserError as error:
            return error


def _loader(source: Dataset, steps: range, workers: int) -> Iterator[Any]:
    loader: DataLoader = DataLoader(
        _Reporting(source),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_leave_interrupts_to_the_training,
    )
    if not workers or not hasattr(signal, "SIGCHLD"):
        return iter(loader)
    # PyTorch would raise the loss of a worker wherever the training is, even between an update and
    # its count; asking for the next batch finds out early enough.
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _leave_interrupts_to_the_training(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; batches are still wanted until the save."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
