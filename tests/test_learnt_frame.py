"""Learnt and true frames, against a similarity that was applied on purpose."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.cameras import Cameras
from idr.camera_alignment import Similarity
from idr.camera_refinement import so3_exp
from idr.config import CamerasConfig
from idr.learnt_frame import (
    held_out_cameras,
    inverse,
    moved,
    true_cameras_known,
    true_from_learnt,
    world_from_learnt,
)
from tests.make_collection import SCENE_SCALE, SCENE_SHIFT, write_tiny_scene
from tests.make_idr import known_experiment, sphere

NOISY = {"refine": True, "noise_deg": 1.0}


def drift() -> Similarity:
    """From the learnt frame to the true one."""
    rotation = so3_exp(torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64))
    return Similarity(1.25, rotation, torch.tensor([0.05, -0.1, 0.02], dtype=torch.float64))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Of eight views, 0, 3 and 6 held out, and cameras that are right but for a drift."""
    data = write_tiny_scene(tmp_path_factory.mktemp("frame") / "ball", views=8, size=16)
    known = known_experiment(data, sphere(0.5), cameras=NOISY)
    return replace(known, cameras=moved(known.scene.training.cameras, inverse(drift())))


class TestMoved:
    def test_pictures_stay_the_same(self, experiment) -> None:
        cameras = experiment.scene.training.cameras
        points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) - 0.5
        pixel, z = cameras.project(points)
        pixel_too, z_too = moved(cameras, drift()).project(drift().apply(points))
        # float32 with pixels up to 16.
        torch.testing.assert_close(pixel_too, pixel, atol=1e-4, rtol=0)
        torch.testing.assert_close(z_too, 1.25 * z, atol=1e-5, rtol=1e-5)

    def test_poses_stay_rigid(self, experiment) -> None:
        rotation = moved(experiment.cameras, drift()).object_from_camera[:, :3, :3]
        identity = torch.eye(3).expand_as(rotation)
        torch.testing.assert_close(rotation @ rotation.mT, identity, atol=1e-6, rtol=0)

    def test_the_inverse_undoes(self) -> None:
        product = inverse(drift()).as_matrix() @ drift().as_matrix()
        torch.testing.assert_close(product, torch.eye(4, dtype=torch.float64))


class TestAlignment:
    def test_the_drift_is_found(self, experiment) -> None:
        found = true_from_learnt(experiment.config.cameras, experiment.scene, experiment.cameras)
        # Cameras are float32 and some four units away.
        torch.testing.assert_close(found.as_matrix(), drift().as_matrix(), atol=1e-5, rtol=0)

    def test_held_out_cameras_see_what_the_true_ones_do(self, experiment) -> None:
        scene = experiment.scene
        held_out = held_out_cameras(experiment.config.cameras, scene, experiment.cameras)
        learnt = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) - 0.5
        true, _ = scene.held_out.cameras.project(drift().apply(learnt))
        found, _ = held_out.project(learnt)
        torch.testing.assert_close(found, true, atol=1e-3, rtol=0)

    def test_the_world_is_the_files(self, experiment) -> None:
        world = world_from_learnt(experiment.config.cameras, experiment.scene, experiment.cameras)
        expected = np.diag([SCENE_SCALE] * 3 + [1.0])
        expected[:3, 3] = SCENE_SHIFT
        expected = expected @ drift().as_matrix().numpy()
        np.testing.assert_allclose(world.numpy(), expected, atol=1e-4)

    def test_without_truth_nothing_moves(self, experiment) -> None:
        """Cameras refined from the scene's own: no better ones are known to align with."""
        config = CamerasConfig(refine=True)
        scene, learnt = experiment.scene, experiment.cameras
        assert (
            true_from_learnt(config, scene, learnt)
            .as_matrix()
            .equal(torch.eye(4, dtype=torch.float64))
        )
        own = scene.held_out.cameras
        unmoved: Cameras = held_out_cameras(config, scene, learnt)
        torch.testing.assert_close(unmoved.object_from_camera, own.object_from_camera)
        world = world_from_learnt(config, scene, learnt)
        torch.testing.assert_close(world, scene.training.world_from_object.double())


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({"refine": True}, False),
        ({"noise_deg": 0.1}, True),
        ({"noise_translation": 0.01}, True),
        ({"file": "cameras_linear_init.npz"}, True),
    ],
)
def test_the_truth_is_known_where_training_started_elsewhere(settings, known) -> None:
    assert true_cameras_known(CamerasConfig(**settings)) is known


def test_noise_of_known_size_is_what_alignment_starts_from(tmp_path) -> None:
    """Aligning rough cameras leaves a turn no larger than theirs."""
    data = write_tiny_scene(tmp_path / "ball", views=8, size=16)
    known = known_experiment(data, sphere(0.5), cameras={"noise_deg": 2.0})
    found = true_from_learnt(known.config.cameras, known.scene, known.cameras)
    cosine = (found.rotation.trace() - 1) / 2
    assert math.degrees(torch.arccos(cosine.clamp(max=1))) <= 2.0
