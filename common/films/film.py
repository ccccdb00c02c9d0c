"""Series of pictures on disk: numbered PNGs, GIF or MP4 films, and depth as EXR."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import imageio.v3 as imageio
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from common.data.exr import write_exr
from common.errors import UserError
from common.rendering.picture import (
    Panel,
    Picture,
    colour_panel,
    depth_panel,
    depth_range,
    mask_panel,
    normal_panel,
)

Kind = Literal["colour", "normal", "depth", "mask"]
Format = Literal["png", "gif", "mp4"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FORMATS: tuple[Format, ...] = get_args(Format)

PALETTE_SAMPLE = 16  # frames of a GIF that its one palette is chosen from


@dataclass(frozen=True)
class Film:
    """How a series of pictures is to be written, and what its names begin with, such as orbit_."""

    format: Format = "png"
    kinds: tuple[Kind, ...] = KINDS
    beside: bool = False  # the kinds in one row, as one series named after them all
    per_second: int = 25  # GIF counts hundredths of a second: what divides 100 is exact
    prefix: str = ""


@dataclass(frozen=True)
class Written:
    """A film, or a folder of numbered pictures; these last no seconds."""

    path: Path
    frames: int
    width: int
    height: int
    seconds: float | None

    def as_json(self) -> dict[str, Any]:
        """All of it under its names."""
        return asdict(self) | {"path": str(self.path)}


def save_pictures(
    folder: Path,
    pictures: Iterable[Picture],
    film: Film,
    captions: Sequence[str] | None = None,
    float_depth: bool = False,
) -> list[Written]:
    """Write each kind as KIND/NNNN.png or as one film KIND.gif or KIND.mp4, all from one pass.

    The film's prefix comes before KIND, so that series of several kinds do not replace each other.
    Greys of depth mean the same in all pictures. ``captions`` are written into their corners.
    ``float_depth`` adds camera z in object units as float_depth/NNNN.exr, infinite off the object.
    Raises UserError where no MP4 can be written.
    """
    _check_codec(film.format)
    needed = {*film.kinds, "depth"} if float_depth else set(film.kinds)
    # In bytes as soon as they come: a long film would not fit into memory otherwise.
    series: dict[str, list[Any]] = {kind: [] for kind in needed}
    for picture in pictures:
        for kind in needed:
            series[kind].append(_KEPT[kind](picture))
    depths = series["depth"] if float_depth else []
    if "depth" in film.kinds:
        span = depth_range(series["depth"])
        series["depth"] = [depth_panel(depth, span) for depth in series["depth"]]
    images: dict[str, list[Panel]] = {kind: series[kind] for kind in film.kinds}
    if film.beside:
        rows = zip(*images.values(), strict=True)
        images = {"_".join(film.kinds): [np.concatenate(row, axis=1) for row in rows]}
    if captions is not None:
        images = {
            name: [captioned(*pair) for pair in zip(some, captions, strict=True)]
            for name, some in images.items()
        }
    written = [save_images(folder, film.prefix + name, some, film) for name, some in images.items()]
    if depths:
        written.append(_save_float_depth(folder / f"{film.prefix}float_depth", depths))
    return written


def _depth(picture: Picture) -> Float[Tensor, "H W"]:
    return picture.depth


_KEPT: dict[str, Callable[[Picture], Panel | Tensor]] = {
    "colour": colour_panel, "normal": normal_panel, "depth": _depth, "mask": mask_panel,
}  # fmt: skip


def written_image(path: Path, image: Panel) -> Written:
    """What is to be said of one picture that was written."""
    height, width, _ = image.shape
    return Written(path, 1, width, height, None)


def save_images(folder: Path, name: str, images: Sequence[Panel], film: Film) -> Written:
    """Write NAME/NNNN.png, without those of an earlier and longer series, or one film NAME.FORMAT.

    Raises UserError where no MP4 can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if film.format == "png":
        _save_numbered(folder / name, images)
        height, width, _ = images[0].shape
        return Written(folder / name, len(images), width, height, None)
    path = folder / f"{name}.{film.format}"
    if film.format == "mp4":
        # Video codecs want even sides.
        images = [image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2] for image in images]
        _save_mp4(path, images, film.per_second)
    else:
        _save_gif(path, images, film.per_second)
    height, width, _ = images[0].shape
    return Written(path, len(images), width, height, len(images) / film.per_second)


def captioned(image: Panel, text: str) -> Panel:
    """The image with a line of text in its lower left corner, dark on a light ground."""
    size = max(8, image.shape[0] // 18)
    drawing = Image.fromarray(image)
    draw = ImageDraw.Draw(drawing)
    font = ImageFont.load_default(size)
    where = (size / 2, image.shape[0] - size / 2)
    box = draw.textbbox(where, text, font, anchor="lb")
    draw.rectangle((box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2), fill=(255, 255, 255))
    draw.text(where, text, fill=(60, 60, 60), font=font, anchor="lb")
    return np.asarray(drawing)


def _save_numbered(folder: Path, images: Sequence[Panel]) -> None:
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        imageio.imwrite(folder / f"{number:04d}.png", image)
    number = len(images)
    while (left_over := folder / f"{number:04d}.png").exists():
        left_over.unlink()
        number += 1


def _save_float_depth(folder: Path, depths: Sequence[Float[Tensor, "H W"]]) -> Written:
    folder.mkdir(parents=True, exist_ok=True)
    for number, depth in enumerate(depths):
        write_exr(folder / f"{number:04d}.exr", depth.to(torch.float32).numpy())
    height, width = depths[0].shape
    return Written(folder, len(depths), width, height, None)


def _save_gif(path: Path, images: Sequence[Panel], per_second: int) -> None:
    """With one palette for all frames, as colours that change with it flicker."""
    picked = np.linspace(0, len(images) - 1, min(PALETTE_SAMPLE, len(images))).round().astype(int)
    sample = Image.fromarray(np.concatenate([images[number] for number in picked]))
    palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT)
    frames = [Image.fromarray(image).quantize(palette=palette) for image in images]
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=1000 / per_second, loop=0
    )


def _save_mp4(path: Path, images: Sequence[Panel], per_second: int) -> None:
    imageio.imwrite(
        path, list(images), plugin="FFMPEG", fps=per_second, codec="libx264", macro_block_size=2
    )


def _check_codec(film_format: str) -> None:
    if film_format != "mp4":
        return
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise UserError("--format mp4 needs: pip install imageio-ffmpeg (or use gif)") from error
