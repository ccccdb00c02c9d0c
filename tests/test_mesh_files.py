"""Meshes on disk and operations that keep them meshes."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from common.errors import UserError
from common.meshes.files import load_mesh, save_mesh
from common.meshes.mesh import Mesh, empty_mesh, largest_component, simplify_mesh, transform_mesh

SUFFIXES = [".ply", ".obj", ".glb", ".off"]


def sphere(radius: float = 1.0, subdivisions: int = 3) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    vertices = np.asarray(ball.vertices, np.float32)
    colours = np.random.default_rng(0).integers(0, 256, vertices.shape, dtype=np.uint8)
    return Mesh(vertices, np.asarray(ball.faces), colours, vertices / np.float32(radius))


def solid(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


class TestFiles:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_round_trip(self, tmp_path, suffix):
        mesh = sphere()
        save_mesh(tmp_path / f"ball{suffix}", mesh)
        loaded = load_mesh(tmp_path / f"ball{suffix}")
        # Text files hold nine digits after the point.
        np.testing.assert_allclose(loaded.vertices, mesh.vertices, rtol=0, atol=1e-9)
        assert np.array_equal(loaded.faces, mesh.faces)
        if suffix == ".off":
            assert loaded.colours is None
        else:
            assert np.array_equal(loaded.colours, mesh.colours)
        assert [p.name for p in tmp_path.iterdir()] == [f"ball{suffix}"]  # no partial file stays

    @pytest.mark.parametrize("suffix", [".ply", ".obj"])
    def test_normals_are_written_exactly_when_there_are_some(self, tmp_path, suffix):
        mark = {".ply": b"property float nx", ".obj": b"\nvn "}[suffix]
        save_mesh(tmp_path / f"with{suffix}", sphere())
        save_mesh(tmp_path / f"without{suffix}", replace(sphere(), normals=None))
        assert mark in (tmp_path / f"with{suffix}").read_bytes()
        assert mark not in (tmp_path / f"without{suffix}").read_bytes()

    def test_makes_folders_and_replaces_an_older_file(self, tmp_path):
        path = tmp_path / "meshes" / "new" / "ball.PLY"
        save_mesh(path, sphere())
        save_mesh(path, sphere(2.0))
        assert np.linalg.norm(load_mesh(path).vertices, axis=1).min() > 1.9

    def test_a_failed_write_keeps_the_older_file(self, tmp_path, monkeypatch):
        path = tmp_path / "ball.ply"
        save_mesh(path, sphere())
        before = path.read_bytes()

        def disk_full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("common.meshes.files.os.replace", disk_full)
        with pytest.raises(OSError):
            save_mesh(path, sphere(2.0))
        assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize("act", [lambda p: save_mesh(p, sphere()), load_mesh])
    def test_other_suffixes_are_refused_by_name(self, tmp_path, act):
        with pytest.raises(UserError, match=r"ball\.stl.*'\.stl'.*\.ply, \.obj, \.glb, \.off"):
            act(tmp_path / "ball.stl")

    def test_an_empty_mesh_is_not_saved(self, tmp_path):
        with pytest.raises(UserError, match="no surface to save"):
            save_mesh(tmp_path / "nothing.ply", empty_mesh())
        assert not list(tmp_path.iterdir())

    def test_missing_file(self, tmp_path):
        with pytest.raises(UserError, match=r"ball\.ply: there is no such mesh"):
            load_mesh(tmp_path / "ball.ply")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("content", [b"", b"not a mesh at all\n", b"\x00\xff\x13" * 50])
    def test_garbage(self, tmp_path, suffix, content):
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"bad\{suffix}: (this is not|the file has no)"):
            load_mesh(path)

    @pytest.mark.parametrize("suffix", [".ply", ".glb", ".off"])
    def test_truncated_file(self, tmp_path, suffix):
        path = tmp_path / f"half{suffix}"
        save_mesh(path, sphere())
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match=rf"half\{suffix}"):
            load_mesh(path)

    def test_points_without_triangles(self, tmp_path):
        path = tmp_path / "points.ply"
        trimesh.PointCloud(np.eye(3)).export(path)
        with pytest.raises(UserError, match="no triangles"):
            load_mesh(path)

    def test_triangle_of_a_vertex_that_is_not_there(self, tmp_path):
        path = tmp_path / "bad.off"
        path.write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n")
        with pytest.raises(UserError, match=r"bad\.off"):
            load_mesh(path)


class TestTransform:
    def test_similarity_moves_vertices_and_turns_normals(self):
        rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
        rotation *= np.linalg.det(rotation)
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = 250 * rotation, [10, -20, 700]
        moved = transform_mesh(sphere(), matrix)
        # float32 at coordinates of a thousand
        expected = 250 * sphere().vertices @ rotation.T + [10, -20, 700]
        np.testing.assert_allclose(moved.vertices, expected, atol=1e-3)
        np.testing.assert_allclose(moved.normals, sphere().normals @ rotation.T, atol=1e-6)
        assert solid(moved).volume == pytest.approx(250**3 * solid(sphere()).volume, rel=1e-5)
        assert np.array_equal(moved.colours, sphere().colours)

    def test_normals_of_a_stretched_sphere_are_those_of_the_ellipsoid(self):
        moved = transform_mesh(sphere(), np.diag([1.0, 2.0, 3.0, 1.0]))
        gradient = moved.vertices / np.array([1.0, 4.0, 9.0])
        gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
        np.testing.assert_allclose(moved.normals, gradient, atol=1e-6)

    def test_a_mirror_keeps_faces_outward(self):
        moved = transform_mesh(sphere(), np.diag([-1.0, 1.0, 1.0, 1.0]))
        assert solid(moved).volume == pytest.approx(solid(sphere()).volume)
        np.testing.assert_allclose(moved.normals, moved.vertices, atol=1e-6)

    def test_there_and_back(self):
        matrix = np.eye(4)
        matrix[:3] += np.random.default_rng(1).normal(size=(3, 4)) * 0.2
        back = transform_mesh(transform_mesh(sphere(), matrix), np.linalg.inv(matrix))
        np.testing.assert_allclose(back.vertices, sphere().vertices, atol=1e-6)


def test_largest_component_is_the_one_with_most_area():
    large, small = sphere(1.0, subdivisions=1), sphere(0.1, subdivisions=3)
    both = Mesh(
        np.concatenate([small.vertices + 2, large.vertices]),
        np.concatenate([small.faces, large.faces + len(small.vertices)]),
        np.concatenate([small.colours, large.colours]),
        np.concatenate([small.normals, large.normals]),
    )
    kept = largest_component(both)
    for field in ("vertices", "faces", "colours", "normals"):
        assert np.array_equal(getattr(kept, field), getattr(large, field))
    assert largest_component(empty_mesh()).empty


class TestSimplify:
    def test_halves_a_sphere_and_keeps_its_shape(self):
        mesh = sphere(subdivisions=4)
        small = simplify_mesh(mesh, len(mesh.faces) // 4)
        assert len(small.faces) <= len(mesh.faces) // 4 + 2
        assert solid(small).is_watertight
        # A quarter of the faces have edges twice as long and sag four times as far; the mesh
        # before lacks about 0.5 % of the volume.
        assert solid(small).volume == pytest.approx(4 / 3 * np.pi, rel=0.02)
        assert small.colours is None and small.normals is None

    def test_a_small_mesh_is_left_alone(self):
        mesh = sphere()
        assert simplify_mesh(mesh, len(mesh.faces)) is mesh

    def test_every_vertex_is_used(self):
        small = simplify_mesh(sphere(subdivisions=4), 300)
        assert len(np.unique(small.faces)) == len(small.vertices)
