"""Pictures of every kind become the same plain arrays."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from common.data.images import (
    SUFFIXES,
    has_alpha,
    image_size,
    list_images,
    nearest_rows,
    read_image,
    read_image_with_alpha,
    read_input_image,
    read_mask,
    read_upright,
    resize_image,
    resize_mask,
)
from common.errors import UserError


def save(path, pixels, mode=None):
    Image.fromarray(np.asarray(pixels)).convert(mode or None).save(path)
    return path


def test_rgb_is_read_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 7, 3), dtype=np.uint8)
    assert np.array_equal(read_image(save(tmp_path / "a.png", pixels)), pixels)


def test_transparency_shows_white(tmp_path):
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 0] = 100
    pixels[0, :, 3] = [0, 51, 255]
    path = save(tmp_path / "a.png", pixels)
    # alpha 51 / 255 = 0.2: 0.2 * 100 + 0.8 * 255 = 224 and 0.8 * 255 = 204.
    expected = [[[255, 255, 255], [224, 204, 204], [100, 0, 0]]]
    assert np.array_equal(read_image(path), expected)
    image, alpha = read_image_with_alpha(path)
    assert np.array_equal(image, expected)
    assert np.array_equal(alpha, pixels[..., 3])


def test_no_alpha_is_none_not_opaque(tmp_path):
    _, alpha = read_image_with_alpha(save(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8)))
    assert alpha is None


def test_grey_is_repeated(tmp_path):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = read_image(save(tmp_path / "a.png", grey))
    assert np.array_equal(image, np.repeat(grey[..., None], 3, axis=-1))


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    grey = np.array([[0, 255, 256], [40_000, 65_279, 65_535]], dtype=np.uint16)
    image = read_image(save(tmp_path / "a.png", grey))
    assert np.array_equal(image[..., 0], [[0, 0, 1], [156, 254, 255]])


def test_palette_with_transparency(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "a.png", transparency=0)
    assert np.array_equal(read_image(tmp_path / "a.png"), [[[255, 255, 255], [200, 100, 0]]])


def test_mask_any_non_zero_or_bright(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 1, 127, 128, 255]], dtype=np.uint8))
    assert np.array_equal(read_mask(path), [[False, True, True, True, True]])
    assert np.array_equal(read_mask(path, 127.5), [[False, False, False, True, True]])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_mask_of_every_mode(tmp_path, mode):
    path = save(tmp_path / "a.png", np.array([[0, 255], [255, 0]], dtype=np.uint8), mode)
    assert np.array_equal(read_mask(path, 127.5), [[False, True], [True, False]])


def test_mask_of_sixteen_bits(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 1, 40_000]], dtype=np.uint16))
    assert np.array_equal(read_mask(path), [[False, True, True]])
    assert np.array_equal(read_mask(path, 127.5), [[False, False, True]])


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (15, 25), (80, 120)])
def test_resizing_moves_pixel_centres_by_the_documented_rule(size):
    """A linear ramp resampled must equal the ramp at u = (u' + 0.5) / s - 0.5, off the border."""
    height, width = 40, 60
    y, x = np.mgrid[:height, :width].astype(float)
    ramp = np.stack([4 * x, 6 * y, 2 * x + 3 * y], -1).round().astype(np.uint8)
    resized = resize_image(ramp, *size).astype(float)
    u = (np.arange(size[1]) + 0.5) * width / size[1] - 0.5
    v = (np.arange(size[0]) + 0.5) * height / size[0] - 0.5
    inner = slice(2, -2) if size[0] < height else slice(4, -4)
    # One grey level of rounding; half a pixel of shift would be 2 to 3 levels.
    assert np.abs(resized[inner, inner, 0] - 4 * u[None, inner]).max() <= 1
    assert np.abs(resized[inner, inner, 1] - 6 * v[inner, None]).max() <= 1


def test_shrinking_averages():
    """Alternating columns must become grey, not one of the two."""
    stripes = np.zeros((16, 16, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = resize_image(stripes, 4, 4)[1:-1, 1:-1].astype(int)
    assert np.abs(small - 128).max() <= 2


def test_mask_resize_keeps_the_majority():
    columns = np.arange(12)
    two_thirds, one_third = (np.tile(columns < edge, (12, 1)) for edge in (5, 4))
    assert np.array_equal(resize_mask(two_thirds, 4, 4), [[True, True, False, False]] * 4)
    assert np.array_equal(resize_mask(one_third, 4, 4), [[True, False, False, False]] * 4)
    assert resize_mask(np.ones((8, 8), dtype=bool), 3, 3).all()
    assert not resize_mask(np.zeros((8, 8), dtype=bool), 3, 3).any()


@pytest.mark.parametrize(("old", "new"), [(8, 4), (7, 3), (4, 9), (5, 5)])
def test_nearest_rows_are_the_nearest_centres(old, new):
    position = (np.arange(new) + 0.5) * old / new - 0.5
    distance = np.abs(position - nearest_rows(old, new))
    assert (distance <= np.abs(position[:, None] - np.arange(old)).min(axis=1) + 1e-9).all()


def test_input_image_is_padded_to_a_centred_white_square(tmp_path):
    path = save(tmp_path / "wide.png", np.zeros((10, 30, 3), np.uint8))
    image = read_input_image(path, 30)
    assert image.shape == (30, 30, 3)
    assert (image[:10] == 255).all() and (image[20:] == 255).all()
    assert (image[10:20] == 0).all()


@pytest.mark.parametrize("size", [(2, 60_000), (60_000, 2)])
def test_a_narrow_picture_takes_no_memory_for_its_square(tmp_path, size):
    """Of 60,000 x 60,000 pixels, which is 11 GB."""
    Image.new("RGB", size, "black").save(tmp_path / "narrow.png")
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = read_input_image(tmp_path / "narrow.png", 32)
    assert image.shape == (32, 32, 3) and image.mean() > 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


def test_input_image_keeps_the_aspect_ratio(tmp_path):
    path = save(tmp_path / "tall.png", np.zeros((64, 32, 3), np.uint8))
    dark = read_input_image(path, 16)[..., 0] < 128
    assert np.array_equal(np.flatnonzero(dark.any(axis=0)), np.arange(4, 12))
    assert dark.any(axis=1).all()


def test_input_image_is_turned_upright(tmp_path):
    """EXIF orientation 6 says: turn by 90 degrees clockwise, so the left half comes to the top."""
    pixels = np.full((20, 20, 3), 255, np.uint8)
    pixels[:, :10] = 0
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "phone.jpg", exif=exif, quality=95)
    image = read_input_image(tmp_path / "phone.jpg", 20).astype(int)
    assert image[:8].max() < 20 and image[12:].min() > 235


def test_list_images_by_name_and_suffix(tmp_path):
    for name in ("b.JPG", "a.png", "c.jpeg", "notes.txt", "cameras.npz"):
        (tmp_path / name).touch()
    assert [file.name for file in list_images(tmp_path)] == ["a.png", "b.JPG", "c.jpeg"]


def test_list_images_names_what_to_convert(tmp_path):
    (tmp_path / "IMG_1.HEIC").touch()
    with pytest.raises(UserError, match="IMG_1.HEIC is of a kind not read here; convert it"):
        list_images(tmp_path)


# --- kinds of files -----------------------------------------------------------------------------

RED, GREEN = (255, 0, 0), (0, 255, 0)


def write_png(path, pixels, bits=16, header=None, chunks=()):
    """A PNG of any depth and number of channels, which Pillow itself does not write."""
    pixels = np.asarray(pixels)
    height, width, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in pixels)
    size = header or (width, height)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, 0)), *chunks]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in [*parts, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_of_every_colour_type(tmp_path, channels):
    pixels = np.full((2, 3, channels), 40_000)
    pixels[0, 0] = 256
    if channels in (2, 4):
        pixels[..., -1] = 65_535
        pixels[1, 1, -1] = 0
    path = write_png(tmp_path / "a.png", pixels)
    expected = np.full((2, 3, 3), 156)
    expected[0, 0] = 1
    if channels in (2, 4):
        expected[1, 1] = 255
    assert np.array_equal(read_image(path), expected)
    assert has_alpha(path) == (channels in (2, 4))
    assert image_size(path) == (3, 2)


@pytest.mark.parametrize(("bits", "channels", "level"), [(16, 1, 40_000), (8, 1, 9), (8, 3, 9)])
def test_one_transparent_level(tmp_path, bits, channels, level):
    """tRNS in a picture without alpha: one level, or colour, is transparent."""
    transparency = (b"tRNS", struct.pack(f">{channels}H", *[level] * channels))
    pixels = np.stack([np.full((1, channels), value) for value in (5, level)], axis=1)
    path = write_png(tmp_path / "a.png", pixels, bits, chunks=[transparency])
    image, alpha = read_image_with_alpha(path)
    assert has_alpha(path)
    assert np.array_equal(alpha, [[255, 0]])
    assert np.array_equal(image[0, :, 0], [0 if bits == 16 else 5, 255])


def test_print_colours(tmp_path):
    """CMYK as Adobe writes it, and YCCK: the same, its ink stored as YCbCr."""
    path = tmp_path / "cmyk.jpg"
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(path, quality=95)
    assert np.abs(read_image(path).astype(int) - [0, 255, 255]).max() <= 2
    content = bytearray(path.read_bytes())
    transform = content.find(b"Adobe") + 11
    content[transform] = 2
    path.write_bytes(content)
    # Stored inverted, the ink is (0, 255, 255, 255): as YCbCr that is Y 0, Cb and Cr 255, so
    # by BT.601 the inverted ink is (178, -135, 225) clipped, and its complement is what prints:
    # libjpeg hands 255 - (178, 0, 225) = (77, 255, 30) over as the colours.
    assert np.abs(read_image(path).astype(int) - [77, 255, 30]).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.tiff", "a.bmp", "a.jpg", "a.JPEG"])
def test_every_format_is_listed_and_read(tmp_path, name):
    Image.new("RGB", (6, 4), RED).save(tmp_path / name)
    assert list_images(tmp_path) == [tmp_path / name]
    assert np.abs(read_image(tmp_path / name).astype(int) - RED).max() <= 2
    assert image_size(tmp_path / name) == (6, 4)
    assert not has_alpha(tmp_path / name)
    assert (tmp_path / name).suffix.lower() in SUFFIXES


@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "mpo"])
def test_the_first_of_several_frames_counts(tmp_path, kind):
    path = tmp_path / "a.picture"
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN)]
    frames[0].save(path, format=kind, save_all=True, append_images=frames[1:])
    assert np.abs(read_image(path).astype(int) - RED).max() <= 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_upright_by_the_exif_tag(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise: the left half comes to the top
    pixels = np.full((16, 32, 3), 255, np.uint8)
    pixels[:, :16] = 0
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    upright = read_upright(path)
    assert upright.shape == (32, 16, 3)
    assert upright[:12].max() < 30 and upright[20:].min() > 225
    # Without being asked nothing is turned (but TIFF, whose tag is part of the format).
    width, height = image_size(path)
    assert read_image(path).shape == (height, width, 3)
    assert ((width, height) == (32, 16)) == (suffix != "tif")


# --- broken files -------------------------------------------------------------------------------


def test_only_the_header_is_read_for_the_size(tmp_path):
    path = write_png(tmp_path / "a.png", np.zeros((50, 70, 3)), bits=8)
    path.write_bytes(path.read_bytes()[:45])
    assert image_size(path) == (70, 50)
    assert not has_alpha(path)
    with pytest.raises(UserError, match="damaged or cut short"):
        read_image(path)


def claim_immense(path):
    write_png(path, np.zeros((1, 1, 3)), bits=8, header=(100_000, 100_000))


def claim_large(path):
    write_png(path, np.zeros((1, 1, 3)), bits=8, header=(9_000, 9_000))


def claim_immense_bitmap(path):
    Image.new("RGB", (4, 4)).save(path, format="BMP")
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<ii", 100_000, 100_000)
    path.write_bytes(content)


BROKEN = {
    "empty": (lambda path: path.touch(), "not a PNG"),
    "text": (lambda path: path.write_text("hello"), "convert or replace it"),
    "folder": (lambda path: path.mkdir(), "a folder or device"),
    "pipe": (os.mkfifo, "a folder or device"),
    "missing": (lambda path: None, "no such image"),
    "link to itself": (lambda path: path.symlink_to(path.name), "levels of symbolic links"),
    "link to nothing": (lambda path: path.symlink_to("nothing"), "no such image"),
    "immense": (claim_immense, "too large; shrink it"),
    "large": (claim_large, "9000 x 9000 pixels is too large"),
    "immense bitmap": (claim_immense_bitmap, "too large; shrink it"),
    "numbers": (lambda path: Image.new("F", (4, 4)).save(path, format="TIFF"), "8 or 16 bits"),
}


@pytest.mark.parametrize("read", [image_size, has_alpha, read_image, read_upright, read_mask])
@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_picture_is_refused(tmp_path, kind, read):
    breaks, sentence = BROKEN[kind]
    path = tmp_path / "broken.png"
    breaks(path)
    with pytest.raises(UserError, match=sentence) as refused:
        read(path)
    assert "broken.png" in str(refused.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "MPO"])
def test_scribbled_files_are_read_or_refused(tmp_path, kind):
    """Random bytes changed and ends cut off: never anything but a picture or a UserError."""
    rng = np.random.default_rng(0)
    path = tmp_path / "a.picture"
    pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format=kind)
    original = path.read_bytes()
    refused = 0
    for _ in range(150):
        content = bytearray(original)
        for place in rng.integers(0, min(len(content), 300), size=rng.integers(1, 5)):
            content[place] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        path.write_bytes(content[: len(content) if rng.random() < 0.7 else rng.integers(300)])
        try:
            width, height = image_size(path)
            image, alpha = read_image_with_alpha(path)
            assert image.dtype == np.uint8 and image.shape == (height, width, 3)
            assert alpha is None or alpha.shape == (height, width)
        except UserError as error:
            refused += 1
            assert "a.picture" in str(error)
    assert 0 < refused < 150
