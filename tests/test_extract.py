"""Sparse extraction against dense marching cubes and against exact volumes and topology."""

import math

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from common.errors import UserError
from common.meshes.extract import MARGIN, extract_dense, extract_mesh
from common.meshes.mesh import Mesh

LOWER, UPPER = (-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)


def ball(p, radius=0.4):
    return p.norm(dim=-1) - radius


def torus(p):
    return torch.hypot(p[:, :2].norm(dim=-1) - 0.3, p[:, 2]) - 0.1


def turned_box(p):
    c, s = math.cos(0.4), math.sin(0.4)
    q = torch.stack([c * p[:, 0] + s * p[:, 1], c * p[:, 1] - s * p[:, 0], p[:, 2]], dim=-1).abs()
    return (q - torch.tensor([0.3, 0.2, 0.23])).amax(dim=-1)


def grid_box(p):
    """Faces exactly on grid vertices, where the level is exactly zero."""
    return p.abs().amax(dim=-1) - 0.25


def two_sheets(p):
    """Each 0.4 cells of the coarse grid thick, with no vertex of that grid inside."""
    across = (p[:, 2].abs() - 0.03).abs() - 0.0125
    return torch.maximum(across, p[:, :2].abs().amax(dim=-1) - 0.35)


def leaving_the_box(p):
    return (p - torch.tensor([0.4, 0.3, 0.0])).norm(dim=-1) - 0.35


def noise(p):
    """Rough at the scale of a cell: all cases of marching cubes, ambiguous ones included."""
    generator = torch.Generator().manual_seed(0)
    waves = torch.randn(3, 40, generator=generator) * 60
    rough = torch.sin(p @ waves + torch.rand(40, generator=generator) * 6).sum(dim=-1)
    return torch.maximum(rough, 50 * (p.abs().amax(dim=-1) - 0.43))


def lamp(p):
    """A ball and a long rod that the coarse grid misses; the level is flat a little away."""
    rod = torch.maximum((p[:, :2] - 0.031).norm(dim=-1) - 0.012, p[:, 2].abs() - 0.4)
    head = (p - torch.tensor([0.031, 0.031, 0.35])).norm(dim=-1) - 0.1
    return torch.minimum(rod, head).clamp(max=0.004)


