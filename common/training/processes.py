"""One process or several under torchrun, and the device each works on."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from common.errors import UserError


@dataclass(frozen=True)
class Share:
    """Every ``count``-th of what is drawn for a step, from the ``rank``-th on.

    What a step draws is a function of seed and step alone; processes draw all of it, and each takes
    its share. So it does not matter to a training how many they are.
    """

    rank: int
    count: int

    def of(self, drawn: Tensor) -> Tensor:
        """This share of the rows drawn for the whole step."""
        return drawn[self.rank :: self.count]

    def size(self, total: int, what: str) -> int:
        """How many of ``total`` it is; UserError, which calls them ``what``, if shares differ.

        The mean over equal shares is the mean over the whole; over others it would not be.
        """
        if total % self.count:
            raise UserError(
                f"{what}: {total} of a step cannot be shared equally by {self.count} processes; "
                f"choose a multiple of {self.count}, or another number of processes"
            )
        return total // self.count


WHOLE = Share(0, 1)


@dataclass(frozen=True)
class Process:
    """This process among ``count``; rank 0 writes files and speaks."""

    rank: int
    count: int
    device: torch.device

    @property
    def share(self) -> Share:
        """What it takes of every step's batch."""
        return Share(self.rank, self.count)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of 'auto', 'cpu' or 'cuda'."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: no GPU is visible to PyTorch; use --device cpu, or install the CUDA "
            "build of torch and check the driver"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


@contextmanager
def joined(device_name: str) -> Iterator[Process]:
    """Join the processes that torchrun started, if it did, and leave them at the end."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    device = choose_device(device_name, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if count == 1:
        yield Process(0, 1, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Process(rank, count, device)
    finally:
        # DistributedDataParallel lives on in a reference cycle and holds the group's threads, which
        # may outlive the interpreter and abort the process ("terminate called ...").
        gc.collect()
        dist.destroy_process_group()


def wait_for_all(process: Process) -> None:
    """Go on when every process has come here, so that all see the same files."""
    if process.count > 1:
        dist.barrier()


def in_shares(
    field: Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]], share: Share
) -> Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N"]]:
    """The same function, of which every process evaluates its part of the points.

    All processes must ask for the same points, and all get all values.
    """
    if share.count == 1:
        return field

    def whole(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        each = -(-len(points) // share.count)
        own = points[share.rank * each :][:each]
        values = torch.nn.functional.pad(field(own), (0, each - len(own)))
        parts = [torch.empty_like(values) for _ in range(share.count)]
        dist.all_gather(parts, values)
        return torch.cat(parts)[: len(points)]

    return whole


def any_process(flag: bool, process: Process) -> bool:
    """Whether any process raises the flag: all must stop at the same step."""
    if process.count == 1:
        return flag
    raised = torch.tensor(float(flag), device=process.device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised.item())


def mean_over(values: Tensor, process: Process) -> Tensor:
    """The mean of every process's values, the same for all: decisions on it agree."""
    if process.count == 1:
        return values
    dist.all_reduce(values, op=dist.ReduceOp.SUM)
    return values / process.count
