"""Cameras through every pair of formats and back: what both can express is kept exactly."""

import itertools
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from common.cameras import Cameras
from common.errors import UserError
from common.scenes.capture import Capture, Distortion, Photograph
from common.scenes.formats.camera_export import (
    capture_of,
    write_colmap_text,
    write_idr_cameras,
    write_middlebury,
    write_transforms,
)
from common.scenes.formats.colmap import read_colmap
from common.scenes.formats.idr_folder import read_idr_folder
from common.scenes.formats.middlebury import read_middlebury
from common.scenes.formats.projections import read_projections
from common.scenes.formats.transforms import read_transforms

Writer = Callable[[Path, Capture], None]


@dataclass(frozen=True)
class Format:
    """How to write cameras of pictures in root/image and read them again; what it can express."""

    write: Writer
    read: Callable[[Path], Capture]
    skew: bool
    kinds: tuple[str, ...] = ()
    most: int = 0  # coefficients of a Brown distortion


def names(capture: Capture) -> list[str]:
    return [photograph.image.name for photograph in capture.photographs]


def in_folder(capture: Capture) -> list[str]:
    return [f"image/{name}" for name in names(capture)]


LENSES = ("brown", "fisheye")
FORMATS = {
    "idr": Format(
        lambda root, capture: write_idr_cameras(root / "cameras.npz", capture),
        read_idr_folder,
        skew=True,
    ),
    "middlebury": Format(
        lambda root, capture: write_middlebury(root / "x_par.txt", capture, in_folder(capture)),
        read_middlebury,
        skew=True,
    ),
    "projections": Format(
        lambda root, capture: np.save(root / "projections.npy", capture.projections),
        read_projections,
        skew=True,
    ),
    "transforms": Format(
        lambda root, capture: write_transforms(
            root / "transforms.json", capture, in_folder(capture)
        ),
        read_transforms,
        skew=False,
        kinds=LENSES,
        most=5,
    ),
    "colmap": Format(
        lambda root, capture: write_colmap_text(root / "sparse" / "0", capture, names(capture)),
        lambda root: read_colmap(root / "sparse" / "0", root / "image"),
        skew=False,
        kinds=LENSES,
        most=8,
    ),
}

signed = st.floats(-1, 1)


@st.composite
def lenses(draw, skew: bool, kinds: tuple[str, ...], most: int) -> tuple:
    """K, the picture's size, and a distortion's kind (None: there is none) and coefficients."""
    width, height = draw(st.integers(4, 40)), draw(st.integers(4, 40))
    focal = width * 10 ** draw(signed)
    k = np.array(
        [
            [focal, 0.2 * focal * draw(signed) if skew else 0, width * draw(st.floats(-1, 2))],
            [0, focal * 2 ** draw(signed), height * draw(st.floats(-1, 2))],
            [0, 0, 1],
        ]
    )
    kind = draw(st.sampled_from([None, *kinds]))
    count = draw(st.integers(0, most)) if kind == "brown" else 4
    coefficients = tuple(draw(st.lists(signed, min_size=count, max_size=count)))
    return k, (width, height), (kind, coefficients)


