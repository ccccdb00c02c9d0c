"""Meshes as binary glTF for the page's viewer, standing upright and in their true colours."""

import json
import struct

import numpy as np
from jaxtyping import Float, UInt8

from common.errors import UserError
from common.meshes.mesh import Mesh, area_vectors

_HEADER, _CHUNK = struct.Struct("<4sII"), struct.Struct("<I4s")
_FLOAT, _SHORT, _INT = 5126, 5123, 5125  # glTF's numbers for types
_VERTICES, _INDICES = 34962, 34963  # and for what a part of the buffer is for
_CLAY = (0.6, 0.6, 0.63, 1.0)
# glTF has y up and looks along -z; the pages' frame has z up.
GLTF_FROM_PAGE = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def glb_of(mesh: Mesh) -> bytes:
    """A mesh in its own frame; with colours these are shown as they are, without further light.

    They were learnt from photographs, so they hold the light already.
    """
    positions = mesh.vertices.astype("<f4")
    index = mesh.faces.astype("<u2" if len(positions) < 2**16 else "<u4")
    limits = {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
    buffer = _Buffer()
    attributes = {
        "POSITION": buffer.add(positions, "VEC3", _FLOAT, _VERTICES, limits),
        "NORMAL": buffer.add(_normals(mesh).astype("<f4"), "VEC3", _FLOAT, _VERTICES),
    }
    material: dict = {"pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 0.8}}
    if mesh.colours is None:
        material["pbrMetallicRoughness"]["baseColorFactor"] = _CLAY
    else:
        light = _linear(mesh.colours)
        extra = {"normalized": True}
        attributes["COLOR_0"] = buffer.add(light, "VEC4", _SHORT, _VERTICES, extra)
        material["extensions"] = {"KHR_materials_unlit": {}}
    kind = _SHORT if index.itemsize == 2 else _INT
    indices = buffer.add(index.reshape(-1, 1), "SCALAR", kind, _INDICES)
    document = {
        "asset": {"version": "2.0"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [material],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.content)}],
    }
    return _packed(document, bytes(buffer.content))


def placed_glb(content: bytes, matrix: Float[np.ndarray, "4 4"]) -> bytes:
    """The same scene moved by a matrix as a whole; UserError where it is no binary glTF 2."""
    document, rest = _unpacked(content)
    scenes, nodes = document.get("scenes"), document.setdefault("nodes", [])
    if not scenes or not isinstance(nodes, list):
        raise UserError("the GLB file has no scene; write it again")
    scene = scenes[document.get("scene", 0)]
    nodes.append({"children": scene.get("nodes", []), "matrix": matrix.T.flatten().tolist()})
    scene["nodes"] = [len(nodes) - 1]
    return _packed(document, rest)


def has_texture(content: bytes) -> bool:
    """Whether a binary glTF carries pictures; UserError where it is none."""
    return bool(_unpacked(content)[0].get("images"))


class _Buffer:
    """The one buffer of a file, and what its parts are."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.views: list[dict] = []
        self.accessors: list[dict] = []

    def add(
        self, values: np.ndarray, kind: str, number: int, use: int, more: dict | None = None
    ) -> int:
        """Append values; the number of their accessor."""
        data = values.tobytes()
        view = {"buffer": 0, "byteOffset": len(self.content), "byteLength": len(data)}
        self.views.append(view | {"target": use})
        accessor: dict = {"bufferView": len(self.views) - 1, "componentType": number}
        accessor |= {"count": len(values), "type": kind}
        self.accessors.append(accessor | (more or {}))
        self.content += data + b"\0" * (-len(data) % 4)
        return len(self.accessors) - 1


def _normals(mesh: Mesh) -> Float[np.ndarray, "V 3"]:
    """The mesh's normals, else the mean of the faces around each vertex."""
    normals = mesh.normals
    if normals is None:
        normals = np.zeros((len(mesh.vertices), 3))
        np.add.at(normals, mesh.faces.ravel(), area_vectors(mesh).repeat(3, axis=0))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    # glTF wants unit normals; where a field has none any direction will do.
    return np.where(length > 1e-12, normals / np.maximum(length, 1e-12), [[0.0, 0.0, 1.0]])


def _linear(colours: UInt8[np.ndarray, "V 3"]) -> np.ndarray:
    """Light of 16 bits and an alpha from sRGB bytes: glTF's vertex colours are linear."""
    share = colours / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    opaque = np.ones((len(colours), 1))
    return (np.concatenate([light, opaque], axis=1) * 65535).round().astype("<u2")


def _packed(document: dict, rest: bytes) -> bytes:
    head = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    head += b" " * (-len(head) % 4)
    chunks = _CHUNK.pack(len(head), b"JSON") + head
    if rest:
        chunks += _CHUNK.pack(len(rest), b"BIN\0") + rest
    return _HEADER.pack(b"glTF", 2, _HEADER.size + len(chunks)) + chunks


def _unpacked(content: bytes) -> tuple[dict, bytes]:
    """The document and the buffer of a file."""
    try:
        magic, version, _ = _HEADER.unpack_from(content)
        length, kind = _CHUNK.unpack_from(content, _HEADER.size)
        start = _HEADER.size + _CHUNK.size
        document = json.loads(content[start : start + length])
        rest = b""
        if len(content) >= start + length + _CHUNK.size:
            size, _ = _CHUNK.unpack_from(content, start + length)
            rest = content[start + length + _CHUNK.size :][:size]
    except (struct.error, ValueError) as error:
        raise UserError(f"not a readable GLB file ({error}); write it again") from error
    if (magic, version, kind) != (b"glTF", 2, b"JSON") or not isinstance(document, dict):
        raise UserError("not a GLB file of glTF 2; write it again")
    return document, rest
