"""A tiny collection and a tiny scene of analytic spheres, written without the code under test."""

import json
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image

DISTANCE = 2.0  # camera centres from the object's centre, object units
FOCAL = 2.1875  # in units of half the image, as in ShapeNet renderings


def sphere_radius(index: int) -> float:
    """Radius of the index-th object's sphere."""
    return 0.25 + 0.05 * (index % 4)


def camera_from_object(view: int, views: int) -> np.ndarray:
    """4x4 rigid: cameras on a wavy ring, OpenCV axes, looking at the origin."""
    angle = 2 * np.pi * view / views
    height = 0.6 if view % 2 else -0.3
    centre = np.array([np.cos(angle), height, np.sin(angle)])
    centre *= DISTANCE / np.linalg.norm(centre)
    forward = -centre / np.linalg.norm(centre)
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    rotation = np.stack([right, down, forward])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ centre
    return matrix


def sphere_depth(
    intrinsics: np.ndarray, camera_from_frame: np.ndarray, radius: float, size: int
) -> np.ndarray:
    """Camera z where each pixel's ray first meets the sphere at the origin; inf: it does not."""
    y, x = np.mgrid[:size, :size]
    direction = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(intrinsics).T  # z = 1
    centre = camera_from_frame[:3, 3]  # of the sphere, in the camera
    a = (direction**2).sum(-1)
    b = direction @ centre
    discriminant = b**2 - a * (centre @ centre - radius**2)
    with np.errstate(invalid="ignore"):
        depth = np.where(discriminant > 0, (b - np.sqrt(discriminant)) / a, np.inf)
    return depth.astype(np.float32)


def dvr_intrinsics(size: int) -> np.ndarray:
    """Pixels of FOCAL in DVR's [-1, 1], whose ends are the centres of the outermost pixels."""
    half = (size - 1) / 2
    return np.array([[FOCAL * half, 0, half], [0, FOCAL * half, half], [0, 0, 1]])


def paint(depth: np.ndarray) -> np.ndarray:
    """A white picture with the sphere shaded by its depth."""
    seen = np.isfinite(depth)
    shade = np.where(seen, np.clip(255 * (depth - 1.4) / 0.8, 0, 255), 255)
    tint = np.where(seen, 60, 255)
    return np.stack([shade, tint, shade], -1).astype(np.uint8)


def write_depth(path: Path, depth: np.ndarray) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {"R": depth}) as file:
        file.write(str(path))


