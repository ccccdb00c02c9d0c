"""Radiance .hdr pictures of linear light, which web viewers take as surroundings."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from common.errors import UserError

HEADER = re.compile(rb"#\?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y (\d{1,5}) \+X (\d{1,5})\n")


def hdr_bytes(picture: Float[np.ndarray, "H W 3"]) -> bytes:
    """The content of an .hdr file: three mantissas and an exponent a pixel (Ward 1991)."""
    height, width = picture.shape[:2]
    # The greatest of a pixel's three is written with a mantissa from 128 to 255.
    _, exponent = np.frexp(picture.max(axis=2))
    mantissa = np.floor(np.ldexp(picture, 8 - exponent[..., None])).clip(0, 255)
    shared = np.where(picture.max(axis=2) > 1e-32, exponent + 128, 0)
    pixels = np.dstack([mantissa, shared]).astype(np.uint8)
    pixels[shared == 0] = 0
    return (
        b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width) + pixels.tobytes()
    )


def read_hdr(path: Path) -> Float[np.ndarray, "H W 3"]:
    """Read what ``hdr_bytes`` made; UserError for anything else."""
    content = path.read_bytes()
    header = HEADER.match(content)
    size = (0, 0) if header is None else (int(header[1]), int(header[2]))
    if header is None or len(content) != header.end() + 4 * size[0] * size[1]:
        raise UserError(
            f"{path}: not an uncompressed Radiance picture as generate_mesh.py writes it; "
            "make the mesh again"
        )
    pixels = np.frombuffer(content, np.uint8, offset=header.end()).reshape(*size, 4)
    middle = pixels[..., :3].astype(np.float32) + 0.5
    light = np.ldexp(middle, pixels[..., 3:].astype(np.int32) - 136)
    return np.where(pixels[..., 3:] > 0, light, np.float32(0))
