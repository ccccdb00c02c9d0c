"""The live viewer: pictures of analytic surfaces, checkpoints followed, and a window served."""

import io
import math
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.cameras import Cameras, Rays, look_at
from common.config import validate
from common.training.processes import Process
from common.training.run_folder import RunFolder, load_checkpoint, save_checkpoint
from common.viewing.drawing import TILE, draw, finer, pinhole, size_within
from common.viewing.following import Following
from common.viewing.run_view import LearntRun, RunView
from dvr import viewing as dvr_viewing
from dvr.config import DVRConfig
from dvr.data import Objects
from dvr.experiment import load_run
from dvr.experiment import train_experiment as train_dvr
from dvr.pictures import object_condition
from dvr.pictures import render_view as dvr_render_view
from idr import viewing as idr_viewing
from idr.config import IDRConfig
from idr.experiment import train_experiment as train_idr
from idr.pictures import render_view as idr_render_view
from tests.make_collection import write_tiny_collection, write_tiny_scene
from tests.make_idr import (
    OneColour,
    ViewColour,
    known_experiment,
    nothing,
    sphere,
    tiny_idr_settings,
)
from tests.make_run import PICTURES, SCENE, merged, run_script, tiny_settings

CPU = torch.device("cpu")
ALONE = Process(0, 1, CPU)
# So slow that the field stays about the ball it starts as, of radius 0.3.
STILL = {"model": {"hidden": 64}, "training": {"learning_rate": 1e-6}}
UP = torch.tensor([0.0, 0.0, 1.0])


def camera_at(distance: float, size: tuple[int, int] = (48, 64)) -> Cameras:
    """On the x axis, looking at the origin."""
    centre = torch.tensor([[distance, 0.0, 0.0]])
    return pinhole(look_at(centre, torch.zeros(1, 3), UP)[0], math.radians(40), size)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    return write_tiny_scene(tmp_path_factory.mktemp("data") / "ball")


@pytest.fixture(scope="module")
def idr_run(scene, tmp_path_factory) -> RunFolder:
    path = tmp_path_factory.mktemp("idr") / "run"
    train_idr(validate(IDRConfig, tiny_idr_settings(scene, path), "test"), ALONE)
    return RunFolder(path)


@pytest.fixture(scope="module")
def collection_run(tmp_path_factory) -> RunFolder:
    root = tmp_path_factory.mktemp("dvr")
    settings = tiny_settings(write_tiny_collection(root / "data"), root / "run")
    train_dvr(validate(DVRConfig, merged(merged(settings, PICTURES), STILL), "test"), ALONE)
    return RunFolder(root / "run")


