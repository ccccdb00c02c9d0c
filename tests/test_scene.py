"""Scenes of every format, against an analytic sphere and, where they are, real photographs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cameras import Cameras, pixel_grid
from common.data.hull import on_masks
from common.data.normalisation import hull_sphere, look_at_centre
from common.errors import UserError
from common.scenes.scene import read_initial_cameras, read_scene, read_scene_truth, scene_kind
from tests.make_collection import (
    DISTANCE,
    SCENE_RADIUS,
    SCENE_SCALE,
    SCENE_SHIFT,
    TRANSFORMS_CENTRE,
    TRANSFORMS_RADIUS,
    camera_from_object,
    write_tiny_collection,
    write_tiny_scene,
    write_tiny_transforms,
)

REAL = Path(__file__).parents[2] / "shared" / "data"


def to_world(views, points):
    return points @ views.world_from_object[:3, :3].T + views.world_from_object[:3, 3]


def silhouette_of_sphere(views, centre, radius):
    """Exactly which pixels' rays meet a sphere given in world units."""
    count, height, width = views.masks.shape
    view = torch.arange(count).repeat_interleave(height * width)
    rays = views.cameras.rays(view, pixel_grid(height, width).repeat(count, 1))
    origin = to_world(views, rays.origin)
    through = to_world(views, rays.at(torch.ones(len(view))))
    direction = torch.nn.functional.normalize(through - origin, dim=-1)
    centre = torch.tensor(centre, dtype=torch.float32)
    off_axis = torch.linalg.cross(centre - origin, direction).norm(dim=-1)
    return (off_axis < radius).reshape(count, height, width)


@pytest.mark.parametrize(("frame", "factor"), [("sphere", 1.0), ("cube", 0.5)])
class TestIdr:
    def test_masks_are_the_spheres_silhouettes(self, tmp_path, frame, factor):
        views, names = read_scene(write_tiny_scene(tmp_path / "scene"), frame=frame)
        exact = silhouette_of_sphere(views, SCENE_SHIFT, SCENE_RADIUS * SCENE_SCALE)
        # Rounding may decide a pixel whose ray is tangent; half a pixel of shift would flip dozens.
        assert (exact != views.masks).sum() <= 2
        assert views.masks.any()
        assert names == [f"{view:06d}.png" for view in range(6)]

    def test_frame(self, tmp_path, frame, factor):
        views, _ = read_scene(write_tiny_scene(tmp_path / "scene"), frame=frame)
        assert views.world_from_object[0, 0] == pytest.approx(SCENE_SCALE / factor)
        distance = views.cameras.centre.norm(dim=-1)
        assert torch.allclose(distance, torch.tensor(2 * DISTANCE * factor), atol=1e-5)

    def test_cameras_sphere_and_rgb_are_known_names(self, tmp_path, frame, factor):
        scene = write_tiny_scene(tmp_path / "scene")
        expected, _ = read_scene(scene, frame=frame)
        (scene / "cameras.npz").rename(scene / "cameras_sphere.npz")
        (scene / "image").rename(scene / "rgb")
        with np.load(scene / "cameras_sphere.npz") as file:
            arrays = {k: v[:3] if "world" in k else v for k, v in file.items()}
        np.savez(scene / "cameras_sphere.npz", **arrays)
        views, _ = read_scene(scene, frame=frame)
        assert torch.equal(views.cameras.object_from_camera, expected.cameras.object_from_camera)
        assert torch.equal(views.images, expected.images)


def edit_cameras(scene, edit, name="cameras.npz"):
    """Rewrite a scene's cameras: ``edit`` turns the dictionary of its arrays into another."""
    with np.load(scene / "cameras.npz") as file:
        arrays = dict(file)
    np.savez(scene / name, **edit(arrays))


def without_scale(arrays):
    return {key: value for key, value in arrays.items() if not key.startswith("scale_mat")}


