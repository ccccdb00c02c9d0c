"""Find the meshes below a folder, and read one as textured triangles in the unit cube.

A folder of meshes may be flat (each file an object), hold one sub-folder per object, or hold
category folders of such sub-folders; ShapeNetCore's `<id>/models/*.obj` is one of these. A
`manifest.json` beside the object folders, a list of {"dir", "main", ...}, names the file to take
and carries credits.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, UInt8

from common.errors import UserError

SUFFIXES = (".obj", ".ply", ".glb", ".gltf", ".stl", ".off")
# The rest of the cube's side is padding, so that no surface touches the border of a marched volume.
LONGEST_SIDE = 0.9
SLIVER = 1e-12  # the least area of a triangle, over the square of the object's side
GREY = (0.6, 0.6, 0.6)


@dataclass(frozen=True)
class MeshSource:
    """One object of a collection to be: its file, and whatever is known about it."""

    category: str
    name: str
    path: Path
    passed_over: int  # other meshes in the same folder
    credit: dict[str, object]  # the manifest's entry, empty without one


@dataclass(frozen=True)
class Part:
    """F triangles of one material; corners have their own attributes, colours are sRGB, 0 to 1."""

    corners: Float[np.ndarray, "F 3 3"]
    uv: Float[np.ndarray, "F 3 2"] | None  # v upwards, set where there is a texture
    texture: UInt8[np.ndarray, "h w 3"] | None
    colours: Float[np.ndarray, "F 3 3"] | None  # per corner, instead of a texture
    colour: tuple[float, float, float]  # where there is neither


def find_objects(mesh_dir: Path, category: str | None = None) -> list[MeshSource]:
    """All objects below a folder in sorted order.

    Without a ``category`` the name of the folder that lists the objects is used. Raises UserError
    where the folder is missing or has no meshes, or its manifest cannot be used.
    """
    if not mesh_dir.is_dir():
        raise UserError(f"{mesh_dir}: no such folder; expected a folder of meshes")
    sources = _objects_in(mesh_dir, category or mesh_dir.resolve().name)
    for folder in _subfolders(mesh_dir):
        if not _meshes_of(folder):
            sources += _objects_in(folder, category or folder.name)
    if not sources:
        raise UserError(
            f"{mesh_dir}: no meshes found; expected files ending in {', '.join(SUFFIXES)} here, "
            "in one folder per object, or in category folders of those"
        )
    return sources


def read_parts(path: Path) -> list[Part]:
    """Every triangle of a mesh file with the file's own scene transforms applied, in file units.

    Triangles without area (SLIVER) are left out. Raises UserError where the file cannot be read,
    is not finite, or holds no triangle.
    """
    try:
        parts = _parts_of(trimesh.load_scene(path, process=False))
    except Exception as error:  # the parsers raise whatever they stumble over
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"{path}: cannot be read as a mesh ({reason}); write or download it again"
        ) from error
    if not all(np.isfinite(part.corners).all() for part in parts):
        raise UserError(f"{path}: has vertices that are not finite numbers")
    parts = _without_slivers(parts)
    if not parts:
        raise UserError(f"{path}: holds no triangle with an area")
    return parts


def normalise(parts: list[Part], up: str) -> tuple[list[Part], Float[np.ndarray, "4 4"]]:
    """Turn ``up`` ("y" or "z") to +y, centre, and scale the longest side to LONGEST_SIDE.

    Returns the parts in the object frame, and object_from_file.
    """
    rotation = np.eye(3) if up == "y" else np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    corners = np.concatenate([part.corners.reshape(-1, 3) for part in parts]) @ rotation.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    scale = LONGEST_SIDE / (high - low).max()
    object_from_file = np.eye(4)
    object_from_file[:3, :3] = scale * rotation
    object_from_file[:3, 3] = -scale * (low + high) / 2
    moved = [
        replace(part, corners=part.corners @ object_from_file[:3, :3].T + object_from_file[:3, 3])
        for part in parts
    ]
    return moved, object_from_file


def missing_files(path: Path) -> list[str]:
    """Material and texture files that an OBJ names and lacks; what they colour is then plain."""
    if path.suffix.lower() != ".obj":
        return []
    libraries = _named_files(path, "mtllib")
    textures = [file for library in libraries for file in _named_files(library, "map_Kd")]
    return sorted({file.name for file in libraries + textures if not file.is_file()})


def _objects_in(folder: Path, category: str) -> list[MeshSource]:
    """The objects a folder lists: its own meshes, and its sub-folders that hold meshes."""
    manifest = _read_manifest(folder / "manifest.json")
    sources = [MeshSource(category, path.stem, path, 0, {}) for path in _meshes_in(folder)]
    for child in _subfolders(folder):
        meshes = _meshes_of(child)
        if meshes:
            credit = manifest.get(child.name, {})
            path = _main_mesh(child, meshes, credit)
            sources.append(MeshSource(category, child.name, path, len(meshes) - 1, credit))
    return sources


def _main_mesh(folder: Path, meshes: list[Path], entry: dict[str, object]) -> Path:
    """The manifest's main mesh, else the largest file."""
    main = entry.get("main")
    name = main[0] if isinstance(main, list) and main else main
    if name is None:
        return max(meshes, key=lambda path: path.stat().st_size)
    path = folder / str(name)
    if not path.is_file():
        raise UserError(
            f"{folder.parent / 'manifest.json'}: names {name} as the main mesh of {folder.name}, "
            "which is not there; correct or remove the entry"
        )
    return path


