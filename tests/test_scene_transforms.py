"""Transforms files of NeRF, nerfstudio and instant-ngp, read by what their documents say."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from common.errors import UserError
from common.scenes.capture import Distortion
from common.scenes.formats.transforms import holds_transforms, read_transforms

LEGO = Path(__file__).parents[2] / "shared" / "data" / "nerf_synthetic_lego_200"
WIDTH, HEIGHT = 12, 8


def opengl_pose(view: int) -> np.ndarray:
    """Camera-to-world, of a camera that looks along its -z with +y up."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0.3, 0.5 * view, -0.2]).as_matrix()
    pose[:3, 3] = [4 * view, -1, 2]
    return pose


def write_pictures(root: Path, views: int, size=(WIDTH, HEIGHT)) -> None:
    (root / "images").mkdir(parents=True, exist_ok=True)
    for view in range(views):
        Image.new("RGB", size).save(root / "images" / f"{view}.png")


def write_document(root: Path, name="transforms.json", views: int = 3, frame=None, **document):
    """A document whose frame 1 is changed by ``frame``. Returns root."""
    write_pictures(root, views)
    frames = [
        {"file_path": f"images/{view}.png", "transform_matrix": opengl_pose(view).tolist()}
        for view in range(views)
    ]
    frames[1] |= frame or {}
    frames[1] = {key: value for key, value in frames[1].items() if value is not ...}
    document = {"fl_x": 30.0, "fl_y": 31.0, "cx": 6.25, "cy": 4.5, "frames": frames} | document
    document = {key: value for key, value in document.items() if value is not ...}
    (root / name).write_text(json.dumps(document))
    return root


def test_pixels_by_the_format_s_own_definition(tmp_path):
    capture = read_transforms(write_document(tmp_path))
    points = np.random.default_rng(0).normal(size=(20, 3))
    for view, projection in enumerate(capture.projections):
        x, y, z = (np.c_[points, np.ones(20)] @ np.linalg.inv(opengl_pose(view)).T).T[:3]
        # From the corner of the picture, y downwards; the camera looks along -z.
        u, v = 6.25 + 30 * x / -z, 4.5 - 31 * y / -z
        seen = np.c_[points, np.ones(20)] @ projection.T
        assert seen[:, :2] / seen[:, 2:] == pytest.approx(np.stack([u, v], -1) - 0.5, abs=1e-9)
        assert (seen[:, 2] > 0) == pytest.approx(z < 0)


def test_photographs_are_in_the_frames_order(tmp_path):
    capture = read_transforms(write_document(tmp_path))
    images = [photograph.image for photograph in capture.photographs]
    assert images == [tmp_path / "images" / f"{view}.png" for view in range(3)]
    assert {photograph.size for photograph in capture.photographs} == {(WIDTH, HEIGHT)}
    assert all(p.mask is None and p.distortion is None for p in capture.photographs)
    assert capture.notes == () and capture.source == tmp_path / "transforms.json"


class TestWhichFile:
    def test_a_folder_has_one_read_and_the_others_are_told(self, tmp_path):
        write_document(tmp_path, "transforms_train.json", views=2)
        write_document(tmp_path, "transforms_test.json", views=3)
        capture = read_transforms(tmp_path)
        assert len(capture.photographs) == 2
        assert capture.notes == (
            "only transforms_train.json is read, not transforms_test.json; give one to read it",
        )
        assert len(read_transforms(tmp_path / "transforms_test.json").photographs) == 3

    def test_detection(self, tmp_path):
        assert not holds_transforms(tmp_path)
        write_document(tmp_path, "transforms_test.json")
        assert not holds_transforms(tmp_path)
        assert holds_transforms(tmp_path / "transforms_test.json")
        assert holds_transforms(write_document(tmp_path))

    def test_none(self, tmp_path):
        with pytest.raises(UserError, match="none of transforms.json, transforms_train.json"):
            read_transforms(tmp_path)


