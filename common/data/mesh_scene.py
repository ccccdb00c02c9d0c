"""A multi-view scene folder from one mesh file: pictures, masks, cameras and the true surface.

All that photographs leave unknown is known exactly here, so reconstructions can be measured: by
distance to the surface, by normals, by camera poses. On a textured ground, the pictures alone tell
structure from motion where they were taken from, as one's own photographs do.

While it is made, its pictures lie in `<out>.unfinished`, from where an interrupted command goes on;
a folder `<out>` that exists is complete.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from common.cameras import Cameras
from common.data.images import SUFFIXES as PICTURES
from common.data.images import read_image
from common.data.mesh_files import SUFFIXES as MESHES
from common.data.mesh_files import Part, find_objects, normalise, read_parts
from common.data.mesh_rendering import cameras_all_around, lit_scene, load_mitsuba, photograph
from common.data.mesh_truth import Solid, depth_maps, load_embree, solid, visible_surface
from common.data.origin import ORIGIN, open_origin
from common.data.scene_writer import SceneRecord, write_scene_files
from common.data.textured_ground import textured_ground
from common.errors import UserError, naming

SURFACE_POINTS = 100_000
RADIUS = 0.9  # of the object's ball; a reconstruction starts from, and is bounded by, the unit one
ALL_AROUND = (-90.0, 90.0)  # elevations of cameras, degrees
ABOVE_GROUND = (15.0, 65.0)


@dataclass(frozen=True)
class SceneSettings:
    """What decides the contents of a scene, besides its mesh."""

    views: int
    size: int  # pixels
    samples: int  # light paths a pixel
    seed: int
    up: str  # "y" or "z"
    distance: float  # of the cameras from the origin, object units
    focal: float  # 1 where a pixel at the image's edge is seen at 45 degrees
    gloss: float  # 0 to 1
    ground: bool  # whether the object stands on one, seen from above only


def find_mesh(path: Path) -> Path:
    """The mesh file itself, or the only object below a folder; UserError where there is no one."""
    if path.is_file():
        if path.suffix.lower() not in MESHES:
            raise UserError(f"{path}: not a mesh; expected a file ending in {', '.join(MESHES)}")
        return path
    sources = find_objects(path)
    if len(sources) > 1 or sources[0].passed_over:
        raise UserError(f"{path}: holds more than one mesh; a scene is of one, so name its file")
    return sources[0].path


def find_texture(mesh: Path) -> Path | None:
    """The picture to wrap around a mesh whose file names no material: the only one beside it."""
    pictures = [file for file in mesh.parent.iterdir() if file.suffix.lower() in PICTURES]
    # What has texture coordinates but no material is read with a plain grey texture.
    textures = [part.texture for part in read_parts(mesh)]
    plain = all(texture is not None and np.ptp(texture) == 0 for texture in textures)
    return pictures[0] if plain and len(pictures) == 1 else None


def read_textured(mesh: Path, texture: Path | None) -> list[Part]:
    """The mesh's parts, with this picture (None: the file's own) wherever they have a texture.

    Raises UserError where the mesh or the picture cannot be read, or nothing would show it.
    """
    parts = read_parts(mesh)
    if texture is None:
        return parts
    if all(part.uv is None for part in parts):
        raise UserError(
            f"{mesh}: has no texture coordinates, or colours instead; leave out {texture}"
        )
    picture = read_image(texture)
    return [part if part.uv is None else replace(part, texture=picture) for part in parts]


def fit_to_ball(parts: list[Part], up: str) -> tuple[list[Part], Float[np.ndarray, "4 4"]]:
    """Turn ``up`` to +y, centre the bounding box, and scale to a ball of RADIUS.

    Returns the parts in the object frame, and world_from_object; the world is the file's frame.
    """
    parts, cube_from_file = normalise(parts, up)
    corners = np.concatenate([part.corners.reshape(-1, 3) for part in parts])
    scale = RADIUS / np.linalg.norm(corners, axis=1).max()
    object_from_file = np.diag([scale, scale, scale, 1.0]) @ cube_from_file
    scaled = [replace(part, corners=scale * part.corners) for part in parts]
    return scaled, np.linalg.inv(object_from_file)


def describe(mesh: Path, texture: Path | None, settings: SceneSettings) -> dict[str, Any]:
    """What the scene's `origin.yaml` notes."""
    return {"mesh": mesh.name, "texture": texture and texture.name, **asdict(settings)}


def is_scene_finished(out: Path, description: dict[str, Any]) -> bool:
    """Whether the scene is there; UserError where the folder holds something else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    open_origin(out, description)
    return True


def render_scene(
    mesh: Path, texture: Path | None, out: Path, settings: SceneSettings
) -> Iterator[int]:
    """Render the scene or what is missing of it; yields the number of views there are, after each.

    Raises UserError where the mesh or its texture cannot be read, the object falls between the
    pixels of some view or cannot be seen, or the pictures there were taken with other settings.
    """
    load_mitsuba(), load_embree()
    work = out.with_name(f"{out.name}.unfinished")
    open_origin(work, describe(mesh, texture, settings))
    parts, world_from_object = fit_to_ball(read_textured(mesh, texture), settings.up)
    shape = solid(np.concatenate([part.corners for part in parts]))
    rng = np.random.default_rng(settings.seed)
    cameras = cameras_all_around(
        settings.views,
        settings.size,
        settings.distance,
        settings.focal,
        rng,
        ABOVE_GROUND if settings.ground else ALL_AROUND,
    )
    with naming(mesh):
        masks = _masks(shape, cameras)
        points, normals = visible_surface(shape, SURFACE_POINTS, rng)
    lowest = float(shape.triangles[..., 1].min())
    ground = textured_ground(lowest, settings.seed) if settings.ground else None
    scene = lit_scene(parts, settings.gloss, "soft", ground)
    pictures = [work / f"{view}.png" for view in range(settings.views)]
    for view, picture in enumerate(pictures):
        if not picture.is_file():
            image = photograph(scene, cameras, view, settings.samples, settings.seed)
            _save_at_once(image, picture)
        yield view + 1
    linear, shift = world_from_object[:3, :3], world_from_object[:3, 3]
    rotation = linear / np.cbrt(np.linalg.det(linear))
    record = SceneRecord(
        images=np.stack([read_image(picture) for picture in pictures]),
        coverage=masks.astype(np.uint8) * 255,
        cameras=cameras,
        world_from_object=world_from_object,
        surface_points=(points @ linear.T + shift).astype(np.float32),
        surface_normals=(normals @ rotation.T).astype(np.float32),
    )
    write_scene_files(work / "scene", record)
    shutil.copy(work / ORIGIN, work / "scene" / ORIGIN)
    (work / "scene").rename(out)
    shutil.rmtree(work)


def _masks(shape: Solid, cameras: Cameras) -> Bool[np.ndarray, "V H W"]:
    """Pixels whose centres show the object; UserError where a view has none."""
    masks = np.isfinite(depth_maps(shape, cameras))
    if not masks.any(axis=(1, 2)).all():
        raise UserError("falls between the pixels in some view; raise --size")
    return masks


def _save_at_once(image: UInt8[np.ndarray, "H W 3"], path: Path) -> None:
    """Save a picture so that a file of this name is never half of one."""
    partial = path.with_suffix(".partial")
    Image.fromarray(image).save(partial, format="PNG")
    partial.rename(path)
