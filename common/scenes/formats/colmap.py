"""A COLMAP sparse model and its photographs."""

import os.path
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float, Int64

from common.errors import UserError, naming
from common.scenes.capture import Capture, Distortion, Photograph, SparsePoints
from common.scenes.formats import colmap_binary, colmap_text
from common.scenes.formats.colmap_model import ImageRecord, PointRecords, lens, pose
from common.scenes.formats.matrices import sane

LARGEST_VISIBILITY = 100_000_000  # entries of SparsePoints.visibility, a byte each

_MODEL_FOLDERS = ("", "sparse/0", "sparse", "colmap/sparse/0")
_IMAGE_FOLDERS = ("images", "image", "input", "")
_READERS = {".bin": colmap_binary, ".txt": colmap_text}  # in COLMAP's own order of preference


def find_model(source: Path) -> Path | None:
    """The folder of a source's COLMAP model: itself, sparse/0, sparse or colmap/sparse/0.

    Looks at names only.
    """
    folders = [source / folder for folder in _MODEL_FOLDERS]
    return next((folder for folder in folders if _suffix(folder)), None)


def read_colmap(source: Path, images: Path | None = None) -> Capture:
    """The photographs of a COLMAP model, binary or text, ordered by name, and its points.

    ``source`` is the model's folder or one that find_model finds it in. ``images`` is the folder
    that the model's image names are relative to; None: ``images``, ``image``, ``input`` or no
    folder, in the model's folder or above. ``masks/NAME.png`` in the source or beside the images
    are masks, as for COLMAP. Photographs without a file are left out and noted. Raises UserError
    where there is no model, it is damaged, has a lens that Distortion cannot describe, or no
    photograph is found.
    """
    folder = find_model(source)
    if folder is None:
        raise UserError(
            f"{source}: no COLMAP model here (cameras.bin and images.bin, or both as .txt; also "
            "looked in sparse/0, sparse and colmap/sparse/0); give the folder that holds one"
        )
    views, points = _read_model(folder, _suffix(folder) or "")
    if images is None:
        images = _image_folder(folder, views)
    kept = [view for view in views if os.path.isfile(images / view.name)]
    if not kept:
        raise UserError(
            f"{images}: none of the {len(views)} images of {folder} is here ({views[0].name}, "
            "...); give the folder of its photographs with --images"
        )
    sparse = None
    notes = _missing(images, views, kept) + _other_models(folder)
    if points is not None and len(points.ids):
        sparse = _sparse_points(points, np.array([view.image_id for view in kept]))
        notes += _points_left_out(folder, len(points.ids), len(sparse.points))
    photographs = tuple(_photograph(source, images, view) for view in kept)
    return Capture(source, photographs, sparse, notes=tuple(notes))


@dataclass(frozen=True)
class _Lens:
    size: tuple[int, int]
    intrinsics: Float[np.ndarray, "3 3"]
    distortion: Distortion | None


@dataclass(frozen=True)
class _View:
    image_id: int
    name: str
    lens: _Lens
    world_from_camera: Float[np.ndarray, "4 4"]


def _suffix(folder: Path) -> str | None:
    """How the files of the model in this folder end; None: there is no model."""
    for suffix in _READERS:
        if all(os.path.isfile(folder / f"{name}{suffix}") for name in ("cameras", "images")):
            return suffix
    return None


def _read_model(folder: Path, suffix: str) -> tuple[list[_View], PointRecords | None]:
    """The images by name, and the points; UserError where they do not fit together."""
    reader = _READERS[suffix]
    path = folder / f"cameras{suffix}"
    with naming(path):
        cameras = reader.read_cameras(path)
        _check_unique("camera", (camera.camera_id for camera in cameras))
        lenses = {camera.camera_id: _Lens(camera.size, *lens(camera)) for camera in cameras}
    path = folder / f"images{suffix}"
    with naming(path):
        images = sorted(reader.read_images(path), key=lambda image: image.name)
        if not images:
            raise UserError("the model has no images; run COLMAP again")
        _check_unique("image number", (image.image_id for image in images))
        _check_unique("image name", (str(PurePosixPath(image.name)) for image in images))
        views = [_view(image, lenses) for image in images]
    path = folder / f"points3D{suffix}"
    if not path.is_file():
        return views, None
    with naming(path):
        points = reader.read_points(path)
        if not sane(points.points):
            raise UserError("a point has NaN or infinite coordinates; run COLMAP again")
        if len(np.unique(points.ids)) < len(points.ids):
            raise UserError("two points have the same number; export the model again")
    return views, points


