"""Frames of videos made here, whose sharp frames are known."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from common.errors import UserError
from common.scenes.photographs import video
from common.scenes.photographs.video import extract_frames, sharpness

HEIGHT, WIDTH, COUNT = 48, 80, 24
SHARP = (3, 14, 20)  # one of every third of the video

needs_ffmpeg = pytest.mark.skipif(
    importlib.util.find_spec("imageio_ffmpeg") is None,
    reason="imageio-ffmpeg is not installed ([video])",
)


def grey_frame(number: int) -> np.ndarray:
    """Coarse squares, the left half brighter; blurred but for the SHARP frames."""
    squares = np.random.default_rng(7).integers(0, 128, (HEIGHT // 8, WIDTH // 8))
    frame = squares.repeat(8, axis=0).repeat(8, axis=1).astype(float)
    frame[:, : WIDTH // 2] += 100
    return (frame if number in SHARP else gaussian_filter(frame, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "walk.mp4"
    frames = np.stack([grey_frame(number) for number in range(COUNT)])[..., None].repeat(3, axis=-1)
    imageio.imwrite(path, frames, fps=24, codec="libx264", plugin="FFMPEG", macro_block_size=2)
    return path


@needs_ffmpeg
def test_the_sharpest_frame_of_every_stretch_is_taken(film, tmp_path):
    paths = extract_frames(film, tmp_path / "frames", 3)
    assert [path.name for path in paths] == [f"frame_{number:06d}.png" for number in SHARP]
    for path in paths:
        with Image.open(path) as image:
            difference = np.asarray(image).astype(int) - grey_frame(SHARP[0])[..., None]
        assert np.abs(difference).mean() < 6  # H.264 at its usual quality


@needs_ffmpeg
def test_a_video_of_fewer_frames_gives_all_of_them(film, tmp_path):
    assert len(extract_frames(film, tmp_path / "frames", 500)) == COUNT


@needs_ffmpeg
def test_frames_are_kept_and_other_folders_are_not_touched(film, tmp_path, monkeypatch):
    paths = extract_frames(film, tmp_path / "frames", 2)
    monkeypatch.setattr(video, "_frames", lambda *_: pytest.fail("decoded again"))
    assert extract_frames(film, tmp_path / "frames", 2) == paths
    with pytest.raises(UserError, match="frames made with count 2 instead of 3"):
        extract_frames(film, tmp_path / "frames", 3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "frame_000000.png").write_text("mine")
    with pytest.raises(UserError, match="was not made by this program"):
        extract_frames(film, tmp_path / "mine", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "mine"]


@needs_ffmpeg
def test_a_video_taken_on_its_side_is_turned(film, tmp_path):
    from imageio_ffmpeg import get_ffmpeg_exe

    turned = tmp_path / "turned.mp4"
    copy = [get_ffmpeg_exe(), "-loglevel", "error", "-display_rotation", "90", "-i", str(film)]
    subprocess.run([*copy, "-c", "copy", str(turned)], check=True)
    with Image.open(extract_frames(turned, tmp_path / "frames", 3)[0]) as image:
        frame = np.asarray(image).astype(int)
    assert frame.shape == (WIDTH, HEIGHT, 3)
    # The bright left half is at the bottom after a quarter turn to the left.
    assert np.abs(frame - np.rot90(grey_frame(SHARP[0]))[..., None]).mean() < 6


@needs_ffmpeg
@pytest.mark.parametrize("content", [b"", b"hello", b"#EXTM3U\n#EXTINF:1,\nhttp://[::1]:9/a.ts\n"])
def test_what_is_no_video_is_refused(tmp_path, content):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.mp4: cannot be decoded as a video"):
        extract_frames(broken, tmp_path / "frames", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mp4"]


@needs_ffmpeg
def test_a_video_cut_short_is_refused(film, tmp_path):
    (tmp_path / "cut.mp4").write_bytes(film.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cut\.mp4: cannot be decoded"):
        extract_frames(tmp_path / "cut.mp4", tmp_path / "frames", 3)


def test_missing_files_wrong_counts_and_a_missing_decoder_are_told(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"none\.mp4: no such file"):
        extract_frames(tmp_path / "none.mp4", tmp_path / "frames", 3)
    with pytest.raises(UserError, match="^0 frames of .* at least 1"):
        extract_frames(tmp_path / "none.mp4", tmp_path / "frames", 0)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UserError, match=r"pip install -e '\.\[video\]'"):
        extract_frames(tmp_path / "a.mp4", tmp_path / "frames", 3)


def test_the_laplacian_of_a_checkerboard_is_known():
    board = (np.indices((32, 32)).sum(axis=0) % 2 * 10).astype(np.uint8)
    # Neighbours differ by 10 on four sides, so it is +40 or -40; at the reflected rims less.
    assert 0.8 * 1600 < sharpness(board) <= 1600
    assert sharpness(np.full((8, 8), 255, np.uint8)) == 0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.integers(1, 60))
def test_every_stretch_gives_one_frame_and_none_sharper_is_nearer(values, count):
    chosen = sorted(video._sharpest(values, count))
    assert len(chosen) == min(count, len(values))
    assert values[chosen[0]] == max(values[: chosen[0] + 1])
    assert max(values) in [values[place] for place in chosen]
