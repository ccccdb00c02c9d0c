"""MVSNet's and BlendedMVS's layout, by the format's definition."""

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from common.errors import UserError
from common.scenes.formats.mvsnet import holds_mvsnet, read_mvsnet

K = np.array([[600.0, 0.5, 10.25], [0, 610.0, 6.5], [0, 0, 1]])
VIEWS = 3


def extrinsics(view: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec([0.1, 0.7 * view, 0.3]).as_matrix()
    matrix[:3, 3] = [view, 2, 500]
    return matrix


def camera_text(extrinsic: np.ndarray, intrinsic: np.ndarray, depths="425.0 2.5 192 902.5") -> str:
    rows = ["extrinsic", *(" ".join(map(repr, row.tolist())) for row in extrinsic), ""]
    rows += ["intrinsic", *(" ".join(map(repr, row.tolist())) for row in intrinsic), "", depths]
    return "\n".join(rows)


def write_folder(root, folder="blended_images", suffix=".jpg", masked=False):
    """A scene of three pictures of 20 x 12 pixels. Returns root."""
    (root / folder).mkdir()
    (root / "cams").mkdir()
    (root / "cams" / "pair.txt").write_text("3\n")
    for view in range(VIEWS):
        Image.new("RGB", (20, 12)).save(root / folder / f"{view:08d}{suffix}")
        if masked:
            Image.new("RGB", (20, 12)).save(root / folder / f"{view:08d}_masked{suffix}")
        (root / "cams" / f"{view:08d}_cam.txt").write_text(camera_text(extrinsics(view), K))
    return root


@pytest.mark.parametrize(
    ("folder", "suffix"), [("blended_images", ".jpg"), ("images", ".png"), ("image", ".jpg")]
)
def test_cameras_by_definition(tmp_path, folder, suffix):
    assert not holds_mvsnet(tmp_path)
    assert holds_mvsnet(write_folder(tmp_path, folder, suffix))
    capture = read_mvsnet(tmp_path)
    assert len(capture.photographs) == VIEWS and capture.notes == ()
    points = np.random.default_rng(0).normal(size=(20, 3))
    for view, projection in enumerate(capture.projections):
        x, y, z = extrinsics(view)[:3, :3] @ points.T + extrinsics(view)[:3, 3:]
        u, v = 600 * x / z + 0.5 * y / z + 10.25, 610 * y / z + 6.5
        seen = np.c_[points, np.ones(20)] @ projection.T
        # The format counts from the picture's corner.
        assert seen[:, :2] / seen[:, 2:] == pytest.approx(np.stack([u, v], -1) - 0.5, abs=1e-9)
        photograph = capture.photographs[view]
        assert photograph.image == tmp_path / folder / f"{view:08d}{suffix}"
        assert photograph.size == (20, 12) and photograph.mask is None


def test_black_pictures_are_no_masks_and_that_is_told(tmp_path):
    capture = read_mvsnet(write_folder(tmp_path, masked=True))
    assert len(capture.photographs) == VIEWS
    assert capture.notes == (
        "*_masked pictures are not taken for masks: the object may be black too",
    )


def test_masks_beside_the_images(tmp_path):
    write_folder(tmp_path, masked=True)
    (tmp_path / "mask").mkdir()
    for view in range(VIEWS):
        Image.new("L", (20, 12)).save(tmp_path / "mask" / f"{view:08d}.png")
    capture = read_mvsnet(tmp_path)
    assert capture.photographs[1].mask == tmp_path / "mask" / "00000001.png"
    assert capture.notes == ()


def test_images_without_a_camera_are_told(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "cams" / "00000001_cam.txt").unlink()
    capture = read_mvsnet(tmp_path)
    assert [photograph.image.stem for photograph in capture.photographs] == ["00000000", "00000002"]
    assert capture.notes == ("1 images have no camera and are left out: 00000001.jpg, ...",)


def write_camera(text):
    return lambda scene: (scene / "cams" / "00000001_cam.txt").write_text(text)


def remove_cameras(scene):
    for file in (scene / "cams").glob("*_cam.txt"):
        file.unlink()


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (write_camera(""), "00000001_cam.txt: 0 numbers after the word extrinsic"),
        (write_camera("extrinsic 1 2 3"), "00000001_cam.txt: 3 numbers after the word extrinsic"),
        (write_camera(camera_text(extrinsics(1), K).replace("600.0", "x")), "could not convert"),
        (write_camera(camera_text(extrinsics(1), K).split("intrinsic")[0]), "0 numbers"),
        (write_camera(camera_text(extrinsics(1), K * np.nan)), "expected 9 finite"),
        (write_camera(camera_text(extrinsics(1) * 2, K)), "not rigid"),
        (write_camera(camera_text(extrinsics(1) * 1e200, K)), "expected 16 finite"),
        (write_camera(camera_text(extrinsics(1).T, K)), "is it transposed?"),
        (write_camera(camera_text(extrinsics(1), 0 * K)), "intrinsic is no camera's K"),
        (write_camera(camera_text(extrinsics(1), np.diag([600, 60, 1]))), "focal lengths"),
        (write_camera("\x00\ufffd" * 99), "00000001_cam.txt: 0 numbers"),
        (remove_cameras, "no image has a camera"),
        (lambda scene: (scene / "blended_images").rename(scene / "i"), "add the images"),
        (lambda scene: Image.new("L", (2, 2)).save(scene / "blended_images" / "00000001.png"),
         "00000001 has several suffixes"),
    ],
)  # fmt: skip
def test_broken_folders_are_refused_with_a_remedy(tmp_path, breaks, message):
    breaks(write_folder(tmp_path))
    with pytest.raises(UserError) as refused:
        read_mvsnet(tmp_path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
