"""COLMAP models against what was written, and every way in which one can be broken."""

import os
import re
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from common.errors import UserError
from common.scenes.capture import Capture, Distortion, Photograph
from common.scenes.formats import colmap
from common.scenes.formats.colmap import find_model, read_colmap
from common.scenes.undistortion import distort
from tests.make_colmap import (
    PARAMETERS,
    Camera,
    Image,
    Model,
    Point,
    cameras_text,
    images_text,
    small_model,
    touch_images,
    write_model,
)

SUFFIXES = [".bin", ".txt"]


def written(source: Path, model: Model, suffix: str = ".bin") -> Path:
    """A source with the model in sparse/0 and (empty) images."""
    write_model(source / "sparse" / "0", model, suffix)
    touch_images(source / "images", model)
    return source


def one_camera(name: str, images: list[Image] | None = None) -> Model:
    return Model([Camera(1, name, PARAMETERS[name])], images or [Image(1, "a.png", 1)], [])


def projected(photograph: Photograph, points: np.ndarray) -> np.ndarray:
    """World points to pixels of the photograph as it was taken."""
    camera_from_world = np.linalg.inv(photograph.world_from_camera)
    in_camera = points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    plane = in_camera[:, :2] / in_camera[:, 2:]
    if photograph.distortion is not None:
        plane = distort(plane, photograph.distortion)
    return plane @ photograph.intrinsics[:2, :2].T + photograph.intrinsics[:2, 2]


# --- what is read -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_photographs_come_by_name_with_their_own_cameras(tmp_path, suffix):
    capture = read_colmap(written(tmp_path, small_model(), suffix))
    names = ["a b.png", "c.png", "dir/b.png"]
    assert [photograph.image for photograph in capture.photographs] == [
        tmp_path / "images" / name for name in names
    ]
    distortion = Distortion("brown", (-0.1, 0.02, 0.003, -0.002))
    assert [photograph.distortion for photograph in capture.photographs] == [distortion, None, None]
    # The corner-based (310, 250.5) is half a pixel less where centres are integers.
    k = [[500, 0, 309.5], [0, 510, 250], [0, 0, 1]]
    for photograph in capture.photographs:
        np.testing.assert_array_equal(photograph.intrinsics, k)
        assert photograph.size == (640, 480) and photograph.mask is None
    assert capture.source == tmp_path and capture.notes == ()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_points_come_by_number_with_who_saw_them(tmp_path, suffix):
    points = read_colmap(written(tmp_path, small_model(), suffix)).points
    assert points is not None
    np.testing.assert_array_equal(points.points, [[-1, 0.5, 0.25], [0, 0, 1], [0.1, 0.2, 0.3]])
    # Rows: a b.png (1), c.png (5), dir/b.png (3).
    seen = [[True, False, False], [False, False, True], [True, False, True]]
    np.testing.assert_array_equal(points.visibility, seen)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_poses_are_inverted_world_to_camera_ones(tmp_path, suffix):
    model = small_model()
    by_name = {image.name: image for image in model.images}
    for photograph in read_colmap(written(tmp_path, model, suffix)).photographs:
        image = by_name[str(photograph.image.relative_to(tmp_path / "images"))]
        expected = np.eye(4)
        expected[:3, :3] = Rotation.from_quat(image.quaternion, scalar_first=True).as_matrix()
        expected[:3, 3] = image.translation
        np.testing.assert_allclose(
            np.linalg.inv(photograph.world_from_camera), expected, atol=1e-15
        )


