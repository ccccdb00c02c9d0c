"""Pictures of every kind become the same plain arrays."""

import numpy as np
import pytest
from PIL import Image

from common.data.images import (
    list_images,
    nearest_rows,
    read_image,
    read_image_with_alpha,
    read_input_image,
    read_mask,
    resize_image,
    resize_mask,
)


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
