"""Depth maps survive the disk bit for bit."""

import numpy as np
import OpenEXR

from common.data.exr import read_exr, write_exr


def write(path, channels):
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, channels) as file:
        file.write(str(path))


def test_round_trip_is_exact_with_infinities(tmp_path):
    depth = np.random.default_rng(0).uniform(0.1, 900, size=(7, 13)).astype(np.float32)
    depth[2:4] = np.inf
    write_exr(tmp_path / "0000.exr", depth)
    again = read_exr(tmp_path / "0000.exr")
    assert again.dtype == np.float32
    assert np.array_equal(again, depth)


def test_the_result_outlives_the_file(tmp_path):
    depth = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_exr(tmp_path / "0000.exr", depth)
    again = read_exr(tmp_path / "0000.exr")
    (tmp_path / "0000.exr").unlink()
    write_exr(tmp_path / "0001.exr", depth + 1)
    assert np.array_equal(again, depth)


def test_r_comes_first_whatever_else_is_there(tmp_path):
    depth = np.full((4, 5), 2.5, dtype=np.float32)
    write(tmp_path / "rgb.exr", {"B": depth + 1, "G": depth + 2, "R": depth})
    assert np.array_equal(read_exr(tmp_path / "rgb.exr"), depth)


def test_alpha_is_not_depth(tmp_path):
    depth = np.full((4, 5), 2.5, dtype=np.float32)
    write(tmp_path / "z.exr", {"A": np.ones_like(depth), "Z": depth})
    assert np.array_equal(read_exr(tmp_path / "z.exr"), depth)


def test_half_precision_becomes_float32(tmp_path):
    depth = np.full((4, 5), 2.5, dtype=np.float16)
    write(tmp_path / "half.exr", {"R": depth})
    again = read_exr(tmp_path / "half.exr")
    assert again.dtype == np.float32
    assert np.array_equal(again, depth.astype(np.float32))
