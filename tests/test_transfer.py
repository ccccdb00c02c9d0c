"""Closed camera paths, and one scene's shape in another's colours."""

import numpy as np
import pytest
import torch

from common.cameras import Cameras, look_at
from common.errors import UserError
from idr.drawing import contact_sheet, draw_scene, draw_views, views_of
from idr.transfer import closed_path
from tests.make_collection import SCENE_RADIUS, write_tiny_scene
from tests.make_idr import OneColour, known_experiment, sphere

UP = torch.tensor([0.0, 1.0, 0.0])


def cameras_at(directions: np.ndarray, distance: np.ndarray | float) -> Cameras:
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    centre = torch.tensor(directions * np.reshape(distance, (-1, 1)), dtype=torch.float32)
    intrinsics = torch.tensor([[50.0, 0, 15], [0, 50, 11], [0, 0, 1]]).expand(len(centre), 3, 3)
    return Cameras(intrinsics, look_at(centre, torch.zeros_like(centre), UP), 24, 32)


def on_a_cap(seed: int = 0, count: int = 49) -> Cameras:
    """All on one side, as on the arm of a robot, at distances of 3.8 to 4.2."""
    rng = np.random.default_rng(seed)
    directions = np.array([1, 0.5, 0.3]) + rng.uniform(-0.5, 0.5, size=(count, 3))
    return cameras_at(directions, rng.uniform(3.8, 4.2, size=count))


def all_around(seed: int = 0, count: int = 60) -> Cameras:
    rng = np.random.default_rng(seed)
    return cameras_at(rng.normal(size=(count, 3)), rng.uniform(2.5, 3.5, size=count))


SETS = pytest.mark.parametrize("cameras", [on_a_cap(), on_a_cap(1), all_around(), all_around(1)])


class TestPath:
    @SETS
    def test_it_is_closed_and_smooth(self, cameras) -> None:
        """The step from the last to the first is like the others, and none jumps."""
        path = closed_path(cameras, 90).centre
        step = (path.roll(-1, 0) - path).norm(dim=-1)
        assert len(path) == 90
        assert step.max() < 2.5 * step.min()
        turn = (path.roll(-1, 0) - 2 * path + path.roll(1, 0)).norm(dim=-1)
        assert turn.max() < step.mean() / 2

    @SETS
    def test_distances_stay_within_those_of_the_cameras(self, cameras) -> None:
        distance = closed_path(cameras, 60).centre.norm(dim=-1)
        own = cameras.centre.norm(dim=-1)
        assert distance.min() >= own.min() - 1e-5 and distance.max() <= own.max() + 1e-5

    @SETS
    def test_it_starts_at_a_camera_and_passes_others(self, cameras) -> None:
        path = closed_path(cameras, 600).centre
        apart = torch.cdist(path.double(), cameras.centre.double())
        assert apart[0].min() < 1e-5
        step = (path.roll(-1, 0) - path).norm(dim=-1).max()
        assert (apart.amin(dim=0) < step).sum() >= 5

    @SETS
    def test_every_camera_looks_at_the_middle_and_stands_upright(self, cameras) -> None:
        path = closed_path(cameras, 30)
        pixel, z = path.project(torch.zeros(3))
        torch.testing.assert_close(
            pixel, torch.tensor([15.0, 11.0]).expand(30, 2), atol=1e-3, rtol=0
        )
        assert (z > 0).all()
        assert (path.object_from_camera[:, 1, 1] < 0).all()  # image y points down
        assert (path.height, path.width) == (24, 32)

    def test_cameras_on_one_side_are_not_left_behind(self) -> None:
        """A circle around the object would show what no photograph has seen."""
        cameras = on_a_cap()
        direction = torch.nn.functional.normalize(cameras.centre, dim=-1)
        mean = torch.nn.functional.normalize(direction.mean(dim=0), dim=0)
        path = torch.nn.functional.normalize(closed_path(cameras, 60).centre, dim=-1)
        assert (path @ mean).min() > (direction @ mean).min() - 0.05

    def test_cameras_all_around_are_gone_around(self) -> None:
        path = torch.nn.functional.normalize(closed_path(all_around(), 60).centre, dim=-1)
        azimuth = torch.atan2(path[:, 2], path[:, 0]).sort().values
        assert azimuth.diff().max() < 0.4

    def test_too_few_cameras_name_the_way_out(self) -> None:
        with pytest.raises(UserError, match="2 cameras do not surround.*--orbit"):
            closed_path(all_around(count=2), 10)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_scene(tmp_path_factory.mktemp("transfer") / "ball", views=6, size=24)


