"""A map of all directions around the object, with the cameras on it and what they cover."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from common.pages.markup import Html, element, together
from common.pages.pictures import outline_path

_WIDTH, _HEIGHT = 360, 180  # of the map, in its own units
_NEAR = np.cos(np.radians(30))


def direction_map(
    directions: Float[np.ndarray, "V 3"], names: Sequence[str], doubtful: Sequence[bool]
) -> Html:
    """Unit directions (z up) of cameras from the object as dots on an equal-area map.

    Shaded: within 30 degrees of a camera; so the shaded share of the map is that of directions.
    The middle of the map is the cameras' mean azimuth, left of it is to their left.
    """
    middle = np.arctan2(*directions[:, :2].sum(0)[::-1])
    dots = (
        _dot(view, position, name, doubt)
        for view, (position, name, doubt) in enumerate(
            zip(_to_map(directions, middle), names, doubtful, strict=True)
        )
    )
    covered = element("path", {"class": "covered", "d": outline_path(_covered(directions, middle))})
    labels = together(
        _label("above", _WIDTH / 2, -6.0), _label("below", _WIDTH / 2, _HEIGHT + 14.0)
    )
    attributes = {
        "class": "directions",
        "viewBox": f"-4 -20 {_WIDTH + 8} {_HEIGHT + 40}",
        "role": "img",
        "aria-label": "Directions around the object: cameras, and what lies within 30° of one",
    }
    # The outline's pixels are one unit of the map, its coordinates half of one.
    shade = element("g", {"transform": "scale(0.5)"}, covered)
    return element("svg", attributes, _border(), shade, _graticule(), *dots, labels)


def _to_map(directions: Float[np.ndarray, "*n 3"], middle: float) -> Float[np.ndarray, "*n 2"]:
    """Hammer's equal-area projection of the sphere to an ellipse."""
    x, y, z = np.moveaxis(directions, -1, 0)
    # Seen from outside: going left around the object is going left on the map.
    longitude = np.remainder(np.arctan2(y, x) - middle + np.pi, 2 * np.pi) - np.pi
    level = np.sqrt(np.clip(1 - z**2, 0, None))
    stretch = np.sqrt(1 + level * np.cos(longitude / 2))
    across, up = level * np.sin(longitude / 2) / stretch, z / stretch
    return np.stack([_WIDTH / 2 * (1 + across), _HEIGHT / 2 * (1 - up)], axis=-1)


def _from_map(position: Float[np.ndarray, "*n 2"], middle: float) -> Float[np.ndarray, "*n 3"]:
    """Its inverse inside the ellipse; NaN outside."""
    across = 2 * position[..., 0] / _WIDTH - 1
    up = 1 - 2 * position[..., 1] / _HEIGHT
    outside = across**2 + up**2 > 1
    # With (across, up) in the unit circle, 1 + cos(latitude) cos(longitude / 2) = 2 - square.
    square = np.where(outside, np.nan, across**2 + up**2)
    stretch = np.sqrt(2 - square)
    z = up * stretch
    longitude = 2 * np.arctan2(across * stretch, 1 - square) + middle
    level = np.sqrt(np.clip(1 - z**2, 0, None))
    return np.stack([level * np.cos(longitude), level * np.sin(longitude), z], axis=-1)


def _covered(directions: Float[np.ndarray, "V 3"], middle: float) -> Bool[np.ndarray, "h w"]:
    y, x = np.mgrid[:_HEIGHT, :_WIDTH] + 0.5
    around = _from_map(np.stack([x, y], axis=-1), middle)
    covered = np.zeros((_HEIGHT, _WIDTH), dtype=bool)
    for direction in directions:
        covered |= around @ direction >= _NEAR  # False for NaN, outside the map
    return covered


def _border() -> Html:
    attributes = {"cx": _WIDTH / 2, "cy": _HEIGHT / 2, "rx": _WIDTH / 2, "ry": _HEIGHT / 2}
    return element("ellipse", {"class": "border"} | {k: f"{v:g}" for k, v in attributes.items()})


def _graticule() -> Html:
    """Circles of latitude and longitude every 30 and 60 degrees."""
    along = np.radians(np.linspace(-90, 90, 37))
    lines = [
        _line(np.full_like(along, np.radians(latitude)), 2 * along * 0.9999)
        for latitude in (-60, -30, 0, 30, 60)
    ]
    lines += [
        _line(along, np.full_like(along, np.radians(longitude)))
        for longitude in (-120, -60, 0, 60, 120)
    ]
    return element("path", {"class": "graticule", "d": "".join(lines)})


def _line(latitude: Float[np.ndarray, "n"], longitude: Float[np.ndarray, "n"]) -> str:
    level = np.cos(latitude)
    points = np.stack(
        [level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], axis=-1
    )
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in _to_map(points, 0.0))


def _dot(view: int, position: Float[np.ndarray, "2"], name: str, doubt: bool) -> Html:
    attributes = {
        "class": "dot doubtful" if doubt else "dot",
        "data-view": str(view),
        "cx": f"{position[0]:.1f}",
        "cy": f"{position[1]:.1f}",
        "r": "4",
    }
    return element("circle", attributes, element("title", {}, name))


def _label(words: str, x: float, y: float) -> Html:
    return element("text", {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": "middle"}, words)
