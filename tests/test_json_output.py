"""--json: one object on standard output, nothing else there, whatever the script does."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dvr.generation import _names
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import ROOT, run_script, tiny_settings, write_settings

SCRIPTS = (
    "generate_mesh", "evaluate", "report", "prepare_scene", "render_dataset", "download_data",
    "import_checkpoint",
)  # fmt: skip


def answer(*command: object) -> dict:
    """What a script prints on standard output, which is JSON or an error here."""
    outcome = run_script(*command, "--json")
    assert outcome.code == 0, outcome.err
    assert not outcome.out.startswith("run "), "progress belongs on standard error"
    return json.loads(outcome.out)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    return write_tiny_scene(tmp_path_factory.mktemp("json") / "a ball", views=8, size=16)


@pytest.fixture(scope="module")
def run(scene) -> Path:
    config = write_settings(scene.parent / "c.yaml", tiny_idr_settings(scene, scene.parent / "run"))
    assert run_script("train", config).code == 0
    options = ["--textured", "--texture-size", "64", "--faces", "500"]
    assert run_script("generate_mesh", scene.parent / "run", *options).code == 0
    return scene.parent / "run"


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_offers_it_beside_examples(name) -> None:
    outcome = run_script(name, "--help")
    assert outcome.code == 0 and "--json" in outcome.out
    assert outcome.out.count(f"python scripts/{name}.py") >= 3


class TestEvaluate:
    def test_it_is_the_file(self, run) -> None:
        assert answer("evaluate", run) == json.loads((run / "evaluation.json").read_text())

    def test_the_textured_mesh_stands_beside_the_network(self, run) -> None:
        """Of the same views: the sphere's outline is the same, whoever draws it."""
        outcome = run_script("evaluate", run, "--views", "1")
        result = json.loads((run / "evaluation.json").read_text())
        textured, held_out = result["textured"], result["held_out"]
        assert textured.keys() == held_out.keys()
        assert textured["mask_iou"] == pytest.approx(held_out["mask_iou"], abs=0.05)
        assert textured["psnr"] == pytest.approx(held_out["psnr"], abs=2)
        (line,) = [x for x in outcome.out.splitlines() if x.startswith("textured mesh")]
        assert f"{textured['psnr']:.4f}" in line

    def test_without_a_texture_there_is_none(self, run, tmp_path) -> None:
        bare = Path(shutil.copytree(run, tmp_path / "bare"))
        (bare / "meshes/a ball.glb").unlink()
        assert run_script("generate_mesh", bare, "--extension", "glb").code == 0
        assert answer("evaluate", bare, "--views", "1")["textured"] == {}

    def test_textured_objects_of_a_collection(self, tmp_path) -> None:
        data = write_tiny_collection(tmp_path / "data")
        config = write_settings(tmp_path / "c.yaml", tiny_settings(data, tmp_path / "run"))
        assert run_script("train", config).code == 0
        options = ["--textured", "--texture-size", "32", "--faces", "200"]
        made = answer("generate_mesh", tmp_path / "run", *options)
        result = answer("evaluate", tmp_path / "run", "--views", "1")
        assert made["meshes"] and {"psnr", "mask_iou"} <= result["textured"].keys()
        scored = [item["textured_psnr"] for item in result["items"] if "textured_psnr" in item]
        assert result["textured"]["psnr"] == pytest.approx(np.mean(scored))
        assert not any(name.startswith("textured") for name in result["mesh"])


def test_report_says_where_the_page_is(run, tmp_path) -> None:
    content = answer("report", run, "--views", "1", "--out", tmp_path / "page.html")
    assert content == {"runs": [str(run)], "page": str(tmp_path / "page.html")}
    assert (tmp_path / "page.html").is_file()


def test_prepare_scene_says_what_it_found(scene, tmp_path) -> None:
    content = answer("prepare_scene", scene, tmp_path / "out")
    assert content["out"] == str(tmp_path / "out") and content["verdict"]
    assert Path(content["report"]).is_file()


def test_download_lists_and_says_what_is_there(tmp_path) -> None:
    listed = answer("download_data", "--list")
    assert listed["dtu_dvr"]["url"].endswith("/DTU.zip")
    (tmp_path / "scan65").mkdir()
    content = answer("download_data", "dtu_dvr", tmp_path)
    assert content["out"] == str(tmp_path) and content["next"].endswith(f"data.path={tmp_path}")


def test_rendering_names_what_was_skipped(tmp_path, monkeypatch) -> None:
    """The renderer itself is not asked: every mesh is one that cannot be rendered, but one."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("render_dataset")
    for name in ("good", "bad"):
        (tmp_path / "chair" / name).mkdir(parents=True)
        (tmp_path / "chair" / name / "model.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")

    def render(chosen, out, settings, workers):
        for source in chosen:
            yield source, "it is flat" if source.name == "bad" else None

    monkeypatch.setattr(script, "render_objects", render)
    monkeypatch.setattr(script, "close_collection", lambda *_: None)
    monkeypatch.setattr(
        sys, "argv", ["x", str(tmp_path / "chair"), str(tmp_path / "out"), "--json"]
    )
    printed = []
    monkeypatch.setattr(script, "print", lambda *words, **where: printed.append((words, where)),
                        raising=False)  # fmt: skip
    script.main()
    assert json.loads(printed[-1][0][0]) == {
        "out": str(tmp_path / "out"), "rendered": 1, "there_already": 0, "skipped": ["chair/bad"],
    }  # fmt: skip


def test_pictures_of_one_stem_keep_their_own_names() -> None:
    files = ["a.png", "a.jpg", "b.png", "a_png.png", "c.d.png"]
    names = _names([Path(file) for file in files])
    assert names == ["a_png_", "a_jpg", "b", "a_png", "c.d"]