class TestScene:
    """IDR's view of a sphere of radius 0.5 whose colour tells the direction it is seen from."""

    def test_every_mode_of_the_middle_pixel(self, scene) -> None:
        view = idr_viewing.scene_view(known_experiment(scene, sphere(0.5), ViewColour()))
        assert view.modes == ("colour", "normal", "depth", "view direction")
        for mode, expected in (
            ("colour", (255, 128, 128)),  # seen from +x
            ("normal", (255, 128, 128)),
            ("view direction", (128, 128, 128)),  # from straight above: nothing is added
        ):
            drawing = draw(view, camera_at(3.0), (25, 33), mode)
            assert drawing.image.shape == (25, 33, 3)
            assert np.abs(drawing.image[12, 16].astype(int) - expected).max() <= 1
            assert drawing.depth[12, 16] == pytest.approx(2.5, abs=1e-3)
            assert (drawing.image[0, 0] == 255).all() and np.isinf(drawing.depth[0, 0])

    def test_depth_is_light_where_it_is_near(self, scene) -> None:
        view = idr_viewing.scene_view(known_experiment(scene, sphere(0.5)))
        drawing = draw(view, camera_at(3.0), (25, 33), "depth")
        found = np.isfinite(drawing.depth)
        assert drawing.image[12, 16, 0] == drawing.image[found].max() > drawing.image[found].min()

    def test_the_view_direction_is_what_it_adds_to_the_view_from_above(self, scene) -> None:
        """(view + 1) / 2 less (normal + 1) / 2, doubled around one half."""
        view = idr_viewing.scene_view(known_experiment(scene, sphere(0.5), ViewColour()))
        points = torch.tensor([[0.5, 0.0, 0.0]])
        to_camera = torch.tensor([[0.6, 0.8, 0.0]])
        added = view.paint(points, to_camera, "view direction")
        assert torch.allclose(added, torch.tensor([[0.1, 1.3, 0.5]]), atol=1e-5)

    def test_an_appearance_without_direction_has_no_such_mode(self, scene) -> None:
        settings = {"model": {"appearance": {"view": "none"}}}
        view = idr_viewing.scene_view(known_experiment(scene, sphere(0.5), **settings))
        assert view.modes == ("colour", "normal", "depth")
        with pytest.raises(ValueError, match="'view direction': this run has colour, normal"):
            draw(view, camera_at(3.0), (8, 8), "view direction")

    def test_pictures_are_those_of_render_py(self, scene) -> None:
        """Of more rays than a tile."""
        one = {"rendering": {"samples": 1}}
        experiment = known_experiment(scene, sphere(0.5), ViewColour(), **one)
        size = (60, 80)
        assert size[0] * size[1] > TILE
        drawing = draw(idr_viewing.scene_view(experiment), camera_at(3.0), size, "colour")
        cache, _ = experiment.model.cached(32)
        picture = idr_render_view(experiment.model, cache, camera_at(3.0).resized(*size), 0)
        colour = (picture.colour * 255).round().to(torch.uint8).numpy()
        # Rounding of a batch of another size may move a value to the next whole number.
        assert np.abs(drawing.image.astype(int) - colour).max() <= 1
        assert (np.isfinite(drawing.depth) == picture.mask.numpy()).all()

    def test_no_surface_is_a_white_picture(self, scene) -> None:
        view = idr_viewing.scene_view(known_experiment(scene, nothing(), OneColour(0, 0, 0)))
        for mode in view.modes:
            assert (draw(view, camera_at(3.0), (6, 8), mode).image == 255).all()

    def test_photographs_are_named_and_the_held_out_ones_told(self, scene) -> None:
        photographs = idr_viewing.scene_view(known_experiment(scene, sphere(0.5))).photographs
        assert photographs.held_out == (True, True, False, False, False, False)
        assert len(photographs.names) == len(photographs.cameras) == 6
        assert all(picture.shape == (24, 24, 3) for picture in photographs.thumbnails)

    def test_a_picture_nobody_waits_for_is_given_up_between_tiles(self, scene) -> None:
        view = idr_viewing.scene_view(known_experiment(scene, sphere(0.5)))
        answers = iter([False, True])
        assert draw(view, camera_at(3.0), (80, 100), "depth", lambda: next(answers)) is None
        assert next(answers, None) is None