class TestWithoutScaleMat:
    @pytest.mark.parametrize(("frame", "size"), [("sphere", 1.0), ("cube", 0.5)])
    def test_the_frame_is_put_around_the_object(self, tmp_path, frame, size):
        scene = write_tiny_scene(tmp_path / "scene", size=96)
        edit_cameras(scene, without_scale)
        views, _ = read_scene(scene, frame=frame)
        exact = silhouette_of_sphere(views, SCENE_SHIFT, SCENE_RADIUS * SCENE_SCALE)
        assert (exact != views.masks).sum() <= 2
        scale, centre = float(views.world_from_object[0, 0]), views.world_from_object[:3, 3]
        off_centre = np.linalg.norm(SCENE_SHIFT - centre.numpy())
        farthest = (off_centre + SCENE_RADIUS * SCENE_SCALE) / scale
        assert 0.5 * size < farthest < size

    @settings(max_examples=12, deadline=None)
    @given(count=st.integers(3, 7), size=st.integers(20, 70))
    def test_any_number_of_views_from_three_contains_the_hull(self, tmp_path_factory, count, size):
        scene = write_tiny_scene(tmp_path_factory.mktemp("few") / "scene", count, size)
        edit_cameras(scene, without_scale)
        views, _ = read_scene(scene, frame="sphere")
        scale, centre = float(views.world_from_object[0, 0]), views.world_from_object[:3, 3]
        off_centre = np.linalg.norm(SCENE_SHIFT - centre.numpy())
        assert off_centre + SCENE_RADIUS * SCENE_SCALE < scale
        # Points that every mask holds, sought up to twice as far out.
        steps = torch.linspace(-2, 2, 81)
        grid = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        hull = grid[on_masks(grid, views.masks, views.cameras, 1.0)]
        assert 100 < len(hull) and hull.norm(dim=-1).max() < 1

    def test_an_explicit_identity_is_a_scale_mat(self, tmp_path):
        scene = write_tiny_scene(tmp_path / "scene")

        def normalised(arrays):
            worlds = {k: v @ arrays["scale_mat_0"] for k, v in arrays.items() if "world" in k}
            return worlds | {k: np.eye(4) for k in arrays if "scale" in k}

        edit_cameras(scene, normalised)
        views, _ = read_scene(scene, frame="sphere")
        assert torch.equal(views.world_from_object, torch.eye(4))


def turned(world_mat, angle):
    """A projection of a world that was first turned about its x axis."""
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return world_mat @ turn


class TestInitialCameras:
    def rough_file(self, scene):
        """Cameras turned about the world's x axis, of half the focal length, in another frame."""

        def rough(arrays):
            shrink = np.diag([0.5, 0.5, 1, 1])
            return {
                key: np.diag([7.0, 7, 7, 1]) if "scale" in key else shrink @ turned(value, 0.02)
                for key, value in arrays.items()
            }

        edit_cameras(scene, rough, "cameras_linear_init.npz")

    @pytest.mark.parametrize("frame", ["sphere", "cube"])
    @pytest.mark.parametrize("with_scale", [True, False])
    def test_poses_are_the_files_in_the_scenes_own_frame(self, tmp_path, frame, with_scale):
        scene = write_tiny_scene(tmp_path / "scene")
        self.rough_file(scene)
        if not with_scale:
            edit_cameras(scene, without_scale)
        views, _ = read_scene(scene, frame=frame)
        rough = read_initial_cameras(scene, "cameras_linear_init.npz", views)
        assert torch.equal(rough.intrinsics, views.cameras.intrinsics)
        assert (rough.height, rough.width) == (24, 24)
        # P T sees from T^-1 c, along T^-1 of its directions.
        back = torch.from_numpy(np.linalg.inv(turned(np.eye(4), 0.02))).float()[:3, :3]
        centre = to_world(views, views.cameras.centre) @ back.T
        # Float32 at a distance of some 20 world units.
        torch.testing.assert_close(to_world(views, rough.centre), centre, atol=2e-5, rtol=0)
        pose, exact = rough.object_from_camera, views.cameras.object_from_camera
        torch.testing.assert_close(pose[:, :3, :3], back @ exact[:, :3, :3], atol=2e-6, rtol=0)

    def test_the_scenes_own_file_changes_nothing(self, tmp_path):
        scene = write_tiny_scene(tmp_path / "scene")
        views, _ = read_scene(scene, frame="sphere")
        same = read_initial_cameras(scene, "cameras.npz", views)
        torch.testing.assert_close(
            same.object_from_camera, views.cameras.object_from_camera, atol=2e-6, rtol=0
        )

    def test_errors_name_the_file(self, tmp_path):
        scene = write_tiny_scene(tmp_path / "scene")
        views, _ = read_scene(scene, frame="sphere")
        with pytest.raises(UserError, match=r"rough\.npz: no such file"):
            read_initial_cameras(scene, "rough.npz", views)
        edit_cameras(scene, lambda a: {k: v for k, v in a.items() if "_5" not in k}, "rough.npz")
        with pytest.raises(UserError, match=r"rough\.npz: cameras of 5 views for 6 images"):
            read_initial_cameras(scene, "rough.npz", views)
        backwards = np.diag([-1.0, 1, -1, 1])
        edit_cameras(scene, lambda a: a | {"world_mat_2": backwards @ a["world_mat_2"]}, "away.npz")
        with pytest.raises(UserError, match=r"away\.npz: view 2: the object lies behind"):
            read_initial_cameras(scene, "away.npz", views)


