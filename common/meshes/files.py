"""Meshes on disk: .ply, .obj, .glb and .off."""

import os
from pathlib import Path

import numpy as np
import trimesh
from trimesh.exchange import gltf, obj, off, ply
from trimesh.visual import ColorVisuals

from common.errors import UserError
from common.meshes.mesh import Mesh

SUFFIXES = (".ply", ".obj", ".glb", ".off")
# Digits after the point in text files: as exact as the 32-bit coordinates of PLY and GLB.
DIGITS = 9


def save_mesh(path: Path, mesh: Mesh) -> None:
    """Write a mesh in the format of the path's suffix, with the colours and normals it has.

    OFF files hold the geometry alone. The file appears complete or not at all. Raises UserError for
    other suffixes and for an empty mesh.
    """
    path = Path(path)
    _check_suffix(path)
    if mesh.empty:
        raise UserError(
            f"{path}: there is no surface to save: the field has the same sign everywhere in its "
            "box; train for longer, or check the data's masks and cameras"
        )
    with_normals = mesh.normals is not None
    solid = _to_trimesh(mesh)
    match path.suffix.lower():
        case ".ply":
            content = ply.export_ply(solid, vertex_normal=with_normals)
        case ".obj":
            content = obj.export_obj(
                solid, include_normals=with_normals, write_texture=False, digits=DIGITS
            ).encode()
        case ".glb":
            content = gltf.export_glb(solid.scene(), include_normals=with_normals)
        case _:
            content = off.export_off(solid, digits=DIGITS).encode()
    _write_atomically(path, content)


def load_mesh(path: Path) -> Mesh:
    """Read a mesh of a supported format; several pieces in one file are put together.

    Vertices and faces are those of the file, unmerged and unsorted; normals are not read. Raises
    UserError where the file is missing, damaged or has no triangle.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such mesh file; check the path")
    try:
        loaded = trimesh.load_mesh(path, process=False)
    except Exception as error:  # each format's parser has its own kinds
        raise UserError(
            f"{path}: this is not a readable {path.suffix} mesh ({error}); write it again"
        ) from error
    if not isinstance(loaded, trimesh.Trimesh) or len(loaded.faces) == 0:
        raise UserError(f"{path}: the file has no triangles; expected a surface mesh")
    faces = np.asarray(loaded.faces, np.int64)
    vertices = np.asarray(loaded.vertices, np.float64)
    if faces.min() < 0 or faces.max() >= len(vertices) or not np.isfinite(vertices).all():
        raise UserError(
            f"{path}: the mesh is damaged: a triangle names a vertex that is not there, or a "
            "coordinate is not finite; write it again"
        )
    colours = None
    if isinstance(loaded.visual, ColorVisuals) and loaded.visual.kind == "vertex":
        colours = np.asarray(loaded.visual.vertex_colors[:, :3], np.uint8)
    return Mesh(vertices, faces, colours)


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{path}: meshes of type '{path.suffix}' are not supported; "
            f"use one of {', '.join(SUFFIXES)}"
        )


def _to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(
        mesh.vertices,
        mesh.faces,
        vertex_normals=mesh.normals,
        vertex_colors=mesh.colours,
        process=False,
    )


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        # A full disk reports no name; say which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)
