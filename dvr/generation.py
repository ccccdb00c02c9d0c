"""Coloured meshes from a trained model."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from common.data.images import list_images, read_input_image
from common.errors import UserError
from common.fields.encoders import EmbeddingEncoder
from common.meshes.bake import TextureSettings, bake
from common.meshes.extract import extract_mesh
from common.meshes.files import save_mesh, save_textured
from common.meshes.mesh import Mesh, simplify_mesh, transform_mesh
from common.meshes.refine import refine_mesh
from common.meshes.textured import TexturedMesh
from common.progress import followed
from dvr.config import GenerationConfig
from dvr.data import Objects
from dvr.model import DVRModel, images_to_input
from dvr.pictures import field_normals, object_condition

CHUNK = 65536

Written = Callable[[Path, Mesh], None]  # told of a file and the mesh, in world units, that it holds


@dataclass(frozen=True)
class Subject:
    """Something to make a mesh of: where the file goes, the field's condition, and its frame."""

    category: str
    name: str
    condition: Float[Tensor, "blocks 1 hidden"]
    world_from_object: Float[np.ndarray, "4 4"]


def save_meshes(
    meshes: Path,
    model: DVRModel,
    subjects: Iterator[Subject],
    config: GenerationConfig,
    texture: TextureSettings | None = None,
    written: Written | None = None,
) -> list[str]:
    """Write <category>/<name>.<extension> of every subject in world units.

    With colours and normals at their vertices, or with a ``texture``. Returns the names of those
    without a surface; they leave no file. Raises UserError for textures of a model without colour.
    """
    if texture is not None and not model.config.model.colour:
        raise UserError(
            "this run learnt no texture field to paint a texture from; leave --textured out, or "
            "train with model.colour: true"
        )
    empty = []
    for subject in followed(subjects, "meshes", "object"):
        mesh = make_mesh(model, subject.condition, config)
        path = meshes / subject.category / f"{subject.name}.{config.extension}"
        if mesh.empty:
            path.unlink(missing_ok=True)
            empty.append(f"{subject.category}/{subject.name}")
            continue
        in_world = transform_mesh(mesh, subject.world_from_object)
        if texture is None:
            save_mesh(path, in_world)
        else:
            textured = texture_mesh(model, subject.condition, mesh, texture)
            moved = transform_mesh(textured.mesh, subject.world_from_object)
            save_textured(path, replace(textured, mesh=moved))
        if written is not None:
            written(path, in_world)
    return empty


def texture_mesh(
    model: DVRModel,
    condition: Float[Tensor, "blocks 1 hidden"],
    mesh: Mesh,
    settings: TextureSettings,
) -> TexturedMesh:
    """A mesh with normals, in its own frame, painted from the texture field."""
    level = model.level(condition)

    def surface(points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            value = level(points)
            (gradient,) = torch.autograd.grad(value.sum(), points)
        return value.detach(), gradient

    def shade(
        points: Float[Tensor, "N 3"],
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        with torch.no_grad():
            colour = model.decoder.colour(points, condition)
        return colour, field_normals(model, condition, points)

    return bake(mesh, surface, shade, settings, chunk=CHUNK, device=condition.device)


def make_mesh(
    model: DVRModel,
    condition: Float[Tensor, "blocks 1 hidden"],
    config: GenerationConfig,
    progress: Callable[[int], None] | None = None,
) -> Mesh:
    """The surface of one object in its own frame, refined, simplified and coloured as configured.

    Empty where the field has no surface in the cube.
    """
    half, device = 0.5, condition.device
    level = model.level(condition)
    with torch.no_grad():
        mesh = extract_mesh(
            level,
            (-half, -half, -half),
            (half, half, half),
            config.resolution,
            min(config.coarse_resolution, config.resolution),
            chunk=CHUNK,
            device=device,
            progress=progress,
        ).mesh
    if mesh.empty:
        return mesh
    if config.faces is not None:
        mesh = simplify_mesh(mesh, config.faces)
    if config.refinement_steps:
        # After simplifying: fewer faces to evaluate, and what collapsing edges moved is mended.
        mesh = refine_mesh(mesh, level, steps=config.refinement_steps, chunk=CHUNK, device=device)
    points = torch.from_numpy(mesh.vertices).float().to(device)
    normals = torch.cat([field_normals(model, condition, some) for some in points.split(CHUNK)])
    colours = vertex_colours(model, condition, points) if model.config.model.colour else None
    return replace(mesh, colours=colours, normals=normals.cpu().numpy())


@torch.no_grad()
def vertex_colours(
    model: DVRModel,
    condition: Float[Tensor, "blocks 1 hidden"],
    points: Float[Tensor, "N 3"],
) -> UInt8[np.ndarray, "N 3"]:
    """The texture field at points, as 8-bit RGB."""
    colour = torch.cat([model.decoder.colour(some, condition) for some in points.split(CHUNK)])
    return (colour * 255).round().to(torch.uint8).cpu().numpy()


@torch.no_grad()
def subjects_of(model: DVRModel, objects: Objects, device: torch.device) -> Iterator[Subject]:
    """Every object of a split, seen through its first input picture."""
    for index, entry in enumerate(objects.entries):
        world = objects[index].views.world_from_object.numpy()
        condition = object_condition(model, objects, index, device)
        yield Subject(entry.category, entry.name, condition, world)


@torch.no_grad()
def subjects_in_folder(model: DVRModel, folder: Path, device: torch.device) -> Iterator[Subject]:
    """One's own pictures: every jpg and png of a flat folder.

    Raises UserError where the model has no encoder to look at them.
    """
    if isinstance(model.encoder, EmbeddingEncoder | None):
        raise UserError(
            f"{folder}: this run's encoder ('{model.config.model.encoder.kind}') takes no "
            "pictures; name a run that was trained with an image encoder, such as simple"
        )
    size = model.config.data.input.size
    files = list_images(folder)
    for file, name in zip(files, _names(files), strict=True):
        image = torch.from_numpy(read_input_image(file, size))[None]
        condition = model.condition(
            images_to_input(image).to(device), torch.zeros(1, dtype=torch.long, device=device)
        )
        yield Subject("images", name, condition, np.eye(4, dtype=np.float32))


def _names(files: Sequence[Path]) -> list[str]:
    """What the meshes of pictures are called: their stems, and where two share one a suffix too."""
    shared = Counter(file.stem for file in files)
    taken = {stem for stem, count in shared.items() if count == 1}
    names = []
    for file in files:
        name = file.stem
        if shared[name] > 1:
            name += f"_{file.suffix[1:]}"
            while name in taken:
                name += "_"
            taken.add(name)
        names.append(name)
    return names
