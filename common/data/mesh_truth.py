"""What is known exactly about a mesh: depth at pixel centres, occupancy, the visible surface.

CAD models are rarely closed: seats without undersides, shades of one sheet, parts that overlap,
faces turned either way, parts hidden in other parts. Neither parity nor a winding number answers
for these alone, so the truth rests on what photographs can show. A point is

- *outside* where it sees the sky through an opening at least CONE wide to each side;
- *inside* where it sees no sky at all, so overlapping and nested parts are one solid, and cavities
  that no photograph shows are filled;
- settled by a vote where the opening is narrow: rays in PARITY directions each count the surfaces
  they cross, and an odd count says inside. Cracks and missing triangles stay shut, deep cups stay
  hollow.

A box that lacks a whole side is hollow, then, and its sides are sheets. A sheet, a surface with
outside on both of its sides, has no volume, so it is given SHEET of thickness to each side; thin
solids keep their own thickness. Directions come from a fixed lattice, so the truth of a mesh is the
same every time.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from common.cameras import Cameras, pixel_grid
from common.errors import UserError

DIRECTIONS = 256  # 12.7 degrees apart
CONE = np.radians(20.0)
PARITY = 33  # odd, so that no vote is a tie
SHEET = 1 / 128  # object units: a slab is two of them, 1/64 of the cube
SUBPIXELS = 4  # to each side of a pixel
# A step off a surface: above float32 noise in the unit cube, below the thickness of any plate.
STEP = 1e-4


@dataclass(frozen=True)
class Solid:
    """Triangles with a structure that finds where rays meet them first."""

    triangles: Float[np.ndarray, "F 3 3"]
    scene: Any  # embreex has no types


def load_embree() -> tuple[Any, Any]:
    """Embree's scene and mesh; raises UserError with the remedy where it is not installed."""
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise UserError(
            f"casting rays at meshes needs embreex, which is not installed ({error}); "
            "install it with: pip install -e '.[render]'"
        ) from error
    return EmbreeScene, TriangleMesh


def solid(triangles: Float[np.ndarray, "F 3 3"]) -> Solid:
    """Prepare triangles, in the object frame, for casting rays at them."""
    EmbreeScene, TriangleMesh = load_embree()
    scene = EmbreeScene(robust=True)  # robust: no ray slips between triangles that share an edge
    TriangleMesh(scene, triangles.astype(np.float32))
    return Solid(triangles, scene)


def depth_maps(shape: Solid, cameras: Cameras) -> Float32[np.ndarray, "V H W"]:
    """Camera z of the surface at every pixel centre, inf where the ray misses."""
    pixel = pixel_grid(cameras.height, cameras.width)
    depth = []
    for view in range(len(cameras)):
        index = torch.full((len(pixel),), view)
        towards = cameras.unit_z_directions(index, pixel).double().numpy()
        length = np.linalg.norm(towards, axis=1)
        origin = np.broadcast_to(cameras.centre[view].double().numpy(), towards.shape)
        distance, _ = first_hit(shape, origin, towards / length[:, None])
        depth.append((distance / length).reshape(cameras.height, cameras.width))
    return np.stack(depth).astype(np.float32)


def silhouettes(shape: Solid, cameras: Cameras) -> Bool[np.ndarray, "V H W"]:
    """Pixels that the object covers even in part, unlike the centres of ``depth_maps``.

    A table top seen edge-on may miss every pixel centre; the hull of these holds it anyway.
    """
    height, width = cameras.height, cameras.width
    fine = depth_maps(shape, cameras.resized(height * SUBPIXELS, width * SUBPIXELS))
    parts = np.isfinite(fine).reshape(-1, height, SUBPIXELS, width, SUBPIXELS)
    return parts.any(axis=(2, 4)) | np.isfinite(depth_maps(shape, cameras))


def first_hit(
    shape: Solid, origin: Float[np.ndarray, "N 3"], direction: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "N"], Int[np.ndarray, "N"]]:
    """Distance along unit directions and face of the first hit; inf and -1 where there is none."""
    hit = shape.scene.run(
        np.ascontiguousarray(origin, dtype=np.float32),
        np.ascontiguousarray(direction, dtype=np.float32),
        output=1,
    )
    face = hit["primID"]
    return np.where(face >= 0, hit["tfar"].astype(np.float64), np.inf), face


