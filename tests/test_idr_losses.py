"""IDR's loss terms against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idr import losses
from idr.config import LossConfig


class TestColour:
    def test_is_summed_over_channels_and_divided_by_all_rays(self) -> None:
        predicted = torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.0, 0.25]])
        true = torch.tensor([[0.25, 0.75, 0.5], [0.0, 0.0, 0.75]])
        # (1/4 + 1/4 + 0) + (1 + 0 + 1/2) = 2, over 8 rays of which two meet the surface.
        assert losses.rgb(predicted, true, 8).item() == 0.25

    def test_without_surface_rays_it_is_an_exact_zero_with_a_gradient(self) -> None:
        predicted = torch.zeros(0, 3, requires_grad=True)
        term = losses.rgb(predicted, torch.zeros(0, 3), 8)
        term.backward()
        assert term == 0


class TestOutline:
    def test_by_hand(self) -> None:
        """A quarter covered: the outline is a quarter of a pixel from the centre, outside."""
        least = torch.tensor([0.0025, -0.01, 0.0])
        coverage, footprint = torch.tensor([0.25, 0.5, 0.75]), torch.tensor([0.01, 0.01, 0.02])
        # 0, one pixel, a quarter of one; over 5 rays.
        term = losses.outline(least, coverage, footprint, 5)
        assert term.item() == pytest.approx(1.25 / 5, rel=1e-6)

    def test_without_outlines_it_is_an_exact_zero_with_a_gradient(self) -> None:
        least = torch.zeros(0, requires_grad=True)
        term = losses.outline(least, torch.zeros(0), torch.zeros(0), 5)
        term.backward()
        assert term == 0


class TestMask:
    def test_by_hand(self) -> None:
        """-log(1 - sigmoid(-alpha f)) outside the mask, -log(sigmoid(-alpha f)) inside."""
        least = torch.tensor([0.01, 0.02, -0.03])
        inside = torch.tensor([False, True, True])
        alpha, rays = 50.0, 10
        expected = (
            math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(1)) + math.log(1 + math.exp(-1.5))
        )
        term = losses.mask(least, inside, alpha, rays)
        assert term.item() == pytest.approx(expected / (alpha * rays), rel=1e-6)

    @pytest.mark.parametrize("inside,sign", [(True, 1), (False, -1)])
    def test_pulls_the_surface_where_the_mask_wants_it(self, inside, sign) -> None:
        """Its slope in f is (sigmoid(alpha f) - 1 + inside) over all rays, at most one of them."""
        least = torch.tensor([-0.1, 0.0, 0.1], requires_grad=True)
        losses.mask(least, torch.full((3,), inside), 50.0, 4).backward()
        outside = torch.sigmoid(50 * least.detach())
        expected = (outside if inside else outside - 1) / 4
        torch.testing.assert_close(least.grad, expected)
        assert least.grad[1].sign() == sign

    @given(st.floats(-3, 3), st.booleans())
    def test_sharp_silhouettes_stay_finite(self, sdf, inside) -> None:
        """Towards relu(+-f): what a logarithm of a rounded sigmoid would make infinite."""
        alpha = 1600.0
        term = losses.mask(torch.tensor([sdf]), torch.tensor([inside]), alpha, 1).item()
        limit = max(sdf if inside else -sdf, 0.0)
        assert limit - 1e-6 <= term <= limit + math.log(2) / alpha + 1e-6

    def test_no_such_rays(self) -> None:
        assert losses.mask(torch.zeros(0), torch.zeros(0, dtype=torch.bool), 50.0, 10) == 0


class TestEikonal:
    def test_is_the_mean_square_deviation_from_one(self) -> None:
        gradient = torch.tensor([[3.0, 0, 4], [0, 1, 0], [0, 0, -0.5]])
        # (16 + 0 + 1/4) / 3
        assert losses.eikonal(gradient).item() == pytest.approx(16.25 / 3)

    def test_pushes_the_length_and_not_the_direction(self) -> None:
        gradient = torch.tensor([[0.0, 2.0, 0.0], [0.6, 0.0, 0.0]], requires_grad=True)
        losses.eikonal(gradient).backward()
        # 2 (length - 1) along it, a half each.
        torch.testing.assert_close(gradient.grad, torch.tensor([[0, 1.0, 0], [-0.4, 0, 0]]))

    def test_a_vanished_gradient_is_no_accident(self) -> None:
        """Where a first sphere has its middle: one, and a finite derivative."""
        gradient = torch.zeros(1, 3, requires_grad=True)
        term = losses.eikonal(gradient)
        term.backward()
        assert term == 1 and gradient.grad.isfinite().all()


class TestSmoothness:
    def test_is_the_mean_distance_of_unit_normals(self) -> None:
        """Whatever the gradients' lengths: right angles are sqrt 2 apart, opposites 2."""
        here = torch.tensor([[2.0, 0, 0], [0, 0.5, 0], [0, 0, 3]])
        beside = torch.tensor([[0, 7.0, 0], [0, -0.1, 0], [0, 0, 1]])
        term = losses.smoothness(here, beside, torch.ones(3, dtype=torch.bool))
        # Equal normals count 1e-4, so that the root has a slope.
        assert term.item() == pytest.approx((2**0.5 + 2 + 1e-4) / 3, abs=1e-6)

    def test_equal_normals_have_a_finite_derivative(self) -> None:
        here = torch.tensor([[0.0, 2, 0]], requires_grad=True)
        losses.smoothness(here, torch.tensor([[0.0, 1, 0]]), torch.tensor([True])).backward()
        assert not here.grad.any()

    def test_without_surface_points_it_is_zero(self) -> None:
        for count in (0, 2):
            here = torch.zeros(count, 3, requires_grad=True)
            nowhere = torch.zeros(count, dtype=torch.bool)
            term = losses.smoothness(here, torch.ones(count, 3), nowhere)
            term.backward()
            assert term == 0 and not here.grad.any()


class TestSharpness:
    def test_doubles_five_times_at_eighths_of_the_run(self) -> None:
        """As the paper: 50 to 1600, at epochs 250, 500, ... of 2000."""
        config = LossConfig()
        steps = [0, 999, 1000, 1999, 2000, 3000, 4000, 5000, 7999]
        expected = [50, 50, 100, 100, 200, 400, 800, 1600, 1600]
        assert [losses.alpha_at(config, step, 8000) for step in steps] == expected

    def test_milestones_may_be_iterations(self) -> None:
        config = LossConfig(alpha=10, alpha_milestones=(2, 0.5, 30), alpha_factor=3)
        alphas = [losses.alpha_at(config, step, 40) for step in (1, 2, 19, 20, 29, 30)]
        assert alphas == [10, 30, 30, 90, 90, 270]

    def test_it_may_stay(self) -> None:
        config = LossConfig(alpha_milestones=())
        assert losses.alpha_at(config, 10**6, 10) == 50
