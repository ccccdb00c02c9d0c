"""Exact geometry of a piece: occupancies of points in the cube and points on the surface."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.data.furniture.piece import Piece
from common.data.sphere_tracer import StepGrid, surface_normals


def occupancies(piece: Piece, points: Float[np.ndarray, "N 3"]) -> Bool[Tensor, "N"]:
    """Whether points of the object frame are inside."""
    return piece.distance(torch.from_numpy(points)) < 0


def surface_samples(
    piece: Piece, grid: StepGrid, rng: np.random.Generator, count: int
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Points on the surface, uniform by area to a few per cent, and their unit normals.

    Points uniform in a thin shell around the surface are projected onto it along their normals.
    """
    shell = grid.spacing / 4
    cells = torch.nonzero(grid.values.view(-1).abs() < grid.slack + shell)[:, 0]
    found, kept = [], 0
    while kept < count:
        cell = cells[torch.from_numpy(rng.integers(len(cells), size=6 * count))]
        jitter = torch.from_numpy(rng.uniform(-0.5, 0.5, (len(cell), 3))).float()
        points = grid.centres(cell) + jitter * grid.spacing
        distance = piece.distance(points)
        near = distance.abs() < shell
        points, distance = points[near], distance[near]
        normal = surface_normals(piece.distance, points, 2e-4)
        for _ in range(3):
            points = points - distance[:, None] * normal
            distance = piece.distance(points)
        points = points[distance.abs() < 1e-5][: count - kept]
        found.append(points)
        kept += len(points)
    points = torch.cat(found)
    return points, surface_normals(piece.distance, points, 2e-4)
