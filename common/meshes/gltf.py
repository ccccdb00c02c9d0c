"""Meshes as binary glTF 2.0 files (.glb), the format of web viewers."""

import json
import struct
from typing import Any

import imageio.v3 as imageio
import numpy as np
from jaxtyping import Float, UInt8

from common.errors import UserError
from common.meshes.mesh import Mesh, area_vectors
from common.meshes.textured import TexturedMesh, tangents

FLOAT, SHORT, UNSIGNED = 5126, 5123, 5125  # glTF's names of component types
VERTEX_BUFFER, INDEX_BUFFER = 34962, 34963
LINEAR, MIPMAPPED, CLAMPED = 9729, 9987, 33071
Document = dict[str, Any]

POLISHED, DULL = 0.1, 0.8
CLAY = [0.6, 0.6, 0.63, 1.0]
UNLIT: Document = {"KHR_materials_unlit": {}}
HEADER, CHUNK = struct.Struct("<4sII"), struct.Struct("<I4s")


def glb_bytes(shown: Mesh | TexturedMesh) -> bytes:
    """The content of a .glb file, in the mesh's own frame.

    Learnt colours, of vertices or of a texture, hold light and shadow already, so their material is
    unlit. A texture with an environment is sent out by a black, polished dielectric, which mirrors
    the surroundings that a viewer is given. With a normal map alone, which asks for light, it is
    a rough dielectric; a mesh without colours is clay.
    """
    mesh = shown.mesh if isinstance(shown, TexturedMesh) else shown
    binary = _Binary()
    attributes = {
        "POSITION": binary.add_vectors(mesh.vertices.astype("<f4"), bounds=True),
        "NORMAL": binary.add_vectors(_normals(mesh).astype("<f4")),
    }
    if isinstance(shown, TexturedMesh):
        if shown.normal_map is not None:
            tangent, sign = tangents(mesh, shown.uv)
            tangent4 = np.column_stack([tangent, sign])
            attributes["TANGENT"] = binary.add_vectors(tangent4.astype("<f4"))
        attributes["TEXCOORD_0"] = binary.add_vectors(shown.uv.astype("<f4"))
        material = _textured_material(shown)
    else:
        if mesh.colours is not None:
            attributes["COLOR_0"] = binary.add_vectors(_linear(mesh.colours))
        material = _plain_material(mesh)
    primitive = {"attributes": attributes, "indices": binary.add_indices(mesh), "material": 0}
    document: Document = {"asset": {"version": "2.0", "generator": "dvr-idr"}}
    if "extensions" in material:
        document["extensionsUsed"] = list(material["extensions"])
    document |= {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [material],
    }
    if isinstance(shown, TexturedMesh):
        document |= _pictures(shown, binary)
    document |= {
        "accessors": binary.accessors,
        "bufferViews": binary.views,
        "buffers": [{"byteLength": len(binary.content)}],
    }
    return pack_glb(document, bytes(binary.content))


