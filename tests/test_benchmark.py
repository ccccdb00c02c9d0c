"""What benchmarks share, and DVR's: agreement by hand, a ball marched both ways, the script."""

import pytest
import torch

from common.benchmark import SAME_CROSSING, agreement
from common.rendering.march import Hits
from dvr.benchmark import compare, orbit, picture_rays
from tests.make_run import run_script
from tests.surfaces import Sphere

CPU = torch.device("cpu")


def hits(depth: list[float], found: list[bool], inside: list[bool]) -> Hits:
    return Hits(torch.tensor(depth), torch.tensor(found), torch.tensor(inside), 0)


def test_agreement_is_about_outcomes_and_crossings() -> None:
    """Of five rays: equal, equal within the bound, at another crossing, missed, inside."""
    yes, no = True, False
    near = SAME_CROSSING / 2
    fast = hits([1.0, 1.0, 1.0, 9.0, 0.0], [yes, yes, yes, no, no], [no] * 5)
    oracle = hits([1.0, 1.0 + near, 2.0, 1.0, 0.0], [yes, yes, yes, yes, no], [no] * 4 + [yes])
    equal, difference = agreement(fast, oracle)
    assert equal == pytest.approx(2 / 5)
    torch.testing.assert_close(difference, torch.tensor([0.0, near, 1.0]), rtol=1e-3, atol=0)


def test_a_ball_is_marched_alike_at_less_cost() -> None:
    ball = Sphere(torch.tensor(0.3), torch.zeros(3))
    rays = picture_rays(orbit(2, 16))
    figures = {f.name: f for f in compare(lambda points, ray: ball(points), rays, CPU)}
    assert all(figure.agreement == 1 for figure in figures.values())
    evaluations = figures["dvr/evaluations_per_ray"]
    assert evaluations.oracle > 128 > 3 * evaluations.value
    assert evaluations.ratio == pytest.approx(evaluations.oracle / evaluations.value)


@pytest.mark.parametrize("words", [(), ("dvr",)])
def test_without_a_method_a_run_is_dvrs(words, tmp_path) -> None:
    outcome = run_script("benchmark", *words, tmp_path / "nothing")
    assert outcome.code == 2
    assert f"{tmp_path / 'nothing'}: no such run folder" in outcome.err
