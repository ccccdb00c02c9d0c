"""Write a collection of objects in the layout that `common.data.collection` reads."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from common.cameras import Cameras
from common.data.exr import write_exr


@dataclass(frozen=True)
class ObjectRecord:
    """All that is stored of one object; depths are camera z in object units, inf: none."""

    images: UInt8[np.ndarray, "V H W 3"]
    masks: Bool[np.ndarray, "V H W"]
    depth: Float[np.ndarray, "V H W"]
    hull_depth: Float[np.ndarray, "V H W"]
    cameras: Cameras  # object frame
    surface_points: Float[np.ndarray, "N 3"]
    surface_normals: Float[np.ndarray, "N 3"]
    points: Float[np.ndarray, "M 3"]
    occupancies: Bool[np.ndarray, "M"]


def volume_points(count: int) -> Float[np.ndarray, "N 3"]:
    """Uniform points of the cube [-0.5, 0.5]^3, as float16 stores them.

    They are the same for every object, so that the occupancies of two objects compare point by
    point.
    """
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (count, 3))
    return points.astype(np.float16).astype(np.float32)


def write_object(folder: Path, record: ObjectRecord) -> None:
    """Write one object's folder, all or nothing.

    It is written beside its place and renamed at the end, so a folder that exists is complete. An
    existing one is replaced.
    """
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in ("image", "mask", "depth", "visual_hull_depth"):
        (partial / name).mkdir(parents=True)
    for view in range(len(record.images)):
        name = f"{view:04d}"
        Image.fromarray(record.images[view]).save(partial / "image" / f"{name}.png")
        mask = record.masks[view].astype(np.uint8) * 255
        Image.fromarray(mask).save(partial / "mask" / f"{name}.png")
        write_exr(partial / "depth" / f"{name}.exr", record.depth[view])
        write_exr(partial / "visual_hull_depth" / f"{name}.exr", record.hull_depth[view])
    np.savez(partial / "cameras.npz", **camera_matrices(record.cameras))  # type: ignore[arg-type]
    np.savez(
        partial / "pointcloud.npz", points=record.surface_points, normals=record.surface_normals
    )
    np.savez(partial / "points.npz", points=record.points, occupancies=record.occupancies)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def camera_matrices(cameras: Cameras) -> dict[str, np.ndarray]:
    """The 4x4 matrices of `cameras.npz`, in DVR's convention.

    ``camera_mat_i`` maps camera coordinates to [-1, 1], where -1 and 1 are the centres of the first
    and last pixel; ``world_mat_i`` maps the object frame to the camera's; ``scale_mat_i`` is one.
    """
    to_unit = np.array(
        [[2 / (cameras.width - 1), 0, -1], [0, 2 / (cameras.height - 1), -1], [0, 0, 1]]
    )
    matrices = {}
    for view in range(len(cameras)):
        camera_mat = np.eye(4)
        camera_mat[:3, :3] = to_unit @ cameras.intrinsics[view].double().numpy()
        pose = cameras.object_from_camera[view].double().numpy()
        matrices[f"camera_mat_{view}"] = camera_mat.astype(np.float32)
        matrices[f"world_mat_{view}"] = np.linalg.inv(pose).astype(np.float32)
        matrices[f"scale_mat_{view}"] = np.eye(4, dtype=np.float32)
    return matrices


def write_splits(root: Path, category: str, splits: dict[str, list[str]]) -> None:
    """Write `<root>/<category>/<split>.lst`, one object's name a line."""
    folder = Path(root) / category
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in splits.items():
        (folder / f"{split}.lst").write_text("".join(f"{name}\n" for name in names))


def write_metadata(root: Path, names: dict[str, str]) -> None:
    """Write `<root>/metadata.yaml`: each category's folder and the name people call it."""
    metadata = {category: {"id": category, "name": name} for category, name in names.items()}
    (Path(root) / "metadata.yaml").write_text(yaml.safe_dump(metadata, sort_keys=True))
