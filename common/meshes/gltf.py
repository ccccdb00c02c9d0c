"""A textured mesh as one binary glTF 2.0 file (.glb), the format of web viewers."""

import json
import struct
from typing import Any

import imageio.v3 as imageio
import numpy as np

from common.meshes.textured import TexturedMesh, tangents

FLOAT, UNSIGNED = 5126, 5125  # glTF's names of component types
VERTEX_BUFFER, INDEX_BUFFER = 34962, 34963
LINEAR, MIPMAPPED, CLAMPED = 9729, 9987, 33071
POLISHED = 0.1


def glb_bytes(textured: TexturedMesh) -> bytes:
    """The content of a .glb file.

    The texture holds light and shadow already, so the material is unlit: viewers show the learnt
    colours. With an environment the texture is sent out by a black, polished dielectric, which
    mirrors the surroundings that a viewer is given. With a normal map alone, which asks for light,
    it is a rough dielectric.
    """
    mesh, normal_map = textured.mesh, textured.normal_map
    binary = _Binary()
    attributes = {"POSITION": binary.add_vectors(mesh.vertices, bounds=True)}
    if mesh.normals is not None:
        attributes["NORMAL"] = binary.add_vectors(mesh.normals)
    if normal_map is not None:
        tangent, sign = tangents(mesh, textured.uv)
        attributes["TANGENT"] = binary.add_vectors(np.column_stack([tangent, sign]))
    attributes["TEXCOORD_0"] = binary.add_vectors(textured.uv)
    indices = binary.add_indices(mesh.faces)
    pictures = [textured.texture] if normal_map is None else [textured.texture, normal_map]
    images = [
        {"bufferView": binary.add_view(_png(picture)), "mimeType": "image/png"}
        for picture in pictures
    ]
    material = _material(textured)
    content: dict[str, Any] = {"asset": {"version": "2.0", "generator": "dvr-idr"}}
    if "extensions" in material:
        content["extensionsUsed"] = list(material["extensions"])
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    content |= {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [material],
        "textures": [{"source": index, "sampler": 0} for index in range(len(images))],
        "samplers": [
            {"magFilter": LINEAR, "minFilter": MIPMAPPED, "wrapS": CLAMPED, "wrapT": CLAMPED}
        ],
        "images": images,
        "accessors": binary.accessors,
        "bufferViews": binary.views,
        "buffers": [{"byteLength": len(binary.content)}],
    }
    return _container(content, bytes(binary.content))


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
        """Append a vector for every vertex; the accessor's index."""
        single = values.astype("<f4")
        accessor = {
            "bufferView": self.add_view(single.tobytes(), VERTEX_BUFFER),
            "componentType": FLOAT,
            "count": len(single),
            "type": f"VEC{single.shape[1]}",
        }
        if bounds:
            accessor |= {"min": single.min(axis=0).tolist(), "max": single.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def add_indices(self, faces: np.ndarray) -> int:
        """Append the triangles; the accessor's index."""
        view = self.add_view(faces.astype("<u4").tobytes(), INDEX_BUFFER)
        self.accessors.append(
            {"bufferView": view, "componentType": UNSIGNED, "count": faces.size, "type": "SCALAR"}
        )
        return len(self.accessors) - 1


def _material(textured: TexturedMesh) -> dict[str, Any]:
    reflection: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    material: dict[str, Any] = {"pbrMetallicRoughness": reflection}
    if textured.environment is None:
        reflection["baseColorTexture"] = {"index": 0}
    else:
        # The environment is blurred already.
        reflection |= {"baseColorFactor": [0.0, 0.0, 0.0, 1.0], "roughnessFactor": POLISHED}
        material |= {"emissiveTexture": {"index": 0}, "emissiveFactor": [1.0, 1.0, 1.0]}
    if textured.normal_map is not None:
        material["normalTexture"] = {"index": 1}
    elif textured.environment is None:
        material["extensions"] = {"KHR_materials_unlit": {}}
    return material


def _png(picture: np.ndarray) -> bytes:
    return imageio.imwrite("<bytes>", picture, extension=".png")


def _container(content: dict, binary: bytes) -> bytes:
    """Header, JSON chunk and binary chunk (glTF 2.0, section 4.4)."""
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    chunks = b"".join(
        struct.pack("<I4s", len(data), kind) + data
        for kind, data in ((b"JSON", text), (b"BIN\0", binary))
    )
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
