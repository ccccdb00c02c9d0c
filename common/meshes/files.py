"""Meshes on disk: .ply, .obj, .glb and .off; with a texture .glb and .obj."""

import os
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import trimesh
from jaxtyping import UInt8
from PIL.Image import Image
from trimesh.exchange import gltf, obj, off, ply
from trimesh.visual import ColorVisuals, TextureVisuals

from common.errors import UserError
from common.meshes.gltf import glb_bytes
from common.meshes.mesh import Mesh
from common.meshes.radiance import hdr_bytes, read_hdr
from common.meshes.textured import TexturedMesh
from common.meshes.wavefront import material_text, object_text

SUFFIXES = (".ply", ".obj", ".glb", ".off")
TEXTURED_SUFFIXES = (".glb", ".obj")
# Digits after the point in text files: as exact as the 32-bit coordinates of PLY and GLB.
DIGITS = 9


def save_mesh(path: Path, mesh: Mesh) -> None:
    """Write a mesh in the format of the path's suffix, with the colours and normals it has.

    OFF files hold the geometry alone. The file appears complete or not at all. Raises UserError for
    other suffixes and for an empty mesh.
    """
    path = Path(path)
    _check_suffix(path, SUFFIXES, "meshes")
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
    _check_suffix(path, SUFFIXES, "meshes")
    loaded = _parse(path, lambda: trimesh.load_mesh(path, process=False))
    colours = None
    if isinstance(loaded.visual, ColorVisuals) and loaded.visual.kind == "vertex":
        colours = np.asarray(loaded.visual.vertex_colors[:, :3], np.uint8)
    return Mesh(*_geometry(path, loaded), colours)


def save_textured(path: Path, textured: TexturedMesh) -> None:
    """Write a mesh with its texture: one .glb file, or an .obj with its material and pictures.

    An environment goes to <name>_environment.hdr beside the .glb; no .obj can be told of it. Beside
    an .obj lie .mtl, .png and, with a normal map, _normals.png of its name, blanks replaced: the
    formats' readers end a file's name at a blank. Each file appears complete or not at all, the one
    of ``path`` last. Raises UserError for other suffixes, and for an .obj with an environment.
    """
    path = Path(path)
    _check_suffix(path, TEXTURED_SUFFIXES, "meshes with a texture")
    if path.suffix.lower() == ".glb":
        if textured.environment is not None:
            _write_atomically(_environment_file(path), hdr_bytes(textured.environment))
        _write_atomically(path, glb_bytes(textured))
        return
    if textured.environment is not None:
        raise UserError(f"{path}: .obj files know no mirrored surroundings; use .glb")
    stem = "_".join(path.stem.split())
    texture, material = path.with_name(f"{stem}.png"), path.with_name(f"{stem}.mtl")
    _write_atomically(texture, _png(textured.texture))
    normals = None
    if textured.normal_map is not None:
        normals = path.with_name(f"{stem}_normals.png")
        _write_atomically(normals, _png(textured.normal_map))
    names = texture.name, None if normals is None else normals.name
    _write_atomically(material, material_text(*names).encode())
    _write_atomically(path, object_text(textured, material.name, DIGITS).encode())


def load_textured(path: Path) -> TexturedMesh:
    """Read a mesh with its texture back, as ``save_textured`` wrote it.

    Vertices and faces are those of the file. Raises UserError as ``load_mesh`` does, and where the
    file has no texture.
    """
    path = Path(path)
    _check_suffix(path, TEXTURED_SUFFIXES, "meshes with a texture")
    loaded = _parse(path, lambda: _only_mesh(trimesh.load_scene(path, process=False)))
    visual = loaded.visual if isinstance(loaded.visual, TextureVisuals) else None
    material = None if visual is None else visual.material
    # PBR materials of .glb files and simple ones of .obj call the same things differently.
    names = ("emissiveTexture", "baseColorTexture", "image")
    texture = next((t for name in names if (t := getattr(material, name, None))), None)
    if visual is None or visual.uv is None or texture is None:
        raise UserError(
            f"{path}: the mesh has no texture; make one with generate_mesh.py --textured"
        )
    normals = getattr(material, "normalTexture", None)
    vertices, faces = _geometry(path, loaded)
    mesh = Mesh(vertices, faces, normals=np.array(loaded.vertex_normals, np.float64))
    # The parser turns every format's v to grow upwards.
    uv = np.asarray(visual.uv, np.float64) * [1, -1] + [0, 1]
    mirrors = getattr(material, "emissiveTexture", None) is not None
    return TexturedMesh(
        mesh,
        uv,
        _pixels(path, texture),
        None if normals is None else _pixels(path, normals),
        read_hdr(_environment_file(path)) if mirrors else None,
    )


def _pixels(path: Path, picture: Image) -> UInt8[np.ndarray, "h w 3"]:
    """Of a picture within a mesh file, which is decoded only now; UserError where it is damaged."""
    try:
        return np.asarray(picture.convert("RGB"))
    except Exception as error:  # each format's decoder has its own kinds
        raise UserError(
            f"{path}: a picture of its texture is damaged ({error}); write the mesh again"
        ) from error


def _environment_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}_environment.hdr")


def _only_mesh(scene: trimesh.Scene) -> trimesh.Trimesh:
    # The parser's own way to make one mesh of a scene forgets the normals.
    (mesh,) = scene.geometry.values()
    return mesh


def _parse(path: Path, read: Callable[[], trimesh.Trimesh]) -> trimesh.Trimesh:
    """The triangles that ``read`` finds in a file; UserError where it has none."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such mesh file; check the path")
    try:
        loaded = read()
    except Exception as error:  # each format's parser has its own kinds
        raise UserError(
            f"{path}: this is not a readable {path.suffix} mesh ({error}); write it again"
        ) from error
    if not isinstance(loaded, trimesh.Trimesh) or len(loaded.faces) == 0:
        raise UserError(f"{path}: the file has no triangles; expected a surface mesh")
    return loaded


def _geometry(path: Path, loaded: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces as they are in the file; UserError where they are damaged."""
    faces = np.asarray(loaded.faces, np.int64)
    vertices = np.asarray(loaded.vertices, np.float64)
    if faces.min() < 0 or faces.max() >= len(vertices) or not np.isfinite(vertices).all():
        raise UserError(
            f"{path}: the mesh is damaged: a triangle names a vertex that is not there, or a "
            "coordinate is not finite; write it again"
        )
    return vertices, faces


def _check_suffix(path: Path, suffixes: tuple[str, ...], what: str) -> None:
    if path.suffix.lower() not in suffixes:
        raise UserError(
            f"{path}: {what} of type '{path.suffix}' are not supported; "
            f"use one of {', '.join(suffixes)}"
        )


def _png(picture: np.ndarray) -> bytes:
    return imageio.imwrite("<bytes>", picture, extension=".png")


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
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name without its content
        os.replace(partial, path)
    except OSError as error:
        # A full disk reports no name; say which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)
