"""Is a mesh closed, in one piece and consistent? What printers and game engines ask of it."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from common.meshes.mesh import Mesh, area_vectors


@dataclass(frozen=True)
class MeshChecks:
    """What was counted on a mesh; lengths are in the mesh's units."""

    vertices: int
    faces: int
    components: int
    boundary_edges: int  # with one face
    holes: int  # connected pieces of the boundary
    non_manifold_edges: int  # with more than two faces
    misoriented_edges: int  # whose two faces look to different sides
    euler_number: int  # vertices - edges + faces
    area: float
    volume: float | None  # None where the mesh is not closed

    @property
    def watertight(self) -> bool:
        """Whether every edge has exactly two faces, and these agree on what is outside."""
        return not (self.boundary_edges or self.non_manifold_edges or self.misoriented_edges)

    @property
    def genus(self) -> int | None:
        """How many handles a closed mesh has, over all its components."""
        return self.components - self.euler_number // 2 if self.watertight else None

    def as_json(self) -> dict:
        """All of it under its names."""
        return asdict(self) | {"watertight": self.watertight, "genus": self.genus}

    def __str__(self) -> str:
        counted = (
            f"{self.faces:,} faces, {self.vertices:,} vertices, area {self.area:.4g}, "
            f"{_count(self.components, 'component')}, Euler number {self.euler_number}"
        )
        if self.watertight:
            return f"{counted}: watertight, volume {self.volume:.4g}, genus {self.genus}"
        faults = [
            f"{_count(self.boundary_edges, 'boundary edge')} ({_count(self.holes, 'hole')})",
            _count(self.non_manifold_edges, "non-manifold edge"),
            _count(self.misoriented_edges, "edge") + " between faces of opposite sides",
        ]
        return f"{counted}: not watertight, {', '.join(faults)}"


def check_mesh(mesh: Mesh) -> MeshChecks:
    """Count what makes a mesh a closed surface, or not one.

    Vertices are one where they have one index: put those of a file with texture seams together
    first.
    """
    faces = mesh.faces
    vectors = area_vectors(mesh)
    directed = np.concatenate([faces[:, [i, (i + 1) % 3]] for i in range(3)])
    edges, which, uses = np.unique(
        np.sort(directed, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    # The two faces of an edge run along it in opposite directions.
    forward = np.bincount(which.ravel(), directed[:, 0] < directed[:, 1], minlength=len(edges))
    boundary = edges[uses == 1]
    result = {
        "vertices": len(np.unique(faces)),
        "faces": len(faces),
        "components": _pieces(edges),
        "boundary_edges": len(boundary),
        "holes": _pieces(boundary),
        "non_manifold_edges": int((uses > 2).sum()),
        "misoriented_edges": int(((uses == 2) & (forward != 1)).sum()),
    }
    closed = not any(result[name] for name in result if name.endswith("_edges"))
    # Signed volumes of the pyramids from the first vertex over every face.
    height = mesh.vertices[faces[:, 0]].astype(np.float64) - mesh.vertices[:1]
    return MeshChecks(
        **result,
        euler_number=result["vertices"] - len(edges) + len(faces),
        area=float(np.linalg.norm(vectors, axis=1).sum()),
        volume=float((height * vectors).sum() / 3) if closed else None,
    )


def _pieces(edges: Int[np.ndarray, "E 2"]) -> int:
    """Connected pieces of the graph that edges make."""
    used, numbered = np.unique(edges, return_inverse=True)
    first, second = numbered.reshape(-1, 2).T
    links = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(len(used), len(used)))
    return int(connected_components(links, directed=False)[0])


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"
