"""Reports of runs: what they say, that each is one safe file, and that they work in a browser."""

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.config import validate
from common.errors import UserError
from common.meshes.gltf import glb_bytes, has_texture
from common.meshes.mesh import Mesh
from common.pages.curves import Line, Plot, curves_element
from common.pages.glb import GLTF_FROM_PAGE, placed_glb
from common.pages.mesh_view import ShownMesh
from common.pages.slider import slider_element
from common.reports.collection_page import write_collection_report
from common.reports.comparison_page import matching, write_comparison
from common.reports.error_map import FULL, error_map
from common.reports.looks import CameraLook, CollectionLook, ComparedView, ObjectLook, SceneLook
from common.reports.record import RunRecord, read_record, scores_in
from common.reports.scene_page import write_scene_report
from common.reports.scores import comparison_table, score_table
from common.reports.settings import differences
from common.reports.training_curves import compared_plots, run_plots
from common.training.processes import Process
from common.training.run_folder import RunFolder
from dvr.config import DVRConfig
from dvr.experiment import train_experiment
from dvr.report import best_and_worst
from tests.browser import Tab, find_browser, open_browser
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import PICTURES, merged, run_script, tiny_settings, write_settings
from tests.test_pages import HOSTILE, UP, Reader, ring

SIZE = 32
BAD = "</script><img src=x onerror=alert(1)>"


def plain(*colour: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), colour, dtype=np.uint8)


def ball(colour: tuple[int, int, int] = (200, 40, 40)) -> Mesh:
    solid = trimesh.creation.icosphere(subdivisions=3)
    colours = np.tile(np.array(colour, dtype=np.uint8), (len(solid.vertices), 1))
    return Mesh(np.asarray(solid.vertices), np.asarray(solid.faces, np.int64), colours)


def make_record(name: str = "run", **settings) -> RunRecord:
    metrics = [
        {"step": 50.0 * i, "seconds": 10.0 * i, "train/loss": 1 / i, "train/loss_rgb": 0.5 / i}
        for i in range(1, 11)
    ]
    metrics += [{"step": 500.0, "seconds": 100.0, "validation/psnr": 20.0}]
    evaluation = {
        "held_out": {"psnr": 25.0, "mask_iou": 0.9},
        "training": {"psnr": 27.0, "mask_iou": 0.95},
        "mesh": {"chamfer_l1": 0.01},
        "baselines": {"mean_shape": {"chamfer_l1": 0.1}},
        "cameras": {"before": {"rotation_error_deg": 2.0}, "after": {"rotation_error_deg": 0.1}},
    }
    whole = {"method": "idr", "data": {"path": "data/x"}, "training": {"seed": 3}} | settings
    return RunRecord(
        name, whole, {"torch": "2"}, tuple(metrics), evaluation, 500, 61.0, 1234, 2**20
    )


def make_view(name: str, camera: int, held_out: bool = True) -> ComparedView:
    """Truth red, rendering blue."""
    return ComparedView(
        name, camera, held_out, plain(220, 20, 20), plain(20, 20, 220), plain(128, 128, 255),
        {"psnr": 20.0 + camera},
    )  # fmt: skip


def make_scene(count: int = 4, name: str = "view") -> SceneLook:
    poses = ring(count, 0.4, 0.0, UP)
    shifted = poses.copy()
    shifted[:, :3, 3] *= 1.1
    inner = np.array([[40.0, 0, 15.5], [0, 40.0, 15.5], [0, 0, 1]])
    names = tuple(f"{name}-{number}" for number in range(count))
    cameras = CameraLook(
        names, (True,) + (False,) * (count - 1), (plain(90, 160, 90),) * count,
        np.tile(inner, (count, 1, 1)), poses, shifted, np.zeros((1, 3)), None,
    )  # fmt: skip
    views = tuple(make_view(names[number], number, number == 0) for number in range(count - 1))
    mesh = ShownMesh(name, placed_glb(glb_bytes(ball()), GLTF_FROM_PAGE))
    return SceneLook(f"{name} learnt", views, (mesh,), cameras, {"Views": name})


