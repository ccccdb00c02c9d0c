"""The triangle mesh everything here makes, and the operations that keep it a mesh."""

from dataclasses import dataclass, replace

import fast_simplification
import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Mesh:
    """Triangles with corners anticlockwise seen from outside; an empty mesh has no vertices."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    colours: UInt8[np.ndarray, "V 3"] | None = None
    normals: Float[np.ndarray, "V 3"] | None = None  # unit, outward

    @property
    def empty(self) -> bool:
        """Whether there is no surface at all."""
        return len(self.faces) == 0


def empty_mesh() -> Mesh:
    """The mesh of a field without a surface."""
    return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64))


def area_vectors(mesh: Mesh) -> Float[np.ndarray, "F 3"]:
    """Outward face normals whose lengths are the faces' areas."""
    a, b, c = mesh.vertices[mesh.faces].astype(np.float64).transpose(1, 0, 2)
    return 0.5 * np.cross(b - a, c - a)


def transform_mesh(mesh: Mesh, matrix: Float[np.ndarray, "4 4"]) -> Mesh:
    """The mesh in another frame, for example world = scale_mat @ object.

    Normals follow the inverse transpose and stay unit and outward; a mirroring matrix (negative
    determinant) also reverses the faces, so that they keep facing outward.
    """
    linear, shift = matrix[:3, :3].astype(np.float64), matrix[:3, 3]
    dtype = mesh.vertices.dtype
    vertices = (mesh.vertices @ linear.T + shift).astype(dtype)
    faces = mesh.faces if np.linalg.det(linear) > 0 else mesh.faces[:, ::-1].copy()
    normals = mesh.normals
    if normals is not None:
        normals = normals @ np.linalg.inv(linear)
        normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(dtype)
    return replace(mesh, vertices=vertices, faces=faces, normals=normals)


def largest_component(mesh: Mesh) -> Mesh:
    """The connected piece with the largest surface area."""
    if mesh.empty:
        return mesh
    first, second = mesh.faces[:, [0, 1]].T, mesh.faces[:, [1, 2]].T
    rows, columns = np.concatenate([first, second], axis=1)
    size = len(mesh.vertices)
    links = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(size, size))
    piece = connected_components(links, directed=False)[1][mesh.faces[:, 0]]
    area = np.bincount(piece, weights=np.linalg.norm(area_vectors(mesh), axis=1))
    return _with_faces(mesh, mesh.faces[piece == area.argmax()])


def simplify_mesh(mesh: Mesh, faces: int) -> Mesh:
    """At most about ``faces`` triangles, by quadric edge collapse (Garland and Heckbert 1997).

    The new vertices lie between the old ones, so colours and normals are dropped: compute them
    from the fields after this step. A mesh that is already small enough is returned as it is.
    """
    if len(mesh.faces) <= faces:
        return mesh
    vertices, kept = fast_simplification.simplify(
        mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), target_count=faces
    )
    simplified = Mesh(vertices.astype(mesh.vertices.dtype), kept.astype(np.int64))
    return _with_faces(simplified, simplified.faces)


def _with_faces(mesh: Mesh, faces: Int[np.ndarray, "G 3"]) -> Mesh:
    """The mesh of some of its faces, without the vertices that none of them uses."""
    used, renumbered = np.unique(faces, return_inverse=True)
    return Mesh(
        mesh.vertices[used],
        renumbered.reshape(-1, 3),
        None if mesh.colours is None else mesh.colours[used],
        None if mesh.normals is None else mesh.normals[used],
    )