def _read_manifest(path: Path) -> dict[str, dict[str, object]]:
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {str(entry["dir"]): dict(entry) for entry in entries}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'{path}: expected a JSON list of {{"dir": folder, "main": file, ...}}; '
            "correct it, or rename it if it is not about these meshes"
        ) from error


def _named_files(path: Path, keyword: str) -> list[Path]:
    """The files given by the last word of an OBJ's or MTL's lines that begin with a keyword."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace") as lines:
        words = [line.split() for line in lines if line.strip().startswith(keyword)]
    return [path.parent / line[-1].replace("\\", "/") for line in words if len(line) > 1]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _meshes_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _meshes_of(folder: Path) -> list[Path]:
    """An object folder's meshes, directly in it or in `models/` as ShapeNetCore has them."""
    models = folder / "models"
    return _meshes_in(folder) or (_meshes_in(models) if models.is_dir() else [])


def _parts_of(scene: trimesh.Scene) -> list[Part]:
    """Every mesh of a scene, with its triangles in place; pictures are decoded here, not before."""
    placed = [scene.graph[node] for node in scene.graph.nodes_geometry]
    meshes = [(scene.geometry[name], transform) for transform, name in placed]
    return [
        _part(mesh, transform)
        for mesh, transform in meshes
        if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces)
    ]


def _part(mesh: trimesh.Trimesh, transform: Float[np.ndarray, "4 4"]) -> Part:
    if mesh.faces.min() < 0:  # would count from the end
        raise ValueError("a triangle names a vertex below the first")
    corners = (mesh.vertices @ transform[:3, :3].T + transform[:3, 3])[mesh.faces]
    visual: Any = mesh.visual  # its kind says which attributes it has
    if visual.kind == "vertex":
        colours = np.asarray(visual.vertex_colors)[mesh.faces, :3] / 255
        return Part(corners, None, None, colours, GREY)
    if visual.kind == "face":
        colours = np.repeat(np.asarray(visual.face_colors)[:, None, :3], 3, axis=1) / 255
        return Part(corners, None, None, colours, GREY)
    if visual.kind != "texture":
        return Part(corners, None, None, None, GREY)
    material, uv = visual.material, visual.uv
    texture = _texture(material)
    if texture is None or uv is None or len(uv) != len(mesh.vertices):
        colour = np.asarray(material.main_color, dtype=float)[:3] / 255
        return Part(corners, None, None, None, (colour[0], colour[1], colour[2]))
    return Part(corners, np.asarray(uv, dtype=float)[mesh.faces], texture, None, GREY)


def _texture(material) -> UInt8[np.ndarray, "h w 3"] | None:
    """The base colour image; what is transparent in it counts as opaque."""
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        image, factor = material.baseColorTexture, material.baseColorFactor
    else:  # an MTL's diffuse colour is replaced by its map, not multiplied
        image, factor = material.image, None
    if image is None:
        return None
    texture = np.array(image.convert("RGB"))
    if factor is not None:
        texture = (texture * (np.asarray(factor)[:3] / 255)).astype(np.uint8)
    return texture


def _without_slivers(parts: list[Part]) -> list[Part]:
    if not parts:
        return []
    corners = np.concatenate([part.corners.reshape(-1, 3) for part in parts])
    least = SLIVER * np.ptp(corners, axis=0).max() ** 2
    return [part for part in (_larger_than(part, least) for part in parts) if len(part.corners)]


def _larger_than(part: Part, least: float) -> Part:
    edges = part.corners[:, 1:] - part.corners[:, :1]
    keep = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2 > least
    return replace(
        part,
        corners=part.corners[keep],
        uv=None if part.uv is None else part.uv[keep],
        colours=None if part.colours is None else part.colours[keep],
    )