class TestObjects:
    """DVR's view: fields of any steepness, not distances."""

    @pytest.mark.parametrize("slope", [1.0, 10.0, 300.0])
    def test_a_ball_of_logits_is_found_at_its_exact_distance(self, slope) -> None:
        find = dvr_viewing.surface_finder(lambda p: slope * (p.norm(dim=-1) - 0.3), CPU)
        generator = torch.Generator().manual_seed(0)
        origin = torch.nn.functional.normalize(torch.randn(500, 3, generator=generator), dim=-1)
        aim = 0.8 * (torch.rand(500, 3, generator=generator) - 0.5)
        rays = Rays(2 * origin, torch.nn.functional.normalize(aim - 2 * origin, dim=-1))
        middle = -(rays.origin * rays.direction).sum(dim=-1)
        nearest = rays.at(middle).norm(dim=-1)
        half = (0.3**2 - nearest.square()).clamp_min(0).sqrt()
        exact = torch.where(nearest < 0.3, middle - half, torch.inf)
        clear = half > 0.05  # not grazing, where a tolerance in value is a large one in depth
        assert clear.sum() > 200 and (nearest > 0.3).any()
        found = find(rays)
        assert (found.isfinite() == exact.isfinite())[clear | (nearest > 0.3)].all()
        # A value below CARE's tolerance, over the slope along a ray at this obliquity.
        assert (found - exact)[clear].abs().max() < 5e-4 * 0.3 / 0.05

    def test_what_fills_the_cube_is_seen_at_its_side(self) -> None:
        find = dvr_viewing.surface_finder(lambda p: p[:, 0] - 9, CPU)
        rays = Rays(torch.tensor([[2.0, 0, 0]]), torch.tensor([[-1.0, 0, 0]]))
        assert find(rays) == pytest.approx(1.5)

    @pytest.mark.parametrize("value", [0.0, 4.0])
    def test_nothing_in_the_cube_is_missed_by_every_ray(self, value) -> None:
        find = dvr_viewing.surface_finder(lambda p: p[:, 0] * 0 + value + 1e-3, CPU)
        rays = Rays(torch.tensor([[2.0, 0, 0]]), torch.tensor([[-1.0, 0, 0]]))
        assert find(rays).isinf().all()

    def test_a_collection_offers_objects_and_their_input_pictures(self, collection_run) -> None:
        learnt = dvr_viewing.learnt_run(collection_run, CPU, "latest")
        assert len(learnt.objects) > 1 and learnt.step == 4
        inputs = learnt.inputs(1)
        assert len(inputs) > 1 and all(picture.shape == (64, 64, 3) for picture in inputs)
        view = learnt.view(1, 1)
        assert view.modes == ("colour", "normal", "depth")  # the direction changes no colour
        assert not any(view.photographs.held_out)

    def test_pictures_are_those_of_render_py(self, collection_run) -> None:
        """But for outlines, which fall between the march's samples."""
        model, config, _ = load_run(collection_run, CPU, "latest")
        objects = Objects(config, config.data.test_split, held_out=True)
        condition = object_condition(model, objects, 0, CPU)
        picture = dvr_render_view(model, condition, camera_at(2.0), 0)
        view = dvr_viewing.learnt_run(collection_run, CPU, "latest").view(0, 0)
        drawing = draw(view, camera_at(2.0), (48, 64), "colour")
        found = np.isfinite(drawing.depth)
        both = found & picture.mask.numpy()
        assert both.sum() > 100 and (found != picture.mask.numpy()).mean() < 0.005
        colour = 255 * picture.colour.detach().numpy()
        assert np.median(np.abs(drawing.image - colour)[both]) < 1
        # Where rays graze the surface, a little in value is much in depth.
        difference = np.abs(drawing.depth[both] - picture.depth.numpy()[both])
        assert np.quantile(difference, 0.9) < 2e-3

    def test_a_scene_has_no_inputs_but_views_held_out(self, scene, tmp_path) -> None:
        settings = merged(tiny_settings(scene, tmp_path / "run"), SCENE)
        settings = merged(settings, {"model": {"colour": False}, "losses": {"rgb": 0}})
        train_dvr(validate(DVRConfig, settings, "test"), ALONE)
        learnt = dvr_viewing.learnt_run(RunFolder(tmp_path / "run"), CPU, "latest")
        assert list(learnt.inputs(0)) == []
        view = learnt.view(0, 0)
        assert view.modes == ("normal", "depth")
        assert view.photographs.held_out == (True, False, False, True, False, False)


class TestSizes:
    """Coarse while moving, then finer and finer."""

    @given(
        st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
        st.integers(1, 10**7),
    )
    def test_a_first_size_is_affordable_and_grows_to_the_finest(self, window, pixels) -> None:
        size = size_within(window, pixels)
        assert size[0] <= window[0] and size[1] <= window[1]
        # Each side may be rounded up by half a pixel, or be the one pixel there must be.
        assert size[0] * size[1] <= pixels + 0.5 * sum(size) + 1 or 1 in size
        for _ in range(12):  # 2^12 > 3000
            size = finer(size, window)
        assert size == window

    @pytest.mark.parametrize("degrees", [10, 75, 150])
    def test_a_window_sees_its_field_of_view_around_its_axis(self, degrees) -> None:
        camera = pinhole(torch.eye(4), math.radians(degrees), (20, 30))
        edge = torch.tensor([[14.5, -0.5], [14.5, 19.5], [14.5, 9.5]])
        up, down, ahead = camera.rays(torch.zeros(3, dtype=torch.long), edge).direction
        angle = math.degrees(math.acos(float(up @ down)))
        assert angle == pytest.approx(degrees, abs=0.01)
        assert torch.allclose(ahead, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6)


def at_step(run: RunFolder, step: int) -> None:
    """Training writes a checkpoint."""
    save_checkpoint(run.latest, {**load_checkpoint(run.latest), "step": step})


