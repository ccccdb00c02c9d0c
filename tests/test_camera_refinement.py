"""Camera corrections: exact at zero, differentiable everywhere, able to undo a known error."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from common.cameras import Cameras, look_at
from idr.camera_alignment import camera_errors, rotation_angle
from idr.camera_refinement import CameraRefinement, perturb_cameras, so3_exp

HEIGHT, WIDTH = 60, 80


def ring(views: int = 6, dtype: torch.dtype = torch.float64) -> Cameras:
    """Cameras with some skew around the origin, at distances that all differ."""
    angle = 2 * math.pi * torch.arange(views) / views
    centre = torch.stack([angle.cos(), 0.3 + 0 * angle, angle.sin()], dim=-1)
    centre = centre * torch.linspace(2, 3, views)[:, None]
    pose = look_at(centre, torch.zeros(views, 3), torch.tensor([0.0, 1, 0]))
    intrinsics = torch.tensor([[90.0, 0.5, 39], [0, 95, 31], [0, 0, 1]]).repeat(views, 1, 1)
    return Cameras(intrinsics.to(dtype), pose.to(dtype), HEIGHT, WIDTH)


def points_in_ball(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5


class TestExponential:
    angles = [0.0, 1e-12, 1e-7, 1e-3, 0.0999, 0.1001, 1.0, math.pi - 1e-7, math.pi, 4.0]

    @pytest.mark.parametrize("angle", angles)
    @pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 4e-16), (torch.float32, 4e-7)])
    def test_is_the_rotation(self, angle, dtype, rounding):
        axis = np.array([2.0, -3.0, 6.0]) / 7
        exact = torch.tensor(Rotation.from_rotvec(angle * axis).as_matrix())
        ours = so3_exp(torch.tensor(angle * axis, dtype=dtype)).double()
        # Rounding of the entries, and of the angle itself where it is large.
        assert (ours - exact).abs().max() <= (2 + angle) * rounding

    def test_tiny_angles_keep_their_digits_in_float32(self):
        vector = torch.tensor([3e-12, -4e-12, 5e-12])
        rotation = so3_exp(vector)
        ours = torch.stack([rotation[2, 1], rotation[0, 2], rotation[1, 0]])
        torch.testing.assert_close(ours, vector, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("angle", angles)
    def test_first_and_second_derivatives(self, angle):
        axis = torch.tensor([[2.0, -3.0, 6.0]], dtype=torch.float64) / 7
        vector = (angle * axis).requires_grad_()
        assert torch.autograd.gradcheck(so3_exp, vector)
        assert torch.autograd.gradgradcheck(so3_exp, vector)

    @pytest.mark.parametrize("angle", [1e-8, 1e-4, 1e-2, 0.0999, 0.1001, 0.3])
    def test_curvature_in_float32(self, angle):
        """Against float64; the closed form alone would be wrong by 1e-3 at 1e-4 radians."""
        weight = torch.tensor([[1.0, -2, 3], [4, 5, -6], [7, -8, 9]])
        exact, ours = (
            torch.autograd.functional.hessian(
                lambda vector: (weight.to(vector) * so3_exp(vector)).sum(),
                angle * torch.tensor([0.6, 0.0, 0.8], dtype=dtype),
            ).double()
            for dtype in (torch.float64, torch.float32)
        )
        # Rounding over the angle where the closed form begins, times the weights.
        assert (ours - exact).abs().max() < 1e-6 / 0.1 * 10

    @given(
        st.lists(st.floats(-8, 8), min_size=3, max_size=3),
        st.floats(0.1, 0.9),
    )
    def test_angles_about_one_axis_add(self, vector, share):
        vector = torch.tensor(vector, dtype=torch.float64)
        whole = so3_exp(vector)
        parts = so3_exp(share * vector) @ so3_exp((1 - share) * vector)
        torch.testing.assert_close(parts, whole, atol=1e-14, rtol=0)
        torch.testing.assert_close(whole @ whole.T, torch.eye(3).double(), atol=1e-14, rtol=0)
        assert torch.linalg.det(whole) > 0

    def test_any_batch_shape(self):
        vector = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
        together = so3_exp(vector)
        assert together.shape == (2, 5, 3, 3)
        torch.testing.assert_close(together[1, 3], so3_exp(vector[1, 3]))
        assert so3_exp(vector[:, :0]).shape == (2, 0, 3, 3)


class TestRefinement:
    @pytest.mark.parametrize("focal", [False, True])
    def test_starts_as_the_given_cameras(self, focal):
        cameras = ring(dtype=torch.float32)
        refined = CameraRefinement(cameras, focal)()
        assert torch.equal(refined.intrinsics, cameras.intrinsics)
        torch.testing.assert_close(refined.object_from_camera, cameras.object_from_camera)
        assert (refined.height, refined.width) == (HEIGHT, WIDTH)

    def test_parameters(self):
        cameras = ring()
        names = dict(CameraRefinement(cameras, focal=False).named_parameters())
        assert {name: tuple(p.shape) for name, p in names.items()} == {
            "rotation": (6, 3),
            "translation": (6, 3),
        }
        assert CameraRefinement(cameras, focal=True).log_focal.shape == (1,)

    def test_a_state_brings_its_cameras_along(self):
        source, other = (
            CameraRefinement(ring(), True),
            CameraRefinement(ring().resized(30, 40), True),
        )
        with torch.no_grad():
            source.rotation += 0.1
            source.log_focal += 0.2
        other.load_state_dict(source.state_dict())
        assert torch.equal(other().object_from_camera, source().object_from_camera)
        assert torch.equal(other().intrinsics, source().intrinsics)

    def test_rotation_is_about_the_cameras_own_axes_and_centre(self):
        refinement = CameraRefinement(ring(), focal=False)
        with torch.no_grad():
            refinement.rotation[2] = torch.tensor([0, 0.1, 0])  # about y, which points down
        before, after = ring(), refinement()
        assert torch.equal(after.centre, before.centre)
        forward, right = before.object_from_camera[2, :3, 2], before.object_from_camera[2, :3, 0]
        expected = math.cos(0.1) * forward + math.sin(0.1) * right  # it looks to the right
        torch.testing.assert_close(after.object_from_camera[2, :3, 2], expected)
        others = [0, 1, 3, 4, 5]
        torch.testing.assert_close(
            after[others].object_from_camera[:, :3, :3],
            before[others].object_from_camera[:, :3, :3],
        )

    def test_translation_is_in_the_object_frame(self):
        refinement = CameraRefinement(ring(), focal=False)
        with torch.no_grad():
            refinement.translation[1] = torch.tensor([0.1, -0.2, 0.3])
        moved = refinement().centre - ring().centre
        expected = torch.zeros(6, 3).double()
        expected[1] = torch.tensor([0.1, -0.2, 0.3]) * ring().centre[1].norm()
        torch.testing.assert_close(moved, expected)

    def test_translation_leaves_the_origin_in_its_place_in_the_picture(self):
        refinement = CameraRefinement(ring(), focal=False)
        with torch.no_grad():
            refinement.translation += torch.tensor([0.4, -0.3, 0.5])
        origin = torch.zeros(1, 3).double()
        before, after = ring().project(origin)[0], refinement().project(origin)[0]
        torch.testing.assert_close(after, before)
        pose = refinement().object_from_camera[:, :3, :3]
        torch.testing.assert_close(pose.mT @ pose, torch.eye(3).double().expand(6, 3, 3))

    def test_focal_scales_pictures_about_the_principal_point(self):
        refinement = CameraRefinement(ring(), focal=True)
        with torch.no_grad():
            refinement.log_focal += math.log(1.25)
        points = points_in_ball(20)
        before, after = ring().project(points)[0], refinement().project(points)[0]
        principal = torch.tensor([39.0, 31.0]).double()
        torch.testing.assert_close(after - principal, 1.25 * (before - principal))

    def test_gradients_of_pixels_and_rays(self):
        refinement = CameraRefinement(ring(), focal=True)
        points, pixel = points_in_ball(3), torch.tensor([[3.0, 50.0]]).double().expand(6, 2)

        def seen(*values):
            named = dict(zip(("rotation", "translation", "log_focal"), values, strict=True))
            cameras = torch.func.functional_call(refinement, named, ())
            rays = cameras.rays(torch.arange(6), pixel)
            return cameras.project(points)[0], rays.origin, rays.direction

        generator = torch.Generator().manual_seed(0)
        zero = [p.detach().clone().requires_grad_() for p in refinement.parameters()]
        some = [
            (0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)).requires_grad_()
            for p in zero
        ]
        for values in (zero, some):
            assert torch.autograd.gradcheck(seen, values, fast_mode=True)

    def test_undoes_a_known_error(self):
        """Bundle adjustment with known points: the least of what it must be able to do."""
        truth = ring()
        wide = truth.intrinsics * torch.tensor([1.05, 1.05, 1.0]).double()  # columns
        start = Cameras(wide, truth.object_from_camera, HEIGHT, WIDTH)
        rough = perturb_cameras(start, 2.0, 0.02, torch.Generator().manual_seed(0))
        points = points_in_ball(30)
        target = truth.project(points)[0]
        refinement = CameraRefinement(rough, focal=True)
        optimiser = torch.optim.LBFGS(
            refinement.parameters(), max_iter=200, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def closure():
            optimiser.zero_grad()
            loss = (refinement().project(points)[0] - target).square().mean()
            loss.backward()
            return loss

        optimiser.step(closure)
        before, after = camera_errors(rough, truth), camera_errors(refinement(), truth)
        assert before["rotation_error_deg"] > 1
        assert after["rotation_error_deg"] < 1e-3 and after["centre_error"] < 1e-4
        assert refinement.log_focal.item() == pytest.approx(-math.log(1.05), abs=1e-4)


class TestPerturbation:
    def test_sizes_are_exact(self):
        cameras = ring()
        noisy = perturb_cameras(cameras, 2.0, 0.02, torch.Generator().manual_seed(0))
        turn = cameras.object_from_camera[:, :3, :3].mT @ noisy.object_from_camera[:, :3, :3]
        assert rotation_angle(turn).rad2deg().tolist() == pytest.approx([2.0] * 6, rel=1e-6)
        share = (noisy.centre - cameras.centre).norm(dim=-1) / cameras.centre.norm(dim=-1)
        assert share.tolist() == pytest.approx([0.02] * 6, rel=1e-6)
        assert torch.equal(noisy.intrinsics, cameras.intrinsics)

    def test_directions_are_uniform_and_independent(self):
        """Means of directions and their outer products over 2,000 cameras: 0, I / 3 and 0."""
        cameras = Cameras(*(t[:1].repeat(2000, *[1] * 2) for t in pose_and_lens()), HEIGHT, WIDTH)
        noisy = perturb_cameras(cameras, 10.0, 0.1, torch.Generator().manual_seed(0))
        turn = cameras.object_from_camera[:, :3, :3].mT @ noisy.object_from_camera[:, :3, :3]
        skew = torch.stack([turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]], dim=-1)
        skew = skew - torch.stack([turn[:, 1, 2], turn[:, 2, 0], turn[:, 0, 1]], dim=-1)
        axis = torch.nn.functional.normalize(skew, dim=-1)
        step = torch.nn.functional.normalize(noisy.centre - cameras.centre, dim=-1)
        five_sigma = 5 * math.sqrt(1 / 3 / 2000)
        for direction in (axis, step):
            assert direction.mean(dim=0).abs().max() < five_sigma
            outer = (direction[:, :, None] * direction[:, None]).mean(dim=0)
            assert (outer - torch.eye(3) / 3).abs().max() < five_sigma
        assert (axis[:, :, None] * step[:, None]).mean(dim=0).abs().max() < five_sigma

    def test_nothing_asked_changes_nothing(self):
        cameras = ring()
        same = perturb_cameras(cameras, 0.0, 0.0, torch.Generator().manual_seed(0))
        assert torch.equal(same.object_from_camera, cameras.object_from_camera)

    def test_the_generator_decides_and_the_cameras_given_stay(self):
        cameras = ring()
        first, second, other = (
            perturb_cameras(cameras, 2.0, 0.02, torch.Generator().manual_seed(seed))
            for seed in (0, 0, 1)
        )
        assert torch.equal(first.object_from_camera, second.object_from_camera)
        assert not torch.equal(first.object_from_camera, other.object_from_camera)
        assert torch.equal(cameras.object_from_camera, ring().object_from_camera)


def pose_and_lens() -> tuple[torch.Tensor, torch.Tensor]:
    cameras = ring()
    return cameras.intrinsics, cameras.object_from_camera
