"""Exact points of the sculpture's surface."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from common.data.shapes import Distance
from common.data.sphere_tracer import surface_normals
from common.meshes.extract import extract_mesh
from common.meshes.metrics import sample_surface

RESOLUTION = 128
WIDTH = 1e-5  # half width of the differences that normals are taken from, in float64
ON_SURFACE = 1e-7  # as close as float32 coordinates are


def surface_samples(
    distance: Distance, half: float, rng: np.random.Generator, count: int
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Points of the zero set in [-half, half]^3, uniform by area, and their outward unit normals.

    Points uniform on a fine mesh (the smallest beads have 1 % less area on it) are moved onto the
    surface along its normals.
    """
    corner = (half, half, half)
    mesh = extract_mesh(distance, (-half, -half, -half), corner, RESOLUTION).mesh
    found, kept = [], 0
    while kept < count:
        sampled, _ = sample_surface(mesh, count - kept + 100, rng)
        points = torch.from_numpy(sampled).double()
        for _ in range(4):
            normal = surface_normals(distance, points, WIDTH)
            points = points - distance(points)[:, None] * normal
        # A few, where creases meet, do not arrive.
        points = points[distance(points).abs() < ON_SURFACE][: count - kept]
        found.append(points)
        kept += len(points)
    points = torch.cat(found)
    return points.float(), surface_normals(distance, points, WIDTH).float()
