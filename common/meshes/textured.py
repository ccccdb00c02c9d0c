"""A mesh with a texture, and the frames in which its normal map is written."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from common.meshes.mesh import Mesh


@dataclass(frozen=True)
class TexturedMesh:
    """A mesh with normals whose vertices also have a place in a texture.

    Its colours are those of the texture, light and shadow included. With an ``environment``, linear
    light in the frame of the mesh, a clear coat mirrors that on top (see gloss.py).
    """

    mesh: Mesh
    uv: Float[np.ndarray, "V 2"]  # in [0, 1], from the texture's upper left corner, as in glTF
    texture: UInt8[np.ndarray, "H W 3"]
    normal_map: UInt8[np.ndarray, "H W 3"] | None = None  # in the frames of ``tangents``
    environment: Float[np.ndarray, "h w 3"] | None = None


def tangents(
    mesh: Mesh, uv: Float[np.ndarray, "V 2"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "V"]]:
    """At each vertex the unit tangent along growing u, and the sign of its bitangent.

    The bitangent, sign * normal x tangent, points up in the texture, as glTF asks. A vertex's
    tangent is the mean of its faces', weighted by their angles there and made perpendicular to the
    normal, as those viewers compute it that follow MikkTSpace (Mikkelsen 2008).
    """
    assert mesh.normals is not None, "normal maps need normals"
    points, normals = mesh.vertices.astype(np.float64), mesh.normals.astype(np.float64)
    along_u, along_v = _face_directions(points[mesh.faces], uv[mesh.faces])
    angle = _corner_angles(points[mesh.faces])
    sums = np.zeros((2, *points.shape))
    for corner in range(3):
        vertex, weight = mesh.faces[:, corner], angle[:, corner, None]
        for total, direction in zip(sums, (along_u, along_v), strict=True):
            flat = direction - (direction * normals[vertex]).sum(1, keepdims=True) * normals[vertex]
            np.add.at(total, vertex, weight * _unit(flat))
    tangent = _unit(sums[0])
    # Where no face says anything, any direction along the surface will do.
    unknown = ~tangent.any(axis=1)
    axis = np.eye(3)[np.abs(normals[unknown]).argmin(axis=1)]
    tangent[unknown] = _unit(np.cross(normals[unknown], axis))
    # v grows downwards in the texture.
    upward = -(np.cross(normals, tangent) * sums[1]).sum(axis=1)
    return tangent, np.where(upward < 0, -1.0, 1.0)


def _face_directions(
    corners: Float[np.ndarray, "F 3 3"], uv: Float[np.ndarray, "F 3 2"]
) -> tuple[Float[np.ndarray, "F 3"], Float[np.ndarray, "F 3"]]:
    """Directions on each face along which u, or v, grows; zero where the face has no area in uv."""
    (e1, e2), (d1, d2) = (
        (a[:, 1] - a[:, 0], a[:, 2] - a[:, 0]) for a in (corners.astype(np.float64), uv)
    )
    # Of the inverse of [d1 d2] only the sign of its determinant matters for the directions.
    sign = np.sign(d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0])[:, None]
    along_u = sign * (d2[:, 1:] * e1 - d1[:, 1:] * e2)
    along_v = sign * (d1[:, :1] * e2 - d2[:, :1] * e1)
    return _unit(along_u), _unit(along_v)


def _corner_angles(corners: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, "F 3"]:
    ahead, back = (_unit(np.roll(corners, step, axis=1) - corners) for step in (-1, 1))
    return np.arccos((ahead * back).sum(axis=-1).clip(-1, 1))


def _unit(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Unit vectors; a vector of length zero stays."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
