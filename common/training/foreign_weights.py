"""Weight files of other PyTorch programs, read without running anything that they hold.

Both formats of torch.save are read, the zip archive and the plain pickles that came before
PyTorch 1.6. torch.load would do for honest files; this reader needs no list of classes to trust,
allocates no more than the file is long, and refuses arrays that reach beyond their storage.
"""

import io
import math
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.training.plain_pickle import ForeignCall, Name, Stream, read_pickle

LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001  # of torch.save before 1.6
MOST_AXES = 8
WIDEST = 4096  # any layer of the authors' networks has at most 2048 units
TYPES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32, "Double": torch.float64, "Half": torch.float16,
        "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
        "Char": torch.int8, "Byte": torch.uint8,
    }.items()
}  # fmt: skip
# All that zipfile, the pickle reader and PyTorch raise on damaged bytes.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, ValueError, LookupError, TypeError,
    AttributeError, OverflowError, RuntimeError, EOFError, OSError, MemoryError,
)  # fmt: skip


def read_foreign(path: Path) -> Any:
    """What a file of torch.save holds, as dicts, lists, numbers, text and tensors on the CPU.

    Raises UserError where the file is damaged, is none of torch.save, or holds more than that.
    """
    with path.open("rb") as file, _explained(path):
        if file.read(4) == b"PK\x03\x04":
            return _read_zip(file)
        return _read_legacy(file)


def named_weights(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors of a state dict by name; floating-point ones as float32.

    Raises UserError where it is no such thing or holds a number that is not finite.
    """
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: holds no named weights; a model's state_dict is needed")
    # Else a model could be larger than its file.
    if len({id(value) for value in content.values()}) < len(content):
        raise UserError(
            f"{path}: two names share one array, as no layers of the authors' networks do; is it "
            "another program's file?"
        )
    weights = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{path}: {shown(name)} is no array of numbers; a model's state_dict is needed"
            )
        if not torch.isfinite(value).all():
            raise UserError(
                f"{path}: {shown(name)} holds numbers that are not finite; its training diverged, "
                "so take an earlier checkpoint"
            )
        weights[name] = value.float() if value.is_floating_point() else value
    return weights


def shape_of(path: Path, weights: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    """The shape of a weight; UserError where it is missing, empty, too large or has other axes."""
    if name not in weights:
        raise UserError(f"{path}: {name} is missing; the whole network's weights are needed")
    shape = tuple(weights[name].shape)
    if len(shape) != axes or not all(1 <= size <= WIDEST for size in shape):
        raise UserError(
            f"{path}: {name} has the shape {list(shape)}, which no layer of the authors' networks "
            f"has ({axes} axes of 1 to {WIDEST} numbers); is it another program's file?"
        )
    return shape


def fill_model(path: Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a model all of its weights; UserError naming the first one that does not fit.

    The model may be on the meta device: until the weights fit, sizes are only claims.
    """
    own = model.state_dict()
    for name, value in own.items():
        if name not in weights:
            raise UserError(f"{path}: {name} is missing; the whole network's weights are needed")
        if weights[name].shape != value.shape:
            raise UserError(
                f"{path}: {name} has the shape {list(weights[name].shape)} where the other layers "
                f"ask for {list(value.shape)}; the file is damaged or of another network"
            )
    refuse_others(path, [name for name in weights if name not in own])
    fitting = {name: weights[name].to(value.dtype) for name, value in own.items()}
    model.load_state_dict(fitting, assign=True)


def refuse_others(path: Path, names: list[str]) -> None:
    """UserError where there are weights that belong to no part of the network."""
    if names:
        raise UserError(
            f"{path}: {shown(names[0])} belongs to no part of the authors' networks "
            f"({len(names)} such weights); is it another program's file?"
        )


def shown(name: object) -> str:
    """A name out of a file, fit for a message."""
    text = name if isinstance(name, str) else type(name).__name__
    return ascii(text[:80])


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    remedy = "name a checkpoint of DVR's or IDR's authors' programs"
    try:
        yield
    except ForeignCall as error:
        raise UserError(
            f"{path}: holds more than numbers (reading it would run {shown(str(error))}), so it "
            f"is not read; {remedy}, or save the model's state_dict() alone"
        ) from error
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [""])[0][:80] or type(error).__name__
        raise UserError(
            f"{path}: not a readable file of torch.save ({reason}); {remedy}, or copy it again"
        ) from error


@dataclass
class _Storage:
    """Numbers that tensors are views of; ``free`` of them are in none yet."""

    numbers: Tensor
    free: int