def make_collection(count: int = 4, name: str = "chair") -> CollectionLook:
    """Object i has IoU 1 - i / 10, the best first."""
    objects = tuple(
        ObjectLook(
            f"{name}_{number}", name, plain(9, 9, 9), (plain(20, 20, 220),) * 2,
            (plain(128, 128, 255),) * 2, (plain(220, 20, 20),) * 2,
            {"volumetric_iou": 1 - number / 10},
        )
        for number in range(count)
    )  # fmt: skip
    meshes = tuple(
        ShownMesh(f"{name} {number}", glb_bytes(ball(colour)))
        for number, colour in enumerate([(200, 40, 40), (40, 40, 200)])
    )
    return CollectionLook(name, objects, meshes, {"Split": name})


def write_all(folder: Path, name: str = "view", meshes: bool = True) -> list[Path]:
    """A page of each kind, everything that has a name called ``name``."""
    kept = {} if meshes else {"meshes": ()}
    record = make_record(name, note=name, data={"path": name})
    record = replace(record, evaluation=record.evaluation | {"baselines": {name: {"psnr": 1.0}}})
    paths = [folder / f"{kind}.html" for kind in ("scene", "collection", "comparison")]
    scene = replace(make_scene(name=name), **kept)
    write_scene_report(paths[0], record, scene)
    write_collection_report(paths[1], record, replace(make_collection(name=name), **kept))
    other = make_record("other", note="else")
    write_comparison(paths[2], [record, other], [scene, replace(make_scene(), **kept)])
    return paths


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


class TestPages:
    def test_they_load_nothing_and_stay_small(self, tmp_path) -> None:
        for path in write_all(tmp_path):
            assert path.stat().st_size < 6e6
            for tag, attributes in Reader(read(path)).tags:
                assert tag not in ("link", "iframe", "object", "base")
                for name in ("src", "href", "srcset", "action"):
                    assert (attributes.get(name) or "data:").startswith("data:")

    def test_names_and_settings_are_text(self, tmp_path) -> None:
        """Whoever wrote them: the pages have the same elements as with harmless ones."""
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        for name in (HOSTILE, BAD):
            pairs = zip(
                write_all(tmp_path / "a", "x"), write_all(tmp_path / "b", name), strict=True
            )
            for harmless, hostile in pairs:
                wanted, got = Reader(read(harmless)), Reader(read(hostile))
                assert [tag for tag, _ in wanted.tags] == [tag for tag, _ in got.tags]
                assert not any("onerror" in attributes for _, attributes in got.tags)
                assert name in got.words

    def test_a_run_without_scores_and_curves_has_a_page(self, tmp_path) -> None:
        bare = replace(make_record(), evaluation={}, metrics=())
        empty = replace(make_scene(), views=(), meshes=())
        write_scene_report(tmp_path / "a.html", bare, empty)
        write_collection_report(tmp_path / "b.html", bare, replace(make_collection(), meshes=()))
        for name in ("a.html", "b.html"):
            assert "evaluate.py" in Reader(read(tmp_path / name)).words

    def test_the_best_objects_come_first_then_the_worst(self, tmp_path) -> None:
        path = tmp_path / "page.html"
        write_collection_report(path, make_record(), make_collection(5))
        names = re.findall(r'data-order="chair_(\d)"', read(path))
        assert names == ["0", "1", "2", "4", "3"]


class TestScores:
    def test_the_best_is_bold_whichever_way_is_better(self) -> None:
        rows = {"a": {"psnr": 20.0, "chamfer_l1": 0.2}, "b": {"psnr": 30.0, "chamfer_l1": 0.3}}
        bold = re.findall(r"<strong>(.*?)</strong>", score_table("t", rows, ["a", "b"]))
        assert bold == ["0.2", "30.00 dB"]  # row by row
        assert "<strong>" not in score_table("t", rows)
        assert "<strong>" not in score_table("t", {"a": rows["a"]}, ["a"])

    def test_equal_runs_and_other_data_have_no_best(self) -> None:
        different = {"held out": [{"psnr": 20.0}, {"psnr": 21.0}]}
        same = {"held out": [{"psnr": 20.0}, {"psnr": 20.0}]}
        assert "<strong>21.00 dB" in comparison_table("t", "ab", different, rated=True)
        assert "<strong>" not in comparison_table("t", "ab", different, rated=False)
        assert "<strong>" not in comparison_table("t", "ab", same, rated=True)

    def test_only_finite_numbers_count(self) -> None:
        content = {"a": 1, "b": "2", "c": float("nan"), "d": True, "e": [3], "f": 0.5}
        assert scores_in(content) == {"a": 1.0, "f": 0.5}
        assert scores_in([1.0]) == {}

    def test_settings_that_differ(self) -> None:
        one = {"a": {"b": 1, "c": 2}, "training": {"out_dir": "x"}}
        two = {"a": {"b": 1, "c": 3, "d": None}, "training": {"out_dir": "y"}}
        assert differences([one, two]) == {"a.c": ["2", "3"], "a.d": ["–", "none"]}

    def test_views_are_matched_by_name_in_the_same_data_alone(self) -> None:
        first = [make_view("a", 0), make_view("b", 1)]
        second = [make_view("b", 0), make_view("a", 1)]
        names = [[view.name for view in row] for row in matching([first, second], True)]
        assert names == [["a", "a"], ["b", "b"]]
        names = [[view.name for view in row] for row in matching([first, second], False)]
        assert names == [["a", "b"], ["b", "a"]]


