"""Depth maps on disk: OpenEXR files with one float32 channel, where infinity means "no depth"."""

from pathlib import Path

import numpy as np
import OpenEXR
from jaxtyping import Float

from common.errors import UserError

_MAGIC = b"\x76\x2f\x31\x01"


def read_exr(path: Path) -> Float[np.ndarray, "H W"]:
    """The first channel of an EXR file as float32, in the file's own units.

    "First" is R where there is one, else the first by name that is not alpha. Raises UserError
    where the file is missing, is not an EXR, or is cut short.
    """
    path = Path(path)
    # OpenEXR prints its own complaint on stderr; the commonest mistakes are told apart before it.
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as error:
        raise UserError(
            f"{path}: cannot read this depth map ({error.strerror}); check the path"
        ) from error
    if start != _MAGIC:
        raise UserError(
            f"{path}: not an OpenEXR file; depth maps must be .exr files with a float channel, "
            "so convert it or make it again"
        )
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = file.channels()
            name = min(channels, key=lambda name: (name != "R", name == "A", name))
            return np.ascontiguousarray(channels[name].pixels, dtype=np.float32)
    except Exception as error:  # the binding raises bare Exception, RuntimeError or ValueError
        raise UserError(
            f"{path}: the OpenEXR file is damaged or cut short ({error}); copy or make it again"
        ) from error


def write_exr(path: Path, depth: Float[np.ndarray, "H W"]) -> None:
    """Write one float32 channel named R, zip-compressed and so lossless."""
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    channels = {"R": np.ascontiguousarray(depth, dtype=np.float32)}
    with OpenEXR.File(header, channels) as file:
        file.write(str(path))
