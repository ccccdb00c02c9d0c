"""The usual mistakes in cameras, each with the option that mends it.

A correction is its own test: applied to cameras that suffer from the mistake it makes them right,
and whether it did can be seen in the masks (preflight.py). Where several are asked for they are
applied in the table's order. What no picture can show is not here: another unit of length, another
origin, another way up of the world.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from common.cameras import decompose_projection
from common.scenes.capture import Capture, Photograph

Value = int | float | str | None  # None: the option is a flag


@dataclass(frozen=True)
class Correction:
    """One mistake and its option; ``values`` are all choices, or examples where it takes a number.

    ``explanation`` says what is wrong with the cameras as they are read, for a sentence beginning
    "with" and for --help. Its {value} is the option's.
    """

    option: str  # of scripts/prepare_scene.py
    explanation: str
    apply: Callable[[Capture, Value], Capture]
    values: tuple[int, ...] | tuple[float, ...] | tuple[str, ...] = ()


@dataclass(frozen=True)
class Remedy:
    """Corrections with their values, in the table's order."""

    steps: tuple[tuple[Correction, Value], ...]

    @property
    def name(self) -> str:
        """What is wrong, "poses inverted"."""
        return " and ".join(step.explanation.format(value=value) for step, value in self.steps)

    @property
    def options(self) -> str:
        """As on the command line, "--turn-axes yz"."""
        words = [
            step.option if value is None else f"{step.option} {value}" for step, value in self.steps
        ]
        return " ".join(words)

    def apply(self, capture: Capture) -> Capture:
        """The same photographs with mended cameras."""
        for step, value in self.steps:
            capture = step.apply(capture, value)
        return capture


def chosen(values: Mapping[str, Value]) -> Remedy:
    """The remedy of these options ("--shift-pixels": 0.5), whatever order they come in."""
    steps = [(step, values[step.option]) for step in CORRECTIONS if step.option in values]
    return Remedy(tuple(steps))


# Poses.


def _transpose_rotations(capture: Capture, _: Value) -> Capture:
    def mend(pose: np.ndarray) -> np.ndarray:
        return _rigid(pose[:3, :3].T, pose[:3, 3])

    return _with_poses(capture, mend)


def _invert_poses(capture: Capture, _: Value) -> Capture:
    return _with_poses(capture, _inverse)


def _transpose_extrinsics(capture: Capture, _: Value) -> Capture:
    def mend(pose: np.ndarray) -> np.ndarray:
        camera_from_world = _inverse(pose)
        return _inverse(_rigid(camera_from_world[:3, :3].T, camera_from_world[:3, 3]))

    return _with_poses(capture, mend)


def _negate_translations(capture: Capture, _: Value) -> Capture:
    def mend(pose: np.ndarray) -> np.ndarray:
        return _rigid(pose[:3, :3], -pose[:3, 3])

    return _with_poses(capture, mend)


# Columns are the right axes (x right, y down, z forward) in the axes that were taken for them.
_AXES = {
    "yz": np.diag([1.0, -1.0, -1.0]),
    "xy": np.diag([-1.0, -1.0, 1.0]),
    "xz": np.diag([-1.0, 1.0, -1.0]),
    "llff": np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]),
}


def _turn_axes(capture: Capture, axes: Value) -> Capture:
    turn = _AXES[str(axes)]

    def mend(pose: np.ndarray) -> np.ndarray:
        return _rigid(pose[:3, :3] @ turn, pose[:3, 3])

    return _with_poses(capture, mend)


def _mirror_world(capture: Capture, _: Value) -> Capture:
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    mirrored = _with_poses(capture, lambda pose: mirror @ pose @ mirror)
    points, sphere = capture.points, capture.world_from_sphere
    return replace(
        mirrored,
        points=None if points is None else replace(points, points=points.points * [1, -1, 1]),
        world_from_sphere=None if sphere is None else mirror @ sphere @ mirror,
    )


# Pixels.


def _swap_principal_point(capture: Capture, _: Value) -> Capture:
    def mend(photograph: Photograph) -> Photograph:
        k = photograph.intrinsics.copy()
        k[[0, 1], [2, 2]] = k[[1, 0], [2, 2]]
        k[[0, 1], [0, 1]] = k[[1, 0], [1, 0]]
        return replace(photograph, intrinsics=k)

    return _each(capture, mend)


def _pixel_units(capture: Capture, units: Value) -> Capture:
    def to_pixels(width: int, height: int) -> np.ndarray:
        if units == "unit":
            return np.array([[width, 0, -0.5], [0, height, -0.5], [0, 0, 1]])
        x, y = width / 2, height / 2
        return np.array([[x, 0, x - 0.5], [0, y, y - 0.5], [0, 0, 1]])

    return _through_pixels(capture, to_pixels)


def _scale_intrinsics(capture: Capture, scale: Value) -> Capture:
    s = float(scale or 1)
    resize = np.array([[s, 0, 0.5 * s - 0.5], [0, s, 0.5 * s - 0.5], [0, 0, 1]])
    return _through_pixels(capture, lambda width, height: resize)


def _scale_focal(capture: Capture, scale: Value) -> Capture:
    def mend(photograph: Photograph) -> Photograph:
        k = photograph.intrinsics.copy()
        k[:2, :2] *= float(scale or 1)
        return replace(photograph, intrinsics=k)

    return _each(capture, mend)


