"""Collections of analytic spheres, read back with exact geometry."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from common.cameras import pixel_grid
from common.data.collection import (
    CollectionFolders,
    ObjectEntry,
    list_objects,
    read_input_images,
    read_occupancy_points,
    read_surface_points,
    read_views,
)
from tests.make_collection import (
    DISTANCE,
    FOCAL,
    camera_from_object,
    dvr_intrinsics,
    sphere_depth,
    sphere_radius,
    write_depth,
    write_tiny_collection,
)

FOLDERS = CollectionFolders()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_collection(
        tmp_path_factory.mktemp("collection"), views=5, size=24, categories=("chair", "lamp")
    )


@pytest.fixture
def entry(root):
    return list_objects(root, "train", ["chair"])[1]


def unproject(views, depth):
    """Object-frame points of all pixels with a depth, each view's own."""
    count, height, width = depth.shape
    pixel = pixel_grid(height, width).repeat(count, 1)
    view = torch.arange(count).repeat_interleave(height * width)
    flat = depth.reshape(-1)
    found = flat.isfinite()
    direction = views.cameras.unit_z_directions(view, pixel)[found]
    return views.cameras.centre[view[found]] + flat[found, None] * direction


class TestList:
    def test_every_category_in_order(self, root):
        entries = list_objects(root, "train", None)
        assert [(e.category, e.name) for e in entries] == [
            (category, f"sphere_{i}") for category in ("chair", "lamp") for i in range(3)
        ]
        assert all(e.folder == root / e.category / e.name for e in entries)

    def test_no_split_means_every_folder(self, root):
        assert len(list_objects(root, None, ["lamp"])) == 3

    def test_a_split_keeps_the_order_of_its_file(self, root, tmp_path):
        shutil.copytree(root, tmp_path / "copy")
        (tmp_path / "copy/chair/val.lst").write_text("sphere_2\n\nsphere_0")
        entries = list_objects(tmp_path / "copy", "val", ["chair"])
        assert [e.name for e in entries] == ["sphere_2", "sphere_0"]

    def test_names_come_from_metadata_and_select(self, root, tmp_path):
        shutil.copytree(root, tmp_path / "copy")
        text = "chair: {id: chair, name: 'seat,stool'}\n"
        (tmp_path / "copy/metadata.yaml").write_text(text)
        entries = list_objects(tmp_path / "copy", "train", ["seat"])
        assert {(e.category, e.category_name) for e in entries} == {("chair", "seat")}

    def test_without_metadata_a_category_goes_by_its_folder(self, root, tmp_path):
        shutil.copytree(root, tmp_path / "copy")
        (tmp_path / "copy/metadata.yaml").unlink()
        names = {e.category_name for e in list_objects(tmp_path / "copy", "train", None)}
        assert names == {"chair", "lamp"}


