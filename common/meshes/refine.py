"""Moves a mesh onto the field's surface, sharp edges included.

Marching cubes puts vertices near the surface but cuts edges and corners off, and its triangles are
as thin as the grid happens to make them. Here every face finds its own piece of the surface: one
Newton step from its middle, and the field's normal there. Then every vertex moves to where the
planes of its faces meet, in the least-squares sense (the primal and dual optimisation of Ohtake and
Belyaev 2003 with the quadrics of Garland and Heckbert 1997). Where this settles both wishes of
DVR's refinement hold: points of the faces lie on the surface, and the faces have its normals.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from common.meshes.extract import Level
from common.meshes.mesh import Mesh

Vertices = Float[Tensor, "V 3"]
Faces = Int[Tensor, "F 3"]

# A plane leaves a vertex free to slide along it. The vertex starts half-way to the middle of its
# faces, which evens out the triangles, and is held there with a small share of the faces' weight.
EVENNESS = 0.5
HOLD = 0.02
# A face this far from its first normal (78 degrees) is about to turn over.
LEAST_COSINE = 0.2


def refine_mesh(
    mesh: Mesh,
    level: Level,
    *,
    steps: int = 5,
    chunk: int = 65536,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Mesh:
    """The mesh with vertices moved so that the faces lie on ``level`` = 0 and share its normals.

    ``level`` is negative inside, differentiable in its points and given at most ``chunk`` of them
    at once; its scale does not matter. Every face takes part in each of the ``steps`` with one
    evaluation, and ``progress`` is told how many that were. No vertex ends further than the mean
    edge length from where it began, and no face turns over. Faces with no surface within that
    distance, such as those that close a mesh at the border of its box, stay in their own planes.
    Colours and normals are dropped: they belonged to the old vertices.
    """
    if mesh.empty:
        return mesh
    faces = torch.from_numpy(mesh.faces).to(device=device, dtype=torch.int64)
    start = torch.from_numpy(mesh.vertices).to(device=device, dtype=torch.float32)
    reach = (start[faces] - start[faces.roll(1, dims=1)]).norm(dim=-1).mean()
    upright = _face_normals(start, faces)
    vertices = start
    for _ in range(steps):
        point, normal = _surface_near_faces(level, vertices, faces, reach, chunk)
        moved = _where_planes_meet(vertices, faces, point, normal)
        shift = moved - start
        shift = shift * (reach / shift.norm(dim=-1, keepdim=True).clamp(min=reach))
        vertices = _without_flips(vertices, start + shift, faces, upright)
        if progress is not None:
            progress(len(faces))
    return Mesh(vertices.cpu().numpy(), mesh.faces)


def _surface_near_faces(
    level: Level, vertices: Vertices, faces: Faces, reach: Float[Tensor, ""], chunk: int
) -> tuple[Float[Tensor, "F 3"], Float[Tensor, "F 3"]]:
    """A point and unit normal of the surface for each face, or the face's own out of reach."""
    middle = vertices[faces].mean(dim=1)
    found = [_newton_step(level, part) for part in middle.split(chunk)]
    step, gradient = (torch.cat(parts) for parts in zip(*found, strict=True))
    normal, own_normal = normalize(gradient, dim=-1), _face_normals(vertices, faces)
    # A gradient of zero gives no number here, which is not within reach either. A normal opposite
    # to the face's is that of the other side of a part too thin for the mesh.
    near = (step.norm(dim=-1) < reach) & ((normal * own_normal).sum(dim=-1) > 0)
    point = torch.where(near[:, None], middle + step, middle)
    return point, torch.where(near[:, None], normal, own_normal)


def _newton_step(
    level: Level, points: Float[Tensor, "N 3"]
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """The step -f grad f / |grad f|^2 towards the surface, and grad f."""
    points = points.detach().requires_grad_(True)
    with torch.enable_grad():
        value = level(points)
        (gradient,) = torch.autograd.grad(value.sum(), points)
    square = gradient.square().sum(dim=-1, keepdim=True)
    return -value.detach()[:, None] * gradient / square, gradient


def _where_planes_meet(
    vertices: Vertices, faces: Faces, point: Float[Tensor, "F 3"], normal: Float[Tensor, "F 3"]
) -> Vertices:
    """For each vertex x the least sum over its faces of area * (normal . (x - point))^2."""
    # One row per corner of a face, so that index_add_ sums over the faces of a vertex.
    vertex = faces.T.reshape(-1)
    point, normal = point.repeat(3, 1), normal.repeat(3, 1)
    area = _area_vectors(vertices, faces).norm(dim=-1).repeat(3)[:, None]
    total = torch.zeros_like(vertices[:, :1]).index_add_(0, vertex, area)
    # Where all faces of a vertex have no area they have no say, and it stays.
    share = area / total.clamp(min=torch.finfo(area.dtype).tiny)[vertex]

    middle = torch.zeros_like(vertices).index_add_(0, vertex, share * (point - vertices[vertex]))
    base = vertices + EVENNESS * middle
    height = ((point - base[vertex]) * normal).sum(dim=-1, keepdim=True)
    pull = torch.zeros_like(vertices).index_add_(0, vertex, share * height * normal)
    quadric = (HOLD * torch.eye(3).to(vertices)).repeat(len(vertices), 1, 1)
    quadric.index_add_(0, vertex, (share * normal)[:, :, None] * normal[:, None, :])
    return base + torch.linalg.solve(quadric, pull)


def _without_flips(
    before: Vertices, after: Vertices, faces: Faces, normal: Float[Tensor, "F 3"]
) -> Vertices:
    """``after``, except that corners of faces turning away from ``normal`` stay where they were.

    Ends because a face all of whose corners stay turns no further.
    """
    allowed = _cosine(before, faces, normal).clamp(max=LEAST_COSINE)
    while True:
        turning = _cosine(after, faces, normal) < allowed
        if not turning.any():
            return after
        stay = faces[turning].flatten()
        after = after.index_copy(0, stay, before[stay])


def _cosine(vertices: Vertices, faces: Faces, normal: Float[Tensor, "F 3"]) -> Float[Tensor, "F"]:
    return (_face_normals(vertices, faces) * normal).sum(dim=-1)


def _face_normals(vertices: Vertices, faces: Faces) -> Float[Tensor, "F 3"]:
    return normalize(_area_vectors(vertices, faces), dim=-1)


def _area_vectors(vertices: Vertices, faces: Faces) -> Float[Tensor, "F 3"]:
    """Outward normals whose lengths are the faces' areas."""
    a, b, c = vertices[faces].unbind(dim=1)
    return 0.5 * torch.linalg.cross(b - a, c - a, dim=-1)
