"""Pictures and masks from image files, as plain arrays."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageOps

from common.errors import UserError, describe_os_error

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
_TO_CONVERT = (".heic", ".heif", ".avif", ".dng", ".cr2", ".cr3", ".nef", ".arw")
_LARGEST = 8192 * 8192  # pixels; Pillow itself starts to complain a little above
_LONGEST = 4096  # pixels of a side that is padded as it is
THUMBNAIL = 96  # pixels


def list_images(folder: Path) -> list[Path]:
    """The pictures of a flat folder (SUFFIXES) by name; UserError where there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check the path to the images")
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    if images:
        return images
    other = next((file.name for file in files if file.suffix.lower() in _TO_CONVERT), None)
    if other is not None:
        raise UserError(f"{folder}: {other} is of a kind not read here; convert it to jpg or png")
    raise UserError(f"{folder}: no images in this folder; put png, jpg or jpeg files there")


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as stored, from its header: no pixel is decoded.

    Raises UserError like read_image, where the header shows it.
    """
    with _header(Path(path)) as image:
        return image.size


def has_alpha(path: Path) -> bool:
    """Whether a picture can be transparent, from its header; UserError like image_size."""
    with _header(Path(path)) as image:
        return image.has_transparency_data


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """One picture as 8-bit RGB: transparency shows white, grey is repeated, 16 bits become 8.

    Raises UserError for a file that is missing, damaged, no PNG or JPEG, or over 67 megapixels.
    """
    return _on_white(_open(Path(path)))


def read_upright(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """One picture as read_image gives it, turned upright by its EXIF tag, as phones rely on.

    Only for pictures whose cameras are still to be found: known cameras are those of the stored
    pixels. Raises UserError like read_image.
    """
    return _on_white(_upright(Path(path)))


def read_image_with_alpha(
    path: Path,
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"] | None]:
    """One picture as read_image gives it, and its opacity (255 opaque; None: it has no alpha)."""
    image = _open(Path(path))
    if not image.has_transparency_data:
        return _on_white(image), None
    return _on_white(image), np.array(_eight_bits(image).convert("RGBA"))[..., 3]


def read_mask(path: Path, threshold: float = 0) -> Bool[np.ndarray, "H W"]:
    """True where the first channel, on a scale to 255, exceeds the threshold.

    0 means "any non-zero pixel is object" (DVR's collections); 127.5 suits soft masks (IDR).
    Raises UserError like read_image.
    """
    first = _first_channel(path)
    if first.dtype == bool:
        return first.copy()
    return first > threshold * (257 if first.dtype.itemsize > 1 else 1)


def read_coverage(path: Path) -> UInt8[np.ndarray, "H W"]:
    """The first channel, on a scale to 255: the share of each pixel that the object covers.

    Raises UserError like read_image.
    """
    first = _first_channel(path)
    if first.dtype == bool:
        return first.astype(np.uint8) * 255
    return (first.astype(np.uint32) >> 8).astype(np.uint8) if first.dtype.itemsize > 1 else first


def _first_channel(path: Path) -> np.ndarray:
    """The red or grey values as the file has them: bits, 8 or 16 bits."""
    image = _open(Path(path))
    pixels = np.asarray(image.convert("RGB") if image.mode == "P" else image)
    return pixels if pixels.ndim == 2 else pixels[..., 0]


def read_input_image(path: Path, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """A picture as a network takes it: padded with white to a centred square, then resized.

    Turns photographs upright by their EXIF tag; transparency shows white. Raises UserError like
    read_image.
    """
    if size < 1:
        raise UserError(f"input image size {size}: must be at least 1 pixel")
    return fit_to_square(_on_white(_upright(Path(path))), size)


def fit_to_square(
    picture: UInt8[np.ndarray, "H W 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """A picture padded with white to a centred square, then resized."""
    # A narrow picture's square could be a thousand times as large as the picture.
    scale = min(1.0, _LONGEST / max(picture.shape))
    if scale < 1:
        height, width = (max(round(length * scale), 1) for length in picture.shape[:2])
        picture = resize_image(picture, height, width)
    image = Image.fromarray(picture)
    side = max(image.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return resize_image(np.array(square), size, size)


def resize_image(
    image: UInt8[np.ndarray, "H W 3"], height: int, width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Resample with anti-aliasing; pixel centres move as u' = (u + 0.5) s - 0.5."""
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized)


def thumbnail(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A small copy for pages and viewers, of at most THUMBNAIL pixels on its longer side."""
    height, width = image.shape[:2]
    scale = min(1.0, THUMBNAIL / max(height, width))
    return resize_image(image, max(round(height * scale), 1), max(round(width * scale), 1))


def resize_mask(mask: Bool[np.ndarray, "H W"], height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """True where the object covers more than half of the new pixel."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR)) > 127


def nearest_rows(old: int, new: int) -> Int[np.ndarray, "new"]:
    """Index of the old row (or column) whose centre is nearest to each new one's."""
    return ((np.arange(new) + 0.5) * old / new).astype(np.int64)


def _open(path: Path) -> Image.Image:
    with _header(path) as image:
        image.load()
        return image


@contextmanager
def _header(path: Path) -> Iterator[Image.Image]:
    """The picture before any of its pixels is decoded; what is wrong with it becomes UserError."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: a folder or device; remove it, and copy or make the image again")
    try:
        with path.open("rb") as file:
            image = Image.open(file, formats=_FORMATS)
            _check_header(path, image)
            yield image
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image; check the path") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: the image is too large; shrink it ({error})") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(
            f"{path}: not a {', '.join(_FORMATS)} image, whatever its name says; "
            "convert or replace it"
        ) from error
    except (
        OSError, SyntaxError, ValueError, TypeError, EOFError, MemoryError, struct.error, zlib.error
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.filename is not None:  # the system's own words
            raise UserError(describe_os_error(error)) from error
        # Pillow's decoders raise any of these on damaged data; to skip some, it asks for room.
        raise UserError(
            f"{path}: the image is damaged or cut short ({error}); copy or make it again"
        ) from error


def _check_header(path: Path, image: Image.Image) -> None:
    if image.width * image.height > _LARGEST:
        raise UserError(
            f"{path}: {image.width} x {image.height} pixels is too large "
            f"(at most {_LARGEST // 10**6} megapixels); shrink it"
        )
    # PNG's 16 bits arrive as "I" from some versions of Pillow, on the same scale.
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise UserError(
            f"{path}: its pixels are 32-bit or signed numbers of unknown scale; "
            "convert it to 8 or 16 bits"
        )


def _upright(path: Path) -> Image.Image:
    with _header(path) as image:
        return ImageOps.exif_transpose(image)


def _on_white(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    image = _eight_bits(image)
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA")).astype(np.uint32)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey scaled, where Pillow would clip it and forget its one transparent level."""
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image)
    grey = Image.fromarray((levels.astype(np.uint32) >> 8).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(levels != image.info["transparency"]).convert("L"))
    return grey
