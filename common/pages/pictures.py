"""Pictures inside a page, and outlines drawn over them."""

import base64
import io

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from common.pages.markup import Html, element

_QUALITY = 80  # of JPEG: 3 to 7 kB for a picture 160 pixels wide


def picture_element(picture: UInt8[np.ndarray, "h w 3"], description: str, identifier: str) -> Html:
    """An image, kept in the page itself."""
    height, width = picture.shape[:2]
    attributes = {
        "id": identifier,
        "src": jpeg_uri(picture),
        "alt": description,
        "width": str(width),
        "height": str(height),
    }
    return element("img", attributes)


def jpeg_uri(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    """The picture as a data: address."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def outline_element(mask: Bool[np.ndarray, "h w"]) -> Html:
    """The outline of a mask, to lie over a picture of the same shape."""
    height, width = mask.shape
    # The box keeps its shape as the picture does where a page stretches both.
    attributes = {
        "viewBox": f"0 0 {2 * width} {2 * height}",
        "preserveAspectRatio": "none",
        "aria-hidden": "true",
        "class": "outline",
    }
    return element("svg", attributes, element("path", {"d": outline_path(mask)}))


def outline_path(mask: Bool[np.ndarray, "h w"]) -> str:
    """SVG path around the True pixels, in half pixels: pixel (x, y) covers [2x, 2x+2] x [2y, 2y+2].

    It joins the middles of the pixels' edges, so slanted outlines are straight and no staircase;
    centres of True pixels, and no others, are inside (rule evenodd). Empty for an empty mask.
    """
    following = _boundary(mask)
    path = []
    while following:
        loop, vertex = [], next(iter(following))
        while vertex in following:  # every corner is left as often as it is reached: loops close
            end = following[vertex].pop()
            if not following[vertex]:
                del following[vertex]
            loop.append((vertex[0] + end[0], vertex[1] + end[1]))
            vertex = end
        path.append(_relative_path(loop))
    return "".join(path)


def _boundary(mask: Bool[np.ndarray, "h w"]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Edges between a True pixel and a False one, from corner to corners, True on the right."""
    padded = np.pad(mask, 1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Of a pixel's four sides: its neighbour's offset, and the corners where the side starts, ends.
    sides = (
        ((0, -1), (0, 0), (1, 0)),
        ((1, 0), (1, 0), (1, 1)),
        ((0, 1), (1, 1), (0, 1)),
        ((-1, 0), (0, 1), (0, 0)),
    )
    for neighbour, start, end in sides:
        other = np.roll(padded, (-neighbour[1], -neighbour[0]), axis=(0, 1))
        for y, x in np.argwhere(padded & ~other).tolist():
            corner = (x - 1 + start[0], y - 1 + start[1])
            following.setdefault(corner, []).append((x - 1 + end[0], y - 1 + end[1]))
    return following


def _relative_path(loop: list[tuple[int, int]]) -> str:
    """A closed loop as relative steps, equal ones in a row made one."""
    steps: list[tuple[int, int]] = []
    last = None
    for (x, y), (next_x, next_y) in zip(loop, loop[1:], strict=False):
        step = (next_x - x, next_y - y)
        if step == last:
            steps[-1] = (steps[-1][0] + step[0], steps[-1][1] + step[1])
        else:
            steps.append(step)
        last = step
    moves = "".join(f"{x:+d}{y:+d}" for x, y in steps)
    return f"M{loop[0][0]} {loop[0][1]}l{moves}z"
