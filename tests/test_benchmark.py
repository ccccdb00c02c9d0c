"""What benchmarks share, and DVR's: agreement by hand, a ball marched both ways, the script."""

import json

import pytest
import torch

from common.benchmarks.figures import SAME_CROSSING, agreement, mesh_figures
from common.measuring import measures_memory
from common.rendering.march import Hits
from dvr.benchmark import compare, orbit, picture_rays
from tests.make_collection import write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import run_script, write_settings
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


class TestMesh:
    @staticmethod
    def figures(level):
        box = (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)
        return mesh_figures("x", level, box, 128, 2**16, CPU)

    def test_a_balls_extraction_follows_its_surface(self) -> None:
        evaluations, growth, *_ = self.figures(Sphere(torch.tensor(0.6), torch.zeros(3)))
        assert evaluations.name == "x/mesh_evaluations" and evaluations.agreement == 1
        assert evaluations.oracle == 129**3 > 10 * evaluations.value
        assert growth.oracle == pytest.approx(8, rel=0.03)
        # The first grid costs the same for both, so an area's fourfold growth is not yet reached.
        assert 2 < growth.value < 4.5

    def test_a_surface_that_is_overlooked_does_not_agree(self) -> None:
        """Between all vertices of the first grid, and too thin for its slopes to tell."""

        def speck(points):
            return (((points - 1 / 32).norm(dim=-1) - 0.02) * 50).clamp(max=0.4)

        assert self.figures(speck)[0].agreement < 1


def test_a_run_is_measured_by_its_counts(tmp_path) -> None:
    """What the script writes of an IDR run, whose surface is a sphere in the middle of pictures."""
    data = write_tiny_scene(tmp_path / "ball", views=8, size=16)
    config = write_settings(tmp_path / "c.yaml", tiny_idr_settings(data, tmp_path / "run"))
    assert run_script("train", config).code == 0
    file = tmp_path / "figures.json"
    options = ["--height", "200", "--json", file]
    outcome = run_script("benchmark", "render", tmp_path / "run", *options)
    assert outcome.code == 0, outcome.err
    figure, *memory = json.loads(file.read_text())
    assert figure["name"] == "idr/render_evaluations_per_pixel" and figure["agreement"] > 0.98
    assert 0 < figure["value"] < figure["oracle"] / 3
    assert [one["name"] for one in memory] == ["idr/render_peak_memory"] * measures_memory(CPU)
    # Of 200 x 200 pixels: colour, normal and depth in float32, and a mask.
    assert all(one["oracle"] * 2**20 == 200 * 200 * 29 for one in memory)
    options = ["--resolution", "64", "--json", file]
    outcome = run_script("benchmark", "mesh", tmp_path / "run", *options)
    assert outcome.code == 0, outcome.err
    assert {figure["agreement"] for figure in json.loads(file.read_text())} == {1}
