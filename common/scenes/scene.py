"""One object photographed from several sides, as the methods learn from it: views in its frame."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from common.cameras import Cameras
from common.data.camera_file import cameras_from_projections, read_matrices
from common.data.collection import ObjectEntry, read_surface_points
from common.data.views import SparseDepth, Views
from common.errors import UserError, naming
from common.scenes.capture import Capture, SparsePoints
from common.scenes.development import Pictures, develop
from common.scenes.object_frame import Frame, frame_views
from common.scenes.sources import FORMATS, detect, format_of


def scene_kind(path: Path) -> str:
    """The format of the scene here, or "collection"; UserError saying what was looked for."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; check data.path")
    found = detect(path)
    if found is None:
        if any(path.glob("*/*/cameras.npz")) or any(path.glob("*/*.lst")):
            return "collection"
        raise UserError(_nothing_here(path))
    if found.name == "dvr_dtu":
        raise UserError(
            f"{path}: this is one object of a collection; set data.path to "
            f"{path.resolve().parents[1]}, the folder above its category, or let "
            "scripts/prepare_scene.py make a scene of it"
        )
    return found.name


def read_scene(path: Path, *, frame: Frame) -> tuple[Views, list[str]]:
    """All views of a scene and their image names.

    ``frame`` "sphere": the object is inside the unit sphere (IDR); "cube": half that size, so that
    the sphere touches the faces of [-0.5, 0.5]^3 (DVR). What a person should hear of the source, as
    missing pictures, is printed. A source may bring that sphere along
    (``scale_mat``); all others get one around their masks' visual hull. Raises UserError where
    files do not fit together or the folder is no scene.
    """
    path = Path(path)
    kind = scene_kind(path)
    if kind == "collection":
        raise UserError(f"{path}: a collection, not one scene; choose the folder of a scene")
    capture = format_of(path, kind).read(path)
    for note in capture.notes:
        print(f"{path}: {note}", file=sys.stderr)
    pictures = develop(capture)
    with naming(capture.source):
        views = views_of(capture, pictures, frame)
    return views, list(pictures.names)


def views_of(capture: Capture, pictures: Pictures, frame: Frame) -> Views:
    """The capture's developed pictures in the object's frame."""
    views = frame_views(
        capture.source,
        pictures.images,
        pictures.masks,
        pictures.projections,
        frame,
        capture.world_from_sphere,
    )
    coverage = pictures.coverage
    if coverage is not None and ((coverage > 0) & (coverage < 255)).any():
        views = replace(views, coverage=torch.from_numpy(coverage))
    if capture.points is not None:
        sparse = _inside_frame(capture.points, views.world_from_object, frame)
        views = replace(views, sparse=sparse)
    return views


def _inside_frame(
    sparse: SparsePoints, world_from_object: torch.Tensor, frame: Frame
) -> SparseDepth:
    """The points of the object's ball, in its frame; the others are of its surroundings."""
    object_from_world = torch.linalg.inv(world_from_object.double())
    points = (
        torch.from_numpy(sparse.points) @ object_from_world[:3, :3].T + object_from_world[:3, 3]
    )
    inside = points.norm(dim=1) < (0.5 if frame == "cube" else 1.0)
    return SparseDepth(points[inside].float(), torch.from_numpy(sparse.visibility)[:, inside])


def read_initial_cameras(path: Path, file: str, views: Views) -> Cameras:
    """The views' cameras with their poses replaced by those of another file of an IDR folder.

    ``views`` are all of the scene, as read_scene gave them. Only poses are taken from ``file``
    (cameras_linear_init.npz, say), not intrinsics, as IDR does; its ``scale_mat`` is not needed,
    since both files share the world. Raises UserError as read_scene does for cameras.
    """
    camera_file = Path(path) / file
    world_mat = read_matrices(camera_file, ("world_mat",), count=len(views))["world_mat"]
    projections = world_mat[:, :3] @ views.world_from_object.double().numpy()
    # Rough cameras too must look at the middle of the object, in either frame.
    height, width = views.masks.shape[1:]
    rough, _ = cameras_from_projections(
        camera_file, range(len(views)), projections, height, width, half_size=0.5
    )
    return replace(views.cameras, object_from_camera=rough.object_from_camera)


def read_scene_truth(
    path: Path,
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]] | None:
    """Points of the true surface and their unit normals in the world frame; None without truth.

    Raises UserError where pointcloud.npz is damaged or is no such thing.
    """
    path = Path(path)
    truth = read_surface_points(ObjectEntry("", "", path.name, path))
    return None if truth is None else (truth[0].astype(np.float64), truth[1].astype(np.float64))


def _nothing_here(path: Path) -> str:
    if scenes := sorted({file.parent.name for file in path.glob("*/cameras*.npz")}):
        return (
            f"{path}: a folder of scenes or objects ({', '.join(scenes[:4])}); set data.path to "
            "one scene, or for a collection to the folder above the category"
        )
    return (
        f"{path}: neither a scene ({'; '.join(known.files for known in FORMATS)}) nor a collection "
        "(<category>/<object>/cameras.npz); photographs alone become a scene by "
        "scripts/prepare_scene.py"
    )
