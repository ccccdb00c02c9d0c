"""Object collections on disk in DVR's layout, read as they are distributed.

``<root>/[metadata.yaml]``, ``<root>/<category>/<split>.lst`` and ``<root>/<category>/<object>/``
with image, mask and depth folders, ``cameras.npz``, and where there is truth ``pointcloud.npz``
(surface), ``points.npz`` (volume), ``pcl.npz`` (structure from motion).
A folder with a single object (DVR's DTU scans) is a collection too.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
import yaml
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from common.data.camera_file import cameras_from_projections, read_matrices, shared_frame
from common.data.exr import read_exr
from common.data.images import SUFFIXES, read_image, read_input_image, read_mask
from common.data.normalisation import check_object_in_ball
from common.data.npz import open_npz
from common.data.pairing import check_counts, view_files
from common.data.views import SparseDepth, Views
from common.errors import UserError
from common.plain_yaml import parse_yaml

_FARTHEST = 1e9  # file units; renderers mark the background with numbers like 1e10


@dataclass(frozen=True)
class ObjectEntry:
    """One object of a collection and where its files are."""

    category: str
    category_name: str
    name: str
    folder: Path


@dataclass(frozen=True)
class CollectionFolders:
    """What the sub-folders of an object are called (``input``: ShapeNet has img_choy2016)."""

    image: str = "image"
    mask: str = "mask"
    depth: str = "depth"
    hull_depth: str = "visual_hull_depth"
    input: str = "image"


def list_objects(root: Path, split: str | None, categories: list[str] | None) -> list[ObjectEntry]:
    """The objects of a split (None: every folder) in these categories (None: all), in file order.

    Categories go by folder or by their name in metadata.yaml. Raises UserError where the folder,
    a category, a split file or a listed object is missing, or an object is listed twice.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; set data.path to a collection")
    folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not folders:
        raise UserError(f"{root}: no category folders here; expected {root}/<category>/<object>/")
    names = _category_names(root)
    chosen = [folder.name for folder in folders]
    if categories is not None:
        chosen = [_find_category(root, category, chosen, names) for category in categories]
    return [
        ObjectEntry(category, names.get(category, category), name, root / category / name)
        for category in chosen
        for name in _object_names(root / category, split)
    ]


def read_views(
    entry: ObjectEntry,
    folders: CollectionFolders,
    *,
    with_mask: bool = True,
    with_depth: bool = False,
    with_hull_depth: bool = False,
    views: list[int] | None = None,
    ignore_views: Sequence[int] = (),
    image_size: int | None = None,
    check_place: bool = True,
) -> Views:
    """Chosen views of one object (None: all), in the frame of the cube [-0.5, 0.5]^3.

    ``views`` and ``ignore_views`` count files in name order from 0. ``image_size`` is the shorter
    side in pixels. Without masks every pixel counts as object. Raises UserError where counts,
    sizes or cameras do not fit together, or a file is missing or damaged. ``check_place``: also
    where most of the masks lie off the cube, of which few views may say little.
    """
    if image_size is not None and image_size < 1:
        raise UserError(f"image size {image_size}: must be at least 1 pixel")
    camera_file = entry.folder / "cameras.npz"
    files = {"image": view_files(entry.folder / folders.image, SUFFIXES)}
    if with_mask:
        files["mask"] = view_files(entry.folder / folders.mask, SUFFIXES)
    if with_depth:
        files["depth"] = view_files(entry.folder / folders.depth, (".exr",))
    if with_hull_depth:
        files["hull_depth"] = view_files(entry.folder / folders.hull_depth, (".exr",))
    count = len(files["image"])
    chosen = choose_views(entry.folder, count, views, ignore_views)
    check_counts({paths[0].parent: len(paths) for paths in files.values()})
    matrices = read_matrices(
        camera_file, ("camera_mat", "world_mat"), ("scale_mat",), count=count, views=chosen
    )

    images = stack_views([(path, read_image(path)) for path in _pick(files["image"], chosen)])
    height, width = images.shape[1:3]
    masks = np.ones(images.shape[:3], dtype=bool)
    if with_mask:
        masks = stack_views(
            [(path, read_mask(path)) for path in _pick(files["mask"], chosen)], (height, width)
        )
    world_from_object = shared_frame(camera_file, matrices["scale_mat"])
    full = matrices["camera_mat"] @ matrices["world_mat"] @ world_from_object
    cameras, scales = cameras_from_projections(
        camera_file, chosen, _pixel_matrix(height, width) @ full[:, :3], height, width, 0.5
    )
    if check_place:
        check_object_in_ball(camera_file, torch.from_numpy(masks), cameras, radius=0.5 * 3**0.5)
    depths = {
        name: _read_depths(_pick(files[name], chosen), (height, width)) / scales[:, None, None]
        for name in ("depth", "hull_depth")
        if name in files
    }
    result = Views(
        images=torch.from_numpy(images),
        masks=torch.from_numpy(masks),
        cameras=cameras,
        depth=depths.get("depth"),
        hull_depth=depths.get("hull_depth"),
        sparse=_read_sparse(entry.folder / "pcl.npz", chosen, world_from_object),
        world_from_object=torch.tensor(world_from_object, dtype=torch.float32),
    )
    return result if image_size is None else result.resized(image_size)


