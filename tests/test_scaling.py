"""The plan's program runs, and what it counts is so."""

import re
import runpy
import sys

import pytest

from common.data.collection_cache import cached, views_to_arrays
from dvr.data import Objects
from dvr.experiment import make_model
from scripts.method import load_config
from tests.make_collection import write_tiny_collection
from tests.make_run import ROOT, tiny_settings, write_settings

PAGE = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")


def test_the_program_measures_every_way(tmp_path, monkeypatch, capsys) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "loading.py").write_text(program)
    data = write_tiny_collection(tmp_path / "data")
    config = write_settings(tmp_path / "settings.yaml", tiny_settings(data, tmp_path / "run"))
    monkeypatch.setattr(sys, "argv", ["loading.py", str(config), "training.objects=3"])
    runpy.run_path(str(tmp_path / "loading.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(re.fullmatch(r".+: \d+\.\d\d ms", line) for line in lines)


@pytest.mark.parametrize("name", ["dvr_ShapeNet_paper", "dvr_NMR_rgb", "dvr_DTU_paper"])
def test_parameters_are_counted(name) -> None:
    model = make_model(load_config(str(ROOT / f"configs/{name}.yaml"), []), objects=1)
    count = sum(parameter.numel() for parameter in model.parameters())
    sent = [2 * (ranks - 1) / ranks * count * 4 / 1e6 for ranks in (8, 64)]
    row = f"`configs/{name}.yaml` | {count:,} | {count * 4 / 1e6:.1f} MB | {sent[0]:.0f} / "
    assert row + f"{sent[1]:.0f} MB" in PAGE


def test_the_size_of_an_object_is_that_of_its_arrays(tmp_path) -> None:
    """The table's megabytes are bytes a pixel times pixels."""
    data = write_tiny_collection(tmp_path / "data", objects=1, views=24, size=64)
    settings = tiny_settings(data, tmp_path / "run")
    settings["losses"]["depth"] = 1
    config = write_settings(tmp_path / "settings.yaml", settings)
    views = Objects(load_config(str(config), []), "train")[0].views
    cached(tmp_path / "file", "x", lambda: views_to_arrays(views))
    size, pixels = (tmp_path / "file").stat().st_size, 24 * 64 * 64
    assert 0 < size - pixels * (3 + 1 + 4) < 5000
    inputs = 24 * 224 * 224 * 3
    expected = (16 * pixels * (3 + 1 + 4) + inputs) / 1e6
    assert f"| {expected:.1f} MB | {expected * 30.661:.0f} GB |" in PAGE
