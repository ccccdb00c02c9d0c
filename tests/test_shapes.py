"""Primitives against closed forms; every shape 1-Lipschitz and inside its box."""

import numpy as np
import pytest
import torch

from common.data.shapes import (
    box,
    capsule,
    cylinder,
    difference,
    extrusion,
    intersection,
    lathe,
    mirrored,
    moved,
    repeated,
    round_cone,
    sphere,
    turned,
    union,
)

SHAPES = {
    "sphere": sphere((0.1, 0.2, -0.1), 0.3),
    "box": box((0.1, 0, 0.2), (0.3, 0.2, 0.4)),
    "rounded box": box((0.1, 0, 0.2), (0.3, 0.2, 0.4), 0.1),
    "cylinder": cylinder((0, 0.1, 0), 0.3, 0.4, 0.05),
    "round cone": round_cone((-0.2, -0.3, 0), (0.3, 0.2, 0.1), 0.25, 0.05),
    "capsule": capsule((-0.2, -0.3, 0), (0.3, 0.2, 0.1), 0.1),
    "prism": extrusion([(0, -0.4), (0.4, 0.4), (0, 0.1), (-0.4, 0.4)], "x", 0.3, 0.1, 0.02),
    "lathe": lathe([(0, -0.3), (0.4, -0.3), (0.1, 0), (0.3, 0.4), (0, 0.4)]),
    "turned": turned(box((0, 0.1, 0), (0.3, 0.2, 0.1)), "z", 0.7, (0.1, 0, 0)),
    "union": union(sphere((0.2, 0, 0), 0.3), box((-0.2, 0, 0), (0.2, 0.3, 0.1))),
    "difference": difference(box((0, 0, 0), (0.3, 0.3, 0.3)), sphere((0.2, 0.2, 0.2), 0.3)),
    "intersection": intersection(box((0, 0, 0), (0.3, 0.3, 0.3)), sphere((0.2, 0.2, 0), 0.3)),
    "mirrored": mirrored(round_cone((0.3, 0, 0.2), (0.4, 0.3, 0.3), 0.1, 0.05), "x", "z"),
    "repeated": repeated(box((0, 0.1, 0), (0.05, 0.3, 0.1)), "x", 0.17, 5),
    "moved": moved(sphere((0, 0, 0), 0.2), (0.1, -0.2, 0.3)),
}


