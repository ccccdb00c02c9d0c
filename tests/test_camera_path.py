"""Camera paths: closed, at an even speed, through the cameras, with the object in view."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cameras import Cameras, look_at
from common.errors import UserError
from common.rendering.camera_path import PATHS, STATIONS, TURNS, camera_path

UP = torch.tensor([0.0, 1.0, 0.0])
WIDTH, HEIGHT = 31, 23
MIDDLE = torch.tensor([15.0, 11.0])


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def cameras_at(directions: np.ndarray, distance: np.ndarray | float, target=None) -> Cameras:
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    centre = torch.tensor(directions * np.reshape(distance, (-1, 1)), dtype=torch.float32)
    target = torch.zeros_like(centre) if target is None else target
    intrinsics = torch.tensor([[50.0, 0, 15], [0, 50, 11], [0, 0, 1]]).expand(len(centre), 3, 3)
    return Cameras(intrinsics, look_at(centre, target, UP), HEIGHT, WIDTH)


def on_a_cap(seed: int = 0, count: int = 49) -> Cameras:
    """All on one side, as on the arm of a robot, at distances of 3.8 to 4.2."""
    rng = np.random.default_rng(seed)
    directions = np.array([1, 0.5, 0.3]) + rng.uniform(-0.5, 0.5, size=(count, 3))
    return cameras_at(directions, rng.uniform(3.8, 4.2, size=count))


def all_around(seed: int = 0, count: int = 60) -> Cameras:
    rng = np.random.default_rng(seed)
    return cameras_at(rng.normal(size=(count, 3)), rng.uniform(2.5, 3.5, size=count))


def on_a_ring(count: int = 8, height: float = 1.0, radius: float = 2.0) -> Cameras:
    angle = 2 * np.pi * np.arange(count) / count
    centre = np.stack([radius * np.cos(angle), np.full(count, height), radius * np.sin(angle)], 1)
    return cameras_at(centre, np.hypot(height, radius))


def careless(seed: int = 0, count: int = STATIONS) -> Cameras:
    """By hand: none looks straight at the object, each is rolled, and the zoom changes."""
    rng = np.random.default_rng(seed)
    target = torch.tensor(rng.uniform(-0.3, 0.3, size=(count, 3)), dtype=torch.float32)
    cameras = cameras_at(rng.normal(size=(count, 3)), rng.uniform(2.5, 3.5, size=count), target)
    pose, intrinsics = cameras.object_from_camera.clone(), cameras.intrinsics.clone()
    for view, roll in enumerate(rng.uniform(-0.5, 0.5, size=count)):
        turn = torch.tensor(
            [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
        )
        pose[view, :3, :3] = pose[view, :3, :3] @ turn.float()
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = torch.linspace(40, 60, count)
    return Cameras(intrinsics, pose, HEIGHT, WIDTH)


SETS = pytest.mark.parametrize(
    "cameras",
    [on_a_cap(), on_a_cap(1), all_around(), all_around(1), on_a_ring(), on_a_ring(3), careless()],
    ids=["cap", "cap 1", "around", "around 1", "ring", "ring of 3", "careless"],
)
KINDS = pytest.mark.parametrize("kind", PATHS)


def turning(cameras: Cameras) -> torch.Tensor:
    """The angle from each camera's attitude to the next one's, the last to the first too."""
    rotation = cameras.object_from_camera[:, :3, :3].double()
    cosine = ((rotation * rotation.roll(-1, 0)).sum(dim=(1, 2)) - 1) / 2
    return cosine.clamp(-1, 1).arccos()


@KINDS
@SETS
class TestEveryPath:
    def test_it_closes_at_an_even_speed(self, kind, cameras) -> None:
        """The step from the last to the first is like the others: chords differ by curvature."""
        centre = camera_path(kind, cameras, 400).centre.double()
        step = (centre.roll(-1, 0) - centre).norm(dim=-1)
        assert step.max() < 1.05 * step.mean()
        assert step.min() > 0.9 * step.mean()

    def test_neither_place_nor_attitude_jumps(self, kind, cameras) -> None:
        """Twice as many cameras are half as far apart, everywhere; a jump would stay."""
        coarse, fine = (camera_path(kind, cameras, count) for count in (1000, 2000))
        assert turning(fine).max() < 0.6 * turning(coarse).max()
        assert turning(fine).max() < 0.1

    def test_attitudes_are_rotations(self, kind, cameras) -> None:
        rotation = camera_path(kind, cameras, 50).object_from_camera[:, :3, :3].double()
        unity = torch.eye(3).double().expand(50, 3, 3)
        # float32 keeps seven digits of each number.
        torch.testing.assert_close(rotation @ rotation.mT, unity, atol=1e-6, rtol=0)
        torch.testing.assert_close(torch.linalg.det(rotation), unity[:, 0, 0], atol=1e-6, rtol=0)

    def test_size_count_and_kind_are_kept(self, kind, cameras) -> None:
        path = camera_path(kind, cameras, 7)
        assert (len(path), path.height, path.width) == (7, HEIGHT, WIDTH)
        assert path.intrinsics.dtype == path.object_from_camera.dtype == torch.float32

    def test_distances_stay_within_those_of_the_cameras(self, kind, cameras) -> None:
        distance = camera_path(kind, cameras, 60).centre.norm(dim=-1)
        own = cameras.centre.norm(dim=-1)
        assert distance.min() >= own.min() - 1e-5 and distance.max() <= own.max() + 1e-5

    def test_the_object_is_before_the_camera_and_in_the_picture(self, kind, cameras) -> None:
        pixel, z = camera_path(kind, cameras, 100).project(torch.zeros(3))
        own, _ = cameras.project(torch.zeros(3))
        assert (z > 0).all()
        # No farther from the middle than in the cameras' own pictures; 1e-3 for float32.
        assert (pixel - MIDDLE).norm(dim=-1).max() <= (own - MIDDLE).norm(dim=-1).max() * 1.1 + 1e-3

    def test_a_single_camera_is_enough_of_a_path(self, kind, cameras) -> None:
        first, many = camera_path(kind, cameras, 1), camera_path(kind, cameras, 9)
        torch.testing.assert_close(first.centre[0], many.centre[0])


class TestThroughCameras:
    @pytest.mark.parametrize("cameras", [careless(), careless(1), on_a_ring(3), on_a_ring(10)])
    def test_it_passes_every_one_in_place_attitude_and_lens(self, cameras) -> None:
        """Of a path of n cameras the nearest is at most half a step off, and so is all else."""
        count = 20_000
        path = camera_path("cameras", cameras, count)
        apart = torch.cdist(cameras.centre.double(), path.centre.double())
        nearest = apart.argmin(dim=1)
        length = (path.centre.roll(-1, 0) - path.centre).norm(dim=-1).sum()
        assert apart.amin(dim=1).max() < length / count
        pose, own = path.object_from_camera[nearest], cameras.object_from_camera
        assert (pose - own).abs().max() < 3 * turning(path).max() + 1e-5
        torch.testing.assert_close(path.intrinsics[nearest], cameras.intrinsics, atol=0.05, rtol=0)

    def test_it_begins_at_the_first(self) -> None:
        cameras = careless()
        path = camera_path("cameras", cameras, 30)
        torch.testing.assert_close(
            path.object_from_camera[0], cameras.object_from_camera[0], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(path.intrinsics[0], cameras.intrinsics[0], atol=1e-4, rtol=0)

    def test_on_a_ring_it_is_the_ring_whatever_the_order(self) -> None:
        """The shortest round through shuffled cameras of a circle is the circle."""
        cameras = on_a_ring(STATIONS)
        path = camera_path("cameras", cameras[[0, 7, 3, 5, 1, 9, 2, 8, 6, 4]], 360)
        # A cubic through points 36 degrees apart leaves the circle by less than h^4 / 384 = 4e-4.
        assert (path.centre[:, 1] - 1).abs().max() < 2e-3
        azimuth = torch.atan2(path.centre[:, 2], path.centre[:, 0]).double()
        steps = azimuth.diff().remainder(2 * torch.pi)
        steps = torch.minimum(steps, 2 * torch.pi - steps)
        torch.testing.assert_close(
            steps, torch.full_like(steps, 2 * torch.pi / 360), atol=2e-4, rtol=0
        )
        ideal = look_at(path.centre, torch.zeros_like(path.centre), UP)
        assert (path.object_from_camera - ideal).abs().max() < 5e-3

    def test_rolled_cameras_roll_the_path(self) -> None:
        """All on their sides: so is every camera between, which a path that knows up is not."""
        cameras = on_a_ring(6)
        pose = cameras.object_from_camera.clone()
        pose[:, :3, :2] = torch.stack([pose[:, :3, 1], -pose[:, :3, 0]], dim=-1)
        path = camera_path("cameras", Cameras(cameras.intrinsics, pose, HEIGHT, WIDTH), 40)
        assert path.object_from_camera[:, 1, 1].abs().max() < 0.05

    def test_over_the_pole_nothing_spins(self) -> None:
        """Three steps over the top: pictures turn as slowly as the camera moves."""
        angle = np.radians(np.arange(0, 360, 36) + 3)
        cameras = cameras_at(np.stack([np.sin(angle), np.cos(angle), 0 * angle], axis=1), 3.0)
        pose = cameras.object_from_camera.clone()
        # Upright all the way round, as if on a Ferris wheel, with z to the right.
        forward = pose[:, :3, 2]
        right = torch.tensor([0.0, 0.0, 1.0]).expand_as(forward)
        pose[:, :3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-1)
        cameras = Cameras(cameras.intrinsics, pose, HEIGHT, WIDTH)
        path = camera_path("cameras", cameras, 360)
        assert (turning(path) - np.radians(1)).abs().max() < np.radians(0.05)

    @SETS
    def test_few_stations_of_many_cameras(self, cameras) -> None:
        path = camera_path("cameras", cameras, 5000)
        apart = torch.cdist(path.centre.double(), cameras.centre.double()).amin(dim=0)
        step = (path.centre.roll(-1, 0) - path.centre).norm(dim=-1).max()
        assert (apart < step).sum() >= min(STATIONS, len(cameras))

    def test_cameras_on_one_side_are_not_left_behind(self) -> None:
        """A circle around the object would show what no photograph has seen."""
        cameras = on_a_cap()
        nearest = (unit(camera_path("cameras", cameras, 60).centre) @ unit(cameras.centre).T).amax(
            1
        )
        assert nearest.min() > np.cos(np.radians(20))

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**16), st.integers(3, 30))
    def test_any_cameras_make_a_path(self, seed, count) -> None:
        cameras = careless(seed, count)
        path = camera_path("cameras", cameras, 200)
        assert torch.isfinite(path.object_from_camera).all()
        pixel, z = path.project(torch.zeros(3))
        assert (z > 2).all() and (pixel - MIDDLE).norm(dim=-1).max() < 15
        step = (path.centre.roll(-1, 0) - path.centre).norm(dim=-1)
        assert step.max() < 1.05 * step.mean()

    @pytest.mark.parametrize("cameras", [all_around(count=2), on_a_ring(4)[[0, 0, 1, 1, 0]]])
    def test_too_few_cameras_name_the_way_out(self, cameras) -> None:
        with pytest.raises(UserError, match=r"2 stand in different.*needs three; use --path orbit"):
            camera_path("cameras", cameras, 10)


class TestAround:
    def test_an_orbit_of_a_ring_is_that_ring(self) -> None:
        """From the first camera's side, all the others on the way."""
        cameras = on_a_ring(8)
        path = camera_path("orbit", cameras, 8)
        torch.testing.assert_close(
            path.object_from_camera[0], cameras.object_from_camera[0], atol=1e-5, rtol=0
        )
        assert torch.cdist(path.centre, cameras.centre).amin(dim=1).max() < 1e-5

    @pytest.mark.parametrize("kind", ["orbit", "spiral"])
    @SETS
    def test_cameras_stand_upright(self, kind, cameras) -> None:
        """Sideways in the picture is level; image y points down."""
        path = camera_path(kind, cameras, 60)
        up = -unit(cameras.object_from_camera[:, :3, 1].mean(dim=0))
        assert (path.object_from_camera[:, :3, 0] @ up).abs().max() < 1e-5
        assert (path.object_from_camera[:, :3, 1] @ up < 0).all()

    def test_a_spiral_turns_and_rises_and_falls(self) -> None:
        both_sides = np.array([[1, 1, 0], [0, 1, 1], [-1, 1, 0], [0, 1, -1]])
        cameras = cameras_at(np.concatenate([both_sides, both_sides * [1, -1, 1]]), 3.0)
        path = camera_path("spiral", cameras, 600).centre.double()
        turned = torch.atan2(path[:, 2], path[:, 0]).diff().remainder(2 * torch.pi)
        turned = torch.where(turned > torch.pi, turned - 2 * torch.pi, turned)
        assert turned.sum().abs() == pytest.approx(2 * np.pi * TURNS, rel=0.02)
        assert (turned.sign() == turned.sign()[0]).all()
        height = path[:, 1]
        assert height[0] == pytest.approx(3 / np.sqrt(2)) == -height[300]
        assert (height[:301].diff() < 0).all() and (height[300:].diff() > 0).all()

    def test_a_spiral_around_a_ring_leaves_its_plane(self) -> None:
        path = unit(camera_path("spiral", on_a_ring(), 200).centre)
        slant = path[:, 1].arccos().rad2deg()
        assert slant.max() - slant.min() == pytest.approx(30, abs=0.5)

    def test_a_spiral_of_one_sided_cameras_stays_on_their_side(self) -> None:
        cameras = on_a_cap()
        mean = unit(unit(cameras.centre).mean(dim=0))
        path = unit(camera_path("spiral", cameras, 60).centre) @ mean
        assert path.min() > (unit(cameras.centre) @ mean).min() - 0.05

    def test_a_first_camera_at_the_pole_does_not_matter(self) -> None:
        cameras = cameras_at(np.array([[0, 1, 0.0001], [1, 1, 0], [0, 1, 1], [-1, 1, 0]]), 3.0)
        for kind in ("orbit", "spiral"):
            assert torch.isfinite(camera_path(kind, cameras, 20).object_from_camera).all()
