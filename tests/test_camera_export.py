"""Exported cameras, read back by our readers or by each format's own definition."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from common.cameras import Cameras
from common.errors import UserError
from common.scenes.formats.camera_export import (
    capture_of,
    quaternions_from_rotations,
    world_poses,
    write_colmap_text,
    write_idr_cameras,
    write_middlebury,
    write_transforms,
)
from common.scenes.scene import read_scene
from tests.make_collection import write_tiny_scene, write_tiny_transforms

NAMES = ["a.png", "b.png", "c.png", "d.png", "e.png"]


def some_cameras(skew: float = 0.0, same_lens: bool = False) -> Cameras:
    """Five cameras around the origin, with gradients as refined ones have."""
    rng = np.random.default_rng(0)
    pose = np.tile(np.eye(4), (5, 1, 1))
    pose[:, :3, :3] = Rotation.random(5, rng=rng).as_matrix()
    pose[:, :3, 3] = -3 * pose[:, :3, 2] + 0.1 * rng.normal(size=(5, 3))
    lens = np.tile([[80.0, skew, 33.25], [0, 82.5, 22.0], [0, 0, 1]], (5, 1, 1))
    if not same_lens:
        lens[:, 0, 0] += [0, 1, 0, 1, 2]
    return Cameras(torch.tensor(lens).requires_grad_(), torch.tensor(pose).requires_grad_(), 48, 64)


def some_similarity() -> torch.Tensor:
    """Turned, 250 times as large and far from the origin."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = 250 * torch.tensor(Rotation.from_rotvec([0.5, -2, 1]).as_matrix())
    matrix[:3, 3] = torch.tensor([700.0, -40.0, 1300.0])
    return matrix


def points_and_pixels(cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """World points and where each camera sees them, by the object frame."""
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)).double() - 0.5
    pixel, z = cameras.project(points)
    assert (z > 0).all()
    similarity = some_similarity()
    world = points @ similarity[:3, :3].T + similarity[:3, 3]
    return world.numpy(), pixel.detach().numpy()


def through(intrinsics: np.ndarray, camera_from_world: np.ndarray, points: np.ndarray):
    seen = (points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]) @ intrinsics.T
    return seen[:, :2] / seen[:, 2:]


def check_same_world(before, after):
    """One world point falls on one pixel, whatever each one's object frame is."""
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    world = points @ before.world_from_object[:3, :3].T + before.world_from_object[:3, 3]
    inverse = torch.linalg.inv(after.world_from_object)
    again = world @ inverse[:3, :3].T + inverse[:3, 3]
    pixel, expected = after.cameras.project(again)[0], before.cameras.project(points)[0]
    # float32 in two frames.
    torch.testing.assert_close(pixel, expected, atol=2e-4, rtol=0)


def test_world_poses_are_rigid_and_see_the_same():
    cameras = some_cameras()
    poses = world_poses(cameras, some_similarity().float())  # a similarity with rounding
    rotation = poses[:, :3, :3]
    assert np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max() < 1e-14
    assert np.linalg.det(rotation) == pytest.approx(np.ones(5))
    world, pixels = points_and_pixels(cameras)
    lens = cameras.intrinsics.detach().numpy()
    for k, pose, expected in zip(lens, poses, pixels, strict=True):
        # float32's rounding of a translation of 1300 units, seen at 80 px over 750 units.
        assert np.abs(through(k, np.linalg.inv(pose), world) - expected).max() < 1e-4


class TestIdr:
    def test_read_back(self, tmp_path):
        scene = write_tiny_scene(tmp_path / "scene")
        before, _ = read_scene(scene, frame="sphere")
        elsewhere = some_similarity().float()
        write_idr_cameras(scene / "cameras.npz", capture_of(before.cameras, elsewhere))
        after, _ = read_scene(scene, frame="sphere")
        for name in ("intrinsics", "object_from_camera"):
            ours, expected = (getattr(views.cameras, name) for views in (after, before))
            # The reader takes float32 matrices apart: a few units of the last place.
            torch.testing.assert_close(ours, expected, rtol=2e-6, atol=2e-6)
        torch.testing.assert_close(after.world_from_object, elsewhere)

    def test_by_definition(self, tmp_path):
        cameras = some_cameras(skew=3.0)
        write_idr_cameras(tmp_path / "cameras.npz", capture_of(cameras, some_similarity()))
        world, pixels = points_and_pixels(cameras)
        with np.load(tmp_path / "cameras.npz") as file:
            assert len(file.files) == 10
            for view, expected in enumerate(pixels):
                seen = through(np.eye(3), file[f"world_mat_{view}"], world)
                assert np.abs(seen - expected).max() < 1e-9
                assert np.array_equal(file[f"scale_mat_{view}"], some_similarity().numpy())