def outside(shape: Solid, points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
    """Whether points are outside the object, by sight and, where that is narrow, by vote."""
    wide = np.zeros(len(points), dtype=bool)
    narrow = np.zeros(len(points), dtype=bool)
    for axis, ring in zip(*_cones(), strict=True):
        waiting = np.flatnonzero(~wide)
        waiting = waiting[~_blocked(shape, points[waiting], axis)]
        narrow[waiting] = True
        for direction in ring:
            waiting = waiting[~_blocked(shape, points[waiting], direction)]
        wide[waiting] = True
    doubtful = np.flatnonzero(narrow & ~wide)
    wide[doubtful] = ~_inside_by_parity(shape, points[doubtful])
    return wide


def occupancy(shape: Solid, points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
    """Whether points are inside the object, or within SHEET of a surface open on both sides."""
    inside = ~outside(shape, points)
    empty = np.flatnonzero(~inside)
    inside[empty] = _in_sheet(shape, points[empty])
    return inside


def visible_surface(
    shape: Solid, count: int, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "count 3"], Float32[np.ndarray, "count 3"]]:
    """Points spread evenly over the surface seen from outside, with normals towards that side.

    A sheet is seen from both; its normals follow the faces. Raises UserError where nothing is seen.
    """
    points, normals = np.empty((0, 3)), np.empty((0, 3))
    batch = count
    while len(points) < count:
        sample, normal = _sample(shape.triangles, batch, rng)
        front = outside(shape, sample + STEP * normal)
        normal = np.where(front[:, None], normal, -normal)
        seen = front.copy()
        seen[~front] = outside(shape, (sample + STEP * normal)[~front])
        if seen.mean() < 0.01:
            raise UserError("less than a hundredth of the surface can be seen from outside")
        points = np.concatenate([points, sample[seen]])
        normals = np.concatenate([normals, normal[seen]])
        batch = int((count - len(points)) / seen.mean()) + 100
    return points[:count].astype(np.float32), normals[:count].astype(np.float32)


def _in_sheet(shape: Solid, points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
    """Whether the nearest surface is within SHEET and has the outside behind it too."""
    nearest = np.full(len(points), np.inf)
    behind = np.zeros((len(points), 3))
    for direction in _cones()[0]:
        distance, _ = first_hit(shape, points, np.broadcast_to(direction, points.shape))
        closer = distance < nearest
        nearest[closer] = distance[closer]
        behind[closer] = points[closer] + (distance[closer, None] + STEP) * direction
    in_sheet = nearest < SHEET
    in_sheet[in_sheet] = outside(shape, behind[in_sheet])
    return in_sheet


def _inside_by_parity(shape: Solid, points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
    """Whether most rays from each point cross the surface an odd number of times."""
    votes = np.zeros(len(points), dtype=int)
    for direction in _cones()[0][:PARITY]:
        origin, odd = points.copy(), np.zeros(len(points), dtype=bool)
        travelling = np.arange(len(points))
        while len(travelling):
            towards = np.broadcast_to(direction, (len(travelling), 3))
            distance, face = first_hit(shape, origin[travelling], towards)
            travelling, distance = travelling[face >= 0], distance[face >= 0]
            odd[travelling] ^= True
            origin[travelling] += (distance[:, None] + STEP) * direction
        votes += odd
    return votes > PARITY // 2


def _blocked(
    shape: Solid, points: Float[np.ndarray, "N 3"], direction: Float[np.ndarray, "3"]
) -> Bool[np.ndarray, "N"]:
    if len(points) == 0:
        return np.zeros(0, dtype=bool)
    towards = np.tile(direction.astype(np.float32), (len(points), 1))
    return shape.scene.run(points.astype(np.float32), towards) >= 0


def _cones() -> tuple[Float[np.ndarray, "D 3"], Float[np.ndarray, "D 6 3"]]:
    """Axes spread evenly over the sphere (a Fibonacci lattice), with six directions around each."""
    # 159 / 256 is near the golden ratio: successive directions lie far apart, so most points are
    # settled by the first few.
    index = np.arange(DIRECTIONS) * 159 % DIRECTIONS + 0.5
    height = 1 - 2 * index / DIRECTIONS
    turn = np.pi * (1 + 5**0.5) * index
    width = np.sqrt(1 - height**2)
    axis = np.stack([width * np.cos(turn), height, width * np.sin(turn)], axis=1)
    across = np.cross(axis, np.roll(axis, 1, axis=1))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    third = np.cross(axis, across)
    around = np.arange(6)[:, None] * np.pi / 3
    sideways = np.cos(around) * across[:, None] + np.sin(around) * third[:, None]
    return axis, np.cos(CONE) * axis[:, None] + np.sin(CONE) * sideways


def _sample(
    triangles: Float[np.ndarray, "F 3 3"], count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "count 3"], Float[np.ndarray, "count 3"]]:
    """Points uniform over the area of the triangles, with the faces' unit normals."""
    edges = triangles[:, 1:] - triangles[:, :1]
    normal = np.cross(edges[:, 0], edges[:, 1])
    area = np.linalg.norm(normal, axis=1)
    face = rng.choice(len(triangles), size=count, p=area / area.sum())
    weight = rng.random((count, 2))
    weight = np.where(weight.sum(axis=1, keepdims=True) > 1, 1 - weight, weight)
    points = triangles[face, 0] + (weight[..., None] * edges[face]).sum(axis=1)
    return points, (normal / area[:, None])[face]
