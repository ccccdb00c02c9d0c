"""One object photographed from several sides: IDR / NeuS folders, NeRF transforms, Middlebury."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from common.cameras import Cameras
from common.data.camera_file import cameras_from_projections, read_matrices, shared_frame
from common.data.collection import ObjectEntry, read_surface_points, stack_views
from common.data.images import SUFFIXES, read_image, read_mask
from common.data.middlebury import PARAMETERS, read_middlebury
from common.data.npz import open_npz
from common.data.object_frame import OPAQUE, Frame, frame_views
from common.data.pairing import check_counts, view_files
from common.data.transforms import FILES as TRANSFORMS
from common.data.transforms import read_transforms
from common.data.views import Views
from common.errors import UserError

_CAMERA_FILES = ("cameras.npz", "cameras_sphere.npz")
_IMAGE_FOLDERS = ("image", "rgb", "images")


def scene_kind(path: Path) -> Literal["collection", "idr", "transforms", "middlebury"]:
    """What a data folder holds; UserError saying what was looked for where it fits nothing."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; check data.path")
    if camera_file := _first_existing(path, _CAMERA_FILES):
        with open_npz(camera_file) as archive:
            if "camera_mat_0" not in archive:
                return "idr"
        raise UserError(
            f"{path}: this is one object of a collection; set data.path to "
            f"{path.resolve().parents[1]}, the folder above its category"
        )
    if _first_existing(path, TRANSFORMS):
        return "transforms"
    if any(path.glob(f"*{PARAMETERS}")):
        return "middlebury"
    if any(path.glob("*/*/cameras.npz")) or any(path.glob("*/*.lst")):
        return "collection"
    if scenes := sorted({file.parent.name for file in path.glob("*/cameras*.npz")}):
        raise UserError(
            f"{path}: a folder of scenes or objects ({', '.join(scenes[:4])}); set data.path to "
            "one scene, or for a collection to the folder above the category"
        )
    raise UserError(
        f"{path}: neither a scene (cameras.npz or cameras_sphere.npz; transforms.json or "
        "transforms_train.json; Middlebury's *_par.txt) nor a collection "
        "(<category>/<object>/cameras.npz); COLMAP models become one by scripts/prepare_scene.py"
    )


def read_scene(path: Path, *, frame: Frame) -> tuple[Views, list[str]]:
    """All views of a scene and their image names.

    ``frame`` "sphere": the object is inside the unit sphere (IDR); "cube": half that size, so that
    the sphere touches the faces of [-0.5, 0.5]^3 (DVR). An IDR folder may bring that sphere along
    (``scale_mat``); all others get one around their masks' visual hull. Raises UserError where
    files do not fit together or the folder is no scene.
    """
    path = Path(path)
    kind = scene_kind(path)
    if kind == "collection":
        raise UserError(f"{path}: a collection, not one scene; choose the folder of a scene")
    if kind == "transforms":
        return read_transforms(_find(path, TRANSFORMS), frame)
    return _read_idr(path, frame) if kind == "idr" else read_middlebury(path, frame)


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


def _read_idr(path: Path, frame: Frame) -> tuple[Views, list[str]]:
    camera_file = _find(path, _CAMERA_FILES)
    image_folder = _find(path, _IMAGE_FOLDERS)
    image_files = view_files(image_folder, SUFFIXES)
    mask_files = view_files(path / "mask", SUFFIXES)
    check_counts({image_folder: len(image_files), path / "mask": len(mask_files)})
    with open_npz(camera_file) as archive:
        normalised = any(key.startswith("scale_mat_") for key in archive.files)
    required = ("world_mat", "scale_mat") if normalised else ("world_mat",)
    matrices = read_matrices(camera_file, required, count=len(image_files))
    images = stack_views([(file, read_image(file)) for file in image_files])
    masks = stack_views([(file, read_mask(file, OPAQUE)) for file in mask_files], images.shape[1:3])
    world_from_sphere = shared_frame(camera_file, matrices["scale_mat"]) if normalised else None
    projections = matrices["world_mat"][:, :3]
    views = frame_views(camera_file, images, masks, projections, frame, world_from_sphere)
    return views, [file.name for file in image_files]


def _first_existing(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((path / name for name in names if (path / name).exists()), None)


def _find(path: Path, names: tuple[str, ...]) -> Path:
    found = _first_existing(path, names)
    if found is None:
        raise UserError(f"{path}: none of {', '.join(names)} is here; add or rename one")
    return found
