"""Series of pictures on disk, and the scripts that draw them along camera paths and over time."""

import json
import shutil
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from common.data.exr import read_exr
from common.errors import UserError
from common.films.film import FORMATS, Film, Written, captioned, save_images, save_pictures
from common.films.time_lapse import KeptState, kept_states, spread
from common.rendering.picture import Picture, depth_panel, depth_range
from common.training.run_folder import RunFolder, load_checkpoint, save_checkpoint
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import tiny_idr_settings
from tests.make_run import SCENE, Outcome, merged, run_script, tiny_settings, write_settings

SIZE = (6, 8)
# So slow that the field stays about the ball it starts as.
STILL = {"model": {"hidden": 64}, "training": {"learning_rate": 1e-6}}


def picture(colour: tuple[float, float, float], depth: float) -> Picture:
    """The left half is object: of one colour, facing +z, as far as said."""
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[:, :4] = True
    colours = torch.where(mask[..., None], torch.tensor(colour), 1.0)
    normal = torch.where(mask[..., None], torch.tensor([0.0, 0.0, 1.0]), 0.0)
    return Picture(colours, normal, torch.full(SIZE, depth).where(mask, torch.inf), mask)


def frames_of(path: Path) -> np.ndarray:
    options = {"plugin": "FFMPEG"} if path.suffix == ".mp4" else {}
    return imageio.imread(path, index=None, **options)[..., :3]  # type: ignore[arg-type]


