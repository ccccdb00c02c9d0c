"""The browser's side of the live viewer, by viser: windows, controls and the photographs' cameras.

Every window has a camera of its own; what is shown and how is the same in all of them.
"""

import errno
import io
import socket
import threading
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float

from common.cameras import Cameras
from common.errors import UserError
from common.pages.viewer import upright_frame
from common.viewing.drawing import Drawing, Size, draw, finer, pinhole, size_within
from common.viewing.following import Following
from common.viewing.run_view import Mode, Photographs

try:
    import viser
    from viser.transforms import SO3
except ImportError as error:
    raise UserError(
        f"the live view needs viser, which is not installed ({error}); "
        "install it with: pip install -e '.[view]'"
    ) from error

HOST = "localhost"  # nobody else's machine looks at a run unasked
LOOK = 1.0  # seconds between looks for a newer checkpoint
FRAME = 0.12  # seconds that a picture should take while the camera moves
FIRST_PIXELS = 160 * 120
FEWEST_PIXELS, MOST_PIXELS = 40 * 30, 320 * 240  # while the camera moves
FINEST_PIXELS = 1280 * 960
FRUSTUM = 0.08  # how far before its camera a photograph stands, of their median distance
TRAINING_COLOUR, HELD_OUT_COLOUR = (90, 90, 90), (220, 120, 20)


@dataclass
class _Window:
    """A browser's window: how often what it should show has changed, and what it shows of it."""

    client: viser.ClientHandle
    changes: int = 0
    shown: Size | None = None  # None: nothing since the last change
    turn: int = 0  # of all pictures drawn, the number of its last one


