"""How many points a network may be given at once."""

import os

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.rendering.march import RayLevel

# Of what is free, the share that one chunk of evaluations may take: graphs, optimiser state and the
# other processes of the machine live in the rest.
SHARE_OF_FREE_MEMORY = 0.25
# On a CPU a chunk much larger than the cache only waits for memory.
CPU_CHUNK_BYTES = 16 * 2**20


def points_per_chunk(
    device: torch.device, bytes_per_point: int, budget_gb: float | None = None
) -> int:
    """Points that fit the budget: ``budget_gb``, or else a share of the device's free memory."""
    if budget_gb is not None:
        budget = int(budget_gb * 2**30)
    elif device.type == "cuda":
        budget = int(torch.cuda.mem_get_info(device)[0] * SHARE_OF_FREE_MEMORY)
    else:
        budget = min(int(free_host_memory() * SHARE_OF_FREE_MEMORY), CPU_CHUNK_BYTES)
    return max(budget // bytes_per_point, 1024)


def free_host_memory() -> int:
    """Bytes of memory that programs may still take, as far as the system tells."""
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**30


def in_chunks(level: RayLevel, size: int) -> RayLevel:
    """The same function, evaluated on at most ``size`` points at a time."""

    def chunked(points: Float[Tensor, "M 3"], ray: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        if len(points) <= size:
            return level(points, ray)
        parts = zip(points.split(size), ray.split(size), strict=True)
        return torch.cat([level(some, of_ray) for some, of_ray in parts])

    return chunked
