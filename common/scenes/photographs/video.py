"""Photographs out of a video: the sharpest frame of every stretch of it."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image
from scipy.ndimage import laplace

from common.data.origin import is_made, write_origin
from common.errors import UserError

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")


def extract_frames(video: Path, folder: Path, count: int) -> list[Path]:
    """Cut a video into ``count`` stretches and save the sharpest frame of each to a new folder.

    All frames of a video that has no more than that. The video is decoded twice, a frame in memory
    at a time; a folder made from it before is only listed. Raises UserError where the file is no
    video that can be decoded, the folder holds something else, or imageio-ffmpeg is not installed.
    """
    if count < 1:
        raise UserError(f"{count} frames of {video}: expected at least 1")
    if not video.is_file():
        raise UserError(f"{video}: no such file; expected a video")
    origin = {"video": video.name, "bytes": video.stat().st_size, "count": count}
    if not is_made(folder, origin, "frames"):
        chosen = _sharpest([sharpness(frame) for frame in _frames(video, "gray")], count)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="unfinished-") as work:
            made = Path(work) / "frames"
            made.mkdir()
            for number, frame in enumerate(_frames(video, "rgb24")):
                if number in chosen:
                    Image.fromarray(frame).save(made / f"frame_{number:06d}.png")
            write_origin(made, origin)
            made.rename(folder)
    return sorted(folder.glob("frame_*.png"))


def sharpness(grey: UInt8[np.ndarray, "H W"]) -> float:
    """Variance of the Laplacian, low where blurred (Pech-Pacheco et al., ICPR 2000)."""
    return float(laplace(grey.astype(np.float32)).var())


def _sharpest(sharpnesses: list[float], count: int) -> set[int]:
    """Of each of ``count`` stretches of nearly equal length, the place of the greatest value."""
    stretches = np.array_split(np.arange(len(sharpnesses)), min(count, len(sharpnesses)))
    values = np.array(sharpnesses)
    return {int(stretch[values[stretch].argmax()]) for stretch in stretches}


def _frames(
    video: Path, pixels: Literal["gray", "rgb24"]
) -> Iterator[Shaped[np.ndarray, "H W *channels"]]:
    """A video's frames one after the other, turned as it says; UserError where there is none."""
    ffmpeg = _load_ffmpeg()
    depth = {"gray": 1, "rgb24": 3}[pixels]
    decoded = 0
    try:
        # A playlist in disguise is not to reach for the network.
        local = ["-protocol_whitelist", "file"]
        stream = ffmpeg.read_frames(
            str(video.absolute()), pix_fmt=pixels, bits_per_pixel=8 * depth, input_params=local
        )
        width, height = next(stream)["size"]
        for data in stream:
            frame = np.frombuffer(data, dtype=np.uint8)
            yield frame.reshape((height, width) if depth == 1 else (height, width, depth))
            decoded += 1
    except (OSError, RuntimeError, ValueError, LookupError, AssertionError) as error:
        raise UserError(_undecodable(video)) from error
    if decoded == 0:
        raise UserError(_undecodable(video))


def _undecodable(video: Path) -> str:
    return (
        f"{video}: cannot be decoded as a video; expected one that ffmpeg reads "
        f"({', '.join(SUFFIXES)}), so check that it plays, or give a folder of photographs"
    )


def _load_ffmpeg() -> Any:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UserError(
            f"reading a video needs imageio-ffmpeg, which is not installed ({error}); "
            "install it with: pip install -e '.[video]'"
        ) from error
    # Of turned videos it says that the frames have another shape than the file.
    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)
    return imageio_ffmpeg