def read_input_images(
    entry: ObjectEntry, folders: CollectionFolders, size: int
) -> UInt8[Tensor, "V size size 3"]:
    """All of an object's pictures as a network takes them: square, white around."""
    files = view_files(entry.folder / folders.input, SUFFIXES)
    return torch.from_numpy(np.stack([read_input_image(file, size) for file in files]))


def read_occupancy_points(
    entry: ObjectEntry,
) -> tuple[Float[np.ndarray, "M 3"], Bool[np.ndarray, "M"]] | None:
    """Points of the object frame and whether each is inside; None where there is no points.npz.

    Occupancies may be packed eight to a byte (Occupancy Networks' files).
    """
    path = entry.folder / "points.npz"
    if not path.exists():
        return None
    with open_npz(path) as archive:
        points, occupancies = archive["points"], archive["occupancies"]
    if occupancies.dtype == np.uint8 and len(occupancies) == (len(points) + 7) // 8 != len(points):
        occupancies = np.unpackbits(occupancies)[: len(points)]
    if occupancies.shape != points.shape[:1]:
        raise UserError(
            f"{path}: {len(points)} points but occupancies of shape {occupancies.shape}; expected "
            "one per point, so make it again"
        )
    return _checked_points(path, "points", points), occupancies.astype(bool)


def read_surface_points(
    entry: ObjectEntry,
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]] | None:
    """Points of the true surface and their unit normals, object frame; None without truth."""
    path = entry.folder / "pointcloud.npz"
    if not path.exists():
        return None
    with open_npz(path) as archive:
        points, normals = archive["points"], archive["normals"]
    if normals.shape != points.shape:
        raise UserError(
            f"{path}: points of shape {points.shape} but normals of shape {normals.shape}; "
            "expected one per point, so make it again"
        )
    return _checked_points(path, "points", points), _checked_points(path, "normals", normals)


def stack_views(
    read: list[tuple[Path, np.ndarray]], shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """One array of all pictures; UserError naming the first that has another (H, W)."""
    shape = read[0][1].shape[:2] if shape is None else shape
    for path, pixels in read:
        if pixels.shape[:2] != shape:
            raise UserError(
                f"{path}: {pixels.shape[1]} x {pixels.shape[0]} pixels where the images of this "
                f"object have {shape[1]} x {shape[0]}; resize it"
            )
    return np.stack([pixels for _, pixels in read])


def _category_names(root: Path) -> dict[str, str]:
    path = root / "metadata.yaml"
    if not path.exists():
        return {}
    try:
        metadata = parse_yaml(path.read_text()) or {}
        # ShapeNet lists synonyms, "airplane,aeroplane,plane": the first is enough.
        return {str(key): str(value["name"]).split(",")[0] for key, value in metadata.items()}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: expected a mapping {{category: {{id, name}}}}; mend or remove the file"
        ) from error


def _find_category(root: Path, wanted: str, folders: list[str], names: dict[str, str]) -> str:
    found = [folder for folder in folders if wanted in (folder, names.get(folder))]
    if not found:
        known = folders + [names[folder] for folder in folders if folder in names]
        near = get_close_matches(wanted, known, n=3, cutoff=0.5) or known[:5]
        raise UserError(f"{root}: no category {wanted!r}; did you mean {' or '.join(near)}?")
    return found[0]


