"""Write one object photographed from several sides as a folder that `common.scenes.scene` reads."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from common.cameras import Cameras


@dataclass(frozen=True)
class SceneRecord:
    """All that is stored of one scene.

    The object lies in the unit sphere of the object frame, and ``world_from_object`` is the
    similarity (one scale, a rotation, a shift) to the world's. Surface points and outward unit
    normals, in the world frame, are known together or not at all.
    """

    images: UInt8[np.ndarray, "V H W 3"]
    coverage: UInt8[np.ndarray, "V H W"]  # of 255, how much of each pixel is object
    cameras: Cameras  # object frame
    world_from_object: Float[np.ndarray, "4 4"]
    surface_points: Float[np.ndarray, "N 3"] | None = None
    surface_normals: Float[np.ndarray, "N 3"] | None = None

    def __post_init__(self) -> None:
        if (self.surface_points is None) != (self.surface_normals is None):
            raise ValueError("surface points and normals go together: give both or neither")


def write_scene(folder: Path, record: SceneRecord) -> None:
    """Write an IDR scene folder, all or nothing.

    It holds image/ and mask/ (255 on the object), cameras.npz and, where the surface is known,
    pointcloud.npz. It is written beside its place and renamed at the end, so a folder that exists
    is complete. An existing one is replaced.
    """
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    write_scene_files(partial, record)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def write_scene_files(folder: Path, record: SceneRecord) -> None:
    """Write a scene's files one by one into a folder, made where it is missing."""
    write_pictures(folder, record.images, record.coverage)
    matrices = scene_matrices(record.cameras, record.world_from_object)
    np.savez(folder / "cameras.npz", **matrices)  # type: ignore[arg-type]
    if record.surface_points is not None and record.surface_normals is not None:
        np.savez(
            folder / "pointcloud.npz", points=record.surface_points, normals=record.surface_normals
        )


def write_pictures(
    folder: Path, images: UInt8[np.ndarray, "V H W 3"], coverage: UInt8[np.ndarray, "V H W"]
) -> list[str]:
    """Write image/ and mask/ (255 on the object) by number; their names, the same in both."""
    for name in ("image", "mask"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    digits = max(3, len(str(len(images) - 1)))  # so that order by name is order by number
    names = [f"{view:0{digits}d}.png" for view in range(len(images))]
    for name, image, covered in zip(names, images, coverage, strict=True):
        Image.fromarray(image).save(folder / "image" / name)
        Image.fromarray(covered).save(folder / "mask" / name)
    return names


def scene_matrices(
    cameras: Cameras, world_from_object: Float[np.ndarray, "4 4"]
) -> dict[str, np.ndarray]:
    """The 4x4 matrices of `cameras.npz` in IDR's convention, in float64.

    ``world_mat_i`` = K [R | t] takes world coordinates to pixels (times the depth in world units);
    ``scale_mat_i`` takes the unit sphere of the object frame to the world.
    """
    world_from_object = np.asarray(world_from_object, dtype=np.float64)
    object_from_world = np.linalg.inv(world_from_object)
    scale = np.cbrt(np.linalg.det(world_from_object[:3, :3]))
    matrices = {}
    for view in range(len(cameras)):
        intrinsics = cameras.intrinsics[view].double().cpu().numpy()
        camera_from_object = np.linalg.inv(cameras.object_from_camera[view].double().cpu().numpy())
        world_mat = np.eye(4)
        # The scale turns depths in object units into depths in the world's.
        world_mat[:3] = scale * intrinsics @ (camera_from_object @ object_from_world)[:3]
        matrices[f"world_mat_{view}"] = world_mat
        matrices[f"scale_mat_{view}"] = world_from_object
    return matrices