class TestViews:
    def test_depth_lies_on_the_sphere(self, entry):
        views = read_views(entry, FOLDERS, with_depth=True)
        points = unproject(views, views.depth)
        # float32 rounding of a depth near 2.
        assert (points.norm(dim=-1) - sphere_radius(1)).abs().max() < 2e-6
        assert torch.equal(views.depth.isfinite(), views.masks)
        assert views.masks.any() and not views.masks.all()

    def test_hull_depth_and_nothing_unasked_for(self, entry):
        views = read_views(entry, FOLDERS, with_hull_depth=True)
        assert views.depth is None and views.sparse is None
        exact = read_views(entry, FOLDERS, with_depth=True).depth
        found = views.masks
        # The writer subtracts 0.02 in float32.
        torch.testing.assert_close(views.hull_depth[found], exact[found] - 0.02, atol=1e-6, rtol=0)

    def test_cameras_are_the_written_ones(self, entry):
        cameras = read_views(entry, FOLDERS).cameras
        assert (cameras.height, cameras.width) == (24, 24)
        expected = np.stack([np.linalg.inv(camera_from_object(view, 5)) for view in range(5)])
        np.testing.assert_allclose(cameras.object_from_camera, expected, atol=1e-6)
        np.testing.assert_allclose(cameras.intrinsics[0], dvr_intrinsics(24), atol=1e-5)

    def test_without_masks_every_pixel_counts(self, entry):
        views = read_views(entry, FOLDERS, with_mask=False)
        assert views.masks.all()

    def test_chosen_and_ignored_views_count_files(self, entry):
        everything = read_views(entry, FOLDERS, with_depth=True)
        chosen = read_views(entry, FOLDERS, with_depth=True, views=[4, 1, 2], ignore_views=[1])
        assert torch.equal(chosen.images, everything.images[[4, 2]])
        assert torch.equal(chosen.depth, everything.depth[[4, 2]])
        assert torch.equal(chosen.cameras.centre, everything.cameras.centre[[4, 2]])
        selected = everything[[4, 2]]
        assert torch.equal(selected.masks, chosen.masks)
        assert torch.equal(selected.cameras.intrinsics, chosen.cameras.intrinsics)

    def test_resizing_moves_everything_together(self, entry):
        """Shrunk by 2, a new pixel's centre is a corner of old ones: its nearest depth is off by
        half an old pixel, so points leave the sphere by no more than that much slope."""
        views = read_views(entry, FOLDERS, with_depth=True, image_size=12)
        assert views.images.shape == (5, 12, 12, 3)
        assert views.masks.shape == views.depth.shape == (5, 12, 12)
        assert (views.cameras.height, views.cameras.width) == (12, 12)
        rays = views.cameras.rays(
            torch.arange(5).repeat_interleave(144), pixel_grid(12, 12).repeat(5, 1)
        )
        off_axis = torch.linalg.cross(rays.origin, rays.direction).norm(dim=-1)
        pixel = DISTANCE / views.cameras.intrinsics[0, 0, 0]  # one new pixel on the object
        sure = (off_axis - sphere_radius(1)).abs() > pixel
        exact = off_axis < sphere_radius(1)
        assert torch.equal(views.masks.reshape(-1)[sure], exact[sure])
        # The silhouette's area pins its place and size better than one pixel.
        assert abs(int(views.masks.sum()) - int(exact.sum())) <= 0.05 * int(exact.sum())

    def test_depths_that_mean_nothing_are_infinite(self, entry, tmp_path):
        shutil.copytree(entry.folder, tmp_path / "copy")
        depth = np.full((24, 24), 2.0, dtype=np.float32)
        depth[0, :5] = [np.inf, np.nan, 0, -1, 1e10]
        write_depth(tmp_path / "copy/depth/0000.exr", depth)
        copy = ObjectEntry("chair", "chair", "copy", tmp_path / "copy")
        read = read_views(copy, FOLDERS, with_depth=True, views=[0]).depth[0]
        assert torch.isinf(read[0, :5]).all()
        assert torch.isfinite(read).sum() == 24 * 24 - 5

    def test_folder_names_are_free_and_three_by_four_matrices_do(self, entry, tmp_path):
        shutil.copytree(entry.folder, tmp_path / "copy")
        (tmp_path / "copy/image").rename(tmp_path / "copy/rgb")
        with np.load(tmp_path / "copy/cameras.npz") as file:
            arrays = {k: v[:3] if "world" in k else v for k, v in file.items() if "scale" not in k}
        np.savez(tmp_path / "copy/cameras.npz", **arrays)
        copy = ObjectEntry("chair", "chair", "copy", tmp_path / "copy")
        views = read_views(copy, CollectionFolders(image="rgb"))
        assert torch.equal(
            views.cameras.object_from_camera, read_views(entry, FOLDERS).cameras.object_from_camera
        )
        assert torch.equal(views.world_from_object, torch.eye(4))

    def test_negated_projections_are_the_same_cameras(self, entry, tmp_path):
        """A homogeneous matrix means nothing by its sign."""
        shutil.copytree(entry.folder, tmp_path / "copy")
        with np.load(tmp_path / "copy/cameras.npz") as file:
            arrays = dict(file)
        arrays["world_mat_2"] = np.diag([-1, -1, -1, 1]) @ arrays["world_mat_2"]
        np.savez(tmp_path / "copy/cameras.npz", **arrays)
        copy = ObjectEntry("chair", "chair", "copy", tmp_path / "copy")
        torch.testing.assert_close(
            read_views(copy, FOLDERS).cameras.object_from_camera,
            read_views(entry, FOLDERS).cameras.object_from_camera,
            atol=1e-6,
            rtol=0,
        )


