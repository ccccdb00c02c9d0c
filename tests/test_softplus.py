"""A softplus with its slope, beside PyTorch's softplus and automatic differentiation."""

import pytest
import torch
from torch.nn.functional import softplus

from common.fields.softplus import softplus_and_slope

X = torch.linspace(-3, 3, 61, dtype=torch.float64)


@pytest.mark.parametrize("beta", [1.0, 10.0, 100.0])
def test_values_are_softplus_and_its_derivative(beta) -> None:
    x = X.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(softplus(x, beta).sum(), x)
    value, slope = softplus_and_slope(X, beta)
    assert torch.equal(value, softplus(X, beta))
    # Beyond 20 / beta PyTorch's softplus is x itself.
    torch.testing.assert_close(slope, derivative, rtol=0, atol=3e-9)


@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_both_are_differentiable(beta) -> None:
    x = (X / beta).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: softplus_and_slope(x, beta), x, eps=1e-7)
    for chosen in (0, 1):  # of one alone, too
        value = softplus_and_slope(x, beta)[chosen]
        (ours,) = torch.autograd.grad(value.sum(), x)
        true = (x * beta).sigmoid()
        exact = true if chosen == 0 else beta * true * (1 - true)
        torch.testing.assert_close(ours, exact)


def test_far_from_zero_nothing_overflows() -> None:
    x = torch.tensor([-1e4, -50.0, 50.0, 1e4], requires_grad=True)
    value, slope = softplus_and_slope(x, 100.0)
    assert value.tolist() == [0, 0, 50, 1e4] and slope.tolist() == [0, 0, 1, 1]
    (value.sum() + slope.sum()).backward()
    assert x.grad.tolist() == [0, 0, 1, 1]