class TestLens:
    def test_a_frame_comes_before_the_document(self, tmp_path):
        own = {"fl_x": 50, "fl_y": 52, "cx": 3, "cy": 2, "k1": 0.1}
        capture = read_transforms(write_document(tmp_path, frame=own, k2=0.02))
        first, second, _ = capture.photographs
        assert second.intrinsics == pytest.approx(
            np.array([[50, 0, 2.5], [0, 52, 1.5], [0, 0, 1.0]])
        )
        assert second.distortion == Distortion("brown", (0.1, 0.02, 0.0, 0.0, 0.0))
        assert first.intrinsics[0, 0] == 30
        assert first.distortion == Distortion("brown", (0.0, 0.02, 0.0, 0.0, 0.0))

    def test_a_frame_s_angle_comes_before_the_document_s_focal_length(self, tmp_path):
        capture = read_transforms(write_document(tmp_path, frame={"camera_angle_x": math.pi / 2}))
        focal = [photograph.intrinsics[0, 0] for photograph in capture.photographs]
        assert focal == pytest.approx([30, WIDTH / 2, 30])

    def test_angles_and_a_centre_in_the_middle(self, tmp_path):
        angles = {"camera_angle_x": math.pi / 2, "camera_angle_y": 2 * math.atan(0.5)}
        nothing = dict.fromkeys(["fl_x", "fl_y", "cx", "cy"], ...)
        capture = read_transforms(write_document(tmp_path, **angles, **nothing))
        expected = [[WIDTH / 2, 0, WIDTH / 2 - 0.5], [0, HEIGHT, HEIGHT / 2 - 0.5], [0, 0, 1]]
        assert capture.photographs[0].intrinsics == pytest.approx(np.array(expected))

    def test_one_angle_means_square_pixels(self, tmp_path):
        document = write_document(tmp_path, camera_angle_x=1.0, fl_x=..., fl_y=...)
        k = read_transforms(document).photographs[0].intrinsics
        assert k[0, 0] == k[1, 1] == pytest.approx(0.5 * WIDTH / math.tan(0.5))

    def test_a_size_other_than_the_picture_s_is_the_intrinsics_own(self, tmp_path):
        capture = read_transforms(write_document(tmp_path, w=WIDTH * 4, h=HEIGHT * 4, cx=24.5))
        photograph = capture.photographs[0]
        assert photograph.size == (WIDTH * 4, HEIGHT * 4)
        assert photograph.intrinsics[0, 2] == 24

    @pytest.mark.parametrize("told", [{"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}])
    def test_fisheye(self, tmp_path, told):
        capture = read_transforms(write_document(tmp_path, k1=0.1, k4=0.4, **told))
        assert capture.photographs[2].distortion == Distortion("fisheye", (0.1, 0.0, 0.0, 0.4))

    def test_a_fisheye_without_coefficients_still_bends(self, tmp_path):
        capture = read_transforms(write_document(tmp_path, camera_model="OPENCV_FISHEYE"))
        assert capture.photographs[0].distortion == Distortion("fisheye", (0.0, 0.0, 0.0, 0.0))

    def test_brown_in_opencv_s_order(self, tmp_path):
        lens = {"camera_model": "OPENCV", "k1": 1, "k2": 2, "k3": 3, "p1": 4, "p2": 5, "k4": 0}
        capture = read_transforms(write_document(tmp_path, **lens))
        assert capture.photographs[0].distortion == Distortion("brown", (1.0, 2.0, 4.0, 5.0, 3.0))


class TestFiles:
    def test_frames_without_an_image_are_left_out_and_told(self, tmp_path):
        write_document(tmp_path, views=8)
        for view in (0, 2, 3, 4, 5, 7):
            (tmp_path / "images" / f"{view}.png").unlink()
        capture = read_transforms(tmp_path)
        assert [photograph.image.name for photograph in capture.photographs] == ["1.png", "6.png"]
        centres = [photograph.world_from_camera[0, 3] for photograph in capture.photographs]
        assert centres == pytest.approx([4, 24])
        assert capture.notes == (
            "6 of 8 frames have no image and are left out: 'images/0.png', 'images/2.png', "
            "'images/3.png', 'images/4.png', 'images/5.png', ...",
        )

    @pytest.mark.parametrize("name", ["./images/1", "images\\1.png", "../{}/images/1.png"])
    def test_ways_to_write_a_path(self, tmp_path, name):
        name = name.format(tmp_path.name)
        capture = read_transforms(write_document(tmp_path, frame={"file_path": name}))
        assert capture.photographs[1].image.samefile(tmp_path / "images" / "1.png")

    def test_masks_are_the_named_ones(self, tmp_path):
        capture = read_transforms(write_document(tmp_path, frame={"mask_path": "images/0.png"}))
        masks = [photograph.mask for photograph in capture.photographs]
        assert masks == [None, tmp_path / "images" / "0.png", None]

    def test_points_without_visibility_are_told(self, tmp_path):
        capture = read_transforms(write_document(tmp_path, ply_file_path="points.ply"))
        assert capture.points is None
        assert "points.ply" in capture.notes[0]

    def test_where_other_programs_put_their_volume_moves_nothing(self, tmp_path):
        plain = read_transforms(write_document(tmp_path / "a"))
        moved = {
            "aabb_scale": 16,
            "scale": 0.1,
            "offset": [1, 2, 3],
            "applied_transform": [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]],
        }
        assert np.array_equal(
            read_transforms(write_document(tmp_path / "b", **moved)).projections,
            plain.projections,
        )


def test_a_rotation_of_few_digits_becomes_exact(tmp_path):
    rounded = np.round(opengl_pose(1), 3)
    capture = read_transforms(
        write_document(tmp_path, frame={"transform_matrix": rounded.tolist()})
    )
    pose = capture.photographs[1].world_from_camera
    assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3), abs=1e-14)
    assert pose[:3, :3] == pytest.approx(opengl_pose(1)[:3, :3] * [1, -1, -1], abs=1e-3)
    assert np.array_equal(pose[:, 3], rounded[:, 3])


