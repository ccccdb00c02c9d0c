"""Pictures of a view path on disk: numbered PNGs, GIF or MP4 films, and depth as EXR."""

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from jaxtyping import UInt8

from common.data.exr import write_exr
from common.errors import UserError
from common.rendering.picture import Picture, panels

KINDS = ("colour", "normal", "depth", "mask")
FORMATS = ("png", "gif", "mp4")
PICTURES_A_SECOND = 24

Image = UInt8[np.ndarray, "H W 3"]


def save_pictures(
    folder: Path,
    pictures: Sequence[Picture],
    kinds: Sequence[str] = KINDS,
    film_format: str = "png",
    float_depth: bool = False,
) -> None:
    """Write each kind as KIND/NNNN.png or as one film KIND.gif or KIND.mp4.

    ``float_depth`` adds camera z in object units as float_depth/NNNN.exr, infinite off the object.
    Raises UserError where no MP4 can be written.
    """
    images = [_images(picture) for picture in pictures]
    for kind in kinds:
        save_images(folder, kind, [image[kind] for image in images], film_format)
    if float_depth:
        (folder / "float_depth").mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures):
            write_exr(folder / "float_depth" / f"{number:04d}.exr", picture.depth.numpy())


def save_images(folder: Path, name: str, images: Sequence[Image], film_format: str) -> None:
    """Write NAME/NNNN.png, without those of an earlier and longer series, or one film NAME.FORMAT.

    Raises UserError where no MP4 can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if film_format != "png":
        _save_film(folder / f"{name}.{film_format}", images)
        return
    (folder / name).mkdir(exist_ok=True)
    for number, image in enumerate(images):
        imageio.imwrite(folder / name / f"{number:04d}.png", image)
    number = len(images)
    while (left_over := folder / name / f"{number:04d}.png").exists():
        left_over.unlink()
        number += 1


def _images(picture: Picture) -> dict[str, Image]:
    mask = picture.mask.numpy().astype(np.uint8)[..., None].repeat(3, axis=-1) * 255
    return dict(zip(KINDS, (*panels(picture), mask), strict=True))


def _save_film(path: Path, frames: Sequence[Image]) -> None:
    if path.suffix == ".gif":
        imageio.imwrite(path, np.stack(frames), duration=1000 / PICTURES_A_SECOND, loop=0)
        return
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise UserError("--format mp4 needs: pip install imageio-ffmpeg (or use gif)") from error
    # Video codecs want even sides.
    even = [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
    imageio.imwrite(path, np.stack(even), fps=PICTURES_A_SECOND, codec="libx264", plugin="FFMPEG",
                    macro_block_size=2)  # fmt: skip