def solid(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


@pytest.mark.parametrize("level", [ball, torus, turned_box, two_sheets, noise, lamp])
def test_equals_dense_marching_cubes(level):
    sparse = extract_mesh(level, LOWER, UPPER, 64, 16).mesh
    dense = extract_dense(level, LOWER, UPPER, 64).mesh
    assert sparse.vertices.shape == dense.vertices.shape
    # The sparse vertices keep MARGIN of an edge from its ends; 1e-6 for float32 positions.
    distance, twin = cKDTree(sparse.vertices).query(dense.vertices)
    assert distance.max() < MARGIN / 64 + 1e-6

    def faces(triples):  # up to their order and the corner each starts with
        first = triples.argmin(axis=1)[:, None]
        turned = np.take_along_axis(triples, (first + [0, 1, 2]) % 3, axis=1)
        return turned[np.lexsort(turned.T)]

    assert np.array_equal(faces(sparse.faces), faces(twin[dense.faces]))


@pytest.mark.parametrize("level", [grid_box, leaving_the_box])
def test_equals_dense_marching_cubes_where_its_vertices_coincide(level):
    sparse = solid(extract_mesh(level, LOWER, UPPER, 64, 16).mesh)
    dense = solid(extract_dense(level, LOWER, UPPER, 64).mesh)
    assert len(sparse.vertices) == len(dense.vertices) and len(sparse.faces) == len(dense.faces)
    distance, _ = cKDTree(sparse.vertices).query(dense.vertices)
    assert distance.max() < MARGIN / 64 + 1e-6
    assert sparse.volume == pytest.approx(dense.volume, abs=dense.area * MARGIN / 64)


@pytest.mark.parametrize(
    "level, euler",
    [(ball, 2), (torus, 0), (turned_box, 2), (grid_box, 2), (two_sheets, 4), (leaving_the_box, 2)],
)
def test_is_closed_with_the_right_topology(level, euler):
    mesh = extract_mesh(level, LOWER, UPPER, 64, 16).mesh
    assert solid(mesh).is_watertight and solid(mesh).is_winding_consistent
    assert solid(mesh).volume > 0  # faces look outward
    assert solid(mesh).euler_number == euler
    assert solid(mesh).area_faces.min() > 0


def test_ambiguous_cells_leave_no_crack():
    mesh = solid(extract_mesh(noise, LOWER, UPPER, 64, 16).mesh)
    assert len(mesh.faces) > 100_000
    assert mesh.is_watertight and mesh.is_winding_consistent


@pytest.mark.parametrize(
    "level, volume, area, radius",
    [
        (ball, 4 / 3 * math.pi * 0.4**3, 4 * math.pi * 0.4**2, 0.4),
        (torus, 2 * math.pi**2 * 0.3 * 0.1**2, 4 * math.pi**2 * 0.3 * 0.1, 0.1),
    ],
)
def test_volume_is_exact_up_to_the_sag_of_the_faces(level, volume, area, radius):
    mesh = extract_mesh(level, LOWER, UPPER, 64, 16).mesh
    # A chord as long as a cell's diagonal, sqrt(3) h, sags by 3 h^2 / (8 radius).
    sag = 3 / 64**2 / (8 * radius)
    assert abs(solid(mesh).volume - volume) < area * sag


def test_evaluates_a_few_percent_of_the_grid_and_grows_with_area():
    counts = [extract_mesh(ball, LOWER, UPPER, n).evaluations for n in (64, 128, 256)]
    assert counts[2] < 0.06 * 257**3
    # Four times the cells on a surface, where a dense grid has eight times.
    assert counts[2] - counts[1] < 4.3 * (counts[1] - counts[0])


def test_is_the_same_whatever_the_chunk_and_reports_every_evaluation():
    sizes, reported = [], []

    def counted(p):
        sizes.append(len(p))
        return torus(p)

    small = extract_mesh(counted, LOWER, UPPER, 32, 16, chunk=1000, progress=reported.append)
    large = extract_mesh(torus, LOWER, UPPER, 32, 16)
    assert np.array_equal(small.mesh.vertices, large.mesh.vertices)
    assert np.array_equal(small.mesh.faces, large.mesh.faces)
    assert sizes == reported and max(sizes) <= 1000
    assert sum(sizes) == small.evaluations == large.evaluations


def test_no_point_is_evaluated_twice():
    seen = []

    def recorded(p):
        seen.append(p)
        return lamp(p)

    extract_mesh(recorded, LOWER, UPPER, 64, 16)
    points = torch.cat(seen)
    assert len(points.unique(dim=0)) == len(points)


def test_box_may_be_any_cuboid():
    lower, upper = (1.0, -2.0, 0.0), (3.0, 4.0, 1.0)
    centre, size = torch.tensor([2.0, 1.0, 0.5]), torch.tensor([0.8, 2.5, 0.3])
    mesh = extract_mesh(lambda p: ((p - centre) / size).norm(dim=-1) - 1, lower, upper, 64, 16).mesh
    # Extremes of an ellipsoid are found to well under a cell, at most 6/64 here.
    np.testing.assert_allclose(mesh.vertices.min(axis=0), (centre - size).numpy(), atol=0.01)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), (centre + size).numpy(), atol=0.01)


def test_field_of_one_sign():
    nothing = extract_mesh(lambda p: torch.ones(len(p)), LOWER, UPPER, 32, 16)
    assert nothing.mesh.empty and nothing.mesh.vertices.shape == (0, 3)
    assert nothing.evaluations == 17**3
    everything = extract_mesh(lambda p: -torch.ones(len(p)), LOWER, UPPER, 32, 16).mesh
    assert solid(everything).is_watertight
    # The box itself, MARGIN of a cell wider on each side and without its edges and corners.
    assert solid(everything).volume == pytest.approx(1, abs=6 * MARGIN / 32)


@pytest.mark.parametrize("resolution", [48, 16, 100])
def test_refuses_a_resolution_it_cannot_reach(resolution):
    with pytest.raises(UserError, match=rf"{resolution} is not 32 .* choose one of 32, 64, 128"):
        extract_mesh(ball, LOWER, UPPER, resolution)


def test_refuses_a_field_that_is_not_finite():
    with pytest.raises(UserError, match="not finite at .* training diverged"):
        extract_mesh(lambda p: torch.full((len(p),), torch.nan), LOWER, UPPER, 32, 16)