class TestTransfer:
    def test_shape_of_the_one_and_colour_of_the_other(self, data) -> None:
        shape = known_experiment(data, sphere(SCENE_RADIUS), OneColour(0.0, 0.0, 1.0))
        colour = known_experiment(data, sphere(0.2), OneColour(1.0, 0.0, 0.0))
        own = draw_views(shape, shape.cameras[:2])
        lent = draw_views(shape, shape.cameras[:2], colour)
        for mine, other in zip(own, lent, strict=True):
            assert mine.mask.any() and mine.mask.equal(other.mask)
            assert mine.depth.equal(other.depth) and mine.normal.equal(other.normal)
            assert (other.colour[other.mask] == torch.tensor([1.0, 0.0, 0.0])).all()
            assert (other.colour[~other.mask] == 1).all()
            assert (mine.colour[mine.mask] == torch.tensor([0.0, 0.0, 1.0])).all()

    def test_features_are_the_lenders_whatever_their_length(self, data) -> None:
        shape = known_experiment(data, sphere(0.5), model={"feature": 4})
        colour = known_experiment(data, sphere(0.5), model={"feature": 6})
        assert draw_views(shape, shape.cameras[:1], colour)[0].mask.any()


class TestDrawing:
    def test_depth_normal_and_mask_are_the_spheres(self, data) -> None:
        """Against the nearest point of the sphere on the axis of each held-out camera."""
        experiment = known_experiment(data, sphere(SCENE_RADIUS))
        _, cameras = views_of(experiment, False)
        for view, picture in enumerate(draw_scene(experiment, False, lambda some: some)):
            assert picture.mask.equal(experiment.scene.held_out.masks[view])
            assert picture.depth[~picture.mask].isinf().all()
            # The four middle pixels are half a pixel off an axis of 38 pixels focal length.
            distance = float(cameras.centre[view].norm())
            middle = picture.depth[11:13, 11:13]
            assert (middle - (distance - SCENE_RADIUS)).abs().max() < 0.01
            towards = cameras.centre[view] / distance
            assert (picture.normal[11:13, 11:13] @ towards).min() > 0.98

    def test_training_views_where_asked_or_where_none_is_held_out(self, data) -> None:
        experiment = known_experiment(data, sphere(0.5))
        assert len(views_of(experiment, False)[0]) == 2
        assert len(views_of(experiment, True)[0]) == 4
        everything = known_experiment(data, sphere(0.5), data={"holdout_every": 0})
        assert len(views_of(everything, False)[0]) == 6

    def test_a_sheet_has_photograph_colour_and_normal_in_a_row(self, data) -> None:
        experiment = known_experiment(data, sphere(SCENE_RADIUS), OneColour(1.0, 0.0, 0.0))
        sheet = contact_sheet(experiment, False)
        assert sheet.shape == (2 * 24, 3 * 24, 3)
        views = experiment.scene.held_out
        for row in range(2):
            photograph, colour = sheet[24 * row : 24 * row + 24, :24], sheet[24 * row :, 24:48]
            assert (photograph == views.images[row].numpy()).all()
            assert (colour[:24][views.masks[row].numpy()] == [255, 0, 0]).all()
