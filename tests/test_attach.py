"""The derivative of a found depth is that of the exact root."""

import pytest
import torch

from common.cameras import Rays
from common.rendering.attach import GRAZING_COSINE, attach, evaluated_along
from tests.surfaces import Sphere, rays_towards

torch.set_default_dtype(torch.float32)


def sphere_and_rays(count: int = 50) -> tuple[Sphere, Rays]:
    generator = torch.Generator().manual_seed(0)
    target = 0.25 * (torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.5)
    sphere = Sphere(
        torch.tensor(0.3, dtype=torch.float64, requires_grad=True),
        torch.tensor([0.02, -0.01, 0.03], dtype=torch.float64, requires_grad=True),
    )
    return sphere, rays_towards(target, 2.0, generator)


def test_value_is_unchanged_even_off_the_root() -> None:
    sphere, rays = sphere_and_rays()
    depth = sphere.exact_depth(rays).detach() + 0.01
    assert torch.equal(attach(sphere, rays, depth).depth.detach(), depth)


def test_gradient_in_field_and_rays_is_that_of_the_exact_root() -> None:
    sphere, rays = sphere_and_rays()
    live = Rays(rays.origin.clone().requires_grad_(), rays.direction.clone().requires_grad_())
    parameters = (sphere.radius, sphere.centre, live.origin, live.direction)
    weight = torch.linspace(-1, 1, len(rays.origin), dtype=torch.float64)
    exact = sphere.exact_depth(live)
    ours = attach(sphere, live, exact.detach()).depth
    expected = torch.autograd.grad((weight * exact).sum(), parameters)
    found = torch.autograd.grad((weight * ours).sum(), parameters)
    for got, want in zip(found[:3], expected[:3], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    # exact_depth assumes unit directions, so only the part across the direction is comparable.
    across = [g - (g * rays.direction).sum(-1, keepdim=True) * rays.direction
              for g in (found[3], expected[3])]  # fmt: skip
    torch.testing.assert_close(across[0], across[1], rtol=1e-9, atol=1e-9)


def test_gradcheck_against_a_root_found_anew() -> None:
    """Finite differences of the whole search, in radius, centre and ray."""

    def depth(radius, centre, origin, direction):
        rays = Rays(origin, torch.nn.functional.normalize(direction, dim=-1))
        sphere = Sphere(radius, centre)
        return attach(sphere, rays, sphere.exact_depth(rays).detach()).depth

    sphere, rays = sphere_and_rays(5)
    inputs = (
        sphere.radius,
        sphere.centre,
        rays.origin.clone().requires_grad_(),
        rays.direction.clone().requires_grad_(),
    )
    assert torch.autograd.gradcheck(depth, inputs, eps=1e-6, atol=1e-6)


def test_frozen_and_unused_parameters_are_allowed() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    network[0].requires_grad_(False)
    rays = Rays(torch.zeros(4, 3), torch.nn.functional.normalize(torch.ones(4, 3), dim=-1))
    surface = attach(lambda p: network(p)[:, 0], rays, torch.full((4,), 0.1))
    surface.depth.sum().backward()
    assert network[0].weight.grad is None
    assert network[2].weight.grad.abs().sum() > 0


def test_no_rays_give_an_empty_result_that_can_be_differentiated() -> None:
    sphere, rays = sphere_and_rays()
    none = Rays(rays.origin[:0], rays.direction[:0])
    attach(sphere, none, torch.zeros(0, dtype=torch.float64)).depth.sum().backward()
    assert sphere.radius.grad == 0


@pytest.mark.parametrize("slope_sign", [1.0, -1.0])
def test_grazing_derivative_is_bounded_and_keeps_its_sign(slope_sign: float) -> None:
    """f = slope z + x - a on a ray along z: |slope| far below the guard."""
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    slope = slope_sign * 1e-6
    rays = Rays(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[0.0, 0, 1]]).double())
    surface = attach(lambda p: slope * p[:, 2] + p[:, 0] - shift, rays, torch.zeros(1).double())
    (gradient,) = torch.autograd.grad(surface.depth.sum(), shift)
    # d depth / d shift = 1 / slope, of which the guard keeps the sign and bounds the size.
    assert gradient * slope_sign > 0
    assert gradient.abs() == pytest.approx(1 / GRAZING_COSINE, rel=1e-6)


def test_memory_of_the_graph_does_not_depend_on_the_search() -> None:
    """attach evaluates the field exactly once, at the surface points alone."""
    sphere, rays = sphere_and_rays()
    evaluated = []

    def counting(points):
        evaluated.append(len(points))
        return sphere(points)

    attach(counting, rays, sphere.exact_depth(rays).detach())
    assert evaluated == [len(rays.origin)]


class TestEvaluatedAlong:
    """Values of a field at points that have come to move."""

    def field(self) -> torch.nn.Sequential:
        torch.manual_seed(0)
        layers = torch.nn.Linear(3, 8), torch.nn.Softplus(), torch.nn.Linear(8, 4)
        return torch.nn.Sequential(*layers).double()

    def values(self, field, points) -> tuple[torch.Tensor, torch.Tensor]:
        out = field(points)
        (gradient,) = torch.autograd.grad(out[:, 0].sum(), points, create_graph=True)
        return out[:, 1:], gradient

    def test_gradients_are_those_of_evaluating_there(self) -> None:
        """By the field's weights and by what moves the points, at first and second derivatives."""
        field, start = self.field(), torch.randn(5, 3).double()
        shift = torch.zeros(5, 3).double().requires_grad_()
        wanted = [*field.parameters(), shift]
        results = []
        for again in (True, False):
            moving = start + 2 * shift
            at = start.clone().requires_grad_()
            features, gradient = self.values(field, moving if again else at)
            if not again:
                features, gradient = evaluated_along(moving, at, (features, gradient))
            loss = (features.sin() * moving).sum() + gradient.square().sum()
            results.append((loss, torch.autograd.grad(loss, wanted)))
        (loss, expected), (same, found) = results
        assert loss == same
        for got, want in zip(found, expected, strict=True):
            assert want.abs().max() > 0.01
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)

    def test_other_uses_of_the_values_move_nothing(self) -> None:
        field, at = self.field(), torch.randn(5, 3).double().requires_grad_()
        moving = at.detach().clone().requires_grad_()
        features, gradient = self.values(field, at)
        seen, _ = evaluated_along(moving, at, (features, gradient))
        (alone,) = torch.autograd.grad(seen.sum(), moving, retain_graph=True)
        (both,) = torch.autograd.grad(seen.sum() + gradient.square().sum(), moving)
        assert torch.equal(alone, both)

    def test_no_points_at_all(self) -> None:
        field, at = self.field(), torch.zeros(0, 3).double().requires_grad_()
        moving = torch.zeros(0, 3).double().requires_grad_()
        features, _ = evaluated_along(moving, at, self.values(field, at))
        features.sum().backward()
        assert moving.grad is not None and moving.grad.shape == (0, 3)