def _negate_pixels(capture: Capture, _: Value) -> Capture:
    return _through_pixels(capture, lambda width, height: np.diag([-1.0, -1.0, 1.0]))


def _flip_x(capture: Capture, _: Value) -> Capture:
    return _through_pixels(
        capture, lambda width, height: np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    )


def _flip_y(capture: Capture, _: Value) -> Capture:
    return _through_pixels(
        capture, lambda width, height: np.array([[1, 0, 0], [0, -1, height - 1], [0, 0, 1]])
    )


def _swap_xy(capture: Capture, _: Value) -> Capture:
    return _through_pixels(capture, lambda width, height: np.eye(3)[[1, 0, 2]])


def _shift_pixels(capture: Capture, shift: Value) -> Capture:
    move = np.eye(3)
    move[:2, 2] = float(shift or 0)
    return _through_pixels(capture, lambda width, height: move)


# Which camera belongs to which photograph.


def _reverse_order(capture: Capture, _: Value) -> Capture:
    return _reordered(capture, list(range(len(capture.photographs)))[::-1])


def _number_order(capture: Capture, _: Value) -> Capture:
    def numbers(index: int) -> list[tuple[int, str]]:
        parts = re.findall(r"\d+|\D+", capture.photographs[index].image.name)
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    by_number = sorted(range(len(capture.photographs)), key=numbers)
    camera = [0] * len(by_number)
    for position, photograph in enumerate(by_number):
        camera[photograph] = position
    return _reordered(capture, camera)


def _shift_order(capture: Capture, places: Value) -> Capture:
    count = len(capture.photographs)
    return _reordered(capture, [(i + int(places or 0)) % count for i in range(count)])


CORRECTIONS: tuple[Correction, ...] = (
    Correction("--reverse-order", "cameras in the opposite order", _reverse_order),
    Correction("--number-order", "cameras in the order of the images' numbers", _number_order),
    Correction("--shift-order", "cameras {value:+g} places on", _shift_order, (1, -1)),
    Correction("--transpose-rotations", "rotations transposed", _transpose_rotations),
    Correction("--invert-poses", "poses inverted", _invert_poses),
    Correction(
        "--transpose-extrinsics", "world-to-camera rotations transposed", _transpose_extrinsics
    ),
    Correction("--negate-translations", "camera centres negated", _negate_translations),
    Correction("--turn-axes", "camera axes turned round ({value})", _turn_axes, tuple(_AXES)),
    Correction("--mirror-world", "the world's left and right exchanged", _mirror_world),
    Correction("--negate-pixels", "the projections' third row negated", _negate_pixels),
    Correction(
        "--pixel-units", "pixels in units of the picture ({value})", _pixel_units, ("unit", "ndc")
    ),
    Correction(
        "--swap-principal-point", "the intrinsics' x and y exchanged", _swap_principal_point
    ),
    Correction(
        "--scale-intrinsics",
        "intrinsics times {value:g}, made for another size of picture",
        _scale_intrinsics,
        (0.125, 0.25, 0.5, 2.0, 4.0, 8.0),
    ),
    Correction("--scale-focal", "focal lengths times {value:g}", _scale_focal, (0.5, 2.0)),
    Correction("--swap-xy", "x and y of the pixels exchanged", _swap_xy),
    Correction("--flip-x", "x of the pixels counted from the right", _flip_x),
    Correction("--flip-y", "y of the pixels counted from below", _flip_y),
    Correction("--shift-pixels", "pixels moved by {value:+g}", _shift_pixels, (0.5, -0.5)),
)


def _each(capture: Capture, mend: Callable[[Photograph], Photograph]) -> Capture:
    return replace(capture, photographs=tuple(mend(one) for one in capture.photographs))


def _with_poses(capture: Capture, mend: Callable[[np.ndarray], np.ndarray]) -> Capture:
    return _each(capture, lambda one: replace(one, world_from_camera=mend(one.world_from_camera)))


def _through_pixels(
    capture: Capture, pixel_from_given: Callable[[int, int], Float[np.ndarray, "3 3"]]
) -> Capture:
    """Cameras whose pixels are moved by a matrix of the picture's width and height.

    One that mirrors makes the camera turn round, since no lens mirrors.
    """

    def mend(photograph: Photograph) -> Photograph:
        move = pixel_from_given(*photograph.size)
        if (np.diag(move) > 0).all():
            return replace(photograph, intrinsics=move @ photograph.intrinsics)
        camera_from_world = _inverse(photograph.world_from_camera)[:3]
        k, pose, _ = decompose_projection(move @ photograph.intrinsics @ camera_from_world)
        return replace(photograph, intrinsics=k, world_from_camera=pose)

    return _each(capture, mend)


def _reordered(capture: Capture, camera: list[int]) -> Capture:
    """Photograph i with all that belongs to the camera of photograph ``camera[i]``."""
    given = capture.photographs
    photographs = [
        replace(given[index], image=one.image, mask=one.mask)
        for one, index in zip(given, camera, strict=True)
    ]
    return replace(capture, photographs=tuple(photographs))


def _rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return pose


def _inverse(pose: np.ndarray) -> np.ndarray:
    return _rigid(pose[:3, :3].T, -pose[:3, :3].T @ pose[:3, 3])
