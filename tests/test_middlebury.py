"""Middlebury folders of an analytic sphere, and of real photographs where they are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from common.scenes.scene import read_scene, scene_kind
from tests.make_collection import camera_from_object, paint, sphere_depth

REAL = Path(__file__).parents[2] / "shared" / "data" / "middlebury_templeSparseRing_320x240"
CENTRE, RADIUS = np.array([0.3, -0.2, 0.5]), 0.06  # world units; the benchmark's are metres
DISTANCE = 0.6
SIZE = 48
INTRINSICS = np.array([[100.0, 0.4, 23.1], [0, 102.0, 24.2], [0, 0, 1]])  # skew, off centre


def parameters(name, intrinsics, rotation, shift):
    numbers = [*intrinsics.ravel(), *rotation.ravel(), *shift]
    return " ".join([name, *(f"{number:.12f}" for number in numbers)])


def write_tiny_middlebury(root: Path, masks: str = "folder", views: int = 7) -> Path:
    """A sphere's pictures; ``masks`` in a "folder", "alpha" or in no place. Returns root."""
    root.mkdir()
    (root / "mask").mkdir() if masks == "folder" else None
    lines = [str(views)]
    for view in range(views):
        pose = camera_from_object(view, views)
        pose[:3, 3] *= DISTANCE / 2
        depth = sphere_depth(INTRINSICS, pose, RADIUS, SIZE)
        mask = np.isfinite(depth).astype(np.uint8)[..., None] * 255
        picture = paint(2 + (depth - DISTANCE) / RADIUS)
        if masks == "alpha":
            picture = np.concatenate([picture, mask], axis=-1)
        if masks == "folder":
            Image.fromarray(mask[..., 0]).save(root / "mask" / f"{view:02d}.png")
        name = f"ball{view + 1:04d}.png"
        Image.fromarray(picture).save(root / name)
        rotation = pose[:3, :3]
        lines.append(parameters(name, INTRINSICS, rotation, pose[:3, 3] - rotation @ CENTRE))
    (root / "ball_par.txt").write_text("\n".join(lines) + "\n")
    return root


def pixels_of_sphere(views):
    """Where the sphere's centre is seen, and masks' centroids."""
    scale = float(views.world_from_object[0, 0])
    centre = (torch.from_numpy(CENTRE).float() - views.world_from_object[:3, 3]) / scale
    pixel, z = views.cameras.project(centre[None])
    centroids = [mask.nonzero().float().mean(dim=0).flip(0) for mask in views.masks]
    return pixel[:, 0], z[:, 0] * scale, torch.stack(centroids)


@pytest.mark.parametrize("masks", ["folder", "alpha"])
@pytest.mark.parametrize(("frame", "size"), [("sphere", 1.0), ("cube", 0.5)])
def test_cameras_masks_and_frame_agree(tmp_path, masks, frame, size):
    scene = write_tiny_middlebury(tmp_path / "ball", masks)
    assert scene_kind(scene) == "middlebury"
    views, names = read_scene(scene, frame=frame)
    assert names == [f"ball{view:04d}.png" for view in range(1, 8)]
    intrinsics = torch.from_numpy(INTRINSICS).float().expand(7, 3, 3)
    torch.testing.assert_close(views.cameras.intrinsics, intrinsics, atol=1e-3, rtol=1e-5)
    pixel, z, centroid = pixels_of_sphere(views)
    torch.testing.assert_close(z, torch.full((7,), DISTANCE), atol=1e-5, rtol=0)
    # A disc of some 300 pixels has its centroid within a tenth of a pixel; perspective shifts it
    # by less. Half a pixel of another convention would show.
    torch.testing.assert_close(pixel, centroid, atol=0.2, rtol=0)
    off_centre = np.linalg.norm(CENTRE - views.world_from_object[:3, 3].numpy())
    farthest = (off_centre + RADIUS) / float(views.world_from_object[0, 0])
    assert 0.5 * size < farthest < size


def test_masks_named_like_the_images_pair_by_name_whatever_the_order(tmp_path):
    scene = write_tiny_middlebury(tmp_path / "ball")
    expected, names = read_scene(scene, frame="sphere")
    for view in range(7):
        (scene / "mask" / f"{view:02d}.png").rename(scene / "mask" / f"ball{view + 1:04d}.png")
    count, *lines = (scene / "ball_par.txt").read_text().split("\n")[:-1]
    (scene / "ball_par.txt").write_text("\n".join([count, *reversed(lines)]))
    (scene / "mask").rename(scene / "masks")
    views, reversed_names = read_scene(scene, frame="sphere")
    assert reversed_names == names[::-1]
    assert torch.equal(views.masks, expected.masks.flip(0))
    assert torch.equal(views.images, expected.images.flip(0))


def test_pictures_without_masks_are_refused_with_a_remedy(tmp_path):
    scene = write_tiny_middlebury(tmp_path / "ball")
    (scene / "mask").rename(scene / "m")
    with pytest.raises(UserError, match="ball0001.png: no alpha .* into a folder `mask`"):
        read_scene(scene, frame="sphere")


def test_real_cameras_read_the_same_from_either_format(tmp_path):
    if not REAL.is_dir():
        pytest.skip(f"needs the photographs in {REAL}")
    expected, names = read_scene(REAL, frame="sphere")
    scene = tmp_path / "temple"
    scene.mkdir()
    (scene / "mask").symlink_to(REAL / "mask")
    frame = expected.world_from_object.double().numpy()
    scale = np.cbrt(np.linalg.det(frame[:3, :3]))
    lines = [str(len(names))]
    for view, name in enumerate(names):
        (scene / name).symlink_to(REAL / "image" / name)
        world_from_camera = frame @ expected.cameras.object_from_camera[view].double().numpy()
        rotation = world_from_camera[:3, :3].T / scale
        intrinsics = expected.cameras.intrinsics[view].double().numpy()
        lines.append(parameters(name, intrinsics, rotation, -rotation @ world_from_camera[:3, 3]))
    (scene / "temple_par.txt").write_text("\n".join(lines))
    views, _ = read_scene(scene, frame="sphere")
    assert torch.equal(views.masks, expected.masks) and torch.equal(views.images, expected.images)
    # The same rays in the world, whatever frame the hull gave.
    ours, theirs = (
        v.cameras.centre @ v.world_from_object[:3, :3].T + v.world_from_object[:3, 3]
        for v in (views, expected)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
