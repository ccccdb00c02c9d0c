"""A 3D look at cameras with their pictures, an object's sphere and points, to turn with the mouse.

The page's own frame has the object's sphere as unit sphere and z up, whatever the units, so that
short decimals do and every scene looks alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from common.pages.markup import Html, data_block, element

_MOST_POINTS = 5000
_KEYS = "Drag to turn, wheel to zoom, Shift-drag to move; arrows, + and −, 0 to reset"


@dataclass(frozen=True)
class Frusta:
    """Cameras of V views in the page's frame, in the order of their ``data-view`` numbers.

    ``corners`` of the picture at some distance before the camera: top left, top right, bottom
    right, bottom left. ``pictures`` are the identifiers of the page's images.
    """

    names: Sequence[str]
    pictures: Sequence[str]
    eyes: Float[np.ndarray, "V 3"]
    corners: Float[np.ndarray, "V 4 3"]
    doubtful: Sequence[bool]


def upright_frame(
    world_from_camera: Float[np.ndarray, "V 4 4"],
    centre: Float[np.ndarray, "3"],
    radius: float,
) -> Float[np.ndarray, "4 4"]:
    """The page's frame from the world: the sphere at the origin with radius 1, z up."""
    up = _up(world_from_camera)
    # x: any direction at right angles to up; the world's own axis that is nearest to level.
    x = np.eye(3)[np.abs(up).argmin()]
    x = x - (x @ up) * up
    x /= np.linalg.norm(x)
    frame = np.eye(4)
    frame[:3, :3] = np.stack([x, np.cross(up, x), up]) / radius
    frame[:3, 3] = -frame[:3, :3] @ centre
    return frame


def _up(world_from_camera: Float[np.ndarray, "V 4 4"]) -> Float[np.ndarray, "3"]:
    """The direction at right angles to all horizons, which photographers hold level.

    Horizons are the cameras' x axes, or their y axes where cameras were turned on their side: those
    that lie more clearly in one plane.
    """
    right, down = world_from_camera[:, :3, 0], world_from_camera[:, :3, 1]
    upright, clarity = _normal_of_plane(right, -down.mean(0))
    turned, other_clarity = _normal_of_plane(down, right.mean(0))
    return turned if other_clarity > clarity + 0.1 else upright


def _normal_of_plane(
    axes: Float[np.ndarray, "V 3"], towards: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "3"], float]:
    """Of the plane all axes are nearest to, and how clearly it is one: 0 to 0.5.

    Where the axes leave the normal open, as parallel ones do, it is the one nearest to ``towards``.
    """
    scatter = axes.T @ axes / len(axes)
    spread = np.linalg.eigvalsh(scatter)
    away = np.eye(3) - np.outer(towards, towards) / max(towards @ towards, 1e-12)
    normal = np.linalg.eigh(scatter + 0.01 * away)[1][:, 0]
    return np.copysign(1, normal @ towards) * normal, spread[1] - spread[0]


def place_cameras(
    page_from_world: Float[np.ndarray, "4 4"],
    world_from_camera: Float[np.ndarray, "V 4 4"],
    intrinsics: Float[np.ndarray, "V 3 3"],
    size: tuple[int, int],
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "V 4 3"]]:
    """Camera centres and their pictures' corners in the page's frame; ``size`` is width, height.

    Pictures stand before their cameras at one distance for all, so that neighbours hardly overlap.
    """
    poses = page_from_world @ world_from_camera
    # The page's frame differs in scale from the world: rotations here carry a factor.
    rotation = poses[:, :3, :3] / np.linalg.norm(poses[:, :3, :1], axis=1, keepdims=True)
    eyes = poses[:, :3, 3]
    width, height = size
    right, bottom = width - 0.5, height - 0.5
    pixels = np.array([[-0.5, -0.5, 1], [right, -0.5, 1], [right, bottom, 1], [-0.5, bottom, 1]])
    rays = np.einsum("vij,kj->vki", rotation @ np.linalg.inv(intrinsics), pixels)
    breadth = float(np.median(np.linalg.norm(rays[:, 1] - rays[:, 0], axis=-1)))
    return eyes, eyes[:, None] + _picture_depth(eyes, breadth) * rays


