"""What is written is what the reader reads."""

import numpy as np
import pytest
import torch
import yaml

from common.cameras import Cameras, look_at
from common.data.collection import (
    CollectionFolders,
    list_objects,
    read_occupancy_points,
    read_surface_points,
    read_views,
)
from common.data.collection_writer import (
    ObjectRecord,
    camera_matrices,
    write_metadata,
    write_object,
    write_splits,
)


@pytest.fixture
def record() -> ObjectRecord:
    rng = np.random.default_rng(0)
    centre = torch.tensor([[0.0, 0.5, 2.0], [2.0, 0.3, 0.1]])
    pose = look_at(centre, torch.zeros(2, 3), torch.tensor([0.0, 1.0, 0.0]))
    intrinsics = torch.tensor([[20.0, 0.0, 9.0], [0.0, 22.0, 7.5], [0.0, 0.0, 1.0]])
    masks = np.zeros((2, 16, 20), dtype=bool)
    masks[:, 4:12, 5:15] = rng.random((2, 8, 10)) < 0.8
    depth = np.where(masks, rng.uniform(1.5, 2.5, masks.shape), np.inf).astype(np.float32)
    return ObjectRecord(
        images=rng.integers(0, 256, (2, 16, 20, 3)).astype(np.uint8),
        masks=masks,
        depth=depth,
        hull_depth=depth - np.float32(0.01),
        cameras=Cameras(intrinsics.repeat(2, 1, 1), pose, 16, 20),
        surface_points=rng.uniform(-0.5, 0.5, (50, 3)).astype(np.float32),
        surface_normals=np.tile(np.float32([0, 1, 0]), (50, 1)),
        points=rng.uniform(-0.5, 0.5, (70, 3)).astype(np.float16),
        occupancies=rng.random(70) < 0.3,
    )


def test_round_trip(tmp_path, record):
    write_object(tmp_path / "chair" / "chair_0000", record)
    write_splits(tmp_path, "chair", {"train": [], "test": ["chair_0000"]})
    write_metadata(tmp_path, {"chair": "armchair"})
    (entry,) = list_objects(tmp_path, "test", ["armchair"])
    views = read_views(entry, CollectionFolders(), with_depth=True, with_hull_depth=True)
    assert np.array_equal(views.images.numpy(), record.images)
    assert np.array_equal(views.masks.numpy(), record.masks)
    # The reader finds the cameras' scale again from float32 matrices: 1 to about 1e-7.
    np.testing.assert_allclose(views.depth.numpy(), record.depth, rtol=1e-6)
    np.testing.assert_allclose(views.hull_depth.numpy(), record.hull_depth, rtol=1e-6)
    torch.testing.assert_close(
        views.cameras.intrinsics, record.cameras.intrinsics, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        views.cameras.object_from_camera, record.cameras.object_from_camera, atol=1e-5, rtol=0
    )
    points, occupancies = read_occupancy_points(entry)
    assert np.array_equal(points, record.points.astype(np.float32))
    assert np.array_equal(occupancies, record.occupancies)
    surface, normals = read_surface_points(entry)
    assert np.array_equal(surface, record.surface_points)
    assert np.array_equal(normals, record.surface_normals)


def test_camera_matrices_map_pixel_centres_to_the_ends_of_the_unit_interval(record):
    matrices = camera_matrices(record.cameras)
    point = np.array([0.1, -0.2, 0.3, 1.0])
    image = matrices["camera_mat_1"] @ matrices["world_mat_1"] @ matrices["scale_mat_1"] @ point
    unit = image[:2] / image[2]
    pixel, _ = record.cameras.project(torch.tensor([[0.1, -0.2, 0.3]]))
    # -1 is the centre of pixel 0 and 1 that of the last, 19 across and 15 down.
    expected = pixel[1, 0].numpy() / np.array([19, 15]) * 2 - 1
    np.testing.assert_allclose(unit, expected, atol=1e-5)


def test_writing_again_replaces_and_leaves_nothing_beside(tmp_path, record):
    folder = tmp_path / "chair_0000"
    write_object(folder, record)
    (folder / "image" / "0007.png").write_bytes(b"left over")
    (tmp_path / ".chair_0000.partial").mkdir()  # an interrupted attempt
    write_object(folder, record)
    assert sorted(file.name for file in (folder / "image").iterdir()) == ["0000.png", "0001.png"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["chair_0000"]


def test_an_object_that_cannot_be_written_leaves_no_folder(tmp_path, record, monkeypatch):
    def full_disk(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_object(tmp_path / "chair_0000", record)
    assert not (tmp_path / "chair_0000").exists()


def test_lists_and_names(tmp_path):
    write_splits(tmp_path, "lamp", {"train": ["lamp_0001", "lamp_0002"], "val": []})
    write_metadata(tmp_path, {"lamp": "lamp"})
    assert (tmp_path / "lamp" / "train.lst").read_text() == "lamp_0001\nlamp_0002\n"
    assert (tmp_path / "lamp" / "val.lst").read_text() == ""
    assert yaml.safe_load((tmp_path / "metadata.yaml").read_text()) == {
        "lamp": {"id": "lamp", "name": "lamp"}
    }
