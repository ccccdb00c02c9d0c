"""Cameras from photographs alone: a rendered room with known cameras, and what goes wrong."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from common.cameras import Cameras, look_at, pixel_grid
from common.data.textured_ground import dead_leaves
from common.errors import UserError
from common.scenes.photographs import structure_from_motion
from common.scenes.photographs.pair_selection import (
    LARGEST_DETAILS,
    NEIGHBOURS,
    PARTNERS,
    likely_pairs,
)
from common.scenes.photographs.structure_from_motion import reconstruct
from idr.camera_alignment import align_cameras, view_errors

HEIGHT, WIDTH, FOCAL = 240, 320, 300.0
PAINT = 700  # pixels along each wall
TURNED = 3  # this photograph's pixels are stored on their side
NAMES = [f"walk/view {number}.jpg" for number in range(6)]

needs_pycolmap = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="pycolmap is not installed ([sfm])"
)


def cameras_in_a_room() -> Cameras:
    """Steps to the side, up and down, looking at a corner of the cube [-1, 1]^3 from inside."""
    turn = torch.linspace(-0.5, 0.5, len(NAMES), dtype=torch.float64)
    centre = torch.stack([-0.8 * turn.cos(), 0.3 * (5 * turn).sin(), -0.8 * turn.sin()], dim=1)
    target = torch.tensor([1.0, -0.2, 0.0]).double().expand_as(centre)
    pose = look_at(centre, target, torch.tensor([0.0, 1.0, 0.0]).double())
    intrinsics = torch.tensor(
        [[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]], dtype=torch.float64
    )
    return Cameras(intrinsics.repeat(len(NAMES), 1, 1), pose, HEIGHT, WIDTH)


def photograph_room(cameras: Cameras, view: int, walls: np.ndarray) -> np.ndarray:
    """The painted walls of the cube, four rays a pixel."""
    fine = cameras.resized(2 * HEIGHT, 2 * WIDTH)
    pixel = pixel_grid(2 * HEIGHT, 2 * WIDTH).double()
    rays = fine.rays(torch.full((len(pixel),), view), pixel)
    leaving = (rays.direction.sign() - rays.origin) / rays.direction  # distance to the three walls
    distance, axis = leaving.min(dim=1)
    point = rays.at(distance)
    wall = 2 * axis + (rays.direction.gather(1, axis[:, None])[:, 0] > 0)
    across = torch.stack([(axis + 1) % 3, (axis + 2) % 3], dim=1)
    row, column = ((point.gather(1, across) + 1) / 2 * (PAINT - 1)).round().long().T
    colour = walls[wall.numpy(), row.numpy(), column.numpy()].astype(np.float64)
    return colour.reshape(HEIGHT, 2, WIDTH, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8))


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """Six photographs, one of them on its side, and one of something else."""
    folder = tmp_path_factory.mktemp("room")
    (folder / "walk").mkdir()
    cameras, paint = cameras_in_a_room(), dead_leaves(3 * PAINT, np.random.default_rng(0))
    walls = np.concatenate(paint.reshape(3, PAINT, 3, PAINT, 3).swapaxes(1, 2))[:6]
    for view, name in enumerate(NAMES):
        image, exif = Image.fromarray(photograph_room(cameras, view, walls)), Image.Exif()
        if view == TURNED:
            image = image.transpose(Image.Transpose.ROTATE_90)  # what a viewer is to undo
            exif[ExifTags.Base.Orientation] = 6
        image.save(folder / name, quality=95, exif=exif)
    noise(0).save(folder / "stranger.png")
    return folder


@needs_pycolmap
def test_cameras_of_a_room_are_found_kept_and_read_again(room, tmp_path, monkeypatch, capfd):
    photographs = [room / name for name in (*NAMES, "stranger.png")]
    capture = reconstruct(photographs, tmp_path, progress=False)
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""
    turned = tmp_path / "upright" / NAMES[TURNED]
    assert [photograph.image for photograph in capture.photographs] == [
        turned if name == NAMES[TURNED] else room / name for name in NAMES
    ]
    with Image.open(turned) as image:
        assert image.size == (WIDTH, HEIGHT) == capture.photographs[TURNED].size
    (note,) = (note for note in capture.notes if "could not be placed" in note)
    assert note.startswith("1 of 7 photographs") and "left out: stranger.png; neigh" in note

    truth = cameras_in_a_room()
    pose = torch.from_numpy(
        np.stack([photograph.world_from_camera for photograph in capture.photographs])
    )
    found = Cameras(truth.intrinsics, pose, HEIGHT, WIDTH)
    errors = view_errors(found, truth)
    # A tenth of a pixel, at a focal length of 300, is 0.02 degrees and 0.0006 in a room of 2; six
    # photographs with a lens unknown leave some times that.
    assert errors.rotation_deg.max() < 0.2 and errors.centre.max() < 0.01
    focal = [photograph.intrinsics[0, 0] for photograph in capture.photographs]
    assert len(set(focal)) == 1 and abs(focal[0] / FOCAL - 1) < 0.01
    points = align_cameras(found, truth).apply(torch.from_numpy(capture.points.points))
    off_walls = (points.abs().amax(dim=1) - 1).abs()
    assert len(points) > 200 and off_walls.quantile(0.9) < 0.02

    def not_again(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(structure_from_motion, "_make_model", not_again)
    again = reconstruct(photographs, tmp_path, progress=False)
    assert again.notes == capture.notes
    np.testing.assert_array_equal(again.projections, capture.projections)
    with pytest.raises(AssertionError, match="made again"):
        reconstruct(photographs[:-1], tmp_path, progress=False)


@needs_pycolmap
def test_the_same_photographs_give_the_same_model(room, tmp_path, monkeypatch):
    for folder in ("one", "other"):
        reconstruct([room / name for name in NAMES[:3]], tmp_path / folder, progress=False)
        # Of the second time, pairs are selected, which leaves out none of neighbours.
        monkeypatch.setattr(structure_from_motion, "ALL_PAIRS", 2)
    one, other = (tmp_path / folder / "sparse" / "0" for folder in ("one", "other"))
    for file in ("cameras.bin", "images.bin", "points3D.bin"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


@needs_pycolmap
def test_photographs_of_nothing_in_common_are_refused_with_advice(tmp_path):
    for seed in range(3):
        noise(seed).save(tmp_path / f"{seed}.png")
    photographs = [tmp_path / f"{seed}.png" for seed in range(3)]
    with pytest.raises(UserError, match=r"^0 of 3 photographs could be placed.*must overlap"):
        reconstruct(photographs, tmp_path / "work", progress=False)
    assert not list((tmp_path / "work").iterdir())


@needs_pycolmap
def test_a_photograph_cut_short_is_named(room, tmp_path):
    for seed in range(2):
        noise(seed).save(tmp_path / f"{seed}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:5000])
    photographs = [tmp_path / f"{seed}.png" for seed in range(3)]
    with pytest.raises(UserError, match=r"2\.png"):
        reconstruct(photographs, tmp_path / "work", progress=False)


def test_too_few_photographs_are_refused(tmp_path):
    noise(0).save(tmp_path / "a.png")
    twice = [tmp_path / "a.png", tmp_path / "a.png", tmp_path / "b.png"]
    with pytest.raises(UserError, match="^2 photographs: at least 3 are needed"):
        reconstruct(twice, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def some_photographs(folder: Path) -> list[Path]:
    paths = [folder / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        noise(seed).save(path)
    return paths


def test_a_model_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    (tmp_path / "sparse" / "0" / "cameras.bin").write_bytes(b"theirs")
    with pytest.raises(UserError, match="sparse: exists but was not made by this program"):
        reconstruct(some_photographs(tmp_path), tmp_path)
    assert (tmp_path / "sparse" / "0" / "cameras.bin").read_bytes() == b"theirs"


def test_a_file_that_is_no_picture_is_named(tmp_path):
    photographs = some_photographs(tmp_path)
    photographs[1].write_text("hello")
    with pytest.raises(UserError, match=r"1\.png"):
        reconstruct(photographs, tmp_path / "work")


@pytest.mark.parametrize("name", ["a\nb.png", "a\udcff.png"])
def test_names_that_a_model_cannot_hold_are_refused(tmp_path, name):
    photographs = [*some_photographs(tmp_path), tmp_path / name]
    with pytest.raises(UserError, match="^'a.*b?.png': a file name with .*; rename it$"):
        reconstruct(photographs, tmp_path / "work")


def test_a_missing_pycolmap_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[sfm\]'"):
        reconstruct(some_photographs(tmp_path), tmp_path / "work")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "garbage", [b"Exif\0\0hello", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*"]
)
def test_damaged_exif_tags_are_none(tmp_path, garbage):
    noise(0).save(tmp_path / "a.jpg", exif=garbage)
    assert structure_from_motion._exif_tags(tmp_path / "a.jpg") == {}


@pytest.mark.parametrize(("length", "focal"), [(28, 28 / 36), (0, None), (60000, None)])
def test_a_focal_length_is_taken_from_exif_where_it_can_be(tmp_path, length, focal):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = length
    noise(0).save(tmp_path / "a.jpg", exif=exif)
    assert structure_from_motion._exif_focal(tmp_path / "a.jpg") == focal


# Which pairs to match


def test_large_details_come_first_however_they_are_turned():
    angle, size = np.random.default_rng(0).uniform(0, 6, 40), np.random.default_rng(1).random(40)
    outline = size[:, None] * np.c_[np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
    numbered = np.arange(40, dtype=np.uint8)[:, None].repeat(128, axis=1)
    database = SimpleNamespace(
        read_keypoints=lambda _: np.c_[np.zeros((40, 2)), outline],
        read_descriptors=lambda _: SimpleNamespace(data=numbered),
    )
    found = structure_from_motion._coarse_to_fine(database, 1)
    np.testing.assert_array_equal(found[:, 0], np.argsort(-size))


def details_along_a_walk(steps: int, order: np.ndarray, rng: np.random.Generator) -> list:
    """Photographs that share half of their details with the next step, listed in some order."""
    details = rng.integers(0, 256, (40 * (steps + 1), 128), np.uint8)
    return [details[40 * step : 40 * step + 80] for step in order]


def test_photographs_that_overlap_are_paired_in_any_order():
    rng = np.random.default_rng(0)
    order = rng.permutation(120)
    pairs = likely_pairs(details_along_a_walk(120, order, rng))
    place = np.argsort(order)
    expected = {tuple(sorted((int(place[s]), int(place[s + 1])))) for s in range(119)}
    expected |= {(i, j) for i in range(120) for j in range(i + 1, min(i + NEIGHBOURS + 1, 120))}
    assert pairs == sorted(expected)


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(0, LARGEST_DETAILS + 9), min_size=1, max_size=40))
def test_pairs_are_ordered_unique_and_few(counts):
    rng = np.random.default_rng(len(counts))
    shared = rng.integers(0, 256, (max(counts), 128), np.uint8)
    pairs = likely_pairs([shared[:count] for count in counts])
    assert pairs == sorted(set(pairs)) and all(0 <= i < j < len(counts) for i, j in pairs)
    assert len(pairs) <= len(counts) * (PARTNERS + NEIGHBOURS)
    near = {(i, j) for i in range(len(counts)) for j in range(i + 1, len(counts))}
    assert {(i, j) for i, j in near if j - i <= NEIGHBOURS} <= set(pairs)