class _Storages:
    """The arrays that a pickle refers to: allocated as it is read, filled afterwards."""

    def __init__(self, room: int) -> None:
        self.by_key: dict[str, _Storage] = {}
        self._room = room  # bytes of the file, which the arrays cannot exceed

    def stored(self, identifier: Any) -> _Storage:
        """The array of a persistent id ("storage", type, key, device, count[, view])."""
        kind, dtype, key, _, count, *view = identifier
        if kind != "storage" or not isinstance(dtype, Name) or any(view):
            raise ValueError("an array of an unknown kind")
        if not isinstance(key, str) or not _is_count(count):
            raise ValueError("an array without name or length")
        if key not in self.by_key:
            values = TYPES[dtype.text]
            self._room -= count * values.itemsize
            if self._room < 0:
                raise ValueError("arrays longer than the file")
            self.by_key[key] = _Storage(torch.zeros(count, dtype=values), count)
        return self.by_key[key]

    def fill(self, key: str, source: Callable[[memoryview], int | None]) -> None:
        """Read the bytes of an array."""
        numbers = self.by_key[key].numbers
        if not len(numbers):
            return
        room = numbers.view(torch.uint8).numpy().data
        if source(room) != len(room):
            raise ValueError("cut short")


def _tensor(storage: _Storage, offset: int, shape: tuple, stride: tuple, *_: Any) -> Tensor:
    """Stands in for torch._utils._rebuild_tensor_v2, which would enlarge a storage at will."""
    axes = [*shape, *stride, offset]
    if len(shape) != len(stride) or len(shape) > MOST_AXES or not all(map(_is_count, axes)):
        raise ValueError("an array of no shape")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    # Each number in one tensor at most, so that copies of all take no more than the file.
    if count > storage.free or (count and last >= len(storage.numbers)):
        raise ValueError("an array beyond its storage")
    storage.free -= count
    return storage.numbers.as_strided(shape, stride, offset)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _scalar(dtype: np.dtype, data: bytes) -> float | int:
    return np.frombuffer(data, dtype).item()


def _dtype(code: str, *_: Any) -> np.dtype:
    if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
        raise ValueError("a NumPy number of an unknown kind")
    return np.dtype(code)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError("text for bytes")
    return text.encode("latin1")


STAND_INS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda: {},
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch.Size": lambda sizes: sizes,
    # DVR's best validation loss is a NumPy scalar.
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
}


def _read_zip(file: BinaryIO) -> Any:
    """PREFIX/data.pkl refers to arrays by key; each is the bytes of PREFIX/data/KEY."""
    size = os.fstat(file.fileno()).st_size
    storages = _Storages(size)
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError("not one data.pkl")
        prefix = names[0].removesuffix("data.pkl")

        def member(name: str, length: int) -> zipfile.ZipExtFile:
            info = archive.getinfo(prefix + name)
            # Packed members, which torch.save never writes, could unpack to anything.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > length:
                raise ValueError("a packed member")
            return archive.open(info)  # type: ignore[return-value]

        if f"{prefix}byteorder" in archive.namelist():
            with member("byteorder", 16) as order:
                _check_little_endian(order.read() == b"little")
        with member("data.pkl", size) as data:
            content = read_pickle(io.BytesIO(data.read()), STAND_INS, storages.stored)
        for key, storage in storages.by_key.items():
            with member(f"data/{key}", storage.numbers.nbytes) as data:
                storages.fill(key, data.readinto)
    return content


def _read_legacy(file: BinaryIO) -> Any:
    """Pickles of a magic number, a version, the machine, the content and the keys; then arrays."""
    storages = _Storages(os.fstat(file.fileno()).st_size)

    def no_arrays(_: Any) -> Any:
        raise ValueError("an array in the header")

    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        header = [read_pickle(stream, {}, no_arrays) for _ in range(3)]
        if header[:2] != [LEGACY_MAGIC, LEGACY_VERSION]:
            raise ValueError("no such header")
        _check_little_endian(header[2]["little_endian"] is True)
        content = read_pickle(stream, STAND_INS, storages.stored)
        keys = read_pickle(stream, {}, no_arrays)
        if not isinstance(keys, list) or set(keys) != set(storages.by_key):
            raise ValueError("not the arrays that the content names")
        for key in keys:
            if int.from_bytes(stream.read(8), "little") != len(storages.by_key[key].numbers):
                raise ValueError("an array of another length")
            storages.fill(key, lambda room: _read_into(stream, room))
    return content


def _read_into(stream: Stream, room: memoryview) -> int:
    data = stream.read(len(room))
    room[: len(data)] = data
    return len(data)


def _check_little_endian(little: bool) -> None:
    if not little:
        raise ValueError("numbers of a big-endian machine")