def finite(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(PARAMETERS)))
def test_binary_and_text_say_the_same(tmp_path_factory, data, name):
    source = tmp_path_factory.mktemp("model")
    quaternions = st.tuples(*[finite(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)
    names = st.lists(
        st.text("abcé_. ", min_size=1).map(lambda n: f"x{n}y"), min_size=1, unique=True
    )
    images = [
        Image(
            number,
            image_name,
            1,
            tuple((np.array(quaternion) / np.linalg.norm(quaternion)).tolist()),
            data.draw(st.tuples(*[finite(-1e6, 1e6)] * 3)),
            tuple(data.draw(st.lists(st.tuples(finite(0, 9), finite(0, 9), st.just(-1))))),
        )
        for number, image_name in enumerate(data.draw(names), start=3)
        for quaternion in [data.draw(quaternions)]
    ]
    tracks = st.lists(st.integers(1, 9), max_size=4)
    points = [
        Point(number, data.draw(st.tuples(*[finite(-1e6, 1e6)] * 3)), tuple(data.draw(tracks)))
        for number in data.draw(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=5))
    ]
    model = replace(one_camera(name, images), points=points)
    captures = [read_colmap(written(source / suffix[1:], model, suffix)) for suffix in SUFFIXES]
    assert_same(*captures)
    assert len(captures[0].photographs) == len(images)


def assert_same(one: Capture, other: Capture) -> None:
    assert len(one.photographs) == len(other.photographs)
    for a, b in zip(one.photographs, other.photographs, strict=True):
        assert (a.image.name, a.size, a.distortion) == (b.image.name, b.size, b.distortion)
        np.testing.assert_array_equal(a.intrinsics, b.intrinsics)
        np.testing.assert_array_equal(a.world_from_camera, b.world_from_camera)
    assert (one.points is None) == (other.points is None)
    if one.points is not None and other.points is not None:
        np.testing.assert_array_equal(one.points.points, other.points.points)
        np.testing.assert_array_equal(one.points.visibility, other.points.visibility)


# COLMAP's own projection of X in the camera's frame, to pixels from the image's corner; by hand
# from the definitions of its models (f = 500, x = 0.3, y = -0.4, r = 0.5, theta = atan 0.5).
THETA = np.arctan(0.5)
BY_HAND = {
    "SIMPLE_PINHOLE": (310 + 500 * 0.3, 250.5 - 500 * 0.4),
    "PINHOLE": (310 + 500 * 0.3, 250.5 - 510 * 0.4),
    "SIMPLE_RADIAL": (310 + 150 * 0.975, 250.5 - 200 * 0.975),
    "RADIAL": (310 + 150 * 0.97625, 250.5 - 200 * 0.97625),
    "OPENCV": (
        310 + 500 * (0.3 * 0.97625 + 2 * 0.003 * -0.12 - 0.002 * (0.25 + 0.18)),
        250.5 + 510 * (-0.4 * 0.97625 - 2 * 0.002 * -0.12 + 0.003 * (0.25 + 0.32)),
    ),
    "FULL_OPENCV": (
        310
        + 500
        * (
            0.3 * (1.025 + 0.003125 + 0.01 / 64) / (1.05 + 0.03 / 16 + 0.004 / 64)
            + 2 * 0.003 * -0.12
            - 0.002 * (0.25 + 0.18)
        ),
        250.5
        + 510
        * (
            -0.4 * (1.025 + 0.003125 + 0.01 / 64) / (1.05 + 0.03 / 16 + 0.004 / 64)
            - 2 * 0.002 * -0.12
            + 0.003 * (0.25 + 0.32)
        ),
    ),
    "SIMPLE_FISHEYE": (310 + 500 * 0.6 * THETA, 250.5 - 500 * 0.8 * THETA),
    "FISHEYE": (310 + 500 * 0.6 * THETA, 250.5 - 510 * 0.8 * THETA),
    "SIMPLE_RADIAL_FISHEYE": (
        310 + 500 * 0.6 * THETA * (1 + 0.05 * THETA**2),
        250.5 - 500 * 0.8 * THETA * (1 + 0.05 * THETA**2),
    ),
    "RADIAL_FISHEYE": (
        310 + 500 * 0.6 * (THETA + 0.05 * THETA**3 - 0.01 * THETA**5),
        250.5 - 500 * 0.8 * (THETA + 0.05 * THETA**3 - 0.01 * THETA**5),
    ),
    "OPENCV_FISHEYE": (
        310
        + 300 * (THETA + 0.05 * THETA**3 - 0.01 * THETA**5 + 0.002 * THETA**7 - 0.001 * THETA**9),
        250.5
        - 408 * (THETA + 0.05 * THETA**3 - 0.01 * THETA**5 + 0.002 * THETA**7 - 0.001 * THETA**9),
    ),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_point_lands_where_the_camera_model_puts_it(tmp_path, name):
    rotation = Rotation.from_rotvec([0.3, -0.5, 0.2])
    image = Image(1, "a.png", 1, tuple(rotation.as_quat(scalar_first=True).tolist()), (0.1, 0.2, 3))
    source = written(tmp_path, one_camera(name, [image]))
    world = rotation.inv().apply(np.array([[0.6, -0.8, 2.0]]) - [0.1, 0.2, 3])
    pixel = projected(read_colmap(source).photographs[0], world)
    np.testing.assert_allclose(pixel + 0.5, [BY_HAND[name]], rtol=1e-12)


@pytest.mark.parametrize("name", PARAMETERS)
def test_projections_agree_with_colmap_itself(tmp_path, name):
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    source = written(tmp_path, one_camera(name))
    model = pycolmap.Reconstruction(str(source / "sparse" / "0"))
    points = np.random.default_rng(0).uniform(-1, 1, (100, 3))
    in_camera = points + [0, 0, 4]
    theirs = np.array([model.cameras[1].img_from_cam(point) for point in in_camera]).reshape(-1, 2)
    ours = projected(read_colmap(source).photographs[0], points)
    np.testing.assert_allclose(ours + 0.5, theirs, atol=1e-9)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_that_colmap_wrote_is_read(tmp_path, suffix):
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_points3D = 50
    truth = pycolmap.synthesize_dataset(options)
    folder = tmp_path / "sparse" / "0"
    folder.mkdir(parents=True)
    (truth.write_binary if suffix == ".bin" else truth.write_text)(str(folder))
    images = {image.name: image for image in truth.images.values()}
    for name in images:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    capture = read_colmap(tmp_path)
    assert len(capture.photographs) == len(images) and capture.points is not None
    ids = sorted(truth.points3D)
    for row, photograph in zip(capture.points.visibility, capture.photographs, strict=True):
        image = images[str(photograph.image.relative_to(tmp_path / "images"))]
        seen = [point for point in image.points2D if point.has_point3D()]
        assert {ids[column] for column in np.flatnonzero(row)} == {p.point3D_id for p in seen}
        points = np.array([truth.points3D[point.point3D_id].xyz for point in seen])
        # The synthetic observations are exact projections.
        ours = projected(photograph, points) + 0.5
        np.testing.assert_allclose(ours, [point.xy for point in seen], atol=1e-6)


# --- where things are ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("folder", ["", "sparse/0", "sparse", "colmap/sparse/0"])
@pytest.mark.parametrize("images", ["images", "image", "input", ""])
def test_model_and_images_are_found_below_a_source(tmp_path, folder, suffix, images):
    write_model(tmp_path / folder, small_model(), suffix)
    touch_images(tmp_path / images, small_model())
    assert find_model(tmp_path) == tmp_path / folder
    # From the source, and from the model's own folder.
    for source in (tmp_path, tmp_path / folder):
        first = read_colmap(source).photographs[0].image
        assert first == tmp_path / images / "a b.png"


def test_images_beside_the_model_and_relative_paths(tmp_path, monkeypatch):
    model = write_model(tmp_path / "model", small_model(), ".bin")
    touch_images(tmp_path / "images", small_model())
    assert read_colmap(model).photographs[0].image == tmp_path / "images" / "a b.png"
    monkeypatch.chdir(model)
    assert read_colmap(Path(".")).photographs[0].image == tmp_path / "images" / "a b.png"


def test_the_folder_with_most_images_wins_and_a_given_one_is_taken(tmp_path):
    written(tmp_path, small_model())
    (tmp_path / "images" / "c.png").rename(tmp_path / "c.png")
    touch_images(tmp_path / "input", small_model())
    assert read_colmap(tmp_path).photographs[0].image.parent == tmp_path / "input"
    given_folder = read_colmap(tmp_path, tmp_path / "images")
    assert [photograph.image.name for photograph in given_folder.photographs] == [
        "a b.png",
        "b.png",
    ]
    assert given_folder.notes == (
        f"1 of 3 photographs are not in {tmp_path / 'images'}, left out: c.png",
    )
    points = given_folder.points
    assert points is not None and points.visibility.shape == (2, 3)
    np.testing.assert_array_equal(points.visibility, [[1, 0, 0], [1, 0, 1]])


def test_no_model_in_folders_without_one(tmp_path):
    assert find_model(tmp_path) is None and find_model(tmp_path / "nowhere") is None
    written(tmp_path, small_model())
    (tmp_path / "sparse" / "0" / "images.bin").unlink()
    assert find_model(tmp_path) is None
    with pytest.raises(UserError, match="no COLMAP model here"):
        read_colmap(tmp_path)


def test_masks_by_colmaps_own_convention(tmp_path):
    source = written(tmp_path, small_model())
    (source / "masks" / "dir").mkdir(parents=True)
    for name in ("c.png.png", "dir/b.png.png", "a b.png"):  # the last is not the convention
        (source / "masks" / name).touch()
    masks = [photograph.mask for photograph in read_colmap(source).photographs]
    assert masks == [None, source / "masks" / "c.png.png", source / "masks" / "dir" / "b.png.png"]


def test_binary_is_preferred_and_points_may_be_absent(tmp_path):
    source = written(tmp_path, small_model())
    write_model(source / "sparse" / "0", one_camera("FISHEYE"), ".txt")
    (source / "sparse" / "0" / "points3D.bin").unlink()
    capture = read_colmap(source)
    assert len(capture.photographs) == 3 and capture.points is None


def test_other_models_of_the_same_photographs_are_noted(tmp_path):
    source = written(tmp_path, small_model())
    (source / "sparse" / "2").mkdir()  # empty
    write_model(source / "sparse" / "1", small_model(), ".bin")
    (note,) = read_colmap(source).notes
    assert "holds 2 models" in note and note.endswith("the others: 1")


def test_points_beyond_the_largest_table_are_left_out(tmp_path, monkeypatch):
    model = small_model()
    model.points = [
        Point(30 - number, (float(number), 0, 0), (1, 3, 5)[: number % 4]) for number in range(20)
    ]
    source = written(tmp_path, model)
    monkeypatch.setattr(colmap, "LARGEST_VISIBILITY", 3 * 7 + 2)
    capture = read_colmap(source)
    assert capture.points is not None
    # Five are seen by three images, and the first two of those seen by two; numbers fall with x.
    np.testing.assert_array_equal(capture.points.points[:, 0], [19, 15, 11, 7, 6, 3, 2])
    np.testing.assert_array_equal(capture.points.visibility.sum(axis=0), [3, 3, 3, 3, 2, 3, 2])
    assert "the 7 points seen most often were kept of 20" in capture.notes[0]


def test_memory_for_points_is_a_few_times_their_file(tmp_path):
    count, images = 3_000, 50
    generator = np.random.default_rng(0)
    record = np.dtype([("head", "<u8"), ("xyz", "<f8", 3), ("rest", "u1", 11), ("n", "<u8")])
    tracks = np.dtype([*record.descr, ("track", "<u4", (4, 2))])
    data = np.zeros(count, dtype=tracks)
    data["head"] = generator.permutation(count)
    data["xyz"] = generator.normal(size=(count, 3))
    data["n"], data["track"] = 4, generator.integers(0, images, (count, 4, 2))
    model = one_camera("PINHOLE", [Image(i, f"{i:03}.png", 1) for i in range(images)])
    source = written(tmp_path, model)
    file = source / "sparse" / "0" / "points3D.bin"
    file.write_bytes(struct.pack("<Q", count) + data.tobytes())
    tracemalloc.start()
    points = read_colmap(source).points
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert points is not None
    expected = np.zeros((images, count), dtype=bool)
    expected[data["track"][..., 0], data["head"][:, None]] = True
    np.testing.assert_array_equal(points.visibility, expected)
    np.testing.assert_array_equal(points.points[data["head"]], data["xyz"])
    assert peak < 6 * file.stat().st_size + 2 * expected.size


# --- what is refused ----------------------------------------------------------------------------


def test_every_cut_of_a_binary_file_is_noticed(tmp_path):
    source = written(tmp_path, small_model())
    for name in ("cameras", "images", "points3D"):
        path = source / "sparse" / "0" / f"{name}.bin"
        whole = path.read_bytes()
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            with pytest.raises(UserError, match=re.escape(str(path))):
                read_colmap(source)
        path.write_bytes(whole + b"\0")
        with pytest.raises(UserError, match="1 bytes follow the last record"):
            read_colmap(source)
        path.write_bytes(whole)
    read_colmap(source)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("count", [4, 2**31, 2**32, 2**61, 2**64 - 1])
def test_counts_that_lie_allocate_nothing(tmp_path, name, count):
    source = written(tmp_path, small_model())
    path = source / "sparse" / "0" / f"{name}.bin"
    path.write_bytes(struct.pack("<Q", count) + path.read_bytes()[8:])
    tracemalloc.start()
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_colmap(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def edited(change: Callable[[Model], None]) -> Model:
    model = small_model()
    change(model)
    return model


def camera(**changes) -> Callable[[Model], None]:
    return lambda model: model.cameras.__setitem__(0, replace(model.cameras[0], **changes))


def image(**changes) -> Callable[[Model], None]:
    return lambda model: model.images.__setitem__(0, replace(model.images[0], **changes))


def point(**changes) -> Callable[[Model], None]:
    return lambda model: model.points.__setitem__(0, replace(model.points[0], **changes))


NAN, INF = float("nan"), float("inf")
BROKEN = {
    "FOV": (camera(model="FOV", parameters=PARAMETERS["RADIAL"]), "camera model FOV is not one"),
    "thin prism": (
        camera(model="THIN_PRISM_FISHEYE", parameters=PARAMETERS["FULL_OPENCV"]),
        "colmap image_undistorter",
    ),
    "focal length": (camera(parameters=(0.0, *PARAMETERS["OPENCV"][1:])), "positive focal"),
    "NaN parameter": (camera(parameters=(*PARAMETERS["OPENCV"][:7], NAN)), "finite numbers"),
    "infinite parameter": (camera(parameters=(INF, *PARAMETERS["OPENCV"][1:])), "finite numbers"),
    "no pixels": (camera(size=(0, 480)), "0 x 480 pixels"),
    "too many pixels": (camera(size=(640, 2**63)), "expected 1 to 100000 on a side"),
    "camera twice": (camera(number=2), "camera 2 appears more than once"),
    "unknown camera": (image(camera=8), "camera 8, which the model does not hold"),
    "image twice": (image(number=3), "image number 3 appears more than once"),
    "name twice": (image(name="a b.png"), "image name a b.png appears more than once"),
    "name twice, spelt apart": (image(name="./a b.png"), "image name a b.png appears more than"),
    "zero quaternion": (image(quaternion=(0, 0, 0, 0)), "expected a unit quaternion"),
    "NaN quaternion": (image(quaternion=(NAN, 0, 0, 0)), "expected a unit quaternion"),
    "huge quaternion": (image(quaternion=(1e300, 0, 0, 0)), "expected a unit quaternion"),
    "NaN translation": (image(translation=(0, NAN, 0)), "expected a unit quaternion and finite"),
    "huge translation": (image(translation=(0, 1e308, 1e308)), "finite numbers"),
    "name upwards": (image(name="../../secret.png"), "does not name a file below"),
    "name upwards inside": (image(name="a/../../secret.png"), "does not name a file below"),
    "name upwards, backslash": (image(name="..\\secret.png"), "does not name a file below"),
    "absolute name": (image(name="/etc/passwd"), "does not name a file below"),
    "control character": (image(name="a\x1b[2J.png"), "does not name a file below"),
    "NaN point": (point(xyz=(NAN, 0, 0)), "NaN or infinite coordinates"),
    "infinite point": (point(xyz=(0, 0, -INF)), "NaN or infinite coordinates"),
    "point twice": (point(number=4), "two points have the same number"),
    "no images": (lambda model: model.images.clear(), "the model has no images"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", BROKEN)
def test_a_model_that_cannot_be_is_refused_in_a_sentence(tmp_path, what, suffix):
    change, message = BROKEN[what]
    source = tmp_path / "source"
    write_model(source / "sparse" / "0", edited(change), suffix)
    touch_images(source / "images", small_model())
    (tmp_path / "secret.png").touch()
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_colmap(source)
    assert str(source) in str(caught.value) and "\n" not in str(caught.value)


def test_no_image_anywhere(tmp_path):
    write_model(tmp_path, small_model(), ".bin")
    with pytest.raises(
        UserError, match=r"none of the 3 images .* \(a b.png, ...\); give the folder"
    ):
        read_colmap(tmp_path)


def test_camera_numbers_beyond_the_known_ones(tmp_path):
    source = written(tmp_path, one_camera("PINHOLE"))
    path = source / "sparse" / "0" / "cameras.bin"
    for number in (-1, 18, 2**31 - 1):
        data = bytearray(path.read_bytes())
        data[12:16] = struct.pack("<i", number)
        path.write_bytes(data)
        with pytest.raises(UserError, match=f"camera model number {number} is not one of"):
            read_colmap(source)


def test_names_that_are_not_utf8(tmp_path):
    model = one_camera("PINHOLE", [Image(1, b"caf\xe9.png", 1)])
    write_model(tmp_path, model, ".bin")
    with pytest.raises(UserError, match=r"image name b'caf\\xe9.png' is not UTF-8"):
        read_colmap(tmp_path)
    (tmp_path / "images.bin").unlink()
    write_model(tmp_path, one_camera("PINHOLE"), ".txt")
    path = tmp_path / "images.txt"
    path.write_bytes(path.read_bytes().replace(b"a.png", b"caf\xe9.png"))
    with pytest.raises(UserError, match="images.txt: not UTF-8 text"):
        read_colmap(tmp_path)


def test_names_too_long_for_any_file(tmp_path):
    model = small_model()
    model.images[0].name = "x" * 3000
    write_model(tmp_path, model, ".bin")
    touch_images(tmp_path, edited(image(name="other.png")))
    assert len(read_colmap(tmp_path).photographs) == 2
    model.images[0].name = "x" * 5000
    write_model(tmp_path, model, ".bin")
    with pytest.raises(UserError, match="does not end within 4096 bytes"):
        read_colmap(tmp_path)


def test_links_in_a_circle_are_missing_images(tmp_path):
    source = written(tmp_path, small_model())
    (source / "images" / "c.png").unlink()
    os.symlink("c.png", source / "images" / "c.png")
    assert read_colmap(source).notes[0].endswith("left out: c.png")


TEXT = {
    "too few entries": ("cameras", "1 PINHOLE 640 480 500 500", "line 1: expected CAMERA_ID"),
    "no number": ("cameras", "1 PINHOLE 640 480 500 500 x 240", "could not convert string"),
    "real size": ("cameras", "1 PINHOLE 640.5 480 500 500 320 240", "line 1: expected CAMERA_ID"),
    "endless digits": ("cameras", f"{'9' * 5000} PINHOLE 6 4 5 5 3 2", "line 1: expected"),
    "cut image": ("images", "1 1 0 0 0 0 0 4", "line 1: expected IMAGE_ID"),
    "2D points left out": (
        "images",
        "1 1 0 0 0 0 0 4 1 a.png\n2 1 0 0 0 0 0 4 1 b.png",
        "line 2: expected the 2D points of the image above",
    ),
    "cut point": ("points3D", "1 0 0 0 9 9 9", "line 1: expected POINT3D_ID"),
    "half a pair": ("points3D", "# no\n1 0 0 0 9 9 9 0.5 1", "line 2: expected POINT3D_ID"),
    "negative number": ("points3D", "-1 0 0 0 9 9 9 0.5", "line 1: expected POINT3D_ID"),
    "large number": ("points3D", f"1 0 0 0 9 9 9 0.5 {2**32} 0", "line 1: expected POINT3D_ID"),
}


@pytest.mark.parametrize("what", TEXT)
def test_lines_that_cannot_be_read_are_named(tmp_path, what):
    name, text, message = TEXT[what]
    source = written(tmp_path, one_camera("PINHOLE"), ".txt")
    path = source / "sparse" / "0" / f"{name}.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_colmap(source)
    assert str(path) in str(caught.value)


def test_text_as_people_leave_it(tmp_path):
    """A byte-order mark, Windows line ends, tabs, no last line of 2D points."""
    model = small_model()
    source = written(tmp_path, model, ".txt")
    folder = source / "sparse" / "0"
    original = read_colmap(source)
    cameras = cameras_text(model.cameras).replace(" ", "\t").replace("\n", "\r\n")
    (folder / "cameras.txt").write_bytes(b"\xef\xbb\xbf" + cameras.encode())
    model.images.append(model.images.pop(1))  # the one without 2D points
    (folder / "images.txt").write_text(images_text(model.images).rstrip("\n"))
    assert_same(original, read_colmap(source))