class TestSeries:
    def test_kinds_beside_one_another_in_the_order_named(self, tmp_path) -> None:
        film = Film(kinds=("normal", "colour", "mask"), beside=True)
        (written,) = save_pictures(tmp_path, [picture((1, 0, 0), 2)], film)
        assert written == Written(tmp_path / "normal_colour_mask", 1, 24, 6, None)
        row = imageio.imread(tmp_path / "normal_colour_mask/0000.png")[0]
        expected = [[128, 128, 255], [255] * 3, [255, 0, 0], [255] * 3, [255] * 3, [0] * 3]
        assert row[::4].tolist() == expected and row[3::4].tolist() == expected

    def test_greys_of_depth_mean_the_same_in_all_pictures(self, tmp_path) -> None:
        series = [picture((0, 0, 0), depth) for depth in (2.0, 3.0, 4.0)]
        save_pictures(tmp_path, series, Film(kinds=("depth",)))
        greys = [imageio.imread(tmp_path / f"depth/{n:04d}.png")[0, 0, 0] for n in range(3)]
        assert greys == [round(255 * shade) for shade in (0.9, 0.55, 0.2)]

    def test_nothing_to_see_is_white(self) -> None:
        empty = torch.full(SIZE, torch.inf)
        assert depth_range([empty]) == (0, 1)
        assert (depth_panel(empty, (0.0, 1.0)) == 255).all()

    @pytest.mark.parametrize("film_format", ["gif", "mp4"])
    def test_a_film_plays_its_frames_in_order_at_its_speed(self, tmp_path, film_format) -> None:
        colours = [(0.2, 0.4, 0.8), (0.8, 0.2, 0.4), (0.4, 0.8, 0.2)] * 2
        images = [np.full((32, 48, 3), np.multiply(c, 255), np.uint8) for c in colours]
        written = save_images(tmp_path, "film", images, Film(film_format, per_second=10))
        path = tmp_path / f"film.{film_format}"
        assert written == Written(path, 6, 48, 32, 0.6)
        # Video keeps colour at half the resolution and rounds it; a palette of 256 is closer.
        np.testing.assert_allclose(frames_of(path), images, atol=8)
        if film_format == "gif":
            assert imageio.immeta(path)["duration"] == 100
        else:
            assert imageio.immeta(path, plugin="FFMPEG")["fps"] == 10

    def test_odd_sides_lose_a_row_in_a_video_alone(self, tmp_path) -> None:
        images = [np.zeros((33, 47, 3), np.uint8)] * 2
        sizes = {f: save_images(tmp_path, "f", images, Film(f)) for f in FORMATS}
        assert {f: (w.height, w.width) for f, w in sizes.items()} == {
            "png": (33, 47), "gif": (33, 47), "mp4": (32, 46),
        }  # fmt: skip
        assert frames_of(tmp_path / "f.mp4").shape == (2, 32, 46, 3)

    def test_frames_alike_are_all_there_in_a_gif(self, tmp_path) -> None:
        """Pillow joins equal frames; the film must last as long all the same."""
        images = [np.full((8, 8, 3), grey, np.uint8) for grey in (0, 0, 0, 200)]
        save_images(tmp_path, "f", images, Film("gif"))
        lengths = [imageio.immeta(tmp_path / "f.gif", index=n)["duration"] for n in range(2)]
        assert sum(lengths) == 160

    def test_a_gif_has_one_palette(self, tmp_path) -> None:
        """What changes elsewhere in the picture leaves the rest as it is: it does not flicker."""
        rng = np.random.default_rng(0)
        images = [np.zeros((48, 64, 3), np.uint8) for _ in range(4)]
        above = rng.integers(0, 256, size=(24, 64, 3))
        for number, image in enumerate(images):
            image[:24] = above
            image[24:] = rng.integers(0, 1 + 80 * number, size=(24, 64, 3))
        save_images(tmp_path, "f", images, Film("gif"))
        # Dithering runs from top to bottom, so nothing below can be felt above.
        assert np.ptp(frames_of(tmp_path / "f.gif")[:, :24].astype(int), axis=0).max() == 0

    def test_an_earlier_longer_series_leaves_no_picture(self, tmp_path) -> None:
        for count in (4, 2):
            save_images(tmp_path, "a", [np.zeros((4, 4, 3), np.uint8)] * count, Film())
        assert len(list((tmp_path / "a").iterdir())) == 2

    def test_float_depth_is_among_what_was_written(self, tmp_path) -> None:
        written = save_pictures(
            tmp_path, [picture((0, 0, 0), 2.5)] * 3, Film(kinds=("colour",)), float_depth=True
        )
        assert [(one.path.name, one.frames) for one in written] == [
            ("colour", 3), ("float_depth", 3),
        ]  # fmt: skip
        depth = read_exr(tmp_path / "float_depth/0002.exr")
        assert (depth[:, :4] == 2.5).all() and np.isinf(depth[:, 4:]).all()

    def test_captions_are_in_the_lower_left_corner(self) -> None:
        image = np.full((90, 160, 3), 128, np.uint8)
        one, other = captioned(image, "step 1"), captioned(image, "step 20")
        for new in (one, other):
            changed = (new != image).any(axis=-1)
            y, x = changed.nonzero()
            assert y.min() > 70 and x.max() < 80
            assert new[changed].min() < 100 < 250 < new[changed].max()
        assert (one != other).any()


class TestStates:
    def states(self, *steps: int) -> list[KeptState]:
        return [KeptState(Path(f"{step}.pt"), step, 1.5 * step) for step in steps]

    def test_frames_share_the_states_evenly(self) -> None:
        states = self.states(0, 10, 20)
        assert [state.step for state in spread(states, 6)] == [0, 0, 10, 10, 20, 20]
        assert [state.step for state in spread(states, 3)] == [0, 10, 20]

    @pytest.mark.parametrize("frames", range(1, 12))
    def test_the_last_is_shown_last_and_order_is_kept(self, frames) -> None:
        steps = [state.step for state in spread(self.states(*range(5)), frames)]
        assert len(steps) == frames and steps[-1] == 4 and steps == sorted(steps)
        if frames >= 5:
            counts = [steps.count(step) for step in range(5)]
            assert min(counts) >= 1 and max(counts) - min(counts) <= 1

    def test_caption(self) -> None:
        assert KeptState(Path("a"), 12_500, 125.4).caption == "step 12,500  2:05"