def _object_names(folder: Path, split: str | None) -> list[str]:
    if split is None:
        names = sorted(f.name for f in folder.iterdir() if f.is_dir() and f.name[0] != ".")
        if not names:
            raise UserError(f"{folder}: no object folders in this category; remove it or fill it")
        return names
    path = folder / f"{split}.lst"
    if not path.is_file():
        splits = ", ".join(sorted(file.stem for file in folder.glob("*.lst"))) or "none"
        raise UserError(f"{path}: no such split file; splits of this category: {splits}")
    try:
        names = path.read_text().split()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not plain text; list one object per line") from error
    if not names:
        raise UserError(f"{path}: the split is empty; list one object per line")
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        raise UserError(f"{path}: {repeated[0]} is listed more than once; remove the repetition")
    if missing := [name for name in names if not (folder / name).is_dir()]:
        raise UserError(
            f"{path}: {len(missing)} of {len(names)} listed objects have no folder, the first "
            f"{folder / missing[0]}; remove them from the list or download them"
        )
    return names


def choose_views(
    folder: Path, count: int, views: list[int] | None, ignore_views: Sequence[int]
) -> list[int]:
    """The wanted views (None: all) without the ignored ones; UserError where one is not there."""
    wanted = list(range(count)) if views is None else views
    if outside := [view for view in (*wanted, *ignore_views) if not 0 <= view < count]:
        raise UserError(f"{folder}: no view {outside[0]}; its views are 0 to {count - 1}")
    chosen = [view for view in wanted if view not in set(ignore_views)]
    if not chosen:
        raise UserError(f"{folder}: no views are left to use; ignore fewer of its {count} views")
    return chosen


def _pick(files: list[Path], views: list[int]) -> list[Path]:
    return [files[view] for view in views]


def _pixel_matrix(height: int, width: int) -> Float[np.ndarray, "3 3"]:
    """From DVR's image coordinates, -1 and 1 at the first and last pixel centre, to pixels."""
    x, y = (width - 1) / 2, (height - 1) / 2
    return np.array([[x, 0, x], [0, y, y], [0, 0, 1]])


def _read_depths(files: list[Path], shape: tuple[int, ...]) -> Float[Tensor, "V H W"]:
    """Depth maps in file units; infinite where the file has inf, NaN, a huge number or z <= 0."""
    depth = torch.from_numpy(stack_views([(file, read_exr(file)) for file in files], shape))
    return torch.where((depth > 0) & (depth < _FARTHEST), depth, torch.inf)


def _read_sparse(
    path: Path, views: list[int], world_from_object: Float[np.ndarray, "4 4"]
) -> SparseDepth | None:
    """DVR's structure-from-motion points of a DTU scan: those inside the visual hull."""
    if not path.exists():
        return None
    with open_npz(path) as archive:
        world = archive["points"]
        inside = archive["is_in_visual_hull"] if "is_in_visual_hull" in archive else None
        seen = [archive[f"visibility_{view:04d}"] for view in views]
    world = _checked_points(path, "points", world).astype(np.float64)
    inside = np.ones(len(world), dtype=bool) if inside is None else inside.astype(bool)
    visibility = np.zeros((len(views), len(world)), dtype=bool)
    try:
        for row, points in zip(visibility, seen, strict=True):
            row[points] = True  # a mask over the points, or their indices
        visibility, world = visibility[:, inside], world[inside]
    except IndexError as error:
        raise UserError(
            f"{path}: visibility does not fit the points ({error}); make it again"
        ) from error
    object_from_world = np.linalg.inv(world_from_object)
    points = world @ object_from_world[:3, :3].T + object_from_world[:3, 3]
    return SparseDepth(torch.tensor(points, dtype=torch.float32), torch.from_numpy(visibility))


def _checked_points(path: Path, key: str, points: np.ndarray) -> Float[np.ndarray, "N 3"]:
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or points.dtype.kind != "f":
        raise UserError(
            f"{path}: {key} is {points.dtype} of shape {points.shape}; expected floats (N, 3)"
        )
    if not np.isfinite(points).all():
        raise UserError(f"{path}: {key} has NaN or infinite entries; remove them or make it again")
    return points.astype(np.float32)
