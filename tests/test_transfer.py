"""What cameras see of a learnt scene, and one scene's shape in another's colours."""

import pytest
import torch

from idr.drawing import contact_sheet, draw_views, views_of
from tests.make_collection import SCENE_RADIUS, write_tiny_scene
from tests.make_idr import OneColour, known_experiment, sphere


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
        (picture,) = draw_views(shape, shape.cameras[:1], colour)
        assert picture.mask.any()


class TestDrawing:
    def test_depth_normal_and_mask_are_the_spheres(self, data) -> None:
        """Against the nearest point of the sphere on the axis of each held-out camera."""
        experiment = known_experiment(data, sphere(SCENE_RADIUS))
        _, cameras = views_of(experiment, False)
        for view, picture in enumerate(draw_views(experiment, cameras)):
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
