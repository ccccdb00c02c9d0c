"""Pictures and masks from image files, as plain arrays."""

import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageOps

from common.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")
_LARGEST = 8192 * 8192  # pixels; Pillow itself starts to complain a little above


def list_images(folder: Path) -> list[Path]:
    """The pictures of a flat folder (png, jpg, jpeg) by name; UserError where there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check the path to the images")
    files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES]
    if not files:
        raise UserError(f"{folder}: no images in this folder; put png, jpg or jpeg files there")
    return sorted(files, key=lambda file: file.name)


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """One picture as 8-bit RGB: transparency shows white, grey is repeated, 16 bits become 8.

    Raises UserError for a file that is missing, damaged, no PNG or JPEG, or over 67 megapixels.
    """
    return _on_white(_open(Path(path)))


def read_image_with_alpha(
    path: Path,
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"] | None]:
    """One picture as read_image gives it, and its opacity (255 opaque; None: it has no alpha)."""
    image = _open(Path(path))
    if not image.has_transparency_data:
        return _on_white(image), None
    return _on_white(image), np.array(image.convert("RGBA"))[..., 3]


def read_mask(path: Path, threshold: float = 0) -> Bool[np.ndarray, "H W"]:
    """True where the first channel, on a scale to 255, exceeds the threshold.

    0 means "any non-zero pixel is object" (DVR's collections); 127.5 suits soft masks (IDR).
    Raises UserError like read_image.
    """
    image = _open(Path(path))
    if image.mode == "P":
        image = image.convert("RGB")
    pixels = np.asarray(image)
    first = pixels if pixels.ndim == 2 else pixels[..., 0]
    if first.dtype == bool:
        return first.copy()
    return first > threshold * (257 if first.dtype.itemsize > 1 else 1)


def read_input_image(path: Path, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """A picture as a network takes it: padded with white to a centred square, then resized.

    Turns photographs upright by their EXIF tag; transparency shows white. Raises UserError like
    read_image.
    """
    if size < 1:
        raise UserError(f"input image size {size}: must be at least 1 pixel")
    return fit_to_square(_on_white(ImageOps.exif_transpose(_open(Path(path)))), size)


def fit_to_square(
    picture: UInt8[np.ndarray, "H W 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """A picture padded with white to a centred square, then resized."""
    image = Image.fromarray(picture)
    side = max(image.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return resize_image(np.asarray(square), size, size)


def resize_image(
    image: UInt8[np.ndarray, "H W 3"], height: int, width: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Resample with anti-aliasing; pixel centres move as u' = (u + 0.5) s - 0.5."""
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized)


def resize_mask(mask: Bool[np.ndarray, "H W"], height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """True where the object covers more than half of the new pixel."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR)) > 127


def nearest_rows(old: int, new: int) -> Int[np.ndarray, "new"]:
    """Index of the old row (or column) whose centre is nearest to each new one's."""
    return ((np.arange(new) + 0.5) * old / new).astype(np.int64)


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=("PNG", "JPEG"))
        if image.width * image.height > _LARGEST:
            raise UserError(
                f"{path}: {image.width} x {image.height} pixels is too large "
                f"(at most {_LARGEST // 10**6} megapixels); shrink it"
            )
        image.load()
        return image
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image; check the path") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: the image is too large; shrink it ({error})") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(
            f"{path}: not a PNG or JPEG image, whatever its name says; convert or replace it"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        # Pillow's decoders raise any of these on damaged data.
        raise UserError(
            f"{path}: the image is damaged or cut short ({error}); copy or make it again"
        ) from error


def _on_white(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode.startswith("I"):  # 16-bit grey
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA")).astype(np.uint32)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
