"""A coloured mesh in world units from a trained run, and its learnt cameras as files."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.data.images import SUFFIXES
from common.data.pairing import view_files
from common.errors import UserError
from common.meshes.bake import TextureSettings
from common.meshes.extract import Corner, extract_mesh
from common.meshes.files import save_mesh, save_textured
from common.meshes.mesh import Mesh, area_vectors, largest_component, simplify_mesh, transform_mesh
from common.scenes.formats.camera_export import (
    capture_of,
    write_colmap_text,
    write_idr_cameras,
    write_middlebury,
    write_transforms,
)
from idr.config import GenerationConfig
from idr.experiment import Experiment
from idr.learnt_frame import moved, true_from_learnt, world_from_learnt
from idr.model import IDRModel
from idr.texture import texture_mesh

Progress = Callable[[int], None]
Written = Callable[[Path, Mesh], None]  # told of a file and the mesh, in world units, that it holds
Box = tuple[Corner, Corner]

UNIT_CUBE: Box = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
LOOK = 128  # cells along an axis of the mesh that only tells where the object is
START = 32  # cells along an axis from which an extraction refines
CHUNK = 2**13
# A surface of more squares of a cell's size than this gets larger cells: each square makes about
# three triangles, and without a bound a thin plate would have its short side's cells everywhere.
MOST_SQUARES = 4_000_000


def scene_name(experiment: Experiment) -> str:
    """What a run's scene is called: the name of its folder."""
    return Path(experiment.config.data.path).resolve().name


def save_scene_mesh(
    meshes: Path,
    experiment: Experiment,
    config: GenerationConfig,
    progress: Progress | None = None,
    texture: TextureSettings | None = None,
    written: Written | None = None,
) -> Path | None:
    """Write <scene name>.<extension> in world units; None, and no file, where there is no surface.

    With colours and normals at its vertices, or with a ``texture``; ``progress`` is told how many
    points and texels were evaluated.
    Where training started from other cameras than the scene's own, the mesh is moved by the
    similarity that aligns the learnt cameras with those.
    """
    path = meshes / f"{scene_name(experiment)}.{config.extension}"
    mesh = make_mesh(experiment.model, config, progress)
    if mesh.empty:
        path.unlink(missing_ok=True)
        return None
    world = world_from_learnt(experiment.config.cameras, experiment.scene, experiment.cameras)
    in_world = transform_mesh(mesh, world.numpy())
    if texture is None:
        save_mesh(path, in_world)
    else:
        save_textured(path, texture_mesh(experiment, mesh, texture, progress))
    if written is not None:
        written(path, in_world)
    return path


@torch.no_grad()
def make_mesh(model: IDRModel, config: GenerationConfig, progress: Progress | None = None) -> Mesh:
    """The surface inside the unit sphere, in the object frame, simplified and coloured as asked.

    Found coarsely in the unit cube first, then with ``config.resolution`` cells on the short side
    of the object's own box (fewer where the surface would pass MOST_SQUARES). Empty where the field
    has no surface. ``progress`` is told how many points were evaluated.
    """

    def level(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        # Beyond the sphere no ray is traced, so nothing is learnt there.
        return torch.maximum(model.sdf(points), points.norm(dim=-1) - 1)

    def extract(box: Box, resolution: int, start: int) -> Mesh:
        mesh = extract_mesh(
            level, *box, resolution, start, chunk=CHUNK, device=model.cache.device,
            progress=progress,
        ).mesh  # fmt: skip
        return largest_component(mesh) if config.largest else mesh

    with nn.utils.parametrize.cached():
        mesh = extract(UNIT_CUBE, LOOK, START)
        if mesh.empty:
            return mesh
        mesh = extract(*fine_grid(mesh, config.resolution))
        if config.faces is not None:
            mesh = simplify_mesh(mesh, config.faces)
        return _coloured(model, mesh)


def fine_grid(coarse: Mesh, resolution: int) -> tuple[Box, int, int]:
    """A cube around a coarse mesh, its cells along an axis, and those from which it refines.

    The mesh's own box, a coarse cell wider all around, has about ``resolution`` cubic cells on its
    short side, and never fewer unless MOST_SQUARES asks for it.
    """
    margin = 2 / LOOK
    lower, upper = coarse.vertices.min(axis=0) - margin, coarse.vertices.max(axis=0) + margin
    extent = (upper - lower).astype(np.float64)
    area = np.linalg.norm(area_vectors(coarse), axis=1).sum()
    cell = max(extent.min() / resolution, (area / MOST_SQUARES) ** 0.5)
    cells = int(np.ceil(extent.max() / cell))
    start, halvings = cells, 0
    while start > 2 * START:
        start, halvings = (start + 1) // 2, halvings + 1
    cells = start * 2**halvings
    middle, half = (lower + upper) / 2, cell * cells / 2
    (x0, y0, z0), (x1, y1, z1) = (middle - half).tolist(), (middle + half).tolist()
    return ((x0, y0, z0), (x1, y1, z1)), cells, start


def _coloured(model: IDRModel, mesh: Mesh) -> Mesh:
    """With the field's normals, and the colours that a camera straight above each vertex sees."""
    points = torch.from_numpy(mesh.vertices).float().to(model.cache.device)
    colours, normals = [], []
    for some in points.split(CHUNK):
        surface = model.surface(some)
        colour = model.colour(surface, surface.normal)
        colours.append((colour * 255).round().to(torch.uint8).cpu())
        normals.append(surface.normal.cpu())
    return replace(mesh, colours=torch.cat(colours).numpy(), normals=torch.cat(normals).numpy())


def export_cameras(folder: Path, experiment: Experiment) -> list[str]:
    """Write the training cameras, as learnt, in every format that the readers know.

    ``cameras.npz`` (IDR), ``<scene name>_par.txt`` (Middlebury), ``transforms.json`` (NeRF) and
    ``colmap/`` (text), in world units and aligned as the mesh is. Returns why for each format that
    cannot hold them: two know no skew, two no blanks in image names.
    """
    scene = experiment.scene
    alignment = true_from_learnt(experiment.config.cameras, scene, experiment.cameras)
    cameras = moved(experiment.cameras, alignment)
    world, names = scene.training.world_from_object, scene.training_names
    images, masks = _picture_files(Path(experiment.config.data.path), names, folder)
    folder.mkdir(parents=True, exist_ok=True)
    par = folder / f"{scene_name(experiment)}_par.txt"
    capture = capture_of(cameras, world)
    write_idr_cameras(folder / "cameras.npz", capture)
    problems = []
    for write in (
        lambda: write_middlebury(par, capture, names),
        lambda: write_transforms(folder / "transforms.json", capture, images, masks),
        lambda: write_colmap_text(folder / "colmap", capture, names),
    ):
        try:
            write()
        except UserError as error:
            problems.append(str(error))
    return problems


def _picture_files(
    data: Path, names: list[str], folder: Path
) -> tuple[list[str], list[str] | None]:
    """Paths of the views' images and masks as seen from ``folder``; no masks: they are alpha."""
    places = [data / place for place in ("image", "rgb", "images", "train", ".")]
    place = next((place for place in places if (place / names[0]).is_file()), data)
    images = [os.path.relpath(place / name, folder) for name in names]
    if not (data / "mask").is_dir():
        return images, None
    # Images and masks are paired by their order among all views, held-out ones too.
    pairs = zip(view_files(place, SUFFIXES), view_files(data / "mask", SUFFIXES), strict=True)
    mask_of = {image.name: mask for image, mask in pairs}
    return images, [os.path.relpath(mask_of[name], folder) for name in names]