class TestTruth:
    def test_points_and_normals_are_as_in_the_file(self, tmp_path):
        scene = write_tiny_scene(tmp_path / "scene")
        assert read_scene_truth(scene) is None
        normals = np.eye(3)
        points = SCENE_SHIFT + SCENE_RADIUS * SCENE_SCALE * normals
        np.savez(scene / "pointcloud.npz", points=points, normals=normals)
        truth = read_scene_truth(scene)
        assert truth[0].dtype == truth[1].dtype == np.float64
        np.testing.assert_allclose(truth[0], points, rtol=1e-6)
        np.testing.assert_array_equal(truth[1], normals)

    def test_a_damaged_file_is_refused(self, tmp_path):
        scene = write_tiny_scene(tmp_path / "scene")
        np.savez(scene / "pointcloud.npz", points=np.ones((5, 3)), normals=np.ones((4, 3)))
        with pytest.raises(UserError, match=r"pointcloud\.npz: points of shape \(5, 3\)"):
            read_scene_truth(scene)


class TestTransforms:
    def test_alpha_is_the_silhouette_and_shows_white(self, tmp_path):
        views, names = read_scene(write_tiny_transforms(tmp_path / "lego"), frame="sphere")
        exact = silhouette_of_sphere(views, TRANSFORMS_CENTRE, TRANSFORMS_RADIUS)
        assert (exact != views.masks).sum() <= 2
        assert (views.images[~views.masks] == 255).all()
        assert names == [f"r_{view}.png" for view in range(8)]

    @pytest.mark.parametrize(("frame", "size"), [("sphere", 1.0), ("cube", 0.5)])
    def test_the_frame_contains_the_object_snugly(self, tmp_path, frame, size):
        scene = write_tiny_transforms(tmp_path / "lego", views=15, size=96)
        views, _ = read_scene(scene, frame=frame)
        scale = float(views.world_from_object[0, 0])
        centre = views.world_from_object[:3, 3].numpy()
        farthest = np.linalg.norm(TRANSFORMS_CENTRE - centre) + TRANSFORMS_RADIUS
        # Contained, and by a sphere of no more than the hull's corners and the margin ask for.
        assert 0.55 * size < farthest / scale < size

    def test_keys_of_a_frame_come_before_the_documents(self, tmp_path):
        scene = write_tiny_transforms(tmp_path / "lego")
        expected, _ = read_scene(scene, frame="sphere")
        document = json.loads((scene / "transforms_train.json").read_text())
        focal = 24 / np.tan(0.5 * document.pop("camera_angle_x"))
        document |= {"fl_x": 1.0, "cx": 48.0, "cy": 48.0, "w": 96, "h": 96, "k1": 0.0}
        for entry in document["frames"]:
            entry["fl_x"] = 2 * focal  # of an image twice as large as the one there is
        (scene / "transforms_train.json").rename(scene / "transforms.json")
        (scene / "transforms.json").write_text(json.dumps(document))
        views, _ = read_scene(scene, frame="sphere")
        torch.testing.assert_close(views.cameras.intrinsics, expected.cameras.intrinsics)


