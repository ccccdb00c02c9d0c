"""Decoded views on disk, one file an object, mapped into the memory of whoever reads them.

A file is eight bytes (how long the header is), a header of JSON (what it was made from, and each
array's name, type and shape) and the arrays, each at a multiple of ALIGNMENT. Only pages that are
looked at are read, and they are the operating system's: once for all processes of a machine.
"""

import errno
import hashlib
import json
import math
import mmap
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.cameras import Cameras
from common.data.views import SparseDepth, Views
from common.errors import UserError

Arrays = dict[str, np.ndarray]

ALIGNMENT = 64
_PER_VIEW = ("images", "masks", "depth", "hull_depth", "coverage")


def fingerprint(settings: object, sources: Iterable[Path]) -> str:
    """A short name for settings (by their repr) and the state of files.

    A folder counts with the files in it. State is name, size and time of change: nothing is read.
    """
    digest = hashlib.sha256(repr(settings).encode())
    for source in sources:
        files = sorted(os.scandir(source), key=lambda file: file.name) if source.is_dir() else []
        states = [(file.name, file.stat()) for file in files]
        if not files and source.exists():
            states = [(source.name, source.stat())]
        for name, state in states:
            digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def cached(path: Path, made_from: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays of ``make()``, mapped from ``path``, which is written first where it must be.

    That is where it is missing, damaged, or was ``made_from`` something else. Files appear all at
    once, and those who make the same one at a time make it alike. Changes to the arrays stay with
    the caller. Raises UserError where the disk is full.
    """
    found = _mapped(path, made_from)
    if found is None:
        _write(path, made_from, make())
        found = _mapped(path, made_from)
    if found is None:
        raise UserError(f"{path}: is not what was just written there; check the disk")
    return found


def views_to_arrays(views: Views) -> Arrays:
    """All that is known of an object's views, by name."""
    cameras = views.cameras
    tensors = {name: getattr(views, name) for name in _PER_VIEW}
    tensors |= {
        "intrinsics": cameras.intrinsics,
        "object_from_camera": cameras.object_from_camera,
        "world_from_object": views.world_from_object,
    }
    if views.sparse is not None:
        tensors |= {"points": views.sparse.points, "visibility": views.sparse.visibility}
    return {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}


def views_from_arrays(arrays: Arrays) -> Views:
    """The views again, without a copy."""
    tensors: dict[str, Tensor] = {name: torch.from_numpy(arrays[name]) for name in arrays}
    height, width = tensors["masks"].shape[1:]
    cameras = Cameras(tensors["intrinsics"], tensors["object_from_camera"], height, width)
    sparse = None
    if "points" in tensors:
        sparse = SparseDepth(tensors["points"], tensors["visibility"])
    return Views(
        images=tensors["images"],
        masks=tensors["masks"],
        cameras=cameras,
        depth=tensors.get("depth"),
        hull_depth=tensors.get("hull_depth"),
        sparse=sparse,
        world_from_object=tensors["world_from_object"],
        coverage=tensors.get("coverage"),
    )


def _write(path: Path, made_from: str, arrays: Arrays) -> None:
    contents = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    header = json.dumps({"made_from": made_from, "arrays": contents}).encode()
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for array in arrays.values():
                file.write(bytes(-file.tell() % ALIGNMENT))
                file.write(np.ascontiguousarray(array).data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        size = sum(array.nbytes for array in arrays.values()) / 1e6
        raise UserError(
            f"{path}: no space left for decoded pictures, {size:.1f} MB for this object and about "
            "as much for every other; free some, choose another data.cache_dir or set it to null"
        ) from error


def _mapped(path: Path, made_from: str) -> Arrays | None:
    """The arrays of a file; None where it is missing, damaged or made from something else."""
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (FileNotFoundError, ValueError):  # an empty file cannot be mapped
        return None
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:start])
        if header["made_from"] != made_from:
            return None
        arrays = {}
        for name, (kind, shape) in header["arrays"].items():
            start += -start % ALIGNMENT
            count = math.prod(shape)
            flat = np.frombuffer(content, np.dtype(kind), count, start)
            arrays[name], start = flat.reshape(shape), start + flat.nbytes
    except (ValueError, KeyError, TypeError):  # also JSON's and UTF-8's errors
        return None
    return arrays if start == len(content) else None
