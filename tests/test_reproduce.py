"""Tables made anew: what is run, what is not run twice, and the same digits twice."""

import io
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from common.training.run_folder import RunFolder, load_checkpoint
from tests.make_collection import write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import ROOT, Outcome, run_script

BOOK = yaml.safe_load((ROOT / "scripts" / "tables.yaml").read_text(encoding="utf-8"))
SHARED = ("model", "search", "training", "generation")  # of the tiny settings: not the data's


def overrides() -> list[str]:
    """What makes a small run of any configuration of IDR."""
    tiny = tiny_idr_settings(Path("data"), Path("out"))
    tiny["training"] |= {"learning_rate": 1e-3, "iterations": 3}
    del tiny["training"]["out_dir"]
    return [f"{name}={json.dumps(tiny[name])}" for name in SHARED] + ["data.holdout_every=3"]


class Scripts:
    """Runs the scripts that are called in this process, which spares their imports.

    ``ends`` gives the exit codes of the first of them, which then do nothing.
    """

    def __init__(self, *ends: int) -> None:
        self.ends, self.called = list(ends), []

    def __call__(self, command: list[str], stdout: io.TextIOBase) -> "Scripts":
        assert command[0] == sys.executable and stdout is sys.stderr
        name = Path(command[1]).stem
        self.called.append(name)
        self.outcome = Outcome(self.ends.pop(0), "", "") if self.ends else None
        if self.outcome is None:
            self.outcome = run_script(name, *command[2:])
            assert self.outcome.code == 0, self.outcome.err
        return self

    def __enter__(self) -> "Scripts":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self) -> int:
        assert self.outcome is not None
        return self.outcome.code


@pytest.fixture
def scripts(monkeypatch) -> Scripts:
    watched = Scripts()
    monkeypatch.setattr(subprocess, "Popen", watched)
    return watched


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    return write_tiny_scene(tmp_path_factory.mktemp("own data ü") / "scene 😀")


def spot(scene: Path, out: Path, *options: object) -> Outcome:
    """The row of Spot, of a small scene."""
    start = ("idr", "--runs", "idr_spot", "--scene", scene, "--out", out)
    return run_script("reproduce", *start, *options, *overrides())


class TestTables:
    def test_every_configuration_and_row_is_there(self) -> None:
        parts = set(BOOK["runs"]) | set(BOOK["benchmarks"])
        assert {row["of"] for t in BOOK["tables"].values() for row in t["rows"].values()} == parts
        for run in BOOK["runs"].values():
            assert (ROOT / "configs" / f"{run['config']}.yaml").exists()
            assert run.get("scene") in {None, *BOOK["scenes"]}

    def test_the_list_names_them_all(self) -> None:
        listed = run_script("reproduce", "--list")
        assert listed.code == 0
        assert all(name in listed.out for name in [*BOOK["tables"], *BOOK["runs"]])

    def test_every_training_is_accepted_as_it_is(self, tmp_path, scripts) -> None:
        """Of all tables, with data that are not looked into."""
        for name, table in BOOK["tables"].items():
            runs = [BOOK["runs"].get(row["of"], {}) for row in table["rows"].values()]
            needed = {run["scene"] for run in runs if "scene" in run}
            needed |= {"dtu"} if name == "march" else set()
            given = [f"{scene}={tmp_path}" for scene in sorted(needed)]
            options = ["--scene", *given] if given else []
            out = tmp_path / "out"
            planned = run_script("reproduce", name, "--dry-run", "--out", out, *options)
            assert planned.code == 0, planned.err
            assert table["title"] in planned.err
        assert scripts.called == []