@st.composite
def cameras(draw, skew: bool, kinds: tuple[str, ...], most: int) -> list[tuple]:
    """A few lenses and poses anywhere, of one lens or several."""
    lens = lenses(skew, kinds, most)
    shared = draw(st.none() | lens)
    drawn = []
    for _ in range(draw(st.integers(1, 3))):
        pose = np.eye(4)
        turn = [draw(st.floats(-np.pi, np.pi)) for _ in range(3)]
        pose[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
        scale = 10 ** draw(st.floats(-3, 3))
        pose[:3, 3] = [scale * draw(signed) for _ in range(3)]
        drawn.append((*(shared if shared is not None else draw(lens)), pose))
    return drawn


def make_capture(drawn: list[tuple]) -> Capture:
    """The photographs of such cameras, whose pictures are not written yet."""
    photographs = []
    for view, (k, size, (kind, coefficients), pose) in enumerate(drawn):
        distortion = None if kind is None else Distortion(kind, coefficients)
        photographs.append(Photograph(Path(f"{view}.png"), k, size, pose, None, distortion))
    return Capture(Path(), tuple(photographs))


def write_pictures(root: Path, capture: Capture) -> None:
    (root / "image").mkdir()
    for photograph in capture.photographs:
        Image.new("1", photograph.size).save(root / "image" / photograph.image.name)


def bending(distortion: Distortion | None) -> tuple | None:
    """Kind and all eight coefficients, or None where they make no difference."""
    if distortion is None or (distortion.kind == "brown" and not any(distortion.coefficients)):
        return None
    given = distortion.coefficients
    return distortion.kind, (*given, *[0.0] * (8 - len(given)))


def check_same(found: Capture, expected: Capture) -> None:
    """To 1e-9 of each camera's own size: poses go through inverses and quaternions."""
    assert names(found) == names(expected)
    for ours, theirs in zip(found.photographs, expected.photographs, strict=True):
        assert ours.size == theirs.size
        assert bending(ours.distortion) == bending(theirs.distortion)
        k, centre = theirs.intrinsics, theirs.world_from_camera[:3, 3]
        assert np.abs(ours.intrinsics - k).max() <= 1e-9 * np.abs(k).max()
        rotation = ours.world_from_camera[:3, :3] - theirs.world_from_camera[:3, :3]
        assert np.abs(rotation).max() <= 1e-9
        moved = ours.world_from_camera[:3, 3] - centre
        assert np.abs(moved).max() <= 1e-9 * max(np.abs(centre).max(), 1e-3)


@pytest.mark.parametrize(("first", "second"), [*itertools.product(FORMATS, FORMATS)])
def test_through_two_formats(first, second):
    one, two = FORMATS[first], FORMATS[second]

    @given(
        cameras(
            skew=one.skew and two.skew,
            kinds=tuple(kind for kind in one.kinds if kind in two.kinds),
            most=min(one.most, two.most),
        )
    )
    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    def check(drawn):
        capture = make_capture(drawn)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_pictures(root, capture)
            one.write(root, capture)
            once = one.read(root)
            check_same(once, capture)
            two.write(root, once)
            check_same(two.read(root), capture)

    check()


def one_camera(**changes) -> Capture:
    k = np.array([[30.0, 0, 6], [0, 31, 4], [0, 0, 1]])
    return Capture(Path(), (replace(Photograph(Path("a.png"), k, (12, 8), np.eye(4)), **changes),))


class TestDistortion:
    @pytest.mark.parametrize("kind", ["brown", "fisheye"])
    @pytest.mark.parametrize("name", ["idr", "middlebury"])
    def test_refused_where_the_format_has_none(self, tmp_path, kind, name):
        capture = one_camera(distortion=Distortion(kind, (0.1,)))
        with pytest.raises(UserError, match="a.png is distorted.*undistort the images"):
            FORMATS[name].write(tmp_path, capture)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["idr", "middlebury"])
    def test_zeros_are_none(self, tmp_path, name):
        FORMATS[name].write(tmp_path, one_camera(distortion=Distortion("brown", (0.0, 0.0))))
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize("name", ["idr", "middlebury"])
    def test_a_fisheye_with_zeros_is_no_pinhole(self, tmp_path, name):
        with pytest.raises(UserError, match="distorted"):
            FORMATS[name].write(tmp_path, one_camera(distortion=Distortion("fisheye", ())))

    def test_a_denominator_is_too_much_for_transforms(self, tmp_path):
        capture = one_camera(distortion=Distortion("brown", (0.1, 0.0, 0.0, 0.0, 0.0, 0.2)))
        with pytest.raises(UserError, match="more coefficients of distortion than the 5"):
            FORMATS["transforms"].write(tmp_path, capture)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("distortion", "model"),
        [
            (None, "PINHOLE"),
            (Distortion("brown", (0.0, 0.0, 0.0)), "PINHOLE"),
            (Distortion("brown", (0.1,)), "OPENCV"),
            (Distortion("brown", (0.1, 0.0, 0.0, 0.0, 0.2)), "FULL_OPENCV"),
            (Distortion("fisheye", ()), "OPENCV_FISHEYE"),
        ],
    )
    def test_colmap_s_simplest_model(self, tmp_path, distortion, model):
        FORMATS["colmap"].write(tmp_path, one_camera(distortion=distortion))
        lines = (tmp_path / "sparse" / "0" / "cameras.txt").read_text().splitlines()
        assert lines[1].split()[:4] == ["1", model, "12", "8"]

    def test_lenses_that_differ_are_whole_in_each_frame_of_transforms(self, tmp_path):
        """nerfstudio looks for distortion in one place only; instant-ngp needs w beside cx."""
        (plain,) = one_camera().photographs
        bent = replace(plain, distortion=Distortion("brown", (0.1,)))
        write_transforms(tmp_path / "t.json", Capture(Path(), (plain, bent)), ["a", "b"])
        document = json.loads((tmp_path / "t.json").read_text())
        assert {key for key in document if key != "frames"} == {"w", "h"}
        assert all(key in document["frames"][0] for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"))
        assert document["frames"][1]["k1"] == 0.1


@pytest.mark.parametrize("sphere", [None, np.diag([3.0, 3.0, 3.0, 1.0])])
def test_idr_keeps_the_sphere_where_there_is_one(tmp_path, sphere):
    capture = replace(one_camera(), world_from_sphere=sphere)
    write_pictures(tmp_path, capture)
    write_idr_cameras(tmp_path / "cameras.npz", capture)
    found = read_idr_folder(tmp_path).world_from_sphere
    assert (found is None) if sphere is None else np.array_equal(found, sphere)


def test_learnt_cameras_move_to_the_world():
    """A pixel of an object point is that of the point in the world, far off and turned."""
    rng = np.random.default_rng(0)
    pose = np.tile(np.eye(4), (3, 1, 1))
    pose[:, :3, :3] = Rotation.random(3, rng=rng).as_matrix()
    pose[:, :3, 3] = -3 * pose[:, :3, 2]
    k = np.tile([[80.0, 2, 33], [0, 82, 22], [0, 0, 1]], (3, 1, 1))
    learnt = Cameras(torch.tensor(k).requires_grad_(), torch.tensor(pose), 48, 64)
    similarity = torch.eye(4, dtype=torch.float64)
    similarity[:3, :3] = 250 * torch.tensor(Rotation.from_rotvec([0.5, -2, 1]).as_matrix())
    similarity[:3, 3] = torch.tensor([700.0, -40.0, 1300.0])
    capture = capture_of(learnt, similarity)
    points = torch.tensor(rng.uniform(-0.5, 0.5, (20, 3)))
    world = np.c_[points @ similarity[:3, :3].T + similarity[:3, 3], np.ones(20)]
    pixels, depth = learnt.project(points)
    for view, projection in enumerate(capture.projections):
        seen = world @ projection.T
        assert seen[:, :2] / seen[:, 2:] == pytest.approx(pixels[view].detach().numpy(), abs=1e-9)
        assert seen[:, 2] == pytest.approx(250 * depth[view].detach().numpy())
    assert {photograph.size for photograph in capture.photographs} == {(64, 48)}
    assert np.array_equal(capture.world_from_sphere, similarity.numpy())