def pack_glb(document: Document, binary: bytes) -> bytes:
    """A file of header, JSON chunk and, unless empty, binary chunk (glTF 2.0, section 4.4)."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    chunks = _chunk(b"JSON", text, b" ") + (_chunk(b"BIN\0", binary, b"\0") if binary else b"")
    return HEADER.pack(b"glTF", 2, HEADER.size + len(chunks)) + chunks


def unpack_glb(content: bytes) -> tuple[Document, bytes]:
    """The JSON document and the binary chunk of a file; UserError where it is no binary glTF 2."""
    try:
        magic, version, _ = HEADER.unpack_from(content)
        length, kind = CHUNK.unpack_from(content, HEADER.size)
        start = HEADER.size + CHUNK.size
        document = json.loads(content[start : start + length])
        binary = b""
        if len(content) >= start + length + CHUNK.size:
            size, _ = CHUNK.unpack_from(content, start + length)
            binary = content[start + length + CHUNK.size :][:size]
    except (struct.error, ValueError) as error:
        raise UserError(f"not a readable GLB file ({error}); write it again") from error
    if (magic, version, kind) != (b"glTF", 2, b"JSON") or not isinstance(document, dict):
        raise UserError("not a GLB file of glTF 2; write it again")
    return document, binary


def has_texture(content: bytes) -> bool:
    """Whether a binary glTF carries pictures; UserError where it is none."""
    return bool(unpack_glb(content)[0].get("images"))


class _Binary:
    """The bytes of a file, and the accessors and views by which its JSON names parts of them."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.views: list[dict] = []
        self.accessors: list[dict] = []

    def add_view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes, at a multiple of four; the view's index."""
        self.content += bytes(-len(self.content) % 4)
        view = {"buffer": 0, "byteOffset": len(self.content), "byteLength": len(data)}
        self.views.append(view if target is None else view | {"target": target})
        self.content += data
        return len(self.views) - 1

    def add_vectors(self, values: np.ndarray, bounds: bool = False) -> int:
        """Append a vector for every vertex, of floats or of shares as 16 bits; its accessor."""
        whole = values.dtype.kind == "u"
        accessor = {
            "bufferView": self.add_view(values.tobytes(), VERTEX_BUFFER),
            "componentType": SHORT if whole else FLOAT,
            "count": len(values),
            "type": f"VEC{values.shape[1]}",
        }
        if whole:
            accessor["normalized"] = True
        if bounds:
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def add_indices(self, mesh: Mesh) -> int:
        """Append the triangles, in 16 bits where these reach; their accessor."""
        # The largest number of either size is kept for other uses.
        short = len(mesh.vertices) < 2**16
        data = mesh.faces.astype("<u2" if short else "<u4").tobytes()
        self.accessors.append(
            {
                "bufferView": self.add_view(data, INDEX_BUFFER),
                "componentType": SHORT if short else UNSIGNED,
                "count": mesh.faces.size,
                "type": "SCALAR",
            }
        )
        return len(self.accessors) - 1


def _plain_material(mesh: Mesh) -> Document:
    reflection: Document = {"metallicFactor": 0.0, "roughnessFactor": DULL}
    if mesh.colours is not None:
        return {"pbrMetallicRoughness": reflection, "extensions": UNLIT}
    return {"pbrMetallicRoughness": reflection | {"baseColorFactor": CLAY}}


def _textured_material(textured: TexturedMesh) -> Document:
    reflection: Document = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    material: Document = {"pbrMetallicRoughness": reflection}
    if textured.environment is None:
        reflection["baseColorTexture"] = {"index": 0}
    else:
        # The environment is blurred already.
        reflection |= {"baseColorFactor": [0.0, 0.0, 0.0, 1.0], "roughnessFactor": POLISHED}
        material |= {"emissiveTexture": {"index": 0}, "emissiveFactor": [1.0, 1.0, 1.0]}
    if textured.normal_map is not None:
        material["normalTexture"] = {"index": 1}
    elif textured.environment is None:
        material["extensions"] = UNLIT
    return material


def _pictures(textured: TexturedMesh, binary: _Binary) -> Document:
    """The document's entries about the texture and the normal map, if there is one."""
    pictures = [textured.texture]
    if textured.normal_map is not None:
        pictures.append(textured.normal_map)
    sampler = {"magFilter": LINEAR, "minFilter": MIPMAPPED, "wrapS": CLAMPED, "wrapT": CLAMPED}
    return {
        "textures": [{"source": index, "sampler": 0} for index in range(len(pictures))],
        "samplers": [sampler],
        "images": [
            {"bufferView": binary.add_view(_png(picture)), "mimeType": "image/png"}
            for picture in pictures
        ],
    }


def _normals(mesh: Mesh) -> Float[np.ndarray, "V 3"]:
    """The mesh's normals, else the mean of the faces around each vertex; all of length one."""
    normals = mesh.normals
    if normals is None:
        normals = np.zeros((len(mesh.vertices), 3))
        np.add.at(normals, mesh.faces.ravel(), area_vectors(mesh).repeat(3, axis=0))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    # Where a field has no direction any will do.
    return np.where(length > 1e-12, normals / np.maximum(length, 1e-12), [[0.0, 0.0, 1.0]])


def _linear(colours: UInt8[np.ndarray, "V 3"]) -> np.ndarray:
    """Light in 16 bits, and opacity, from sRGB bytes: glTF's vertex colours are linear."""
    share = colours / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    opaque = np.ones((len(colours), 1))
    return (np.concatenate([light, opaque], axis=1) * 65535).round().astype("<u2")


def _png(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    return imageio.imwrite("<bytes>", picture, extension=".png")


def _chunk(kind: bytes, data: bytes, filler: bytes) -> bytes:
    data += filler * (-len(data) % 4)
    return CHUNK.pack(len(data), kind) + data