@given(st.lists(st.floats(0, 1), max_size=30), st.integers(1, 40))
def test_best_and_worst_are_the_ends(ranks, wanted) -> None:
    chosen = best_and_worst(ranks, wanted)
    values = [ranks[index] for index in chosen]
    assert len(set(chosen)) == len(chosen) == min(wanted, len(ranks))
    assert values == sorted(values, reverse=True)
    best = (len(chosen) + 1) // 2 if len(ranks) > wanted else len(ranks)
    assert values[:best] == sorted(ranks, reverse=True)[:best]
    assert values[best:] == sorted(ranks, reverse=True)[len(ranks) - len(values) + best :]


class TestCurves:
    def test_terms_share_a_plot_and_runs_share_plots(self) -> None:
        loss, psnr = run_plots(make_record())
        assert [line.name for line in loss.lines] == ["weighted total", "rgb"] and loss.log
        assert list(psnr.lines[0].values) == [20.0] and not psnr.log
        plots = compared_plots([make_record("a"), make_record("b")], ["a", "b"])
        assert [[line.name for line in plot.lines] for plot in plots] == [["a", "b"]] * 3
        assert [line.colour for line in plots[0].lines] == [0, 1]

    def test_what_cannot_be_drawn_is_left_out(self) -> None:
        values = [1.0, float("nan"), 0.0, -1.0, float("inf"), 4.0]
        places = [float(i) for i in range(6)]
        line = Line("x", 0, places, places, values)
        kept = {log: self.points(Plot("p", (line,), log)) for log in (False, True)}
        assert [point[2] for point in kept[False]] == [1.0, 0.0, -1.0, 4.0]
        assert [point[2] for point in kept[True]] == [1.0, 4.0]

    def test_long_runs_keep_their_end(self) -> None:
        places = [float(i) for i in range(12345)]
        points = self.points(Plot("p", (Line("x", 0, places, places, places),)))
        assert len(points) <= 400 and points[-1][0] == places[-1]

    @staticmethod
    def points(plot: Plot) -> list:
        block = re.search(r'id="c-stage">(.*?)</script>', curves_element("c", [plot]))
        assert block
        return json.loads(block[1])[0]["lines"][0]["points"]


class TestPictures:
    def test_error_goes_from_dark_to_light_and_ends_at_full(self) -> None:
        truth = np.zeros((1, 4, 3), dtype=np.uint8)
        errors = np.array([0, 20, 40, 255 * FULL + 1]).astype(np.uint8)
        shown = error_map(truth, np.tile(errors[None, :, None], (1, 1, 3)))[0].astype(int)
        assert (np.diff(shown.sum(axis=-1)) > 0).all()
        white = error_map(truth, np.full_like(truth, 255))
        assert (white == shown[-1]).all()

    def test_pictures_of_two_sizes_have_no_slider(self) -> None:
        with pytest.raises(ValueError, match="share"):
            slider_element(plain(0, 0, 0), plain(0, 0, 0)[1:], ("a", "b"), "x")