def write_tiny_object(folder: Path, radius: float, views: int, size: int, seed: int) -> None:
    """One object folder of a collection: a sphere of this radius at the origin."""
    for name in ("image", "mask", "depth", "visual_hull_depth"):
        (folder / name).mkdir(parents=True)
    cameras = {}
    for view in range(views):
        pose = camera_from_object(view, views)
        depth = sphere_depth(dvr_intrinsics(size), pose, radius, size)
        Image.fromarray(paint(depth)).save(folder / "image" / f"{view:04d}.png")
        mask = np.isfinite(depth).astype(np.uint8)
        Image.fromarray(mask).save(folder / "mask" / f"{view:04d}.png")
        write_depth(folder / "depth" / f"{view:04d}.exr", depth)
        # The hull of a sphere from few views is a little larger than it: nearer to the camera.
        write_depth(folder / "visual_hull_depth" / f"{view:04d}.exr", depth - np.float32(0.02))
        cameras[f"camera_mat_{view}"] = np.diag([FOCAL, FOCAL, 1, 1])
        cameras[f"world_mat_{view}"] = pose
        cameras[f"scale_mat_{view}"] = np.eye(4)
    np.savez(folder / "cameras.npz", **cameras)
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(500, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.savez(
        folder / "pointcloud.npz",
        points=(radius * normals).astype(np.float32),
        normals=normals.astype(np.float32),
    )
    points = rng.uniform(-0.5, 0.5, size=(1000, 3)).astype(np.float32)
    np.savez(
        folder / "points.npz", points=points, occupancies=np.linalg.norm(points, axis=1) < radius
    )


def write_tiny_collection(
    root: Path,
    objects: int = 3,
    views: int = 4,
    size: int = 16,
    categories: tuple[str, ...] = ("chair",),
) -> Path:
    """A valid collection of spheres; every split lists every object. Returns root.

    The i-th object of each category is ``sphere_<i>``, of radius ``sphere_radius(i)``.
    """
    root = Path(root)
    for category in categories:
        names = [f"sphere_{index}" for index in range(objects)]
        for index, name in enumerate(names):
            write_tiny_object(root / category / name, sphere_radius(index), views, size, seed=index)
        for split in ("train", "val", "test"):
            (root / category / f"{split}.lst").write_text("\n".join(names) + "\n")
    lines = [f"{category}: {{id: {category}, name: {category}}}" for category in categories]
    (root / "metadata.yaml").write_text("\n".join(lines) + "\n")
    return root


SCENE_RADIUS = 0.6  # of the sphere, in the normalised frame of the scene
SCENE_SCALE = 3.0  # world units per normalised unit
SCENE_SHIFT = np.array([10.0, -4.0, 2.0])  # centre of the normalised frame, world units


def write_tiny_scene(root: Path, views: int = 6, size: int = 24) -> Path:
    """A valid IDR scene folder: a sphere of SCENE_RADIUS in the unit sphere. Returns root.

    World coordinates are SCENE_SCALE times normalised ones plus SCENE_SHIFT; camera centres lie
    2 * DISTANCE normalised units from its centre.
    """
    root = Path(root)
    (root / "image").mkdir(parents=True)
    (root / "mask").mkdir()
    half = (size - 1) / 2
    intrinsics = np.array([[1.6 * size, 0, half], [0, 1.6 * size, half], [0, 0, 1.0]])
    scale_mat = np.diag([SCENE_SCALE, SCENE_SCALE, SCENE_SCALE, 1.0])
    scale_mat[:3, 3] = SCENE_SHIFT
    cameras = {}
    for view in range(views):
        pose = camera_from_object(view, views)
        pose[:3, 3] *= 2
        depth = sphere_depth(intrinsics, pose, SCENE_RADIUS, size)
        Image.fromarray(paint(depth / 2)).save(root / "image" / f"{view:06d}.png")
        mask = np.isfinite(depth).astype(np.uint8) * 255
        Image.fromarray(mask).save(root / "mask" / f"{view:03d}.png")
        # Rigid in world units: R [X_world - shift] + scale * t.
        extrinsics = np.eye(4)
        extrinsics[:3, :3] = pose[:3, :3]
        extrinsics[:3, 3] = SCENE_SCALE * pose[:3, 3] - pose[:3, :3] @ SCENE_SHIFT
        world_mat = np.eye(4)
        world_mat[:3] = intrinsics @ extrinsics[:3]
        cameras[f"world_mat_{view}"] = world_mat
        cameras[f"scale_mat_{view}"] = scale_mat
    np.savez(root / "cameras.npz", **cameras)
    return root


TRANSFORMS_RADIUS = 0.8  # of the sphere in a transforms scene, world units
TRANSFORMS_CENTRE = np.array([0.5, 0.2, -0.3])


def write_tiny_transforms(root: Path, views: int = 8, size: int = 48) -> Path:
    """A valid NeRF-synthetic folder: RGBA pictures of one sphere, OpenGL poses. Returns root.

    Pixel centres are at halves of pixels and the principal point in the middle of the image.
    """
    root = Path(root)
    (root / "train").mkdir(parents=True)
    angle = 0.7
    focal = 0.5 * size / np.tan(0.5 * angle)
    half = (size - 1) / 2  # the middle, size / 2, counted from the first pixel's centre
    intrinsics = np.array([[focal, 0, half], [0, focal, half], [0, 0, 1]])
    frames = []
    for view in range(views):
        pose = camera_from_object(view, views)
        pose[:3, 3] *= 2
        depth = sphere_depth(intrinsics, pose, TRANSFORMS_RADIUS, size)
        alpha = np.isfinite(depth).astype(np.uint8)[..., None] * 255
        rgba = np.concatenate([paint(depth / 2) * (alpha > 0), alpha], axis=-1)
        Image.fromarray(rgba).save(root / "train" / f"r_{view}.png")
        world_from_camera = np.linalg.inv(pose) @ np.diag([1, -1, -1, 1])
        world_from_camera[:3, 3] += TRANSFORMS_CENTRE
        frames.append(
            {"file_path": f"./train/r_{view}", "transform_matrix": world_from_camera.tolist()}
        )
    document = {"camera_angle_x": angle, "frames": frames}
    (root / "transforms_train.json").write_text(json.dumps(document))
    return root