def add_states(run: Path, *steps: int) -> None:
    """Checkpoints as if of other steps, each with its weights further off."""
    for step in steps:
        state = load_checkpoint(run / "checkpoints/latest.pt")
        moved = {
            name: value * (1 + 0.01 * step) if value.is_floating_point() else value
            for name, value in state["model"].items()
        }
        path = run / f"checkpoints/some_{step}.pt"
        save_checkpoint(path, state | {"step": step, "seconds": float(step), "model": moved})


def trained(root: Path, settings: dict) -> Path:
    outcome = run_script("train", write_settings(root / "c.yaml", settings))
    assert outcome.code == 0, outcome.err
    return root / "run"


@pytest.fixture(scope="module")
def scene_learnt(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("idr")
    data = write_tiny_scene(root / "ball", views=8)
    return trained(root, tiny_idr_settings(data, root / "run"))


@pytest.fixture(scope="module")
def collection_learnt(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("dvr")
    data = write_tiny_collection(root / "data")
    return trained(root, merged(tiny_settings(data, root / "run"), STILL))


@pytest.fixture(scope="module")
def views_learnt(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("views")
    data = write_tiny_scene(root / "scene", views=8)
    return trained(root, merged(merged(tiny_settings(data, root / "run"), SCENE), STILL))


@pytest.fixture(params=["scene_learnt", "collection_learnt", "views_learnt"])
def run(request, tmp_path) -> Path:
    """A run of IDR, of DVR on a collection, or of DVR on one scene."""
    return Path(shutil.copytree(request.getfixturevalue(request.param), tmp_path / "run"))


@pytest.fixture
def scene_run(scene_learnt, tmp_path) -> Path:
    return Path(shutil.copytree(scene_learnt, tmp_path / "run"))


def written(outcome: Outcome) -> list[dict]:
    """What --json says; standard output holds nothing else."""
    assert outcome.code == 0, outcome.err
    assert "\r" not in outcome.err
    answer = json.loads(outcome.out)
    assert answer["drawn_in"] > 0
    for one in answer["written"]:
        path = Path(one["path"])
        shape = (one["frames"], one["height"], one["width"], 3)
        found = frames_of(path) if path.is_file() else [*map(imageio.imread, path.iterdir())]
        assert np.shape(found) == shape
    return answer["written"]


class TestRender:
    @pytest.mark.parametrize("path", ["cameras", "spiral"])
    def test_a_film_along_a_path_of_every_kind_of_run(self, run, tmp_path, path) -> None:
        options = ["--path", path, "--frames", "3", "--beside", "colour,normal,depth", "--json"]
        more = ["--format", "gif", "--size", "16", "--per-second", "10", "--out", tmp_path / "out"]
        films = written(run_script("render", run, *options, *more))
        assert {(film["width"], film["height"], film["seconds"]) for film in films} == {
            (48, 16, 0.3)
        }
        objects = [Path(film["path"]).relative_to(tmp_path / "out").parent for film in films]
        assert Path(films[0]["path"]).name == f"{path}_colour_normal_depth.gif"
        assert len(set(objects)) == len(films)

    def test_series_of_several_kinds_stand_side_by_side(self, scene_run) -> None:
        for options in (
            ["--views", "1"], ["--views", "1", "--training-views"], ["--orbit", "1"],
            ["--path", "cameras", "--frames", "1", "--float-depth"],
            ["--time-lapse", "--path", "orbit", "--frames", "1"],
        ):  # fmt: skip
            assert run_script("render", scene_run, *options, "--kinds", "mask").code == 0
        (folder,) = (scene_run / "renders").iterdir()
        assert {path.name for path in folder.iterdir()} == {
            "mask", "training_mask", "orbit_mask", "cameras_mask", "cameras_float_depth",
            "time_lapse_orbit_mask",
        }  # fmt: skip

    def test_objects_of_a_collection_have_a_film_each(self, collection_learnt, tmp_path) -> None:
        options = ["--orbit", "2", "--kinds", "mask", "--size", "8", "--objects", "2", "--json"]
        outcome = run_script("render", collection_learnt, *options, "--out", tmp_path)
        folders = [Path(one["path"]).relative_to(tmp_path) for one in written(outcome)]
        assert folders == [Path("chair/sphere_0/orbit_mask"), Path("chair/sphere_1/orbit_mask")]

    def test_a_time_lapse_shows_every_state_in_turn(self, run, tmp_path) -> None:
        add_states(run, 1, 90)
        options = ["--time-lapse", "--kinds", "colour", "--size", "64", "--out", tmp_path]
        films = written(run_script("render", run, *options, "--json"))
        for film in films:
            assert film["frames"] == len(kept_states(RunFolder(run))) == 4
            first, last = (
                imageio.imread(Path(film["path"]) / f"{n:04d}.png").astype(float) for n in (0, 3)
            )
            # Captions are in the lower corner; above it, weights 1.9 times as large look different.
            assert np.abs(first - last)[:44].max() > 5

    def test_a_time_lapse_may_turn_around(self, scene_run, tmp_path) -> None:
        add_states(scene_run, 1)
        options = ["--time-lapse", "--path", "orbit", "--frames", "4", "--format", "mp4"]
        more = ["--kinds", "normal", "--out", tmp_path, "--json"]
        (film,) = written(run_script("render", scene_run, *options, *more))
        assert (film["frames"], film["seconds"]) == (4, 4 / 25)

    def test_states_of_the_same_step_are_one(self, scene_run) -> None:
        add_states(scene_run, 7)
        shutil.copy(scene_run / "checkpoints/some_7.pt", scene_run / "checkpoints/again.pt")
        assert [state.step for state in kept_states(RunFolder(scene_run))] == [0, 2, 7]

    def test_one_state_is_no_film(self, scene_run) -> None:
        (scene_run / "checkpoints/step_0.pt").unlink()
        with pytest.raises(UserError, match="holds 1 states.*needs two"):
            kept_states(RunFolder(scene_run))

    def test_a_contact_sheet_is_written_too(self, scene_run) -> None:
        (sheet,) = json.loads(run_script("render", scene_run, "--contact-sheet", "--json").out)[
            "written"
        ]
        assert imageio.imread(sheet["path"]).shape == (sheet["height"], sheet["width"], 3)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--frames", "3"], "--frames: is the length of a camera path; add --path"),
            (["--path", "orbit", "--views", "2"], "--views: a path leads through cameras of its"),
            (["--path", "orbit", "--orbit", "2"], "--path: --orbit says it already"),
            (["--time-lapse", "--views", "2"], "--views: a time-lapse is seen from --first-view"),
            (["--contact-sheet", "--path", "orbit"], "--path: a contact sheet is one picture"),
            (["--first-view", "9"], "--first-view 9: choose one of the 3 views, 0 to 2"),
            (["--beside", "colour,albedo"], "expected different ones of colour,normal,depth,mask"),
            (["--beside", "mask,mask"], "expected different ones"),
            (["--beside", "mask", "--kinds", "mask"], "not allowed with argument"),
        ],
    )
    def test_what_does_not_fit_together_is_said(self, scene_learnt, options, said) -> None:
        outcome = run_script("render", scene_learnt, *options)
        assert outcome.code == 2 and said in outcome.err
        assert "Traceback" not in outcome.err


class TestTransfer:
    @pytest.mark.parametrize("path", ["orbit", "cameras", "spiral"])
    def test_every_path_leads_around_the_shape_of_the_one(self, scene_learnt, tmp_path, path):
        options = ["--path", path, "--frames", "2", "--size", "12", "--format", "gif", "--json"]
        more = ["--beside", "colour,normal"]
        outcome = run_script(
            "transfer_appearance", scene_learnt, scene_learnt, tmp_path, *options, *more
        )
        assert [Path(one["path"]).name for one in written(outcome)] == [
            f"{path}_colour_normal", f"{path}_colour_normal.gif",
        ]  # fmt: skip