class TestNormalisation:
    def test_cameras_look_at_the_centre(self, tmp_path):
        views, _ = read_scene(write_tiny_scene(tmp_path / "scene"), frame="sphere")
        assert look_at_centre(views.cameras).norm() < 1e-5

    def test_hull_contains_the_sphere_and_little_else(self, tmp_path):
        scene = write_tiny_scene(tmp_path / "scene", views=24, size=64)
        views, _ = read_scene(scene, frame="sphere")
        steps = torch.linspace(-1, 1, 21)
        points = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        inside = on_masks(points, views.masks, views.cameras, 0.5)
        distance = points.norm(dim=-1)
        pixel = 2 * DISTANCE / float(views.cameras.intrinsics[0, 0, 0])
        assert inside[distance < SCENE_RADIUS - pixel].all()
        # Cameras on a ring leave caps above and below it: at most 1 / cos(elevation) of the radius
        # where a tangent cone from 17 degrees ends, and perspective adds to it.
        assert not inside[distance > 1.6 * SCENE_RADIUS].any()

    def test_hull_sphere_contains_the_object(self, tmp_path):
        views, _ = read_scene(write_tiny_scene(tmp_path / "scene", size=96), frame="sphere")
        centre, radius = hull_sphere(views.masks, views.cameras)
        assert centre.norm() + SCENE_RADIUS < radius < 2 * SCENE_RADIUS

    @pytest.mark.parametrize("views", [3, 5, 16])
    def test_hull_sphere_contains_a_rod_that_slips_between_the_nodes_of_a_grid(self, views):
        # One pixel wide, a sixth of a cell of a first grid that reaches to the cameras.
        size, half = 96, 47.5
        pose = np.stack([np.linalg.inv(camera_from_object(view, views)) for view in range(views)])
        pose[:, :3, 3] *= 2
        intrinsics = torch.tensor([[150.0, 0, half], [0, 150.0, half], [0, 0, 1]])
        cameras = Cameras(
            intrinsics.expand(views, 3, 3).clone(), torch.from_numpy(pose).float(), size, size
        )
        ends = torch.tensor([[0.6, -0.5, 0.4], [-0.55, 0.62, -0.37]])
        share = torch.linspace(0, 1, 4000)[:, None]
        rod = ends[0] * (1 - share) + ends[1] * share
        pixel, _ = cameras.project(rod)
        masks = torch.zeros(views, size, size, dtype=torch.bool)
        for view in range(views):
            column, row = pixel[view].round().long().unbind(-1)
            masks[view, row, column] = True
        centre, radius = hull_sphere(masks, cameras)
        assert (ends - centre).norm(dim=-1).max() < radius < 1.4 * ends.norm(dim=-1).max()


class TestKind:
    def test_each_is_recognised(self, tmp_path):
        assert scene_kind(write_tiny_scene(tmp_path / "scene")) == "idr"
        assert scene_kind(write_tiny_transforms(tmp_path / "lego")) == "transforms"
        assert scene_kind(write_tiny_collection(tmp_path / "collection", objects=1)) == "collection"

    def test_a_collection_without_splits(self, tmp_path):
        root = write_tiny_collection(tmp_path / "collection", objects=1)
        for file in root.glob("*/*.lst"):
            file.unlink()
        assert scene_kind(root) == "collection"


@pytest.mark.parametrize(
    ("name", "views", "least"),
    [
        # Real silhouettes and cameras agree to a voxel of the coarse grid, about two pixels of an
        # outline 100 to 200 pixels across; the bricks' thin parts are finer than a voxel.
        ("dtu_scan65_400x300", 49, 0.9),
        ("middlebury_templeSparseRing_320x240", 16, 0.9),
        ("nerf_synthetic_lego_200", 50, 0.85),
    ],
)
def test_real_masks_and_cameras_agree(name, views, least):
    if not (REAL / name).is_dir():
        pytest.skip(f"needs the photographs in {REAL / name}")
    scene, names = read_scene(REAL / name, frame="sphere")
    assert len(scene) == len(names) == views
    resolution = 48
    steps = torch.linspace(-1, 1, resolution)
    points = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    hull = points[on_masks(points, scene.masks, scene.cameras, 0.5)]
    width = float(steps[1] - steps[0])
    scores = [silhouette_iou(scene, view, hull, width) for view in range(0, views, 5)]
    assert np.mean(scores) > least


def silhouette_iou(scene, view, voxels, width):
    """IoU of a mask and of voxels drawn as squares as wide as they look from that camera."""
    cameras = scene.cameras[view : view + 1]
    pixel, z = cameras.project(voxels)
    height, columns = scene.masks.shape[1:]
    half = (0.5 * width * cameras.intrinsics[0, 0, 0] / z[0]).round().long()
    drawn = torch.zeros(height, columns, dtype=torch.bool)
    for dy in range(-int(half.max()), int(half.max()) + 1):
        for dx in range(-int(half.max()), int(half.max()) + 1):
            x, y = (pixel[0].round().long() + torch.tensor([dx, dy])).unbind(dim=-1)
            in_image = (x >= 0) & (x < columns) & (y >= 0) & (y < height)
            keep = in_image & (half >= max(abs(dx), abs(dy)))
            drawn[y[keep], x[keep]] = True
    mask = scene.masks[view]
    return float((drawn & mask).sum() / (drawn | mask).sum())