class TestTransforms:
    def test_read_back_in_place_of_the_original(self, tmp_path):
        scene = write_tiny_transforms(tmp_path / "lego")
        before, names = read_scene(scene, frame="sphere")
        write_transforms(
            scene / "transforms.json",  # found before transforms_train.json
            capture_of(before.cameras, before.world_from_object),
            [f"train/{name}" for name in names],
        )
        after, _ = read_scene(scene, frame="sphere")
        assert torch.equal(after.masks, before.masks)
        check_same_world(before, after)

    def test_masks_beside_the_images(self, tmp_path):
        scene = write_tiny_scene(tmp_path / "scene")
        before, names = read_scene(scene, frame="sphere")
        masks = sorted(file.name for file in (scene / "mask").iterdir())
        write_transforms(
            scene / "transforms.json",
            capture_of(before.cameras, before.world_from_object),
            [f"image/{name}" for name in names],
            [f"mask/{name}" for name in masks],
        )
        (scene / "cameras.npz").unlink()
        after, after_names = read_scene(scene, frame="sphere")
        assert after_names == names
        assert torch.equal(after.masks, before.masks)
        assert torch.equal(after.images, before.images)
        check_same_world(before, after)

    def test_by_definition(self, tmp_path):
        cameras = some_cameras()
        write_transforms(
            tmp_path / "transforms.json", capture_of(cameras, some_similarity()), NAMES
        )
        document = json.loads((tmp_path / "transforms.json").read_text())
        world, pixels = points_and_pixels(cameras)
        assert (document["w"], document["h"]) == (64, 48)
        assert [frame["file_path"] for frame in document["frames"]] == NAMES
        for frame, expected in zip(document["frames"], pixels, strict=True):
            x, y, z = (np.c_[world, np.ones(20)] @ np.linalg.inv(frame["transform_matrix"]).T).T[:3]
            assert (z < 0).all()  # the camera looks along -z, and y is up
            u = frame["cx"] + frame["fl_x"] * x / -z
            v = frame["cy"] - frame["fl_y"] * y / -z
            assert np.abs(np.stack([u, v], -1) - 0.5 - expected).max() < 1e-9

    def test_a_shared_lens_is_written_once(self, tmp_path):
        cameras = some_cameras(same_lens=True)
        write_transforms(
            tmp_path / "transforms.json", capture_of(cameras, some_similarity()), NAMES
        )
        document = json.loads((tmp_path / "transforms.json").read_text())
        lens = {key: document[key] for key in ("fl_x", "fl_y", "cx", "cy")}
        assert lens == {"fl_x": 80, "fl_y": 82.5, "cx": 33.75, "cy": 22.5}
        assert not any("fl_x" in frame for frame in document["frames"])


class TestMiddlebury:
    def test_read_back(self, tmp_path):
        scene = write_tiny_scene(tmp_path / "scene")
        before, names = read_scene(scene, frame="sphere")
        paths = [f"image/{name}" for name in names]
        write_middlebury(
            scene / "x_par.txt", capture_of(before.cameras, before.world_from_object), paths
        )
        (scene / "cameras.npz").unlink()
        after, _ = read_scene(scene, frame="sphere")
        assert torch.equal(after.images, before.images)
        check_same_world(before, after)

    @pytest.mark.parametrize("skew", [0.0, 4.0])
    def test_by_definition(self, tmp_path, skew):
        cameras = some_cameras(skew)
        write_middlebury(tmp_path / "some_par.txt", capture_of(cameras, some_similarity()), NAMES)
        count, *lines = (tmp_path / "some_par.txt").read_text().splitlines()
        world, pixels = points_and_pixels(cameras)
        assert int(count) == len(lines) == 5
        for line, name, expected in zip(lines, NAMES, pixels, strict=True):
            first, *numbers = line.split()
            assert first == name and len(numbers) == 21
            k, rotation = np.array(numbers[:18], dtype=float).reshape(2, 3, 3)
            assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-12
            camera_from_world = np.c_[rotation, np.array(numbers[18:], dtype=float)]
            assert np.abs(through(k, camera_from_world, world) - expected).max() < 1e-9