class TestGlb:
    def test_another_reader_finds_the_same_mesh(self) -> None:
        mesh = ball((10, 120, 250))
        read_back = trimesh.load_mesh(io.BytesIO(glb_bytes(mesh)), "glb", process=False)
        np.testing.assert_allclose(read_back.vertices, mesh.vertices, atol=1e-6)
        assert (read_back.faces == mesh.faces).all()
        # Of the unit sphere, normals are the vertices; the mean of faces is a degree off.
        assert (read_back.vertex_normals * mesh.vertices).sum(axis=1).min() > np.cos(np.radians(2))

    def test_colours_are_linear_light(self) -> None:
        """sRGB 188 is half of the light (IEC 61966-2-1)."""
        content = glb_bytes(ball((0, 188, 255)))
        head = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
        accessor = head["accessors"][head["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
        view = head["bufferViews"][accessor["bufferView"]]
        start = 28 + int.from_bytes(content[12:16], "little") + view["byteOffset"]
        colour = np.frombuffer(content, "<u2", 4, start) / 65535
        np.testing.assert_allclose(colour, [0, 0.5, 1, 1], atol=0.005)

    def test_a_placed_file_is_moved_as_a_whole(self) -> None:
        matrix = np.diag([2.0, 2.0, 2.0, 1.0])
        matrix[:3, 3] = [1, 2, 3]
        moved = trimesh.load(io.BytesIO(placed_glb(glb_bytes(ball()), matrix)), "glb")
        np.testing.assert_allclose(moved.bounds, [[-1, 0, 1], [3, 4, 5]], atol=1e-5)

    @pytest.mark.parametrize("cut", [0, 10, 30, 100])
    def test_what_is_no_glb_is_refused(self, cut) -> None:
        with pytest.raises(UserError, match="GLB"):
            has_texture(glb_bytes(ball())[:cut])
        with pytest.raises(UserError, match="GLB"):
            placed_glb(b"x" * cut, np.eye(4))


@pytest.fixture(scope="module")
def idr_run(tmp_path_factory) -> Path:
    """A run whose cameras are learnt, with scores and a name of bad intent."""
    root = tmp_path_factory.mktemp("idr")
    data = write_tiny_scene(root / "the <b>ball", views=8)
    cameras = {"cameras": {"refine": True, "noise_deg": 1.0}, "losses": {"smoothness": 0.0}}
    settings = merged(tiny_idr_settings(data, root / "<i>run"), cameras)
    assert run_script("train", write_settings(root / "c.yaml", settings)).code == 0
    assert run_script("evaluate", root / "<i>run", "--views", 1).code == 0
    return root / "<i>run"


@pytest.fixture(scope="module")
def dvr_run(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("dvr")
    settings = merged(tiny_settings(write_tiny_collection(root / "d"), root / "run"), PICTURES)
    settings["training"]["learning_rate"] = 1e-6
    train_experiment(validate(DVRConfig, settings, "test"), Process(0, 1, torch.device("cpu")))
    return root / "run"


class TestScript:
    def test_a_scenes_page_is_beside_its_run(self, idr_run) -> None:
        outcome = run_script("report", idr_run, "--views", 2)
        assert outcome.code == 0, outcome.err
        markup = read(idr_run / "report.html")
        assert "report.html" in outcome.out
        assert markup.count("data-panel=") == 4  # two held out and two of training
        stage = re.search(r'id="cameras-stage">(.*?)</script>', markup)
        assert stage
        content = json.loads(stage[1])
        assert len(content["frusta"]) == len(content["before"]) == 8
        assert "<b>ball" in Reader(markup).words and "Rotation error" in Reader(markup).words
        # What is learnt is the first sphere still, but for what a random hash grid adds to it.
        block = re.search(r'id="mesh-0">(.*?)</script>', markup)
        assert block
        mesh = trimesh.load_mesh(io.BytesIO(base64.b64decode(block[1])), "glb")
        radius = np.linalg.norm(mesh.vertices, axis=1)
        assert radius.max() - radius.min() < 0.05 and len(mesh.faces) <= 20_000

    def test_a_collections_page_shows_as_many_objects_as_asked(self, dvr_run, tmp_path) -> None:
        out = tmp_path / "page.html"
        outcome = run_script("report", dvr_run, "--objects", 2, "--out", out)
        assert outcome.code == 0, outcome.err
        assert len(re.findall(r"<tr data-view=", read(out))) == 2

    def test_two_runs_share_a_page(self, idr_run, dvr_run, tmp_path) -> None:
        out = tmp_path / "both.html"
        outcome = run_script("report", idr_run, dvr_run, "--views", 1, "--objects", 2, "--out", out)
        assert outcome.code == 0, outcome.err
        assert "<i>run and run" in Reader(read(out)).words
        refused = run_script("report", idr_run, dvr_run)
        assert refused.code == 2 and "--out" in refused.err

    def test_damaged_records_are_named(self, idr_run, tmp_path) -> None:
        run = Path(shutil.copytree(idr_run, tmp_path / "run"))
        metrics = run / "metrics.jsonl"
        lines = metrics.read_text().splitlines()
        metrics.write_text("\n".join([*lines, '{"step": 3, "sec']))
        assert len(read_record(RunFolder(run)).metrics) == len(lines)  # cut short: left out
        metrics.write_text("\n".join(["nonsense", *lines]))
        with pytest.raises(UserError, match="line 1"):
            read_record(RunFolder(run))
        metrics.unlink()
        (run / "evaluation.json").write_text("[1]")
        with pytest.raises(UserError, match="evaluation.json"):
            read_record(RunFolder(run))


@pytest.fixture(scope="module")
def tab(tmp_path_factory) -> Iterator[Tab]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine: the pages were not opened in a browser")
    with open_browser(program, tmp_path_factory.mktemp("browser")) as tab:
        tab.show(1300, 900)
        yield tab


def opened(tab: Tab, path: Path) -> Tab:
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(path)
    return tab


def check_silence(tab: Tab) -> None:
    """No error, and nothing asked of any server; but software WebGL warns that it is slow."""
    slow = ("WebGL", "rAF timed out")
    others = [one for one in tab.complaints if not any(word in one for word in slow)]
    assert others == []
    assert all(address.split(":")[0] in ("file", "data", "blob") for address in tab.requests)


LOADED = """new Promise((done) => {
  const viewer = document.querySelector('model-viewer');
  if (viewer.loaded) done(true); else viewer.addEventListener('load', () => done(true));
})"""
WEBGL = "!!document.createElement('canvas').getContext('webgl2')"


def drawn_mesh(tab: Tab) -> np.ndarray:
    """What the mesh viewer shows, once it has loaded its mesh."""
    if not tab.run(WEBGL):
        pytest.skip("this Chromium has no WebGL: meshes were not drawn")
    # What is out of sight is not drawn, and what turns keeps a processor busy.
    tab.run("document.querySelector('model-viewer').scrollIntoView()")
    tab.run("document.querySelector('[data-turn][aria-pressed=true]')?.click()")
    tab.run(LOADED)
    address = tab.run("document.querySelector('model-viewer').toDataURL()")
    picture = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
    return np.asarray(picture.convert("RGBA")).astype(int)


def share_of(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    """Of the pixels, within 12 of a colour: the viewer resamples and rounds."""
    return float((np.abs(picture[..., :3] - colour).max(axis=-1) <= 12).mean())


class TestBrowser:
    def test_the_mesh_turns_up_in_its_colour_and_in_clay(self, tab, tmp_path) -> None:
        tab.show(480, 400)  # software draws few pixels faster
        opened(tab, write_all(tmp_path)[0])
        assert tab.run("document.querySelector('model-viewer').hasAttribute('auto-rotate')")
        assert share_of(drawn_mesh(tab), (200, 40, 40)) > 0.1
        tab.run(LOADED.replace("if (viewer.loaded) done(true); else", "").replace(
            "done(true));", "done(true)); document.querySelector('[data-look=shape]').click();"
        ))  # fmt: skip
        clay = drawn_mesh(tab)
        assert share_of(clay, (200, 40, 40)) == 0
        assert np.ptp(clay[..., 0][clay[..., 3] > 250]) > 30  # shaded
        check_silence(tab)
        tab.show(1300, 900)

    def test_the_slider_moves_and_uncovers_the_photograph(self, tab, tmp_path) -> None:
        opened(tab, write_all(tmp_path, meshes=False)[0])
        box = "document.querySelector('.slider').getBoundingClientRect()"
        tab.run("document.querySelector('.slider').scrollIntoView()")
        left, top, width, height = (
            tab.run(f"{box}.{side}") for side in ("left", "top", "width", "height")
        )

        def across() -> list[str]:
            """Red photograph or blue rendering, left to right, above the handle."""
            tab.photograph(tmp_path / "shot.png")
            shot = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).astype(int)
            row = shot[round(top + height / 4)]
            places = [round(left + width * share) for share in (0.1, 0.3, 0.7, 0.9)]
            return ["photograph" if row[x, 0] > row[x, 2] else "rendering" for x in places]

        assert across() == ["photograph"] * 2 + ["rendering"] * 2
        y = top + height / 3
        start = {"button": "left", "buttons": 1, "clickCount": 1}
        tab.mouse("mousePressed", left + width / 2, y, **start)
        tab.mouse("mouseMoved", left + width * 0.8, y, **start)
        tab.mouse("mouseReleased", left + width * 0.8, y, button="left", clickCount=1)
        assert across() == ["photograph"] * 3 + ["rendering"]
        tab.run("document.querySelector('.slider input').focus()")
        tab.press("Home")
        assert across() == ["rendering"] * 4
        # The other views' dividers moved along.
        values = tab.run("[...document.querySelectorAll('.slider input')].map((i) => i.value)")
        assert set(values) == {"0"} and len(values) == 3
        check_silence(tab)

    def test_views_are_chosen_in_the_strip(self, tab, tmp_path) -> None:
        opened(tab, write_all(tmp_path, meshes=False)[0])
        visible = "[...document.querySelectorAll('[data-panel]')].map((p) => !p.hidden)"
        assert tab.run(visible) == [True, False, False]
        tab.run("document.querySelector('.strip [data-view=\"2\"]').click()")
        assert tab.run(visible) == [False, False, True]
        check_silence(tab)

    def test_cameras_are_drawn_before_and_after(self, tab, tmp_path) -> None:
        opened(tab, write_all(tmp_path, meshes=False)[0])
        shot = "document.getElementById('cameras').toDataURL()"
        after = tab.run(shot)
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(after.split(",")[1]))))
        assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20
        button = "document.querySelector('[data-action=before]')"
        tab.run(f"{button}.click()")
        assert tab.run(f"{button}.getAttribute('aria-pressed')") == "true"
        assert tab.run(shot) != after
        tab.run(f"{button}.click()")
        assert tab.run(shot) == after
        check_silence(tab)

    def test_curves_are_drawn_and_tell_their_values(self, tab, tmp_path) -> None:
        opened(tab, write_all(tmp_path, meshes=False)[0])
        assert tab.run("[...document.querySelectorAll('.plot')].map((plot) => "
                       "plot.querySelectorAll('path.curve').length)") == [2, 1]  # fmt: skip
        tab.run("document.querySelector('.plot svg').scrollIntoView({ block: 'center' })")
        box = "document.querySelector('.plot svg').getBoundingClientRect()"
        right, top = tab.run(f"{box}.right"), tab.run(f"{box}.top")
        tab.mouse("mouseMoved", right - 21, top + 60)
        reading = "document.querySelector('.reading').innerText"
        assert re.split(r"\s+", tab.run(reading)) == [
            "step", "500", "weighted", "total", "0.1", "rgb", "0.05",
        ]  # fmt: skip
        tab.run("document.querySelector('[data-axis=minutes]').click()")
        tab.mouse("mouseMoved", right - 22, top + 60)
        assert tab.run(reading).startswith("1.667 min")
        tab.mouse("mouseMoved", 1, 1)
        assert tab.run("getComputedStyle(document.querySelector('.reading')).display") == "none"
        check_silence(tab)

    def test_a_collection_is_sorted_and_its_meshes_chosen(self, tab, tmp_path) -> None:
        opened(tab, write_all(tmp_path)[1])
        orders = "[...document.querySelectorAll('.sortable tbody tr')].map((r) => r.dataset.view)"
        assert tab.run(orders) == ["0", "1", "2", "3"]
        heading = "[...document.querySelectorAll('.sortable th button')].find((b) => " \
            "b.textContent.startsWith('Volumetric'))"  # fmt: skip
        tab.run(f"{heading}.click()")
        assert tab.run(orders) == ["0", "1", "3", "2"]
        assert share_of(drawn_mesh(tab), (200, 40, 40)) > 0.1
        tab.run(LOADED.replace("if (viewer.loaded) done(true); else", "").replace(
            "done(true));", "done(true)); document.querySelector('[data-mesh=\"1\"]').click();"
        ))  # fmt: skip
        assert share_of(drawn_mesh(tab), (40, 40, 200)) > 0.1
        check_silence(tab)

    @pytest.mark.parametrize("width, scheme", [(390, "light"), (1300, "dark")])
    def test_no_page_is_wider_than_its_window(self, tab, tmp_path, width, scheme) -> None:
        tab.show(width, 900, scheme)
        for path in write_all(tmp_path, "a-long-name-without-any-blank" * 3, meshes=False):
            opened(tab, path)
            assert tab.run("document.documentElement.scrollWidth") <= width
            check_silence(tab)
        tab.show(1300, 900)
