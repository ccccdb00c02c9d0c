"""Similarities between sets of cameras, against ones that were applied on purpose."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from common.cameras import Cameras
from common.errors import UserError
from idr.camera_alignment import (
    Similarity,
    align_cameras,
    camera_errors,
    rotation_angle,
    view_errors,
)
from idr.camera_refinement import perturb_cameras


def random_cameras(views: int = 8, seed: int = 0) -> Cameras:
    rng = np.random.default_rng(seed)
    pose = np.tile(np.eye(4), (views, 1, 1))
    pose[:, :3, :3] = Rotation.random(views, rng=rng).as_matrix()
    pose[:, :3, 3] = rng.normal(size=(views, 3)) * 2 + [1, 0, 0]
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(views, 1, 1)
    return Cameras(intrinsics, torch.tensor(pose), 10, 10)


def similarity(scale: float, vector: list[float], translation: list[float]) -> Similarity:
    rotation = torch.tensor(Rotation.from_rotvec(vector).as_matrix())
    return Similarity(scale, rotation, torch.tensor(translation, dtype=torch.float64))


def moved(cameras: Cameras, by: Similarity) -> Cameras:
    """The same pictures' cameras in another frame."""
    pose = cameras.object_from_camera.clone()
    pose[:, :3, :3] = by.rotation @ pose[:, :3, :3]
    pose[:, :3, 3] = by.apply(cameras.centre)
    return Cameras(cameras.intrinsics, pose, cameras.height, cameras.width)


def sum_of_distances(scale, shift, source, target) -> float:
    return float(np.linalg.norm(scale * source + shift - target, axis=1).sum())


class TestSimilarity:
    def test_matrix_and_map_agree(self):
        by, points = similarity(2.5, [0.3, -1, 2], [1, 2, 3]), torch.randn(4, 5, 3).double()
        expected = points @ by.as_matrix()[:3, :3].T + by.as_matrix()[:3, 3]
        torch.testing.assert_close(by.apply(points), expected)

    def test_by_hand(self):
        quarter_about_z = similarity(2.0, [0, 0, math.pi / 2], [10, 0, 0])
        points = torch.tensor([[1.0, 0, 0], [0, 1, 5]])
        expected = torch.tensor([[10.0, 2, 0], [8, 0, 10]])
        torch.testing.assert_close(quarter_about_z.apply(points), expected)  # float32 stays so


class TestAlignment:
    @given(
        st.floats(1e-3, 1e3),
        st.lists(st.floats(-3, 3), min_size=3, max_size=3),
        st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    )
    def test_recovers_any_similarity(self, scale, vector, translation):
        estimated, by = random_cameras(), similarity(scale, vector, translation)
        truth = moved(estimated, by)
        found = align_cameras(estimated, truth)
        # Rounding at the size of the coordinates: a thousand and a hundred units.
        torch.testing.assert_close(found.as_matrix(), by.as_matrix(), atol=1e-11, rtol=1e-11)
        errors = camera_errors(estimated, truth)
        assert errors["rotation_error_deg"] < 1e-6 and errors["centre_error"] < 1e-10 * (
            100 + 10 * scale
        )

    @pytest.mark.parametrize("lost", [1, 2])
    def test_lost_centres_do_not_drag_the_others(self, lost):
        estimated, by = random_cameras(), similarity(3.0, [0.3, -1, 2], [1, 2, 3])
        truth = moved(estimated, by)
        estimated.object_from_camera[:lost, :3, 3] += torch.tensor([5.0, -7, 3])
        found = align_cameras(estimated, truth)
        torch.testing.assert_close(found.as_matrix(), by.as_matrix(), atol=1e-9, rtol=0)
        errors = view_errors(estimated, truth)
        assert (errors.centre[lost:] < 1e-9).all()
        expected = 3.0 * math.sqrt(25 + 49 + 9)
        assert errors.centre[:lost].tolist() == pytest.approx([expected] * lost)

    @pytest.mark.parametrize("views", [3, 8, 50])
    @pytest.mark.parametrize("noise", [1e-4, 0.5])
    def test_minimises_the_sum_of_distances(self, views, noise):
        """Against a general minimiser started at our answer: it finds nothing better."""
        truth = random_cameras(views, seed=views)
        estimated = moved(truth, similarity(0.5, [0, 0, 0], [1, 2, 3]))
        rng = np.random.default_rng(1)
        estimated.object_from_camera[:, :3, 3] += torch.tensor(rng.normal(size=(views, 3)) * noise)
        found = align_cameras(estimated, truth)
        source, target = estimated.centre.numpy(), truth.centre.numpy()
        ours = sum_of_distances(found.scale, found.translation.numpy(), source, target)
        start = np.concatenate([[found.scale], found.translation.numpy()])
        best = minimize(
            lambda x: sum_of_distances(x[0], x[1:], source, target),
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 2000},
        )
        assert ours <= best.fun + 1e-9 * ours

    @pytest.mark.parametrize("middle", [1, 99])
    def test_does_not_stay_where_least_squares_happens_to_fit(self, middle):
        """Least squares fits the ``middle`` cameras exactly, fewer than the best fit does.

        With 99 they hold all but as strongly as the 101 on the ring that are too high: an iteration
        without smoothing hardly moves from there.
        """
        count = 2 * middle + 3
        angle = 2 * math.pi * torch.arange(middle + 2).double() / (middle + 2)
        centres = torch.zeros(count, 3).double()
        centres[middle:-1, :2] = torch.stack([angle.cos(), angle.sin()], dim=-1)
        estimated, truth = random_cameras(count), random_cameras(count)
        estimated.object_from_camera[:, :3, 3] = centres
        truth.object_from_camera[:, :3, 3] = centres
        truth.object_from_camera[middle:-1, 2, 3] += 0.1
        truth.object_from_camera[-1, 2, 3] -= 0.1 * (middle + 2)
        found = align_cameras(estimated, truth)
        assert found.scale == pytest.approx(1)
        assert found.translation.tolist() == pytest.approx([0, 0, 0.1], abs=1e-8)

    def test_rotation_is_the_chordal_mean(self):
        """Two equal and opposite errors about one axis cancel."""
        truth = random_cameras(views=6)
        estimated = moved(truth, similarity(1.0, [0, 0, 0], [0, 0, 0]))
        turn = torch.tensor(Rotation.from_rotvec([0.02, 0.01, -0.03]).as_matrix())
        pose = estimated.object_from_camera
        pose[0, :3, :3] = turn @ pose[0, :3, :3]
        pose[1, :3, :3] = turn.T @ pose[1, :3, :3]
        errors = view_errors(estimated, truth).rotation_deg
        size = math.degrees(math.sqrt(0.0014))
        assert errors.tolist() == pytest.approx([size, size, 0, 0, 0, 0], abs=1e-9)

    def test_contradicting_orientations_still_give_a_proper_rotation(self):
        """Half turns about all three axes sum to diag(-1, -3, -3), nearest to a mirroring."""
        truth, estimated = random_cameras(views=7), random_cameras(views=7)
        about_x, about_y, about_z = (
            2 * torch.diag(axis) - torch.eye(3).double() for axis in torch.eye(3).double()
        )
        turns = torch.stack([about_x] * 3 + [about_y] * 2 + [about_z] * 2)
        pose = estimated.object_from_camera
        pose[:, :3, :3] = turns @ pose[:, :3, :3]
        pose[:, :3, 3] = truth.centre @ about_x
        torch.testing.assert_close(align_cameras(estimated, truth).rotation, about_x)

    @pytest.mark.parametrize("which", ["estimated", "true"])
    def test_one_place_is_refused(self, which):
        somewhere, nowhere = random_cameras(), random_cameras()
        nowhere.object_from_camera[:, :3, 3] = 1.0
        pair = (nowhere, somewhere) if which == "estimated" else (somewhere, nowhere)
        with pytest.raises(UserError, match=f"{which} cameras all stand at one place"):
            align_cameras(*pair)

    def test_centres_that_only_fit_mirrored_are_refused(self):
        estimated, truth = random_cameras(), random_cameras()
        estimated.object_from_camera[:, :3, 3] *= -1
        with pytest.raises(UserError, match="no positive scale.*same views"):
            align_cameras(estimated, truth)


