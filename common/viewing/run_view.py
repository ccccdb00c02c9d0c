"""What there is to look at of a run, whatever its method: fields to trace, photographs to show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from common.cameras import Cameras, Rays

Mode = Literal["colour", "normal", "depth", "view direction"]
Thumbnail = UInt8[np.ndarray, "_ _ 3"]  # each of a size of its own


@dataclass(frozen=True)
class Photographs:
    """Small pictures of an object and the V cameras, in the object frame, that took them."""

    names: tuple[str, ...]
    thumbnails: tuple[Thumbnail, ...]
    held_out: tuple[bool, ...]  # whether training never saw it
    cameras: Cameras


@dataclass(frozen=True)
class RunView:
    """One learnt object as rays see it, in the object frame.

    ``find`` tells how far along each ray the surface is, infinite where it is missed. ``paint``
    takes points of the surface and the unit directions from there to the camera: in the mode
    "normal" it returns unit normals, else RGB in [0, 1]. "depth" is not asked of it.
    """

    find: Callable[[Rays], Float[Tensor, "R"]]
    paint: Callable[[Float[Tensor, "N 3"], Float[Tensor, "N 3"], Mode], Float[Tensor, "N 3"]]
    modes: tuple[Mode, ...]
    photographs: Photographs
    device: torch.device


@dataclass(frozen=True)
class LearntRun:
    """A checkpoint's objects, and what an encoder may be shown of each."""

    step: int
    objects: tuple[str, ...]
    inputs: Callable[[int], Sequence[Thumbnail]]  # of an object; none where it is no prediction
    view: Callable[[int, int], RunView]  # of an object, predicted from one of its inputs