def _picture_depth(eyes: Float[np.ndarray, "V 3"], breadth: float) -> float:
    """A distance for pictures, ``breadth`` wide at 1, that shows them and the space between."""
    distance = max(float(np.median(np.linalg.norm(eyes, axis=-1))), 1.0)
    between = np.linalg.norm(eyes[:, None] - eyes, axis=-1)
    np.fill_diagonal(between, np.inf)
    spacing = float(np.median(between.min(axis=0)))
    width = float(np.clip(0.75 * spacing, 0.08 * distance, 0.25 * distance))
    return min(width / breadth, 0.25 * distance)


def viewer_element(
    identifier: str,
    frusta: Frusta,
    page_from_world: Float[np.ndarray, "4 4"],
    points: Float[np.ndarray, "P 3"] | None,
    colours: UInt8[np.ndarray, "P 3"] | None,
    before: Frusta | None = None,
) -> Html:
    """The canvas, its buttons and data; needs the block "viewer".

    ``points`` are in the world, the rest in the page's frame. Of many points, some are drawn.
    ``before``: the same cameras as they were before something moved them, to switch to and back.
    """
    stage = {
        "frusta": _frusta(frusta),
        "before": [] if before is None else _frusta(before),
        "axes": _decimals(page_from_world[:3, :3] / np.linalg.norm(page_from_world[:3, 0])),
    } | _point_cloud(page_from_world, points, colours)
    canvas = element(
        "canvas",
        {
            "data-stage": f"{identifier}-stage",
            "id": identifier,
            "tabindex": "0",
            "role": "application",
            "aria-label": f"Cameras around the object in 3D. {_KEYS}; n and p: next and previous "
            "view; Enter: look through its camera; Escape: back",
        },
        "This picture needs a browser with a canvas; the table has all numbers.",
    )
    return element(
        "div",
        {"class": "viewer"},
        canvas,
        element(
            "div", {"class": "tools"}, *_buttons(before is not None), element("small", {}, _KEYS)
        ),
        data_block(f"{identifier}-stage", stage),
    )


def _frusta(frusta: Frusta) -> list[dict]:
    return [
        {"name": name, "picture": picture, "eye": eye, "corners": corners, "doubtful": doubt}
        for name, picture, eye, corners, doubt in zip(
            [_encodable(name) for name in frusta.names],
            frusta.pictures,
            _decimals(frusta.eyes),
            _decimals(frusta.corners),
            map(bool, frusta.doubtful),
            strict=True,
        )
    ]


def _buttons(moved: bool) -> list[Html]:
    titles = {
        "reset": ("Reset", "Back to the first look (0)"),
        "through": ("Look through", "See points and sphere as the chosen camera does (Enter)"),
        "pictures": ("Pictures", "Show or hide the cameras' pictures"),
    }
    if moved:
        titles["before"] = ("Before", "The cameras before they were refined, and back")
    return [
        element("button", {"type": "button", "data-action": action, "title": explanation}, title)
        for action, (title, explanation) in titles.items()
    ]


def _point_cloud(
    page_from_world: Float[np.ndarray, "4 4"],
    points: Float[np.ndarray, "P 3"] | None,
    colours: UInt8[np.ndarray, "P 3"] | None,
) -> dict[str, list]:
    if points is None:
        return {"points": [], "colours": []}
    usable = np.flatnonzero(np.isfinite(points).all(-1))
    if len(usable) > _MOST_POINTS:
        usable = np.random.default_rng(0).choice(usable, _MOST_POINTS, replace=False)
    placed = points[usable] @ page_from_world[:3, :3].T + page_from_world[:3, 3]
    return {
        "points": _decimals(placed),
        "colours": [] if colours is None else colours[usable].tolist(),
    }


def _decimals(numbers: np.ndarray) -> list:
    return np.round(numbers.astype(np.float64), 4).tolist()


def _encodable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
