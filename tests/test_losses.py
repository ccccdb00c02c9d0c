"""Every loss term against numbers worked out by hand, and without anything to compare."""

import math

import pytest
import torch

from common.training.terms import weighted_total
from dvr import losses


def test_rgb_sums_channels_and_divides_by_all_rays() -> None:
    predicted = torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.0, 0.0]])
    true = torch.tensor([[0.25, 0.5, 1.0], [0.0, 0.0, 0.0]])
    assert losses.rgb(predicted, true, 4).item() == pytest.approx((0.75 + 1.0) / 4)


def test_image_gradient_of_a_ramp_against_a_flat_patch() -> None:
    """A slope of (0.3, 0.4) a pixel differs from flat by 0.5 per channel at the one whole pixel."""
    x, y = torch.arange(2.0), torch.arange(2.0)
    ramp = (0.3 * x[None, :] + 0.4 * y[:, None])[None, :, :, None].expand(1, 2, 2, 3)
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    loss = losses.image_gradient(ramp, torch.zeros(1, 2, 2, 3), valid)
    assert loss.item() == pytest.approx(3 * 0.5 / 4, rel=1e-6)


def test_image_gradient_ignores_pixels_with_an_invalid_neighbour() -> None:
    valid = torch.tensor([[[True, True], [False, True]]])
    loss = losses.image_gradient(torch.rand(1, 2, 2, 3), torch.zeros(1, 2, 2, 3), valid)
    assert loss.item() == 0


def test_image_gradient_is_differentiable_where_it_vanishes() -> None:
    image = torch.zeros(1, 2, 2, 3, requires_grad=True)
    losses.image_gradient(image, torch.zeros(1, 2, 2, 3), torch.ones(1, 2, 2).bool()).backward()
    assert torch.equal(image.grad, torch.zeros_like(image))


def test_depth_terms() -> None:
    predicted, true = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 1.0])
    assert losses.depth_camera_z(predicted, true, 3).item() == pytest.approx(0.5)
    points = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert losses.depth_points(points, torch.zeros(2, 3), 2).item() == pytest.approx(2.5)


def test_normal_smoothness_of_perpendicular_normals() -> None:
    normal, neighbour = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 1, 0]])
    assert losses.normal_smoothness(normal, neighbour, 2).item() == pytest.approx(math.sqrt(2) / 2)
    assert losses.normal_smoothness(normal, normal, 2).item() == 0


def test_cross_entropies() -> None:
    logits = torch.tensor([0.0, 2.0])
    log_loss = [math.log(2), math.log(1 + math.exp(2))]
    assert losses.freespace(logits, 4).item() == pytest.approx(sum(log_loss) / 4)
    assert losses.occupancy(-logits, 4).item() == pytest.approx(sum(log_loss) / 4)
    inside = torch.tensor([[False, True]])
    expected = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    assert losses.hull(logits[None], inside).item() == pytest.approx(expected)


def test_nothing_to_compare_is_zero_and_can_be_differentiated() -> None:
    none = torch.zeros(0, requires_grad=True)
    total = losses.freespace(none, 5) + losses.occupancy(none, 5)
    total = total + losses.rgb(none.reshape(0, 3), torch.zeros(0, 3), 5)
    total.backward()
    assert total.item() == 0


class TestWeights:
    """Terms and weights must match."""

    terms = {"rgb": torch.tensor(2.0), "freespace": torch.tensor(3.0)}

    def test_total(self) -> None:
        weights = {"rgb": 1.0, "freespace": 0.5, "depth": 0.0}
        assert weighted_total(self.terms, weights).item() == pytest.approx(3.5)

    @pytest.mark.parametrize("weights", [{"rgb": 1.0}, {"rgb": 1, "freespace": 1, "depth": 1}])
    def test_mismatch_is_an_error(self, weights: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="do not match"):
            weighted_total(self.terms, weights)
