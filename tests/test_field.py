"""The occupancy and texture field: its first surface, its size, its codes."""

import pytest
import torch

from dvr.field import OccupancyTextureField


def surface_radius(field: OccupancyTextureField, condition: torch.Tensor) -> torch.Tensor:
    """Radii at which the logit first turns negative along random directions from the centre."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(400, 3, generator=generator), dim=-1)
    radius = torch.linspace(0, 0.5, 501)
    logits = field.logits(radius[:, None, None] * direction, condition)
    outside = logits < 0
    assert outside[-1].all() and not outside[0].any()
    return radius[outside.int().argmax(dim=0)]


@pytest.mark.parametrize("seed", range(20))
def test_every_seed_starts_as_a_ball(seed: int) -> None:
    """The mean radius within 2 %, none off by a quarter (a fit by 128 random ridges)."""
    torch.manual_seed(seed)
    field = OccupancyTextureField(128, 5, 32)
    field.start_as_sphere(0.3, 10.0, torch.Generator().manual_seed(seed))
    code = torch.randn(1, 32)
    radius = surface_radius(field, field.condition(code))
    assert radius.mean() == pytest.approx(0.3, rel=0.02)
    assert (radius - 0.3).abs().max() < 0.075


@pytest.mark.parametrize("hidden,code,count", [(512, 256, 3_288_580), (512, 0, 2_630_660)])
def test_size_is_the_papers(hidden: int, code: int, count: int) -> None:
    field = OccupancyTextureField(hidden, 5, code)
    assert sum(parameter.numel() for parameter in field.parameters()) == count


def test_parts_agree_with_the_whole() -> None:
    field = OccupancyTextureField(16, 5, 4, frequencies=3)
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    points, condition = torch.randn(7, 3), field.condition(torch.randn(1, 4))
    whole = field(points, condition)
    torch.testing.assert_close(field.logits(points, condition), whole[:, 0])
    torch.testing.assert_close(field.colour(points, condition), whole[:, 1:].sigmoid())


def test_each_object_has_its_own_code() -> None:
    """Flat points with gathered conditions equal one object at a time."""
    field = OccupancyTextureField(16, 5, 4)
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    condition, points = field.condition(torch.randn(3, 4)), torch.randn(3, 5, 3)
    together = field.logits(points, condition[:, :, None])
    flat = field.logits(points.reshape(15, 3), condition[:, torch.arange(3).repeat_interleave(5)])
    one = torch.stack([field.logits(points[i], condition[:, i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, one)
    torch.testing.assert_close(flat.reshape(3, 5), one)


def test_half_precision_rounds_what_lies_between_point_and_logit_alone() -> None:
    """To two digits; the field itself stays as it is."""
    torch.manual_seed(0)
    field = OccupancyTextureField(64, 5, 8, frequencies=2)
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    points, condition = torch.rand(500, 3) - 0.5, field.condition(torch.randn(1, 8)).detach()
    exact = field.logits(points, condition)
    half = field.half_logits()(points, condition.bfloat16())
    assert half.dtype == torch.float32 and not torch.equal(half, exact)
    assert (half - exact).abs().max() < 0.02 * exact.abs().max()
    assert all(parameter.dtype == torch.float32 for parameter in field.parameters())