MATRIX = opengl_pose(1)
REFUSED = {
    "distortion of a meaning unknown": (dict(k4=0.1), "k4 is 0.1"),
    "fisheye with tangential": (dict(is_fisheye=True, p1=0.1), "remove them"),
    "another lens": (dict(camera_model="EQUIRECTANGULAR"), "camera_model 'EQUIRECTANGULAR'"),
    "no focal length": (dict(fl_x=...), "neither fl_x nor camera_angle_x"),
    "focal length zero": (dict(fl_x=0), "positive"),
    "focal length a word": (dict(fl_x="wide"), "fl_x is 'wide'; expected a number"),
    "focal length true": (dict(fl_x=True), "expected a number"),
    "focal length NaN": (dict(fl_x=math.nan), "fl_x is nan"),
    "focal length of hundreds of digits": (dict(fl_x=10**400), "fl_x is 1000000"),
    "a number that is a long list": (dict(cx=[0] * 10**5), "cx is [0, 0"),
    "an angle of half a turn": (dict(fl_x=..., camera_angle_x=3.2), "between 0 and pi"),
    "an angle turned": (dict(fl_x=..., camera_angle_x=-0.7), "between 0 and pi"),
    "width zero": (dict(w=0, h=0), "positive"),
    "width beyond all": (dict(w=1.2e9, h=0.8e9), "positive numbers of pixels"),
    "another shape": (dict(w=24, h=24), "images these cameras were made for"),
    "no frames": (dict(frames=[]), "frames is empty"),
    "frames of lists": (dict(frames=[[]]), "expected"),
    "frames missing": (dict(frames=...), "expected"),
    "no path": (dict(frame={"file_path": ...}), "frame 1 (None): no file_path"),
    "a mask that is not there": (dict(frame={"mask_path": "m.png"}), "remove mask_path"),
    "one image twice": (dict(frame={"file_path": "./images/0"}), "0.png is the image of 2 frames"),
    "pose missing": (dict(frame={"transform_matrix": None}), "frame 1 ('images/1.png')"),
    "pose ragged": (dict(frame={"transform_matrix": [[1, 2], [3]]}), "4x4"),
    "pose of words": (dict(frame={"transform_matrix": [["a"] * 4] * 4}), "4x4"),
    "pose with infinity": (dict(frame={"transform_matrix": [[math.inf] * 4] * 4}), "4x4"),
    "pose of huge integers": (dict(frame={"transform_matrix": [[10**400] * 4] * 4}), "4x4"),
    "pose of 1e200": (dict(frame={"transform_matrix": [[1e200] * 4] * 4}), "4x4"),
    "pose scaled": (dict(frame={"transform_matrix": (2 * MATRIX).tolist()}), "not a rotation"),
    "pose mirrored": (dict(frame={"transform_matrix": (MATRIX * [-1, 1, 1, 1]).tolist()}),
                      "neither scaled nor mirrored"),
    "pose transposed": (dict(frame={"transform_matrix": MATRIX.T.tolist()}), "transposed?"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_and_how(tmp_path, changes, message):
    write_document(tmp_path, **changes)
    with pytest.raises(UserError) as refused:
        read_transforms(tmp_path)
    assert str(tmp_path / "transforms.json") in str(refused.value)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_no_image_at_all(tmp_path):
    write_document(tmp_path)
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="none of the 3 frames has an image.*'images/0.png'"):
        read_transforms(tmp_path)


@pytest.mark.parametrize("name", ["a\x00b", "x" * 5000, "a\nb", ""])
def test_paths_no_file_can_have_are_missing_images(tmp_path, name):
    capture = read_transforms(write_document(tmp_path, frame={"file_path": name}))
    assert len(capture.photographs) == 2
    assert "1 of 3 frames have no image" in capture.notes[0]
    assert "\n" not in capture.notes[0] and len(capture.notes[0]) < 200


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[1]",
        b'{"frames": [{}]} trailing',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"frames": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "a list", "trailing", "not text", "nested", "digits"],
)
def test_no_json(tmp_path, text):
    (tmp_path / "transforms.json").write_bytes(text)
    with pytest.raises(UserError, match="transforms.json: .*export") as refused:
        read_transforms(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_byte_order_mark_is_no_defect(tmp_path):
    text = (write_document(tmp_path) / "transforms.json").read_text()
    (tmp_path / "transforms.json").write_text(text, encoding="utf-8-sig")
    assert len(read_transforms(tmp_path).photographs) == 3


def test_real_cameras_are_those_of_the_numbers_in_the_file():
    if not LEGO.is_dir():
        pytest.skip(f"needs the pictures in {LEGO}")
    capture = read_transforms(LEGO)
    document = json.loads((LEGO / "transforms_train.json").read_text())
    assert len(capture.photographs) == len(document["frames"]) == 50
    focal = 0.5 * 200 / np.tan(0.5 * document["camera_angle_x"])
    k = np.array([[focal, 0, 99.5], [0, focal, 99.5], [0, 0, 1]])
    for frame, photograph, projection in zip(
        document["frames"], capture.photographs, capture.projections, strict=True
    ):
        assert photograph.image.stem == Path(frame["file_path"]).name
        pose = np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])
        expected = k @ np.linalg.inv(pose)[:3]
        # The file's rotations are such to a few millionths only, and ours exactly.
        assert np.abs(projection - expected).max() < 3e-6 * np.abs(expected).max()
