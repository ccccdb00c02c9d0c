"""Counts on meshes whose topology is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from common.meshes.checks import check_mesh
from common.meshes.mesh import Mesh


def mesh_of(solid: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(solid.vertices, np.float64), np.asarray(solid.faces, np.int64))


def ball(subdivisions: int = 2, radius: float = 1.0) -> Mesh:
    return mesh_of(trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius))


def torus() -> Mesh:
    return mesh_of(trimesh.creation.torus(1.0, 0.3, 24, 12))


def together(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([m.faces + start for m, start in zip(meshes, starts, strict=True)]),
    )


def test_a_box_is_counted_exactly() -> None:
    checks = check_mesh(mesh_of(trimesh.creation.box(extents=[1, 2, 3])))
    assert (checks.vertices, checks.faces, checks.components) == (8, 12, 1)
    assert checks.watertight and checks.genus == 0 and checks.euler_number == 2
    assert checks.area == pytest.approx(22) and checks.volume == pytest.approx(6)


def test_volume_and_area_tend_to_the_spheres() -> None:
    checks = check_mesh(ball(4, 0.5))
    assert checks.volume == pytest.approx(np.pi / 6, rel=5e-3)
    assert checks.area == pytest.approx(np.pi, rel=5e-3)


@given(balls=st.integers(0, 3), rings=st.integers(1, 3))
def test_handles_and_pieces_add_up(balls: int, rings: int) -> None:
    checks = check_mesh(together(*[ball(0)] * balls, *[torus()] * rings))
    assert checks.components == balls + rings
    assert checks.genus == rings and checks.euler_number == 2 * balls


def test_the_frame_changes_neither_topology_nor_volume() -> None:
    """The pyramids that make up the volume may stand anywhere."""
    moved = replace(torus(), vertices=torus().vertices + [100.0, -50.0, 7.0])
    assert check_mesh(moved).volume == pytest.approx(check_mesh(torus()).volume)


def test_holes_and_their_edges() -> None:
    sphere = ball()
    # Two faces far from each other, and then a neighbour of one: its hole only grows.
    far = np.abs(sphere.vertices[sphere.faces].mean(axis=1) @ [0, 0, 1]).argsort()[-1]
    start = sphere.faces[far]
    other = (sphere.vertices[sphere.faces].mean(axis=1) @ sphere.vertices[start[0]]).argmin()
    shared = [len(set(face) & set(start)) for face in sphere.faces]
    two = check_mesh(replace(sphere, faces=np.delete(sphere.faces, [far, other], axis=0)))
    assert (two.boundary_edges, two.holes) == (6, 2)
    assert not two.watertight and two.genus is None and two.volume is None
    grown = np.delete(sphere.faces, [far, other, shared.index(2)], axis=0)
    three = check_mesh(replace(sphere, faces=grown))
    assert (three.boundary_edges, three.holes) == (7, 2)


def test_a_face_turned_over_is_seen() -> None:
    sphere = ball()
    sphere.faces[7] = sphere.faces[7, ::-1]
    checks = check_mesh(sphere)
    assert checks.misoriented_edges == 3 and checks.boundary_edges == 0
    assert not checks.watertight


def test_a_fin_makes_an_edge_non_manifold() -> None:
    sphere = ball()
    a, b, _ = sphere.faces[0]
    fin = Mesh(
        np.concatenate([sphere.vertices, [[2.0, 2.0, 2.0]]]),
        np.concatenate([sphere.faces, [[a, b, len(sphere.vertices)]]]),
    )
    checks = check_mesh(fin)
    assert checks.non_manifold_edges == 1 and checks.boundary_edges == 2
    assert not checks.watertight


def test_vertices_that_no_face_uses_do_not_count() -> None:
    sphere = ball()
    more = replace(sphere, vertices=np.concatenate([sphere.vertices, np.zeros((5, 3))]))
    assert check_mesh(more) == check_mesh(sphere)


def test_what_it_says() -> None:
    assert str(check_mesh(torus())).endswith("watertight, volume 1.677, genus 1")
    open_ball = replace(ball(), faces=ball().faces[1:])
    said = str(check_mesh(open_ball))
    assert "not watertight, 3 boundary edges (1 hole), 0 non-manifold edges" in said
    assert json.loads(json.dumps(check_mesh(open_ball).as_json()))["volume"] is None