@pytest.fixture
def own_run(idr_run, tmp_path) -> RunFolder:
    """A copy to change."""
    shutil.copytree(idr_run.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def follow(run: RunFolder, checkpoint: str = "latest") -> Following:
    return Following(run, checkpoint, partial(idr_viewing.learnt_run, run, CPU, checkpoint))


class TestFollowing:
    """The newest whole checkpoint is shown, whatever happens to the file."""

    def test_a_newer_checkpoint_is_read_once(self, own_run) -> None:
        following = follow(own_run)
        assert following.learnt.step == 2 and not following.refresh()
        at_step(own_run, 7)
        assert following.refresh() and following.learnt.step == 7
        assert not following.refresh()

    def test_half_a_checkpoint_changes_nothing_and_is_told(self, own_run) -> None:
        following = follow(own_run)
        shutil.copy(own_run.latest, own_run.kept(1))  # which would be taken in its place
        content = own_run.latest.read_bytes()
        own_run.latest.write_bytes(content[: len(content) // 2])
        assert not following.refresh() and following.learnt.step == 2
        assert following.trouble is not None and "latest.pt: not a readable" in following.trouble
        own_run.latest.write_bytes(content)
        assert following.refresh() and following.trouble is None

    def test_a_folder_that_is_moved_away_changes_nothing(self, own_run) -> None:
        following = follow(own_run)
        own_run.keep_aside()
        assert not following.refresh() and following.learnt.step == 2

    def test_a_better_checkpoint_is_waited_for_where_the_best_is_asked(self, own_run) -> None:
        following = follow(own_run, "best")
        at_step(own_run, 9)
        assert not following.refresh()
        shutil.copy(own_run.latest, own_run.best)
        assert following.refresh() and following.learnt.step == 9


class TestMistakes:
    """One sentence and exit code 2."""

    def test_without_viser_the_command_that_installs_it(self, idr_run, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "viser", None)
        monkeypatch.delitem(sys.modules, "common.viewing.server", raising=False)
        outcome = run_script("view", idr_run.path)
        assert outcome.code == 2 and outcome.err.count("\n") == 1
        assert "pip install -e '.[view]'" in outcome.err

    @pytest.mark.parametrize("port", ["-1", "65536", "http"])
    def test_a_port_that_is_none(self, port) -> None:
        outcome = run_script("view", "--port", port)
        assert outcome.code == 2 and "expected a number from 0 to 65535" in outcome.err

    def test_runs_that_cannot_be_shown(self, own_run) -> None:
        pytest.importorskip("viser", reason="viser is not installed")
        assert "no such run folder" in run_script("view", own_run.path / "none").err
        own_run.latest.unlink()
        own_run.best.unlink()
        outcome = run_script("view", own_run.path)
        assert outcome.code == 2 and "no such checkpoint" in outcome.err

    def test_a_port_that_is_taken(self, idr_run) -> None:
        pytest.importorskip("viser", reason="viser is not installed")
        with socket.socket() as other:
            other.bind(("localhost", 0))
            other.listen()
            port = other.getsockname()[1]
            outcome = run_script("view", idr_run.path, "--port", port)
        assert outcome.code == 2
        assert f"--port {port}: another program uses it" in outcome.err


PATIENCE = 30  # seconds without a message: it hangs


class Window:
    """A browser's window, as far as the server can tell: viser's messages over its websocket."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.seen: list[dict] = []

    def say(self, kind: str, **fields: Any) -> None:
        import msgspec

        self._connection.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def look_from(self, x: float, y: float, z: float, size: tuple[int, int]) -> None:
        """Towards the origin."""
        from viser.transforms import SO3

        pose = look_at(torch.tensor([[x, y, z]]), torch.zeros(1, 3), UP)[0].double().numpy()
        self.say(
            "ViewerCameraMessage",
            wxyz=SO3.from_matrix(pose[:3, :3]).wxyz.tolist(),
            position=(x, y, z),
            fov=math.radians(40),
            near=0.01,
            far=100.0,
            image_height=size[0],
            image_width=size[1],
            look_at=(0.0, 0.0, 0.0),
            up_direction=UP.tolist(),
        )

    def until(self, wanted: Callable[[dict], bool]) -> dict:
        """The first message, of those that come from now on, that is ``wanted``."""
        while True:
            for message in self._receive():
                self.seen.append(message)
                if wanted(message):
                    return message

    def picture(self, size: tuple[int, int]) -> np.ndarray:
        """The next one of this height and width."""
        message = self.until(lambda one: _size(one) == size)
        return np.asarray(Image.open(io.BytesIO(message["rgb_data"])))

    def control(self, label: str) -> dict:
        return next(one for one in self.seen if one.get("props", {}).get("label") == label)

    def _receive(self) -> list[dict]:
        import msgspec
        import zstandard

        data = self._connection.recv(timeout=PATIENCE)
        length = int.from_bytes(data[8:16], "little")
        content = zstandard.ZstdDecompressor().decompress(data[16 : 16 + length])
        return msgspec.msgpack.decode(content)["messages"]


def _size(message: dict) -> tuple[int, int] | None:
    if message["type"] != "BackgroundImageMessage" or message["rgb_data"] is None:
        return None
    width, height = Image.open(io.BytesIO(message["rgb_data"])).size
    return height, width


@contextmanager
def served(run: RunFolder, load: Callable[[], LearntRun]) -> Iterator[Window]:
    viser = pytest.importorskip("viser", reason="viser is not installed")
    from websockets.sync.client import connect

    from common.viewing.server import Viewer

    viewer = Viewer("test", Following(run, "latest", load), port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    try:
        address = viewer.url.replace("http", "ws")
        with connect(address, subprotocols=[f"viser-v{viser.__version__}"], max_size=None) as line:
            yield Window(line)
    finally:
        viewer.stop()
        thread.join()


def middle(picture: np.ndarray) -> np.ndarray:
    """Its colour, as far as JPEG keeps it."""
    height, width = picture.shape[:2]
    return picture[height // 2, width // 2].astype(int)


class TestServed:
    """What reaches a window."""

    def test_a_scene_in_the_asked_size_and_mode_from_where_the_camera_is(self, own_run) -> None:
        """The untrained surface is a ball: its normal in the middle points to the camera."""
        with served(own_run, partial(idr_viewing.learnt_run, own_run, CPU, "latest")) as window:
            window.look_from(3.0, 0.0, 0.0, (30, 44))
            colour = window.picture((30, 44))
            assert colour.std() > 10  # not blank
            assert len([one for one in window.seen if "Frustum" in one["type"]]) == 6
            show = window.control("show")
            assert show["props"]["options"] == ["colour", "normal", "depth", "view direction"]
            window.say("GuiUpdateMessage", uuid=show["uuid"], updates={"value": "normal"})
            toward_x = window.until(
                lambda one: _size(one) == (30, 44) and _is_near(one, (255, 128, 128))
            )
            assert toward_x["depth_data"] is not None
            window.look_from(0.0, -3.0, 0.0, (36, 36))
            assert np.abs(middle(window.picture((36, 36))) - (128, 0, 128)).max() < 25

    def test_a_large_window_is_refined_and_follows_the_training(self, own_run) -> None:
        with served(own_run, partial(idr_viewing.learnt_run, own_run, CPU, "latest")) as window:
            window.look_from(3.0, 0.0, 0.0, (160, 240))
            window.picture((160, 240))
            sizes = [size for size in map(_size, window.seen) if size]
            assert sizes[0] < sizes[-1] == (160, 240)
            assert sizes[0][0] * sizes[0][1] <= 160 * 120 * 1.02  # rounded to whole pixels
            at_step(own_run, 77)
            window.until(lambda one: "step 77" in str(one))
            assert window.picture((160, 240)).std() > 10

    def test_a_collections_object_and_input_are_chosen(self, collection_run) -> None:
        learnt, asked = dvr_viewing.learnt_run(collection_run, CPU, "latest"), []

        def view(*which: int) -> RunView:
            asked.append(which)
            return learnt.view(*which)

        with served(collection_run, lambda: replace(learnt, view=view)) as window:
            window.look_from(2.0, 0.0, 0.0, (20, 20))
            assert window.picture((20, 20)).std() > 10
            objects, inputs = window.control("object"), window.control("input picture")
            second = objects["props"]["options"][1]
            window.say("GuiUpdateMessage", uuid=objects["uuid"], updates={"value": second})
            window.picture((20, 20))
            window.say("GuiUpdateMessage", uuid=inputs["uuid"], updates={"value": "1"})
            window.picture((20, 20))
        assert asked == [(0, 0), (1, 0), (1, 1)]


def _is_near(message: dict, colour: tuple[int, int, int]) -> bool:
    picture = np.asarray(Image.open(io.BytesIO(message["rgb_data"])))
    return bool(np.abs(middle(picture) - colour).max() < 25)
