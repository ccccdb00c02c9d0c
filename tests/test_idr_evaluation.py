"""Scores of a sphere that is known exactly, by hand."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from common.meshes.files import save_mesh
from common.meshes.find import find_mesh
from common.meshes.mesh import Mesh
from idr.camera_alignment import Similarity
from idr.camera_refinement import so3_exp
from idr.evaluation import camera_scores, evaluate_scene, mesh_item, spread, views_compared
from idr.learnt_frame import inverse, moved
from tests.make_collection import SCENE_RADIUS, SCENE_SCALE, SCENE_SHIFT, write_tiny_scene
from tests.make_idr import OneColour, known_experiment, sphere

DRIFT = Similarity(
    1.25,
    so3_exp(torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64)),
    torch.tensor([0.05, -0.1, 0.02], dtype=torch.float64),
)
WORLD_RADIUS = SCENE_RADIUS * SCENE_SCALE


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight views, of which 0, 3 and 6 are held out, and the true surface."""
    folder = write_tiny_scene(tmp_path_factory.mktemp("evaluation") / "ball", views=8, size=24)
    normals = np.random.default_rng(0).normal(size=(20_000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = WORLD_RADIUS * normals + SCENE_SHIFT
    np.savez(folder / "pointcloud.npz", points=points, normals=normals)
    return folder


@pytest.fixture(scope="module")
def experiment(data):
    return known_experiment(data, sphere(SCENE_RADIUS), OneColour(0.5, 0.5, 0.5))


def score(experiment, meshes, views=None) -> dict:
    return evaluate_scene(experiment, meshes, views, 0, lambda: None)


def save_sphere(path, radius: float) -> None:
    ball = trimesh.creation.icosphere(4, radius)
    save_mesh(path, Mesh(np.asarray(ball.vertices) + SCENE_SHIFT, np.asarray(ball.faces)))


class TestPictures:
    def test_psnr_inside_the_mask_by_hand(self, experiment, tmp_path) -> None:
        result = score(experiment, tmp_path)
        views = experiment.scene.held_out
        expected = []
        for image, mask in zip(views.images, views.masks, strict=True):
            error = ((image[mask].double() / 255 - 0.5) ** 2).mean()
            expected.append(float(-10 * error.log10()))
        assert result["held_out"]["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)

    def test_the_whole_picture_has_white_around_as_rendered(self, experiment, tmp_path) -> None:
        """Outside the mask nothing differs: errors there are zero, and PSNR grows by the area."""
        result = score(experiment, tmp_path)
        for item in result["items"][:-1]:
            assert item["mask_iou"] == 1
        views = experiment.scene.held_out
        share = views.masks.double().mean(dim=(1, 2))
        for item, part in zip(result["items"], share, strict=False):
            assert item["psnr_whole"] == pytest.approx(
                item["psnr"] - 10 * float(part.log10()), abs=1e-3
            )

    def test_sets_and_their_names(self, experiment, tmp_path) -> None:
        items = score(experiment, tmp_path)["items"]
        held_out = [item["name"] for item in items if item["set"] == "held_out"]
        training = [item["name"] for item in items if item["set"] == "training"]
        assert held_out == ["000000.png", "000003.png", "000006.png"]
        assert training == [f"00000{view}.png" for view in (1, 2, 4, 5, 7)]

    def test_as_many_views_as_asked_for_and_every_one_is_told(self, experiment, tmp_path) -> None:
        told = []
        result = evaluate_scene(experiment, tmp_path, 2, 0, lambda: told.append(1))
        names = [item["name"] for item in result["items"] if item["set"] != "mesh"]
        assert names == ["000000.png", "000006.png", "000001.png", "000007.png"]
        assert len(told) == len(names) + 1 == views_compared(3, 5, 2) + 1

    def test_without_held_out_views_there_are_no_such_scores(self, data, tmp_path) -> None:
        everything = known_experiment(data, sphere(SCENE_RADIUS), data={"holdout_every": 0})
        result = score(everything, tmp_path)
        assert result["held_out"] == {}
        assert len([item for item in result["items"] if item["set"] == "training"]) == 7

    def test_a_drift_of_the_learnt_frame_changes_nothing(self, data, experiment, tmp_path) -> None:
        """Surface and cameras are moved together; held-out cameras must follow."""
        back = inverse(DRIFT)
        moved_sphere = sphere(back.scale * SCENE_RADIUS, tuple(back.translation.tolist()))
        drifted = known_experiment(
            data, moved_sphere, OneColour(0.5, 0.5, 0.5), cameras={"noise_deg": 1.0}
        )
        cameras = moved(drifted.scene.training.cameras, back)
        result = score(replace(drifted, cameras=cameras), tmp_path)
        straight = score(experiment, tmp_path)
        for name in ("held_out", "training"):
            assert result[name] == pytest.approx(straight[name], abs=1e-3)

    @pytest.mark.parametrize(
        ("count", "wanted", "expected"),
        [(5, None, [0, 1, 2, 3, 4]), (5, 3, [0, 2, 4]), (5, 9, [0, 1, 2, 3, 4]), (0, 3, []),
         (5, 1, [0])],
    )  # fmt: skip
    def test_views_are_spread_from_first_to_last(self, count, wanted, expected) -> None:
        assert spread(count, wanted) == expected


class TestMesh:
    def test_a_sphere_a_tenth_too_large(self, data, tmp_path) -> None:
        """Both distances are a tenth of the radius, in world units; its share is of the box."""
        save_sphere(tmp_path / "ball.ply", 1.1 * WORLD_RADIUS)
        scores = mesh_item(tmp_path / "ball.ply", data, 0)
        error, diameter = 0.1 * WORLD_RADIUS, 2 * WORLD_RADIUS * 3**0.5
        # Points lie some R sqrt(4 pi / 20,000) / 2 apart, beside 0.1 R: 1 % more distance; an
        # inscribed polyhedron is 0.3 % smaller, 3 % of the tenth.
        for name in ("accuracy", "completeness", "chamfer_l1"):
            assert scores[name] == pytest.approx(error, rel=0.04)
        assert scores["chamfer_l1_relative"] == pytest.approx(error / diameter, rel=0.04)
        assert scores["normal_consistency"] > 0.99
        assert scores["f_score"] == 0  # 1 % of the diameter is 3.5 % of the radius

    def test_the_f_score_is_at_one_percent_of_the_diameter(self, data, tmp_path) -> None:
        save_sphere(tmp_path / "ball.ply", 1.02 * WORLD_RADIUS)
        # The bound is 3.5 % of the radius; true points are some 2.5 % apart, beside the 2 %.
        assert mesh_item(tmp_path / "ball.ply", data, 0)["f_score"] > 0.95

    def test_a_mesh_of_any_format_is_found(self, data, tmp_path) -> None:
        save_sphere(tmp_path / "ball.glb", WORLD_RADIUS)
        assert mesh_item(tmp_path / "ball.ply", data, 0)["chamfer_l1_relative"] < 0.01

    def test_a_missing_mesh_is_a_failure_that_says_so(self, data, tmp_path) -> None:
        item = mesh_item(tmp_path / "ball.ply", data, 0)
        assert item["chamfer_l1_relative"] == pytest.approx(3**0.5)
        assert item["f_score"] == 0
        assert "ball.ply" in item["mesh_problem"]

    def test_without_truth_there_is_nothing_to_score(self, tmp_path) -> None:
        assert mesh_item(tmp_path / "ball.ply", write_tiny_scene(tmp_path / "ball"), 0) == {}


class TestFindMesh:
    def test_the_newest_of_several(self, tmp_path) -> None:
        for age, name in ((300, "a.ply"), (100, "a.obj"), (200, "a.glb"), (0, "b.ply")):
            (tmp_path / name).touch()
            set_age(tmp_path / name, age)
        (tmp_path / "a.txt").touch()
        assert find_mesh(tmp_path / "a.ply") == tmp_path / "a.obj"

    def test_of_one_age_its_own_suffix_comes_first(self, tmp_path) -> None:
        for name in ("a.ply", "a.off"):
            (tmp_path / name).touch()
            set_age(tmp_path / name, 100)
        assert find_mesh(tmp_path / "a.off") == tmp_path / "a.off"

    def test_dots_in_names_are_no_suffixes(self, tmp_path) -> None:
        (tmp_path / "a.1.obj").touch()
        assert find_mesh(tmp_path / "a.1.ply") == tmp_path / "a.1.obj"

    def test_without_any_it_is_the_path_itself(self, tmp_path) -> None:
        assert find_mesh(tmp_path / "a.ply") == tmp_path / "a.ply"


def set_age(path, age: int) -> None:
    os.utime(path, (1_000_000_000 - age, 1_000_000_000 - age))


class TestCameras:
    def test_before_it_is_the_noise_and_after_it_is_gone(self, data) -> None:
        """Alignment takes a common part out of random turns of 2 degrees, never adds to them."""
        noisy = known_experiment(
            data, sphere(0.5), cameras={"refine": True, "noise_deg": 2.0, "noise_translation": 0.02}
        )
        perfect = moved(noisy.scene.training.cameras, inverse(DRIFT))
        scores = camera_scores(replace(noisy, cameras=perfect))
        before, after = scores["before"], scores["after"]
        assert 0.5 < before["rotation_error_deg"] < 2.5
        assert 0.002 < before["centre_error_relative"] < 0.03
        # All cameras are four radii of the frame away: 12 world units.
        assert before["centre_error"] == pytest.approx(
            12 * before["centre_error_relative"], rel=1e-4
        )
        assert after["rotation_error_deg"] < 1e-3
        assert after["centre_error_relative"] < 1e-5
        assert set(before) == set(after)

    def test_cameras_that_are_not_learnt_have_no_after(self, data) -> None:
        noisy = known_experiment(data, sphere(0.5), cameras={"noise_deg": 2.0})
        assert list(camera_scores(noisy)) == ["before"]

    def test_without_truth_there_are_no_errors(self, data) -> None:
        assert camera_scores(known_experiment(data, sphere(0.5), cameras={"refine": True})) == {}


class TestWhole:
    def test_it_has_the_agreed_keys(self, experiment, tmp_path) -> None:
        save_sphere(tmp_path / "ball.ply", WORLD_RADIUS)
        result = score(experiment, tmp_path)
        assert list(result) == ["method", "step", "seconds", "held_out", "training", "textured",
                                "mesh", "cameras", "baselines", "items"]  # fmt: skip
        assert (result["method"], result["step"], result["seconds"]) == ("idr", 5, 1.5)
        assert set(result["held_out"]) == set(result["training"]) == {
            "psnr", "psnr_whole", "ssim", "mask_iou",
        }  # fmt: skip
        mesh = result["items"][-1]
        assert mesh == {"name": "ball", "set": "mesh"} | result["mesh"]

    def test_the_same_seed_gives_the_same_digits(self, experiment, tmp_path) -> None:
        save_sphere(tmp_path / "ball.ply", WORLD_RADIUS)
        first, second = (json.dumps(score(experiment, tmp_path, 1)) for _ in range(2))
        assert first == second
