"""Meshes and camera files from surfaces and cameras that are known exactly."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from common.cameras import Cameras
from common.data.camera_file import read_matrices
from common.meshes.mesh import Mesh, area_vectors
from idr import generation
from idr.camera_alignment import Similarity
from idr.camera_refinement import so3_exp
from idr.config import GenerationConfig
from idr.generation import (
    LOOK,
    START,
    export_cameras,
    fine_grid,
    make_mesh,
    save_scene_mesh,
    scene_name,
)
from idr.learnt_frame import inverse, moved
from tests.make_collection import SCENE_SCALE, SCENE_SHIFT, write_tiny_scene
from tests.make_idr import Ellipsoids, ViewColour, known_experiment, nothing, sphere

COARSE = GenerationConfig(resolution=32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_scene(tmp_path_factory.mktemp("generation") / "a ball", views=8, size=16)


def mesh_of(data, geometry, config=COARSE, appearance=None) -> Mesh:
    return make_mesh(known_experiment(data, geometry, appearance).model, config)


def radius_of(mesh: trimesh.Trimesh) -> float:
    return (3 * mesh.volume / (4 * np.pi)) ** (1 / 3)


class TestMesh:
    def test_vertices_and_normals_are_the_spheres(self, data) -> None:
        centre = np.array([0.2, -0.1, 0.3])
        mesh = mesh_of(data, sphere(0.4, tuple(centre)))
        from_centre = mesh.vertices - centre
        radius = np.linalg.norm(from_centre, axis=1)
        # Linear interpolation along an edge of length h misses a sphere by at most h^2 / (8 r).
        cell = 0.8 / 32
        assert np.abs(radius - 0.4).max() < cell**2 / (8 * 0.4) + 1e-6
        np.testing.assert_allclose(mesh.normals, from_centre / radius[:, None], atol=1e-5)
        solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        assert solid.is_watertight and solid.volume > 0

    def test_colours_are_seen_from_straight_above(self, data) -> None:
        mesh = mesh_of(data, sphere(0.4), appearance=ViewColour())
        expected = (mesh.normals + 1) / 2 * 255
        assert np.abs(mesh.colours - expected).max() <= 0.5 + 1e-3

    def test_only_the_largest_piece_is_kept_unless_all_are_asked_for(self, data) -> None:
        pieces = Ellipsoids(([0.4, 0, 0], [0.3] * 3), ([-0.5, 0, 0], [0.1] * 3))
        one = mesh_of(data, pieces)
        assert one.vertices[:, 0].min() == pytest.approx(0.1, abs=1e-2)
        both = mesh_of(data, pieces, COARSE.model_copy(update={"largest": False}))
        assert both.vertices[:, 0].min() == pytest.approx(-0.6, abs=1e-2)

    def test_nothing_beyond_the_unit_sphere_belongs_to_it(self, data) -> None:
        """A corner of the cube is never looked into while training."""
        corner = Ellipsoids(([0, 0, 0], [0.3] * 3), ([0.9, 0.9, 0.9], [0.2] * 3))
        mesh = mesh_of(data, corner, COARSE.model_copy(update={"largest": False}))
        assert np.linalg.norm(mesh.vertices, axis=1).max() < 0.31
        cut = mesh_of(data, sphere(0.4, (0.9, 0.0, 0.0)))
        assert np.linalg.norm(cut.vertices, axis=1).max() < 1 + 1e-3
        assert trimesh.Trimesh(cut.vertices, cut.faces, process=False).is_watertight

    def test_the_resolution_counts_on_the_short_side(self, data) -> None:
        """Marching cubes makes about three triangles for each square of a cell's size."""
        mesh = mesh_of(data, Ellipsoids(([0, 0, 0], [0.2, 0.4, 0.8])))
        face_area = np.linalg.norm(area_vectors(mesh), axis=1).sum() / len(mesh.faces)
        cell = 0.4 / 32
        assert 0.2 * cell**2 < face_area < 0.6 * cell**2

    def test_fewer_faces_as_asked_still_coloured(self, data) -> None:
        mesh = mesh_of(data, sphere(0.5), COARSE.model_copy(update={"faces": 200}))
        assert len(mesh.faces) <= 200
        assert len(mesh.colours) == len(mesh.normals) == len(mesh.vertices)

    def test_progress_counts_every_evaluation(self, data) -> None:
        points, told = [], []
        geometry = sphere(0.4)
        experiment = known_experiment(data, geometry)
        exact = geometry.sdf
        geometry.sdf = lambda p: points.append(len(p)) or exact(p)
        mesh = make_mesh(experiment.model, COARSE, told.append)
        # The normals of the vertices cost one more each.
        assert sum(points) == sum(told) + len(mesh.vertices)

    def test_without_a_surface_it_is_empty(self, data) -> None:
        assert mesh_of(data, nothing()).empty