class Viewer:
    """A server that shows what ``following`` has learnt, until it is stopped.

    Raises UserError where the port cannot be had; port 0 takes any that is free.
    """

    def __init__(self, title: str, following: Following, port: int) -> None:
        _check_port(port)
        with redirect_stdout(io.StringIO()):  # viser greets with a table of its own
            self._server = viser.ViserServer(HOST, port, label=title, verbose=False)
        self.url = f"http://{HOST}:{self._server.get_port()}"
        self._following = following
        self._changed = threading.Condition()
        self._stopping, self._chosen_anew = False, False
        self._windows: dict[int, _Window] = {}
        self._turn, self._pixels = 0, FIRST_PIXELS
        self._frusta: list[viser.CameraFrustumHandle] = []
        self._make_controls()
        self._show_chosen()
        _start_at(self._server, self._view.photographs.cameras)
        self._server.on_client_connect(self._connect)
        self._server.on_client_disconnect(self._disconnect)

    def stop(self) -> None:
        """Let ``run`` return; from any thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        """Draw what the windows need, coarsest first, and look for newer checkpoints."""
        try:
            while not self._stopping:
                if self._following.refresh():
                    self._chosen_anew = True
                self._say()
                if self._chosen_anew:
                    self._show_chosen()
                with self._changed:
                    window = self._neediest()
                    if window is None and not (self._stopping or self._chosen_anew):
                        self._changed.wait(LOOK)
                if window is not None:
                    self._draw(window)
        finally:
            self._server.stop()

    def _make_controls(self) -> None:
        gui, learnt = self._server.gui, self._following.learnt
        gui.configure_theme(show_share_button=False, show_logo=False)
        self._status = gui.add_markdown("")
        self._mode = gui.add_dropdown("show", get_args(Mode))
        self._object = gui.add_dropdown("object", learnt.objects, visible=len(learnt.objects) > 1)
        self._input = gui.add_dropdown("input picture", ["0"], visible=False)
        self._input_picture = gui.add_image(np.zeros((1, 1, 3), np.uint8), visible=False)
        cameras = gui.add_checkbox("cameras", True)
        self._root = self._server.scene.add_frame("/cameras", show_axes=False)
        self._mode.on_update(lambda _: self._restart())
        self._object.on_update(lambda _: self._choose())
        self._input.on_update(lambda _: self._choose())
        cameras.on_update(lambda _: setattr(self._root, "visible", cameras.value))

    def _choose(self) -> None:
        with self._changed:
            self._chosen_anew = True
            self._changed.notify()

    def _say(self) -> None:
        """The step that is shown, and why it is not a newer one."""
        trouble = self._following.trouble
        words = f"step {self._following.learnt.step}" + (f"\n\n{trouble}" if trouble else "")
        if self._status.content != words:
            self._status.content = words

    def _show_chosen(self) -> None:
        """Prepare the chosen object of the newest checkpoint, as seen in the chosen input."""
        self._chosen_anew = False
        learnt = self._following.learnt
        if self._object.options != learnt.objects:  # a new run in the same folder
            self._object.options = learnt.objects
        index = learnt.objects.index(self._object.value)
        inputs = learnt.inputs(index)
        options = tuple(str(number) for number in range(max(len(inputs), 1)))
        if self._input.options != options:
            self._input.options = options
        picture = int(self._input.value)
        self._input.visible, self._input_picture.visible = len(inputs) > 1, len(inputs) > 0
        if inputs:
            self._input_picture.image = inputs[picture]
        self._view = learnt.view(index, picture)
        if self._mode.options != self._view.modes:
            self._mode.options = self._view.modes
        self._show_cameras(self._view.photographs)
        self._restart()

    def _show_cameras(self, photographs: Photographs) -> None:
        """Frusta with the photographs; a click takes the window there."""
        for frustum in self._frusta:
            frustum.remove()
        self._frusta = []
        cameras = photographs.cameras
        poses = cameras.object_from_camera.detach().cpu().double().numpy()
        depth = FRUSTUM * float(np.median(np.linalg.norm(poses[:, :3, 3], axis=1)))
        for index, (name, picture, held_out) in enumerate(
            zip(photographs.names, photographs.thumbnails, photographs.held_out, strict=True)
        ):
            fov, aspect = _field_of_view(cameras, index), cameras.width / cameras.height
            # viser's scale is the cube root of a frustum's volume, without the factor 4.
            scale = depth * float(np.cbrt(np.tan(fov / 2) ** 2 * aspect / 3))
            frustum = self._server.scene.add_camera_frustum(
                f"/cameras/{index}: {name.replace('/', '_')}",
                fov=fov,
                aspect=aspect,
                scale=scale,
                thickness=0.005 * depth,
                color=HELD_OUT_COLOUR if held_out else TRAINING_COLOUR,
                image=picture,
                wxyz=SO3.from_matrix(poses[index, :3, :3]).wxyz,
                position=poses[index, :3, 3],
            )
            frustum.on_click(lambda event: _go_to(event.client, event.target))
            self._frusta.append(frustum)

    def _connect(self, client: viser.ClientHandle) -> None:
        client.camera.on_update(lambda _: self._restart(client.client_id))
        with self._changed:
            self._windows[client.client_id] = _Window(client)
            self._changed.notify()

    def _disconnect(self, client: viser.ClientHandle) -> None:
        with self._changed:
            self._windows.pop(client.client_id, None)

    def _restart(self, only: int | None = None) -> None:
        """What all windows show, or ``only`` one, is no longer what they should."""
        with self._changed:
            for number, window in self._windows.items():
                if only is None or number == only:
                    window.changes += 1
                    window.shown = None
            self._changed.notify()

    def _neediest(self) -> _Window | None:
        """Of the windows that are not finished the coarsest, and of equal ones the longest idle."""
        unfinished = [
            window for window in self._windows.values() if window.shown != _finest(window)
        ]
        return min(unfinished, key=lambda one: (one.shown or (0, 0), one.turn), default=None)

    def _draw(self, window: _Window) -> None:
        """The next finer picture of a window; given up where any window has nothing at all."""
        changes, finest, refines = window.changes, _finest(window), window.shown is not None
        size = finer(window.shown, finest) if window.shown else size_within(finest, self._pixels)
        started = time.perf_counter()
        drawing = draw(
            self._view, _camera(window.client), size, self._mode.value,
            lambda: refines and self._somebody_waits(),
        )  # fmt: skip
        if drawing is None:
            return
        if not refines:
            affordable = FRAME * size[0] * size[1] / (time.perf_counter() - started)
            mean = round((self._pixels + affordable) / 2)
            self._pixels = min(max(mean, FEWEST_PIXELS), MOST_PIXELS)
        _send(window.client, drawing)
        with self._changed:
            self._turn += 1
            window.turn = self._turn
            # The camera may have moved meanwhile: then this is a picture of yesterday.
            window.shown = size if window.changes == changes else None

    def _somebody_waits(self) -> bool:
        with self._changed:
            waiting = any(window.shown is None for window in self._windows.values())
            return waiting or self._chosen_anew or self._stopping


def _check_port(port: int) -> None:
    """UserError where the port is taken: viser would silently take the next one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((HOST, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "another program uses it" if taken else error.strerror
            raise UserError(
                f"--port {port}: {why}; choose another one, or 0 for any that is free"
            ) from error


def _start_at(server: viser.ViserServer, cameras: Cameras) -> None:
    """Let windows open as the first camera sees the object, and turn about the photographers' up.

    From nearer, at a wider angle: between the object and the pictures that stand around it.
    """
    poses = cameras.object_from_camera.detach().cpu().double().numpy()
    centre, target = poses[0, :3, 3], _orbit_centre(poses[0, :3, 3], poses[0, :3, 2])
    up = upright_frame(poses, np.zeros(3), 1.0)[2, :3]
    server.scene.set_up_direction(tuple(up))
    start, nearer = server.initial_camera, 1 - 2 * FRUSTUM
    start.position, start.look_at, start.up = target + nearer * (centre - target), target, up
    start.fov = 2 * float(np.arctan(np.tan(_field_of_view(cameras, 0) / 2) / nearer))


def _go_to(client: viser.ClientHandle | None, frustum: viser.CameraFrustumHandle) -> None:
    if client is None:
        return
    with client.atomic():
        client.camera.position = frustum.position
        client.camera.look_at = _orbit_centre(frustum.position, SO3(frustum.wxyz).as_matrix()[:, 2])
        client.camera.fov = frustum.fov


def _orbit_centre(
    centre: Float[np.ndarray, "3"], forward: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"]:
    """Where a camera's axis passes the middle of the object."""
    return centre - (centre @ forward) * forward


def _field_of_view(cameras: Cameras, view: int) -> float:
    """From top to bottom, in radians."""
    return 2 * float(np.arctan(cameras.height / 2 / float(cameras.intrinsics[view, 1, 1])))


def _finest(window: _Window) -> Size:
    camera = window.client.camera
    return size_within((max(camera.image_height, 1), max(camera.image_width, 1)), FINEST_PIXELS)


def _camera(client: viser.ClientHandle) -> Cameras:
    """A window's camera; viser's have OpenCV's axes as ours do."""
    seen = client.camera
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = SO3(seen.wxyz).as_matrix(), seen.position
    size = (max(seen.image_height, 1), max(seen.image_width, 1))
    return pinhole(torch.from_numpy(pose).float(), seen.fov, size)


def _send(client: viser.ClientHandle, drawing: Drawing) -> None:
    """The picture behind the frusta, and its depth so that it hides those behind the surface."""
    client.scene.set_background_image(
        drawing.image, format="jpeg", jpeg_quality=90, depth=drawing.depth
    )