def _view(image: ImageRecord, lenses: dict[int, _Lens]) -> _View:
    parts = re.split(r"[/\\]", image.name)
    control = any(ord(letter) < 32 for letter in image.name)
    if control or not parts[0] or ".." in parts or Path(image.name).is_absolute():
        raise UserError(
            f"the image name {image.name!r} does not name a file below the folder of images; "
            "rename it and export the model again"
        )
    if image.camera_id not in lenses:
        raise UserError(
            f"image {image.name} has camera {image.camera_id}, which the model does not hold; copy "
            "all files of one model"
        )
    return _View(image.image_id, image.name, lenses[image.camera_id], pose(image))


def _check_unique(what: str, values: Iterable[Hashable]) -> None:
    twice = [value for value, times in Counter(values).items() if times > 1]
    if twice:
        raise UserError(f"{what} {twice[0]} appears more than once; export the model again")


def _image_folder(model: Path, views: Sequence[_View]) -> Path:
    """Where most of the images are, in the model's folder or above it."""
    bases = [model.absolute()]
    while bases[-1].name.isdigit() or bases[-1].name in ("sparse", "colmap"):
        bases.append(bases[-1].parent)
    if len(bases) == 1:
        bases.append(bases[0].parent)
    folders = [base / name for base in bases for name in _IMAGE_FOLDERS]
    return max(
        folders, key=lambda folder: sum(os.path.isfile(folder / view.name) for view in views)
    )


def _photograph(source: Path, images: Path, view: _View) -> Photograph:
    masks = [base / "masks" / f"{view.name}.png" for base in (source, images.parent)]
    return Photograph(
        image=images / view.name,
        intrinsics=view.lens.intrinsics,
        size=view.lens.size,
        world_from_camera=view.world_from_camera,
        mask=next((mask for mask in masks if os.path.isfile(mask)), None),
        distortion=view.lens.distortion,
    )


def _sparse_points(points: PointRecords, image_ids: Int64[np.ndarray, "V"]) -> SparsePoints:
    """The points by number, and which of these images saw each.

    Where the table would outgrow LARGEST_VISIBILITY, those with the longest tracks are kept.
    """
    most = LARGEST_VISIBILITY // len(image_ids)
    kept = np.argsort(-points.track_lengths.astype(np.int64), kind="stable")[:most]
    kept = kept[np.argsort(points.ids[kept])]
    column_of = np.full(len(points.ids), -1, dtype=np.int32)
    column_of[kept] = np.arange(len(kept))
    column = np.repeat(column_of, points.track_lengths.astype(np.int64))
    order = np.argsort(image_ids)
    place = np.searchsorted(image_ids[order], points.track_images)
    row = order[place.clip(max=len(order) - 1)]
    seen = (image_ids[row] == points.track_images) & (column >= 0)
    visibility = np.zeros((len(image_ids), len(kept)), dtype=bool)
    visibility[row[seen], column[seen]] = True
    return SparsePoints(points.points[kept].astype(np.float64), visibility)


def _missing(images: Path, views: Sequence[_View], kept: Sequence[_View]) -> list[str]:
    present = {view.name for view in kept}
    names = [view.name for view in views if view.name not in present]
    if not names:
        return []
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [f"{len(names)} of {len(views)} photographs are not in {images}, left out: {listed}"]


def _other_models(folder: Path) -> list[str]:
    """COLMAP writes 0, 1, ... where it could not join all photographs."""
    if not folder.name.isdigit():
        return []
    siblings = [path for path in folder.parent.iterdir() if path.name.isdigit()]
    names = sorted(path.name for path in siblings if path != folder and _suffix(path))
    if not names:
        return []
    return [
        f"{folder.parent} holds {len(names) + 1} models that COLMAP could not join; this is "
        f"{folder.name}; the others: {', '.join(names[:5])}"
    ]


def _points_left_out(folder: Path, count: int, kept: int) -> list[str]:
    if kept == count:
        return []
    return [f"{folder}: the {kept} points seen most often were kept of {count}, to save memory"]