class TestMultiViewScan:
    """A DTU scan as DVR distributes it: projections in millimetres, a frame scaled and shifted."""

    SIZE, MILLIMETRES, SHIFT, RADIUS = 40, 250.0, np.array([30.0, -20.0, 600.0]), 0.4

    @pytest.fixture
    def scan(self, tmp_path):
        folder = tmp_path / "scan65" / "scan65"
        for name in ("image", "mask", "depth"):
            (folder / name).mkdir(parents=True)
        scale_mat = np.diag([self.MILLIMETRES] * 3 + [1.0])
        scale_mat[:3, 3] = self.SHIFT
        size = self.SIZE
        intrinsics = np.array([[1.5 * size, 0, 20.5], [0, 1.6 * size, 19.0], [0, 0, 1]])
        cameras = {}
        for view in range(4):
            pose = camera_from_object(view, 4)
            depth = sphere_depth(intrinsics, pose, self.RADIUS, size) * self.MILLIMETRES
            write_depth(folder / f"depth/{view:04d}.exr", depth)
            mask = np.isfinite(depth).astype(np.uint8) * 255
            Image.fromarray(mask).save(folder / f"mask/{view:03d}.png")
            Image.fromarray(mask).convert("RGB").save(folder / f"image/{view:06d}.png")
            extrinsics = pose[:3].copy()
            extrinsics[:, 3] = self.MILLIMETRES * pose[:3, 3] - pose[:3, :3] @ self.SHIFT
            cameras[f"world_mat_{view}"] = np.vstack([intrinsics @ extrinsics, [0, 0, 0, 1]])
            to_unit = 2 / (size - 1)
            cameras[f"camera_mat_{view}"] = np.array(
                [[to_unit, 0, -1, 0], [0, to_unit, -1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
            )
            cameras[f"scale_mat_{view}"] = scale_mat
        np.savez(folder / "cameras.npz", **cameras)
        return list_objects(tmp_path, None, None)[0], intrinsics

    def test_depth_comes_in_object_units(self, scan):
        entry, intrinsics = scan
        views = read_views(entry, FOLDERS, with_depth=True)
        np.testing.assert_allclose(views.cameras.intrinsics[0], intrinsics, atol=1e-4)
        points = unproject(views, views.depth)
        assert (points.norm(dim=-1) - self.RADIUS).abs().max() < 1e-5
        world = points @ views.world_from_object[:3, :3].T + views.world_from_object[:3, 3]
        distance = (world - torch.tensor(self.SHIFT, dtype=torch.float32)).norm(dim=-1)
        assert (distance - self.RADIUS * self.MILLIMETRES).abs().max() < 1e-2  # mm

    @pytest.mark.parametrize("as_indices", [False, True])
    def test_sparse_points_inside_the_hull(self, scan, as_indices):
        entry, _ = scan
        points = np.array([[0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.3], [0.4, 0, 0]])
        seen = [[True, True, False, True], [False, True, True, False], [True] * 4, [False] * 4]
        visibility = {
            f"visibility_{view:04d}": np.flatnonzero(row) if as_indices else np.array(row)
            for view, row in enumerate(seen)
        }
        np.savez(
            entry.folder / "pcl.npz",
            points=points * self.MILLIMETRES + self.SHIFT,
            is_in_visual_hull=np.array([True, False, True, True]),
            **visibility,
        )
        sparse = read_views(entry, FOLDERS, views=[1, 0]).sparse
        np.testing.assert_allclose(sparse.points, points[[0, 2, 3]], atol=1e-6)
        assert sparse.visibility.tolist() == [[False, True, False], [True, False, True]]


class TestTruth:
    def test_surface_points(self, entry):
        points, normals = read_surface_points(entry)
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), sphere_radius(1), atol=1e-6)
        np.testing.assert_allclose(points / sphere_radius(1), normals, atol=1e-6)

    def test_occupancy_points(self, entry):
        points, occupancies = read_occupancy_points(entry)
        assert np.array_equal(occupancies, np.linalg.norm(points, axis=1) < sphere_radius(1))

    def test_packed_occupancies(self, entry, tmp_path):
        points, occupancies = read_occupancy_points(entry)
        points, occupancies = points[:-3], occupancies[:-3]  # not a multiple of eight
        np.savez(
            tmp_path / "points.npz",
            points=points.astype(np.float16),
            occupancies=np.packbits(occupancies),
        )
        read = read_occupancy_points(ObjectEntry("chair", "chair", "packed", tmp_path))
        assert np.array_equal(read[1], occupancies)
        assert read[0].dtype == np.float32
        assert np.abs(read[0] - points).max() < 2.0**-12  # half precision below 0.5

    def test_no_truth_is_none(self, tmp_path):
        nothing = ObjectEntry("chair", "chair", "nothing", tmp_path)
        assert read_occupancy_points(nothing) is None
        assert read_surface_points(nothing) is None


def test_input_images_of_all_views(entry):
    images = read_input_images(entry, FOLDERS, 32)
    assert images.shape == (5, 32, 32, 3)
    assert images.dtype == torch.uint8


def test_the_writer_looks_from_the_documented_distance():
    assert FOCAL == pytest.approx(2.1875)
    centre = np.linalg.inv(camera_from_object(1, 5))[:3, 3]
    assert np.linalg.norm(centre) == pytest.approx(DISTANCE)
