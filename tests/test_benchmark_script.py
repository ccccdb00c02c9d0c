"""scripts/benchmark.py: which subject measures what, and what is written of it."""

import json

import numpy as np
import pytest
from PIL import Image

import common.benchmarks.processes
import idr.benchmark
import idr.quality
from common.benchmarks.figures import Figure
from common.data.sculpture.photograph import cameras_around
from tests.make_collection import write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import ROOT, run_script, write_settings

DVR, IDR = (str(ROOT / "configs" / f"{name}.yaml") for name in ("dvr_ShapeNet", "idr_sculpture"))


def one(name: str):
    """In a measurement's place: a figure that bears its name."""
    return lambda *_: [Figure(name, 1.0, 2.0, 2.0, 1.0, "s")]


@pytest.fixture
def pretended(monkeypatch) -> None:
    import dvr.benchmark

    monkeypatch.setattr(dvr.benchmark, "benchmark", one("dvr/march"))
    monkeypatch.setattr(dvr.benchmark, "step_benchmark", one("dvr/step"))
    monkeypatch.setattr(idr.benchmark, "benchmark", one("idr/step"))
    monkeypatch.setattr(idr.benchmark, "mesh_benchmark", one("idr/mesh"))
    monkeypatch.setattr(idr.benchmark, "render_benchmark", one("idr/render"))
    cameras = cameras_around(np.random.default_rng(0), 1, 8)
    monkeypatch.setattr(idr.benchmark, "fitted_to_sculpture", lambda *_: (None, cameras))
    monkeypatch.setattr(idr.quality, "quality_benchmark", one("idr/quality"))
    monkeypatch.setattr(common.benchmarks.processes, "processes_figures", one("processes"))
    for name in ("furniture.make.make_furniture", "sculpture.make_sculpture"):
        monkeypatch.setattr(f"common.data.{name}", lambda *_, **__: None)


def test_all_is_everything_in_one_file_and_picture(pretended, tmp_path) -> None:
    outcome = run_script(
        "benchmark", "all", "--json", tmp_path / "b.json", "--plot", tmp_path / "b.png"
    )
    assert outcome.code == 0, outcome.err
    names = [figure["name"] for figure in json.loads((tmp_path / "b.json").read_text())]
    assert names == [
        "dvr/march", "dvr/step", "idr/step", "idr/mesh", "idr/render", *["processes"] * 3,
        "idr/quality",
    ]  # fmt: skip
    assert Image.open(tmp_path / "b.png").format == "PNG"
    assert all(f"\n{name} " in outcome.out for name in names)


@pytest.mark.parametrize(
    "words, name",
    [
        ((), "dvr/march"),
        (("dvr",), "dvr/march"),
        (("dvr-step",), "dvr/step"),
        (("idr", "--quick"), "idr/step"),
        (("quality", IDR), "idr/quality"),
        (("processes",), "processes"),
    ],
)
def test_a_subject_measures_what_it_is_called(pretended, tmp_path, words, name) -> None:
    file = tmp_path / "figures.json"
    outcome = run_script("benchmark", *words, "--json", file)
    assert outcome.code == 0, outcome.err
    assert {figure["name"] for figure in json.loads(file.read_text())} == {name}


@pytest.mark.parametrize(
    "words, problem",
    [
        (("quality", DVR), "method is dvr; name a configuration of idr"),
        (("dvr-step", IDR), "method is idr; name a configuration of dvr"),
        (("quality", "--minutes", "0"), "--minutes 0: expected more than 0"),
        (("quality", "--minutes", "nan"), "--minutes nan: expected more than 0"),
        (("profile", IDR, "--plot", "p.png"), "--plot: a profile is a table"),
        (("profile", "gone"), "gone: no such run folder"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, problem) -> None:
    outcome = run_script("benchmark", *words)
    assert outcome.code == 2 and problem in outcome.err


def test_a_profile_of_a_configuration_and_of_its_run(tmp_path) -> None:
    """A table whose shares make a whole, in the file too; the run is left alone."""
    data = write_tiny_scene(tmp_path / "ball", views=8, size=16)
    settings = tiny_idr_settings(data, tmp_path / "run") | {"search": {"refresh_every": 2}}
    config = write_settings(tmp_path / "c.yaml", settings)
    file = tmp_path / "profile.json"
    options = ["training.iterations=50", "--steps", "2", "--json", file]
    fresh = run_script("benchmark", "profile", config, *options)
    assert fresh.code == 0, fresh.err
    assert "a whole step" in fresh.out and not (tmp_path / "run").exists()
    shares = json.loads(file.read_text())
    assert sum(share["share"] for share in shares) == pytest.approx(1)
    assert run_script("train", config).code == 0
    before = (tmp_path / "run/checkpoints/latest.pt").read_bytes()
    again = run_script("benchmark", "profile", tmp_path / "run", *options)
    assert again.code == 0, again.err
    assert {share["name"] for share in json.loads(file.read_text())} == {s["name"] for s in shares}
    assert (tmp_path / "run/checkpoints/latest.pt").read_bytes() == before