class TestFineGrid:
    @given(
        extent=st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3),
        resolution=st.integers(16, 1024),
    )
    def test_it_holds_the_object_in_cells_of_the_asked_size(self, extent, resolution) -> None:
        box = trimesh.creation.box(extents=extent)
        coarse = Mesh(np.asarray(box.vertices) + 0.1, np.asarray(box.faces))
        (lower, upper), cells, start = fine_grid(coarse, resolution)
        side = np.subtract(upper, lower)
        np.testing.assert_allclose(side, side[0])
        assert (lower < coarse.vertices.min(axis=0)).all()
        assert (upper > coarse.vertices.max(axis=0)).all()
        short = min(extent) + 2 * 2 / LOOK
        bound = (box.area / generation.MOST_SQUARES) ** 0.5
        assert side[0] / cells == pytest.approx(max(short / resolution, bound))
        halvings = np.log2(cells / start)
        assert halvings == round(halvings)
        assert start <= 2 * START and (start > START or cells == start)

    def test_a_thin_plate_does_not_fill_the_memory(self) -> None:
        box = trimesh.creation.box(extents=[1.0, 1.0, 0.001])
        coarse = Mesh(np.asarray(box.vertices), np.asarray(box.faces))
        (lower, upper), cells, _ = fine_grid(coarse, 4096)
        cell = (upper[0] - lower[0]) / cells
        assert box.area / cell**2 == pytest.approx(generation.MOST_SQUARES)


class TestFile:
    def test_it_is_in_the_units_of_the_cameras(self, data, tmp_path) -> None:
        path = save_scene_mesh(tmp_path, known_experiment(data, sphere(0.5)), COARSE)
        assert path == tmp_path / "a ball.ply"
        mesh = trimesh.load_mesh(path)
        # A polyhedron inscribed with 32 cells across has about 0.2 % less radius.
        assert radius_of(mesh) == pytest.approx(0.5 * SCENE_SCALE, rel=0.004)
        np.testing.assert_allclose(mesh.center_mass, SCENE_SHIFT, atol=1e-3)
        assert mesh.visual.kind == "vertex"

    def test_it_is_aligned_with_true_cameras(self, data, tmp_path) -> None:
        """The sphere of the learnt frame is moved, turned and scaled as its cameras are."""
        drifted = with_drift(known_experiment(data, sphere(0.4), cameras={"noise_deg": 1.0}))
        mesh = trimesh.load_mesh(save_scene_mesh(tmp_path, drifted, COARSE))
        assert radius_of(mesh) == pytest.approx(0.4 * 1.25 * SCENE_SCALE, rel=0.004)
        middle = SCENE_SHIFT + SCENE_SCALE * DRIFT.translation.numpy()
        np.testing.assert_allclose(mesh.center_mass, middle, atol=2e-3)

    def test_no_surface_leaves_no_file(self, data, tmp_path) -> None:
        assert save_scene_mesh(tmp_path, known_experiment(data, sphere(0.4)), COARSE)
        assert save_scene_mesh(tmp_path, known_experiment(data, nothing()), COARSE) is None
        assert not list(tmp_path.iterdir())


DRIFT = Similarity(
    1.25,
    so3_exp(torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64)),
    torch.tensor([0.05, -0.1, 0.02], dtype=torch.float64),
)


def with_drift(experiment):
    """True cameras, but for a similarity from the learnt frame to the true one."""
    cameras = moved(experiment.scene.training.cameras, inverse(DRIFT))
    return replace(experiment, cameras=cameras)


class TestCameraFiles:
    def test_they_are_the_true_ones_where_only_the_frame_drifted(self, data, tmp_path) -> None:
        drifted = with_drift(known_experiment(data, sphere(0.4), cameras={"noise_deg": 1.0}))
        assert export_cameras(tmp_path / "cameras", drifted) == []
        written = read_matrices(
            tmp_path / "cameras/cameras.npz", ("world_mat", "scale_mat"), count=5
        )
        true = read_matrices(data / "cameras.npz", ("world_mat", "scale_mat"), count=8)
        trained = [1, 2, 4, 5, 7]
        for key in ("world_mat", "scale_mat"):
            # Cameras are float32, and entries as large as focal length times distance.
            np.testing.assert_allclose(
                written[key], true[key][trained], atol=1e-4 * np.abs(true[key]).max()
            )

    def test_every_format_lists_every_training_view(self, data, tmp_path) -> None:
        experiment = known_experiment(data, sphere(0.4))
        export_cameras(tmp_path / "deep" / "cameras", experiment)
        folder = tmp_path / "deep" / "cameras"
        names = experiment.scene.training_names
        par = (folder / f"{scene_name(experiment)}_par.txt").read_text().splitlines()
        assert [line.split()[0] for line in par[1:]] == names
        colmap = (folder / "colmap/images.txt").read_text()
        assert all(name in colmap for name in names)
        frames = json.loads((folder / "transforms.json").read_text())["frames"]
        for frame, name in zip(frames, names, strict=True):
            assert (folder / frame["file_path"]).resolve() == data / "image" / name
            # Masks are called by three digits here and images by six: their order pairs them.
            mask = data / "mask" / name.removeprefix("000")
            assert (folder / frame["mask_path"]).resolve() == mask

    def test_what_a_format_cannot_hold_is_told(self, data, tmp_path) -> None:
        experiment = known_experiment(data, sphere(0.4))
        intrinsics = experiment.cameras.intrinsics.clone()
        intrinsics[:, 0, 1] = 0.5
        skewed = Cameras(intrinsics, experiment.cameras.object_from_camera, 16, 16)
        problems = export_cameras(tmp_path, replace(experiment, cameras=skewed))
        assert len(problems) == 2 and all("skew" in problem for problem in problems)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "a ball_par.txt",
            "cameras.npz",
        ]