class TestColmap:
    @pytest.mark.parametrize(("same_lens", "lenses"), [(True, 1), (False, 3)])
    def test_by_definition(self, tmp_path, same_lens, lenses):
        cameras = some_cameras(same_lens=same_lens)
        write_colmap_text(tmp_path / "model", capture_of(cameras, some_similarity()), NAMES)
        rows = self.data_lines(tmp_path / "model" / "cameras.txt")
        by_id = {row.split()[0]: row.split()[1:] for row in rows}
        assert len(rows) == len(by_id) == lenses
        images = self.data_lines(tmp_path / "model" / "images.txt")
        assert len(images) == 10 and not any(images[1::2])  # every second: no observed points
        world, pixels = points_and_pixels(cameras)
        for index, line in enumerate(images[::2]):
            image_id, *numbers, camera_id, name = line.split()
            assert (int(image_id), name) == (index + 1, NAMES[index])
            qw, qx, qy, qz, *t = (float(number) for number in numbers)
            rotation = Rotation.from_quat([qx, qy, qz, qw]).as_matrix()
            model, width, height, *lens = by_id[camera_id]
            assert (model, width, height) == ("PINHOLE", "64", "48")
            fx, fy, cx, cy = (float(number) for number in lens)
            k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
            seen = through(k, np.c_[rotation, t], world)
            assert np.abs(seen - 0.5 - pixels[index]).max() < 1e-9
        assert (tmp_path / "model" / "points3D.txt").read_text() == ""

    @staticmethod
    def data_lines(path: Path) -> list[str]:
        return [line for line in path.read_text().splitlines() if not line.startswith("#")]


class TestQuaternions:
    component = st.floats(-1, 1)

    @given(st.lists(component, min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 1e-3))
    @example([0.0, 1.0, 0.0, 0.0])  # half turns, where the trace is -1
    @example([0.0, 0.0, 1.0, 0.0])
    @example([0.0, 0.0, 0.0, 1.0])
    @example([0.0, 0.6, -0.8, 0.0])
    @example([1e-9, 0.6, 0.0, 0.8])
    @example([-1.0, 1e-9, 0.0, 0.0])
    @example([0.5, 0.5, 0.5, 0.5])
    def test_come_back(self, numbers):
        w, x, y, z = exact = np.array(numbers) / np.linalg.norm(numbers)
        rotation = Rotation.from_quat([x, y, z, w]).as_matrix()
        found = quaternions_from_rotations(rotation[None])[0]
        assert found[0] >= 0
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-15)
        # q and -q are one rotation.
        assert min(np.abs(found - exact).max(), np.abs(found + exact).max()) < 1e-14

    def test_many_at_once(self):
        rotations = Rotation.random(100, rng=np.random.default_rng(0))
        found = quaternions_from_rotations(rotations.as_matrix())
        expected = rotations.as_quat(canonical=True, scalar_first=True)
        assert np.abs(found - expected).max() < 1e-14


class TestRefusals:
    def test_skew_where_it_cannot_be_held(self, tmp_path):
        cameras = some_cameras(skew=0.2)
        message = "view 0 has a skew of 0.2 px, more than the 0.001 px.*Middlebury"
        with pytest.raises(UserError, match=message):
            write_transforms(
                tmp_path / "transforms.json", capture_of(cameras, some_similarity()), NAMES
            )
        with pytest.raises(UserError, match=message):
            write_colmap_text(tmp_path / "model", capture_of(cameras, some_similarity()), NAMES)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("skew", [9e-4, -9e-4])
    def test_rounding_left_in_the_skew_is_allowed(self, tmp_path, skew):
        cameras = some_cameras(skew)
        write_transforms(
            tmp_path / "transforms.json", capture_of(cameras, some_similarity()), NAMES
        )
        write_colmap_text(tmp_path / "model", capture_of(cameras, some_similarity()), NAMES)

    @pytest.mark.parametrize("name", ["my view.png", "tab\t.png", ""])
    def test_names_that_break_the_line(self, tmp_path, name):
        names = [*NAMES[:4], name]
        for write, target in ((write_middlebury, "x_par.txt"), (write_colmap_text, "model")):
            with pytest.raises(UserError, match="separates its entries by blanks"):
                write(tmp_path / target, capture_of(some_cameras(), some_similarity()), names)

    def test_another_number_of_names_is_a_mistake_of_the_program(self, tmp_path):
        for write, target in (
            (write_middlebury, "x_par.txt"),
            (write_colmap_text, "model"),
            (write_transforms, "transforms.json"),
        ):
            with pytest.raises(ValueError, match="zip"):
                write(tmp_path / target, capture_of(some_cameras(), some_similarity()), NAMES[:4])
        assert not list(tmp_path.iterdir())
