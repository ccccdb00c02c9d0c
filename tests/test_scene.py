"""Scenes of every format, against an analytic sphere and, where they are, real photographs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.cameras import pixel_grid
from common.data.hull import on_masks
from common.data.normalisation import hull_sphere, look_at_centre
from common.data.scene import read_scene, scene_kind
from tests.make_collection import (
    DISTANCE,
    SCENE_RADIUS,
    SCENE_SCALE,
    SCENE_SHIFT,
    TRANSFORMS_CENTRE,
    TRANSFORMS_RADIUS,
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


class TestTransforms:
    def test_alpha_is_the_silhouette_and_shows_white(self, tmp_path):
        views, names = read_scene(write_tiny_transforms(tmp_path / "lego"), frame="sphere")
        exact = silhouette_of_sphere(views, TRANSFORMS_CENTRE, TRANSFORMS_RADIUS)
        assert (exact != views.masks).sum() <= 2
        assert (views.images[~views.masks] == 255).all()
        assert names == [f"r_{view}.png" for view in range(8)]

    @pytest.mark.parametrize(("frame", "size"), [("sphere", 1.0), ("cube", 0.5)])
    def test_the_frame_contains_the_object_snugly(self, tmp_path, frame, size):
        views, _ = read_scene(write_tiny_transforms(tmp_path / "lego"), frame=frame)
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
        views, _ = read_scene(write_tiny_scene(tmp_path / "scene"), frame="sphere")
        centre, radius = hull_sphere(views.masks, views.cameras)
        assert centre.norm() + SCENE_RADIUS < radius < 2 * SCENE_RADIUS


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