class TestReproduction:
    def test_a_table_of_two_seeds(self, scene, tmp_path, scripts) -> None:
        made = spot(scene, tmp_path, "--seeds", 2, "--json")
        assert made.code == 0, made.err
        assert scripts.called == ["train", "generate_mesh", "evaluate"] * 2
        minutes = 2 * BOOK["runs"]["idr_spot"]["minutes"]
        assert f"about {minutes:g} minutes in all" in made.err
        (row,) = json.loads(made.out)["rows"]
        files = [tmp_path / f"idr_spot/seed_{seed}/evaluation.json" for seed in (0, 1)]
        found = [json.loads(file.read_text())["held_out"]["psnr"] for file in files]
        column = row["columns"]["held-out PSNR"]
        assert column["values"] == found and found[0] != found[1]
        assert column["mean"] == pytest.approx(sum(found) / 2)
        assert column["spread"] == pytest.approx(abs(found[0] - found[1]) / 2**0.5)
        assert row["columns"]["training"]["mean"] * 60 == pytest.approx(
            statistics.fmean(json.loads(file.read_text())["seconds"] for file in files)
        )

        again = spot(scene, tmp_path, "--seeds", 2)  # finished: nothing runs, only the table
        assert again.code == 0 and len(scripts.called) == 6
        assert "has ended" in again.err and "about 0 minutes" in again.err
        head, line, only = again.out.splitlines()
        assert head.startswith("|  | training | held-out PSNR | training PSNR |")
        assert line == "| " + " | ".join(["---"] * 7) + " |"
        mean, spread = column["mean"], column["spread"]
        assert only.split(" | ")[0] == "| Spot" and f"| {mean:.1f} ± {spread:.1f} dB |" in only
        one = spot(scene, tmp_path, "--seeds", 1)
        assert f"| {found[0]:.1f} dB |" in one.out

    def test_the_same_seed_gives_the_same_digits(self, scene, tmp_path, scripts) -> None:
        results = []
        for name in ("first", "second"):
            assert spot(scene, tmp_path / name, "--seeds", 1).code == 0
            folder = tmp_path / name / "idr_spot" / "seed_0"
            scores = json.loads((folder / "evaluation.json").read_text())
            assert scores.pop("seconds") > 0  # the clock alone may differ
            (mesh,) = (folder / "meshes").iterdir()
            model = load_checkpoint(RunFolder(folder).latest)["model"]
            results.append((scores, mesh.read_bytes(), model))
        (scores, mesh, model), (other_scores, other_mesh, other_model) = results
        assert scores == other_scores and mesh == other_mesh
        assert all(torch.equal(value, other_model[name]) for name, value in model.items())

    @pytest.mark.parametrize("code, told", [(3, 3), (4, 4), (2, 2), (-9, 2)])
    def test_an_interruption_is_gone_on_from(self, scene, tmp_path, monkeypatch, code, told):
        """The exit code is the script's own; what had ended does not run again."""
        scripts = Scripts()
        monkeypatch.setattr(subprocess, "Popen", scripts)
        scripts.ends = [0, code]
        stopped = spot(scene, tmp_path, "--seeds", 1)
        assert stopped.code == told and "the same command goes on from there" in stopped.err
        assert "generate_mesh.py ended with exit code" in stopped.err
        scripts.ends = [0, 3]
        spot(scene, tmp_path, "--seeds", 1)
        assert scripts.called == ["train", "generate_mesh", "generate_mesh", "evaluate"]

    def test_other_settings_are_not_mixed_in(self, scene, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(subprocess, "Popen", Scripts(0, 3))
        spot(scene, tmp_path, "--seeds", 1)
        other = spot(scene, tmp_path, "--seeds", 1, "training.beta2=0.5")
        assert other.code == 2 and "made with other settings or options; delete it" in other.err


class TestErrors:
    def test_a_table_that_is_none(self) -> None:
        outcome = run_script("reproduce", "table1")
        assert outcome.code == 2 and "expected one of furniture" in outcome.err

    def test_a_scene_that_is_missing(self, tmp_path) -> None:
        outcome = run_script("reproduce", "dvr_photographs", "--scene", f"dtu={tmp_path / 'no'}")
        assert outcome.code == 2 and "give --scene dtu=PATH" in outcome.err

    def test_a_scene_that_is_not_asked_for(self, tmp_path) -> None:
        outcome = run_script("reproduce", "idr", "--scene", tmp_path)
        assert outcome.code == 2 and "expected spot=PATH dtu=PATH temple=PATH" in outcome.err
        outcome = run_script("reproduce", "furniture", "--scene", tmp_path)
        assert outcome.code == 2 and "expected no scene" in outcome.err

    def test_a_run_that_is_in_another_table(self) -> None:
        outcome = run_script("reproduce", "idr", "--runs", "dvr_DTU")
        assert outcome.code == 2 and "this table has idr_sculpture" in outcome.err
