"""Building blocks of pages: markup that cannot be broken out of, outlines, maps, cameras."""

import base64
import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from common.pages.directions import _from_map, _to_map, direction_map
from common.pages.markup import Html, data_block, element, name_of_file, text
from common.pages.page import page
from common.pages.pictures import jpeg_uri, outline_path
from common.pages.viewer import place_cameras, upright_frame


class Reader(HTMLParser):
    """Elements, attributes and text as a browser's parser sees them."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        self.words += data


HOSTILE = "</td><script>alert('x')</script> \"&amp;' onload=x <!-- ]]>"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")))
@example(HOSTILE)
def test_any_string_comes_back_as_text_and_as_attribute(content) -> None:
    reader = Reader(element("p", {"title": content}, content))
    assert reader.tags == [("p", {"title": content})]
    assert reader.words == content


def test_markup_is_not_escaped_twice() -> None:
    inner = element("b", {}, "a < b")
    assert element("p", {}, inner) == "<p><b>a &lt; b</b></p>"
    assert text(Html("<br>")) == "<br>"


def test_names_of_no_encoding_can_be_written() -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    assert "caf\\udce9.png" in name_of_file(name).encode("utf-8").decode("utf-8")


@given(st.recursive(st.text() | st.integers() | st.booleans(), st.lists, max_leaves=8))
@example([HOSTILE, "</script>", "<!--<script>"])
def test_data_survive_and_cannot_end_their_block(content) -> None:
    block = data_block("d", content)
    inside = re.fullmatch(r'<script type="application/json" id="d">(.*)</script>', block, re.S)
    assert inside and not set("<>&") & set(inside[1])
    assert json.loads(inside[1]) == content


def test_data_without_meaning_in_json_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        data_block("d", [float("nan")])


def test_only_the_pages_own_scripts_may_run() -> None:
    reader = Reader(page("A & B", element("p", {}, "body")))
    policy = next(a["content"] for t, a in reader.tags if a.get("http-equiv"))
    scripts = re.findall(r"<script>(.*?)</script>", page("A & B", Html("")), re.S)
    assert len(scripts) == 3 and policy is not None
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy[policy.index("script-src") :]
    assert "A & B" in reader.words


def test_a_picture_in_an_address_is_the_picture() -> None:
    y, x = np.mgrid[:60, :80]
    picture = np.stack([3 * x, 4 * y, 255 - 3 * x], axis=-1).astype(np.uint8)
    kind, data = jpeg_uri(picture).split(",")
    assert kind == "data:image/jpeg;base64"
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), dtype=int)
    # JPEG of a smooth picture: its own rounding, and colour at half the resolution.
    assert np.abs(decoded - picture).mean() < 3


def polygons(path: str) -> list[np.ndarray]:
    """The closed polygons of a path of M, l and z."""
    loops = []
    for start, steps in re.findall(r"M(\d+ \d+)l([^z]*)z", path):
        moves = np.array(re.findall(r"[+-]\d+", steps), dtype=int).reshape(-1, 2)
        loops.append(np.array([*map(int, start.split())]) + np.cumsum([[0, 0], *moves], axis=0))
    return loops


def inside_evenodd(path: str, height: int, width: int) -> np.ndarray:
    """Whether each pixel's centre is inside: crossings of a ray to the right, counted."""
    y, x = 2 * np.mgrid[:height, :width] + 1
    crossings = np.zeros((height, width), dtype=int)
    for loop in polygons(path):
        for (ax, ay), (bx, by) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
            if ay != by:
                # A little above the centre: corners of the path lie on the centres' own rows.
                row = y - 0.25
                at = ax + (row - ay) * (bx - ax) / (by - ay)
                crossings += ((ay > row) != (by > row)) & (at > x)
    return crossings % 2 == 1


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
@example(np.eye(4, dtype=bool))
@example(~np.eye(4, dtype=bool))
@example(np.ones((3, 5), dtype=bool))
def test_outline_encloses_the_mask_and_nothing_else(mask) -> None:
    path = outline_path(mask)
    assert np.array_equal(inside_evenodd(path, *mask.shape), mask)
    assert bool(path) == mask.any()


def test_outline_of_a_slanted_edge_is_straight() -> None:
    """A staircase of 40 steps: few points, not two for each step."""
    mask = np.tri(40, dtype=bool)
    assert sum(map(len, polygons(outline_path(mask)))) < 12