def cloud(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("name", SHAPES)
def test_no_distance_grows_faster_than_the_way_between_two_points(name):
    first = cloud(20_000)
    second = first + 0.1 * (cloud(20_000, seed=1))
    grown = (SHAPES[name].distance(first) - SHAPES[name].distance(second)).abs()
    # float64: rounding is far below 1e-9 of steps of about 0.1.
    assert (grown <= (first - second).norm(dim=-1) * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", SHAPES)
def test_the_box_contains_the_shape(name):
    shape, points = SHAPES[name], cloud(50_000)
    inside = points[shape.distance(points) < 0].numpy()
    assert len(inside) > 100
    assert (inside >= shape.lower).all() and (inside <= shape.upper).all()


@pytest.mark.parametrize(
    "name",
    [
        "sphere",
        "box",
        "rounded box",
        "cylinder",
        "round cone",
        "capsule",
        "prism",
        "lathe",
        "mirrored",
        "repeated",
        "turned",
    ],
)
def test_the_box_is_tight(name):
    shape = SHAPES[name]
    sides = np.stack([shape.lower, shape.upper])
    points = torch.from_numpy(np.random.default_rng(0).uniform(*sides, (400_000, 3)))
    inside = points[shape.distance(points) < 0].numpy()
    # The slimmest tips (a corner turned outwards) are met to within some hundredths.
    np.testing.assert_allclose(inside.min(0), shape.lower, atol=0.03)
    np.testing.assert_allclose(inside.max(0), shape.upper, atol=0.03)


def test_box_by_hand():
    unit = box((0, 0, 0), (1, 2, 3))
    points = torch.tensor([[0, 0, 0], [2, 0, 0], [2, 3, 0], [2, 3, 4], [0.9, 1.8, 0]]).double()
    expected = torch.tensor([-1, 1, 2**0.5, 3**0.5, -0.1]).double()
    torch.testing.assert_close(unit.distance(points), expected, atol=1e-7, rtol=0)


def test_cylinder_by_hand():
    pillar = cylinder((0, 0, 0), 1.0, 2.0)
    points = torch.tensor([[0, 0, 0], [3, 0, 0], [0, 5, 0], [0, 5, 5], [0.5, 0, 0]]).double()
    expected = torch.tensor([-1, 2, 3, 5, -0.5]).double()
    torch.testing.assert_close(pillar.distance(points), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("radii", [(0.3, 0.1), (0.1, 0.3)])
def test_a_round_cone_of_a_ball_in_a_ball_is_the_larger(radii):
    ends = ((0.0, 0.0, 0.0), (0.05, 0.0, 0.1))
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    larger = sphere(ends[radii[1] > radii[0]], max(radii))
    cone = round_cone(*ends, *radii)
    torch.testing.assert_close(cone.distance(points), larger.distance(points))


def test_round_cone_is_the_union_of_its_balls():
    start, end = torch.tensor([-0.2, -0.3, 0.0]).double(), torch.tensor([0.3, 0.2, 0.1]).double()
    points = cloud(3000)
    share = torch.linspace(0, 1, 2001).double()
    centres = start + share[:, None] * (end - start)
    balls = torch.cdist(points, centres) - (0.25 - share * 0.2)
    # Outside, the nearest ball gives the distance; 2001 balls miss the best by less than 1e-6.
    exact = balls.amin(dim=1)
    outside = exact > 0
    ours = SHAPES["round cone"].distance(points)
    torch.testing.assert_close(ours[outside], exact[outside], atol=1e-6, rtol=0)
    assert (ours[~outside] <= 1e-6).all()


def test_prism_equals_the_box_it_describes():
    corners = [(-0.2, -0.3), (0.4, -0.3), (0.4, 0.1), (-0.2, 0.1)]
    for axis, others in (("x", (1, 2)), ("y", (0, 2)), ("z", (0, 1))):
        centre, half = np.zeros(3), np.full(3, 0.5)
        centre[list(others)], half[list(others)] = (0.1, -0.1), (0.3, 0.2)
        points = cloud(5000)
        prism = extrusion(corners, axis, 0.5).distance(points)
        torch.testing.assert_close(prism, box(centre, half).distance(points), atol=1e-12, rtol=0)


def test_lathe_equals_the_cylinder_it_describes():
    # The profile's edge on the axis is not a surface: stay outside, where it cannot be nearest.
    points = cloud(5000)
    turned_profile = lathe([(0, -0.4), (0.3, -0.4), (0.3, 0.4), (0, 0.4)]).distance(points)
    pillar = cylinder((0, 0, 0), 0.3, 0.4).distance(points)
    outside = pillar > 0
    torch.testing.assert_close(turned_profile[outside], pillar[outside], atol=1e-12, rtol=0)
    assert (turned_profile[~outside] <= 0).all()


def test_turning_is_right_handed():
    ball = sphere((1, 0, 0), 0.1)
    up = turned(ball, "z", np.pi / 2)
    centre = torch.tensor([[0.0, 1.0, 0.0]]).double()
    torch.testing.assert_close(up.distance(centre), torch.tensor([-0.1]).double())
    np.testing.assert_allclose((up.lower + up.upper) / 2, [0, 1, 0], atol=1e-12)


def test_repeated_is_the_union_of_its_copies():
    slat = box((0.1, 0.1, 0), (0.05, 0.3, 0.1))
    copies = [moved(slat, (offset, 0, 0)) for offset in (-0.3, -0.1, 0.1, 0.3)]
    row, points = repeated(slat, "x", 0.2, 4), cloud(5000)
    torch.testing.assert_close(
        row.distance(points), union(*copies).distance(points), atol=1e-12, rtol=0
    )
    np.testing.assert_allclose(row.lower, union(*copies).lower)
    np.testing.assert_allclose(row.upper, union(*copies).upper)


def test_mirrored_is_the_union_of_its_images():
    balls = [sphere((x, 0.2, z), 0.1) for x in (-0.3, 0.3) for z in (-0.4, 0.4)]
    points = cloud(5000)
    four = mirrored(sphere((0.3, 0.2, 0.4), 0.1), "x", "z")
    torch.testing.assert_close(four.distance(points), union(*balls).distance(points))
