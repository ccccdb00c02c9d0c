"""Scenes written and read back: the same pictures, cameras and surface, or no folder at all."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from common.cameras import Cameras, look_at
from common.data import scene_writer
from common.data.scene_writer import SceneRecord, scene_matrices, write_scene
from common.scenes.scene import read_scene

HEIGHT, WIDTH = 12, 16


def some_cameras(views: int = 5) -> Cameras:
    generator = torch.Generator().manual_seed(0)
    centre = torch.nn.functional.normalize(torch.randn(views, 3, generator=generator), dim=-1) * 3
    pose = look_at(centre, torch.zeros(views, 3), torch.tensor([0.0, 1.0, 0.0]))
    # Views differ in their focal lengths; pixels are not square and have some skew.
    intrinsics = torch.tensor([[20.0, 0.5, 7.2], [0.0, 22.0, 5.1], [0.0, 0.0, 1.0]])
    intrinsics = intrinsics.repeat(views, 1, 1)
    intrinsics[:, 0, 0] += torch.arange(views)
    return Cameras(intrinsics, pose, HEIGHT, WIDTH)


def similarity(scale: float, turn: float, shift: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = scale * Rotation.from_rotvec(turn * np.array([0.3, -0.5, 0.8])).as_matrix()
    matrix[:3, 3] = shift * np.array([1.0, -0.4, 0.2])
    return matrix


def record(world_from_object: np.ndarray) -> SceneRecord:
    rng = np.random.default_rng(0)
    masks = np.zeros((5, HEIGHT, WIDTH), dtype=bool)
    masks[:, 3:9, 4:11] = rng.random((5, 6, 7)) < 0.8
    return SceneRecord(
        images=rng.integers(0, 256, (5, HEIGHT, WIDTH, 3), dtype=np.uint8),
        coverage=masks.astype(np.uint8) * 255,
        cameras=some_cameras(),
        world_from_object=world_from_object,
        surface_points=rng.normal(size=(30, 3)),
        surface_normals=rng.normal(size=(30, 3)),
    )


@given(
    st.floats(1e-3, 1e3), st.floats(-3, 3), st.floats(-50, 50), st.sampled_from([np.float32, float])
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_matrices_take_the_world_to_pixels_and_depths(scale, turn, shift, dtype):
    cameras = some_cameras()
    world_from_object = similarity(scale, turn, shift * scale).astype(dtype)
    matrices = scene_matrices(cameras, world_from_object)
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pixel, depth = cameras.project(points)
    world = points.numpy() @ world_from_object[:3, :3].T + world_from_object[:3, 3]
    for view in range(len(cameras)):
        assert np.array_equal(matrices[f"scale_mat_{view}"], world_from_object)
        x, y, z, one = matrices[f"world_mat_{view}"] @ np.c_[world, np.ones(20)].T
        # float32 projections lose some 1e-5 of a pixel, and 50 times that far from the origin in
        # a world in float32; depths are in the world's units.
        np.testing.assert_allclose(np.stack([x / z, y / z], 1), pixel[view], atol=2e-3)
        np.testing.assert_allclose(z, scale * depth[view].numpy(), rtol=1e-4)
        np.testing.assert_array_equal(one, 1)


@pytest.mark.parametrize("scale, turn, shift", [(1, 0, 0), (0.1, 1.5, 0.3), (250, -2, 700)])
def test_a_scene_is_read_back_as_it_was_written(tmp_path, scale, turn, shift):
    written = record(similarity(scale, turn, shift))
    write_scene(tmp_path / "scene", written)
    views, names = read_scene(tmp_path / "scene", frame="sphere")
    assert names == [f"{view:03d}.png" for view in range(5)]
    assert np.array_equal(views.images.numpy(), written.images)
    assert np.array_equal(views.masks.numpy(), written.coverage > 0)
    # Files hold float64; what comes back is rounded to float32 once.
    close = dict(rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(views.cameras.intrinsics, written.cameras.intrinsics, **close)
    torch.testing.assert_close(
        views.cameras.object_from_camera, written.cameras.object_from_camera, **close
    )
    assert (views.cameras.height, views.cameras.width) == (HEIGHT, WIDTH)
    np.testing.assert_allclose(views.world_from_object, written.world_from_object, rtol=1e-6)
    with np.load(tmp_path / "scene" / "pointcloud.npz") as cloud:
        assert np.array_equal(cloud["points"], written.surface_points)
        assert np.array_equal(cloud["normals"], written.surface_normals)


def test_an_unknown_surface_has_no_file(tmp_path):
    unknown = replace(record(np.eye(4)), surface_points=None, surface_normals=None)
    write_scene(tmp_path / "scene", unknown)
    assert sorted(path.name for path in (tmp_path / "scene").iterdir()) == [
        "cameras.npz",
        "image",
        "mask",
    ]


def test_half_a_surface_is_refused():
    with pytest.raises(ValueError, match="give both or neither"):
        replace(record(np.eye(4)), surface_normals=None)


def test_an_older_scene_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "scene"
    write_scene(folder, record(np.eye(4)))
    (tmp_path / "scene.partial" / "image").mkdir(parents=True)
    (tmp_path / "scene.partial" / "image" / "left_over.png").touch()
    whole = record(np.eye(4))
    write_scene(
        folder,
        replace(
            whole,
            images=whole.images[:3],
            coverage=whole.coverage[:3],
            cameras=whole.cameras[slice(3)],
        ),
    )
    assert len(read_scene(folder, frame="sphere")[0]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


def test_an_interrupted_scene_is_not_there(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise OSError("disk full")

    monkeypatch.setattr(scene_writer, "scene_matrices", fail)
    with pytest.raises(OSError, match="disk full"):
        write_scene(tmp_path / "scene", record(np.eye(4)))
    assert not (tmp_path / "scene").exists()