def test_map_is_equal_area_and_its_inverse_exact() -> None:
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(200_000, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    position = _to_map(directions, 0.7)
    assert np.abs(_from_map(position, 0.7) - directions).max() < 1e-6
    # As many directions fall into each cell of the map as its share of the ellipse.
    corners = np.moveaxis(np.mgrid[:37, :19] * 10.0, 0, -1)
    inside = np.isfinite(_from_map(corners, 0.7)[..., 0])
    counts, _, _ = np.histogram2d(*position.T, bins=(36, 18), range=((0, 360), (0, 180)))
    inner = inside[:-1, :-1] & inside[1:, :-1] & inside[:-1, 1:] & inside[1:, 1:]
    expected = len(directions) * 100 / (np.pi * 180 * 90)
    # Counts of 393 on average scatter by 20, the worst of some 400 cells by under five times that.
    assert inner.sum() > 300 and np.abs(counts[inner] - expected).max() < 5 * expected**0.5


def test_shaded_area_is_the_share_of_directions() -> None:
    """One camera covers a cap of (1 - cos 30 degrees) / 2 of the sphere, wherever it stands."""
    for direction in ([1.0, 0, 0], [0.6, 0, 0.8], [0, 0, -1.0]):
        drawn = direction_map(np.array([direction]), ["a"], [False])
        shade = re.search(r'class="covered" d="([^"]*)"', drawn)
        assert shade
        area = inside_evenodd(shade[1], 180, 360).sum() / (np.pi * 180 * 90)
        assert area == pytest.approx((1 - np.cos(np.pi / 6)) / 2, rel=0.02)


def test_dots_stand_for_views() -> None:
    directions = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    tags = Reader(direction_map(directions, [HOSTILE, "b"], [False, True])).tags
    dots = [attributes for tag, attributes in tags if tag == "circle"]
    assert [dot["data-view"] for dot in dots] == ["0", "1"]
    assert [dot["class"] for dot in dots] == ["dot", "dot doubtful"]
    # Their mean azimuth is in the middle; a larger azimuth is to the right, seen from outside.
    assert float(dots[0]["cx"] or 0) < 180 < float(dots[1]["cx"] or 0)


def ring(count: int, elevation: float, roll: float, up: np.ndarray) -> np.ndarray:
    """Poses around ``up``, looking at the origin from distance 3 with the camera rolled."""
    side = np.cross(up, [0.3, 0.5, -0.2])
    side /= np.linalg.norm(side)
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose, angle in zip(poses, np.linspace(0, 5.5, count), strict=True):
        level = np.cos(angle) * side + np.sin(angle) * np.cross(up, side)
        out = np.cos(elevation) * level + np.sin(elevation) * up
        right = np.cross(up, level)
        down = np.cross(-out, right)
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        pose[:3, :2] = np.stack([right, down], axis=1) @ turn
        pose[:3, 2], pose[:3, 3] = -out, 3 * out
    return poses


UP = np.array([1.0, -2.0, 0.5]) / np.linalg.norm([1.0, -2.0, 0.5])


@pytest.mark.parametrize(("elevation", "roll"), [(0.5, 0), (0.05, 0), (0.05, -np.pi / 2)])
def test_up_is_found_whatever_the_world_calls_up(elevation, roll) -> None:
    """Level photographs from any height, and cameras turned on their side all around."""
    frame = upright_frame(ring(12, elevation, roll, UP), np.array([1.0, 2, 3]), 4.0)
    assert frame[:3, :3] @ UP == pytest.approx([0, 0, 0.25], abs=1e-3)
    assert np.linalg.det(frame[:3, :3]) == pytest.approx(4.0**-3)
    assert frame @ [1, 2, 3, 1] == pytest.approx([0, 0, 0, 1])


def test_up_of_one_camera_is_that_of_its_picture() -> None:
    pose = ring(1, 0.0, 0.0, UP)
    assert upright_frame(pose, np.zeros(3), 1.0)[:3, :3] @ UP == pytest.approx([0, 0, 1], abs=1e-9)


def test_corners_of_pictures_project_to_the_pictures_corners() -> None:
    world_from_camera = ring(5, 0.4, 0.3, UP)
    intrinsics = np.tile([[90.0, 0.7, 35], [0, 80, 22], [0, 0, 1]], (5, 1, 1))
    frame = upright_frame(world_from_camera, np.array([0.1, 0.2, 0.3]), 0.8)
    eyes, corners = place_cameras(frame, world_from_camera, intrinsics, (64, 48))
    page_from_camera = frame @ world_from_camera
    assert eyes == pytest.approx(page_from_camera[:, :3, 3])
    for pose, inner, four in zip(page_from_camera, intrinsics, corners, strict=True):
        in_camera = (np.linalg.inv(pose) @ np.pad(four, ((0, 0), (0, 1)), constant_values=1).T)[:3]
        assert (in_camera[2] > 0).all()
        pixels = (inner @ in_camera / in_camera[2])[:2].T
        expected = [[-0.5, -0.5], [63.5, -0.5], [63.5, 47.5], [-0.5, 47.5]]
        assert pixels == pytest.approx(np.array(expected), abs=1e-9)


def test_html_escapes_are_the_standard_ones() -> None:
    assert html.unescape(text(HOSTILE)) == HOSTILE
