"""DVR's folder of one object, by the convention of its paper's data."""

import numpy as np
import pytest
from PIL import Image

from common.data.collection import CollectionFolders, ObjectEntry, read_views
from common.errors import UserError
from common.scenes.formats.dvr_dtu import holds_dvr_dtu, read_dvr_dtu
from tests.make_collection import write_tiny_object

VIEWS, SIZE = 4, 16


@pytest.fixture
def folder(tmp_path):
    write_tiny_object(tmp_path / "scan", 0.3, VIEWS, SIZE, seed=0)
    return tmp_path / "scan"


def edited(folder, **changes):
    """The folder's cameras with some arrays replaced; None takes one away."""
    with np.load(folder / "cameras.npz") as file:
        arrays = {**file, **changes}
    kept = {key: array for key, array in arrays.items() if array is not None}
    np.savez(folder / "cameras.npz", **kept)


def test_pixels_by_definition(folder):
    assert holds_dvr_dtu(folder)
    capture = read_dvr_dtu(folder)
    assert len(capture.photographs) == VIEWS
    points = np.c_[np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3)), np.ones(20)]
    with np.load(folder / "cameras.npz") as file:
        for view, projection in enumerate(capture.projections):
            matrix = file[f"camera_mat_{view}"] @ file[f"world_mat_{view}"]
            x, y, depth = (points @ matrix.T).T[:3]
            seen = points @ projection.T
            # -1 and 1 are the first and last pixel's centre.
            expected = (np.stack([x / depth, y / depth], -1) + 1) / 2 * (SIZE - 1)
            assert seen[:, :2] / seen[:, 2:] == pytest.approx(expected, abs=1e-9)
    first = capture.photographs[0]
    assert first.size == (SIZE, SIZE)
    assert first.image.parent == folder / "image" and first.mask.parent == folder / "mask"


def test_the_same_cameras_as_of_a_collection(folder):
    capture = read_dvr_dtu(folder)
    views = read_views(ObjectEntry("", "", "scan", folder), CollectionFolders())
    object_from_world = np.linalg.inv(views.world_from_object.double().numpy())
    for view, projection in enumerate(capture.projections):
        pose = np.linalg.inv(views.cameras.object_from_camera[view].double().numpy())
        k = views.cameras.intrinsics[view].double().numpy()
        theirs = (k @ pose[:3]) @ object_from_world
        ratio = projection[2, :3] @ theirs[2, :3] / (theirs[2, :3] @ theirs[2, :3])
        # The collection's are float32.
        assert projection == pytest.approx(ratio * theirs, rel=1e-5, abs=1e-4)


def test_the_sphere_contains_the_cube_of_scale_mat(folder):
    scale = np.diag([2.0, 2, 2, 1])
    scale[:3, 3] = [5, 6, 7]
    edited(folder, **{f"scale_mat_{view}": scale for view in range(VIEWS)})
    sphere = read_dvr_dtu(folder).world_from_sphere
    corner = scale @ [0.5, -0.5, 0.5, 1]
    assert np.linalg.norm((np.linalg.inv(sphere) @ corner)[:3]) == pytest.approx(1)
    assert sphere[:3, 3].tolist() == [5, 6, 7]


def test_without_masks_and_scale(folder):
    for file in (folder / "mask").iterdir():
        file.unlink()
    (folder / "mask").rmdir()
    edited(folder, **{f"scale_mat_{view}": None for view in range(VIEWS)})
    capture = read_dvr_dtu(folder)
    assert all(photograph.mask is None for photograph in capture.photographs)
    assert capture.world_from_sphere == pytest.approx(np.diag([0.75**0.5] * 3 + [1]))
    assert capture.points is None


class TestSparsePoints:
    points = np.arange(15, dtype=np.float32).reshape(5, 3)

    def write(self, folder, **changes):
        seen = {f"visibility_{view:04d}": np.array([view, 4]) for view in range(VIEWS)}
        arrays = {"points": self.points} | seen | changes
        np.savez(folder / "pcl.npz", **{k: v for k, v in arrays.items() if v is not None})

    def test_visibility_as_indices_or_as_a_mask(self, folder):
        self.write(folder, visibility_0001=np.array([True, False, False, True, False]))
        sparse = read_dvr_dtu(folder).points
        assert np.array_equal(sparse.points, self.points)
        assert [np.flatnonzero(row).tolist() for row in sparse.visibility] == [
            [0, 4],
            [0, 3],
            [2, 4],
            [3, 4],
        ]

    def test_only_those_inside_the_hull(self, folder):
        self.write(folder, is_in_visual_hull=np.array([1, 0, 0, 0, 1]))
        sparse = read_dvr_dtu(folder).points
        assert np.array_equal(sparse.points, self.points[[0, 4]])
        assert sparse.visibility.sum(axis=1).tolist() == [2, 1, 1, 1]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"points": None}, "points"),
            ({"points": np.zeros((5, 2))}, "expected floats"),
            ({"points": np.full((5, 3), np.nan)}, "NaN, infinite or huge"),
            ({"visibility_0002": None}, "visibility_0002"),
            ({"visibility_0002": np.array([5])}, "does not fit"),
            ({"visibility_0002": np.array([0.5])}, "does not fit"),
            ({"is_in_visual_hull": np.ones(4)}, "does not fit"),
            ({"is_in_visual_hull": np.ones((5, 3))}, "does not fit"),
        ],
    )
    def test_refused(self, folder, changes, message):
        self.write(folder, **changes)
        with pytest.raises(UserError, match=message) as refused:
            read_dvr_dtu(folder)
        assert "pcl.npz" in str(refused.value)


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda f: edited(f, world_mat_2=None), "world_mat_2 is missing"),
        (lambda f: edited(f, world_mat_2=np.zeros((4, 4))), "not 0 0 0 1"),
        (lambda f: edited(f, world_mat_2=np.diag([0, 0, 0, 1.0])), "view 2: the camera cannot"),
        (lambda f: edited(f, world_mat_2=np.full((4, 4), np.nan)), "world_mat_2 has NaN"),
        (lambda f: edited(f, camera_mat_2=np.diag([1.0, 9, 1, 1])), "view 2: no pinhole camera"),
        (lambda f: edited(f, scale_mat_2=np.diag([9.0, 9, 9, 1])), "scale_mat differs"),
        (lambda f: next((f / "mask").iterdir()).unlink(), "every view needs one of each"),
        (lambda f: Image.new("L", (9, 9)).save(f / "image" / "9.png"), "every view needs one"),
        (lambda f: (f / "image").rename(f / "i"), "image: no such folder"),
    ],
)
def test_broken_folders_are_refused(folder, breaks, message):
    breaks(folder)
    with pytest.raises(UserError, match=message):
        read_dvr_dtu(folder)


def test_an_idr_folder_is_another_format(folder):
    edited(folder, **{f"camera_mat_{view}": None for view in range(VIEWS)})
    assert not holds_dvr_dtu(folder)
    assert not holds_dvr_dtu(folder / "image")
