"""Cameras: pixel to ray to pixel, and projections taken apart and put together."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from common.cameras import Cameras, decompose_projection, joined, look_at, pixel_grid

SEEDS = st.integers(0, 2**32 - 1)


def random_intrinsics(rng):
    focal = np.exp(rng.uniform(np.log(10), np.log(3000)))
    k = np.diag([focal, focal * rng.uniform(0.7, 1.4), 1.0])
    k[0, 1] = focal * rng.uniform(-0.05, 0.05)
    k[:2, 2] = rng.uniform(-100, 1000, size=2)
    return k


def random_pose(rng):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    pose[:3, 3] = rng.normal(size=3) * 3
    return pose


def random_cameras(rng, count=3):
    """In float64, so that tolerances speak of the formulas and not of the number format."""
    return Cameras(
        torch.tensor(np.stack([random_intrinsics(rng) for _ in range(count)])),
        torch.tensor(np.stack([random_pose(rng) for _ in range(count)])),
        height=480,
        width=640,
    )


def random_pixels(rng, count=20):
    return torch.tensor(rng.uniform([-0.5, -0.5], [639.5, 479.5], size=(count, 2)))


class TestRays:
    @given(SEEDS)
    @settings(max_examples=50, deadline=None)
    def test_projecting_a_point_of_a_ray_returns_its_pixel(self, seed):
        rng = np.random.default_rng(seed)
        cameras = random_cameras(rng)
        pixels = random_pixels(rng)
        for view in range(len(cameras)):
            which = torch.full((len(pixels),), view)
            rays = cameras.rays(which, pixels)
            depth = torch.tensor(rng.uniform(0.5, 10, size=len(pixels)))
            again, z = cameras.project(rays.at(depth))
            # Focal lengths of 10 px make wide angles: a few hundred times the rounding of 1e3 px.
            torch.testing.assert_close(again[view], pixels, atol=1e-8, rtol=1e-9)
            assert (z[view] > 0).all()

    @given(SEEDS)
    @settings(max_examples=50, deadline=None)
    def test_directions_are_unit_and_the_other_ones_have_unit_z(self, seed):
        rng = np.random.default_rng(seed)
        cameras = random_cameras(rng)
        pixels = random_pixels(rng)
        view = torch.tensor(rng.integers(0, 3, size=len(pixels)))
        rays = cameras.rays(view, pixels)
        torch.testing.assert_close(rays.direction.norm(dim=-1), torch.ones(20).double())
        along = cameras.unit_z_directions(view, pixels)
        _, z = cameras.project(cameras.centre[view] + 2.5 * along)
        torch.testing.assert_close(z[view, torch.arange(20)], torch.full((20,), 2.5).double())
        torch.testing.assert_close(along / along.norm(dim=-1, keepdim=True), rays.direction)

    def test_a_hand_computed_ray(self):
        """Focal 2, principal point (3, 1), at (0, 0, -5) looking along z: pixel (5, 1) goes
        one to the right for each one forward."""
        k = torch.tensor([[[2.0, 0, 3], [0, 2, 1], [0, 0, 1]]])
        pose = torch.eye(4)[None].clone()
        pose[0, 2, 3] = -5
        cameras = Cameras(k, pose, height=3, width=7)
        rays = cameras.rays(torch.tensor([0]), torch.tensor([[5.0, 1.0]]))
        assert torch.equal(rays.origin, torch.tensor([[0.0, 0, -5]]))
        torch.testing.assert_close(rays.direction, torch.tensor([[1.0, 0, 1]]) / 2**0.5)

    def test_a_point_behind_has_negative_z(self):
        cameras = random_cameras(np.random.default_rng(0))
        behind = cameras.centre - cameras.object_from_camera[:, :3, 2]
        _, z = cameras.project(behind)
        torch.testing.assert_close(z.diagonal(), torch.full((3,), -1.0).double())


class TestResized:
    @given(SEEDS, st.integers(1, 1500), st.integers(1, 1500))
    @settings(max_examples=50, deadline=None)
    def test_pixels_move_by_the_pixel_centre_rule(self, seed, height, width):
        rng = np.random.default_rng(seed)
        cameras = random_cameras(rng)
        points = cameras.rays(torch.zeros(20, dtype=torch.long), random_pixels(rng)).at(
            torch.full((20,), 2.0).double()
        )
        before, z = cameras.project(points)
        after, z_after = cameras.resized(height, width).project(points)
        scale = torch.tensor([width / 640, height / 480]).double()
        expected = (before[0] + 0.5) * scale - 0.5
        torch.testing.assert_close(after[0], expected, atol=1e-4, rtol=1e-6)  # float32 scale matrix
        assert torch.equal(z, z_after)

    def test_corners_of_the_image_stay_corners(self):
        cameras = random_cameras(np.random.default_rng(1))
        corners = torch.tensor([[-0.5, -0.5], [639.5, 479.5]]).double()
        view = torch.zeros(2, dtype=torch.long)
        small = cameras.resized(60, 80)
        expected = torch.tensor([[-0.5, -0.5], [79.5, 59.5]]).double()
        points = cameras.rays(view, corners).at(torch.ones(2).double())
        torch.testing.assert_close(small.project(points)[0][0], expected, atol=1e-4, rtol=0)

    def test_there_and_back(self):
        cameras = random_cameras(np.random.default_rng(2))
        again = cameras.resized(123, 77).resized(480, 640)
        torch.testing.assert_close(again.intrinsics, cameras.intrinsics, atol=1e-3, rtol=1e-6)


class TestDecomposition:
    @given(SEEDS, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.booleans())
    @settings(max_examples=200, deadline=None)
    def test_every_part_is_recovered_at_any_factor_and_sign(self, seed, scale, factor, negative):
        """K [R | t] of a frame scaled by ``scale``: projection = factor K R^T [s I | -c]."""
        rng = np.random.default_rng(seed)
        k, pose = random_intrinsics(rng), random_pose(rng)
        camera_from_frame = np.linalg.inv(pose)[:3]
        projection = scale * k @ camera_from_frame
        found_k, found_pose, found_scale = decompose_projection(
            -projection if negative else projection
        )
        # The condition number of K, up to 3e3 squared, times the rounding of float64.
        np.testing.assert_allclose(found_k, k, rtol=1e-7, atol=1e-6)
        np.testing.assert_allclose(found_pose, pose, atol=1e-7)
        assert found_scale == pytest.approx(scale, rel=1e-9)
        assert found_k[2, 2] == 1
        # A factor on the whole matrix is only a change of that scale.
        again = decompose_projection(factor * projection)
        np.testing.assert_allclose(again[0], k, rtol=1e-7, atol=1e-6)
        np.testing.assert_allclose(again[1], pose, atol=1e-7)
        assert again[2] == pytest.approx(factor * scale, rel=1e-9)

    @given(SEEDS, st.floats(1e-2, 1e2))
    @settings(max_examples=100, deadline=None)
    def test_a_similarity_of_the_frame_goes_into_scale_and_pose(self, seed, scale):
        """World = scale * object + shift: the pose comes out in object units, still rigid."""
        rng = np.random.default_rng(seed)
        k, pose = random_intrinsics(rng), random_pose(rng)
        world_from_object = np.diag([scale, scale, scale, 1.0])
        world_from_object[:3, 3] = rng.normal(size=3)
        projection = k @ np.linalg.inv(pose)[:3] @ world_from_object
        found_k, found_pose, found_scale = decompose_projection(projection)
        np.testing.assert_allclose(found_k, k, rtol=1e-7, atol=1e-6)
        assert found_scale == pytest.approx(scale, rel=1e-9)
        np.testing.assert_allclose(found_pose[:3, :3], pose[:3, :3], atol=1e-9)
        expected = (pose[:3, 3] - world_from_object[:3, 3]) / scale
        np.testing.assert_allclose(found_pose[:3, 3], expected, rtol=1e-7, atol=1e-7)

    def test_the_third_coordinate_is_scale_times_camera_z(self):
        """What turns depth maps of files into object units."""
        rng = np.random.default_rng(3)
        projection = 4.5 * random_intrinsics(rng) @ np.linalg.inv(random_pose(rng))[:3]
        k, pose, scale = decompose_projection(projection)
        cameras = Cameras(torch.tensor(k)[None], torch.tensor(pose)[None], 480, 640)
        points = torch.tensor(rng.normal(size=(10, 3)))
        pixel, z = cameras.project(points)
        homogeneous = points.numpy() @ projection[:, :3].T + projection[:, 3]
        np.testing.assert_allclose(homogeneous[:, 2], scale * z[0], rtol=1e-9)
        np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], pixel[0], rtol=1e-7)

    @pytest.mark.filterwarnings("ignore:invalid value encountered in det")
    @pytest.mark.parametrize("broken", [np.zeros((3, 4)), np.ones((3, 4)), np.full((3, 4), np.nan)])
    def test_what_cannot_be_inverted_is_refused(self, broken):
        with pytest.raises(ValueError, match="(?i)singular"):
            decompose_projection(broken)


def test_look_at_puts_the_target_in_the_middle_and_up_on_top():
    centre = torch.tensor([[3.0, 1, 0], [0, 2, -4]])
    target = torch.tensor([[0.0, 0.5, 0], [1, 0, 0]])
    pose = look_at(centre, target, torch.tensor([0.0, 1, 0]))
    k = torch.tensor([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]]).expand(2, 3, 3)
    cameras = Cameras(k, pose, 49, 65)
    torch.testing.assert_close(cameras.centre, centre)
    assert torch.allclose(torch.linalg.det(pose[:, :3, :3]), torch.ones(2))
    pixel, z = cameras.project(target)
    distance = (target - centre).norm(dim=-1)
    torch.testing.assert_close(z.diagonal(), distance)
    torch.testing.assert_close(pixel[[0, 1], [0, 1]], torch.tensor([[32.0, 24], [32, 24]]))
    above, _ = cameras.project(target + torch.tensor([0, 0.1, 0]))
    assert (above[[0, 1], [0, 1]][:, 1] < 24).all()


def test_pixel_grid_goes_row_by_row():
    expected = [[0.0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    assert pixel_grid(2, 3).tolist() == expected


def test_selecting_views_keeps_the_image_size():
    cameras = random_cameras(np.random.default_rng(4))
    chosen = cameras[[2, 0]]
    assert len(chosen) == 2 and (chosen.height, chosen.width) == (480, 640)
    assert torch.equal(chosen.centre, cameras.centre[[2, 0]])


def test_joined_cameras_see_what_each_does_alone():
    """Whether their matrices were computed before or not."""
    rng = np.random.default_rng(3)
    several = [random_cameras(rng, count) for count in (2, 1, 3)]
    several[1].project(torch.zeros(1, 3))
    points = torch.from_numpy(rng.normal(size=(6, 4, 3))).float()
    pixel, z = joined(several).project_own(points)
    directions = joined(several).unit_z_directions(torch.arange(6), pixel[:, 0])
    start = 0
    for cameras in several:
        for view in range(len(cameras)):
            alone_pixel, alone_z = cameras.project(points[start])
            torch.testing.assert_close(pixel[start], alone_pixel[view])
            torch.testing.assert_close(z[start], alone_z[view])
            alone = cameras.unit_z_directions(torch.tensor([view]), pixel[start, :1])[0]
            torch.testing.assert_close(directions[start], alone)
            start += 1
    assert start == len(joined(several))