class TestErrors:
    def test_mean_median_and_names(self):
        truth = random_cameras(views=5)
        estimated = moved(truth, similarity(1.0, [0, 0, 0], [0, 0, 0]))
        estimated.object_from_camera[0, :3, 3] += torch.tensor([0.0, 3.0, 4.0])
        errors = camera_errors(estimated, truth)
        assert set(errors) == {
            "rotation_error_deg",
            "rotation_error_deg_median",
            "centre_error",
            "centre_error_median",
        }
        assert errors["centre_error"] == pytest.approx(1.0)  # one of five is 5 away
        assert errors["centre_error_median"] < 1e-9

    def test_units_are_those_of_the_truth(self):
        truth = random_cameras()
        noisy = perturb_cameras(truth, 3.0, 0.05, torch.Generator().manual_seed(0))
        plain = view_errors(noisy, truth)
        elsewhere = similarity(100.0, [1, 2, 3], [4, 5, 6])
        same = view_errors(moved(noisy, similarity(0.01, [-1, 0, 2], [9, 9, 9])), truth)
        scaled = view_errors(noisy, moved(truth, elsewhere))
        torch.testing.assert_close(same.centre, plain.centre)
        torch.testing.assert_close(same.rotation_deg, plain.rotation_deg)
        torch.testing.assert_close(scaled.centre, 100 * plain.centre)
        torch.testing.assert_close(scaled.rotation_deg, plain.rotation_deg)

    def test_of_noise_is_about_the_noise(self):
        """No alignment makes it larger by much; the gauge can take a little of it away."""
        truth = random_cameras(views=200)
        noisy = perturb_cameras(truth, 2.0, 0.02, torch.Generator().manual_seed(0))
        errors = camera_errors(noisy, truth)
        assert errors["rotation_error_deg"] == pytest.approx(2.0, rel=0.02)
        given = 0.02 * truth.centre.norm(dim=-1).mean()
        assert errors["centre_error"] == pytest.approx(float(given), rel=0.05)

    def test_float32_cameras_with_gradients(self):
        truth = random_cameras()
        rough = Cameras(
            truth.intrinsics.float(),
            truth.object_from_camera.float().requires_grad_(),
            truth.height,
            truth.width,
        )
        errors = camera_errors(rough, truth)
        # Half a unit in the last place of entries up to 1, and of coordinates up to 8.
        assert errors["rotation_error_deg"] < 1e-5 and errors["centre_error"] < 1e-6

    @pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-9, 1e-5, 1.0, 3.0, math.pi - 1e-9, math.pi])
    def test_angle_keeps_its_digits(self, angle):
        rotation = torch.tensor(Rotation.from_rotvec(angle * np.array([0, 0.6, 0.8])).as_matrix())
        assert rotation_angle(rotation).item() == pytest.approx(angle, rel=1e-12, abs=1e-15)
