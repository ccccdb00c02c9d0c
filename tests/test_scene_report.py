"""The report of a scene: what it says, that it is one safe file, and that it works in a browser."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.scenes.checks.findings import Alternative, Findings, ViewFindings
from common.scenes.checks.report import SceneFacts, ScenePicture, write_report
from tests.browser import Tab, find_browser, open_browser
from tests.test_pages import HOSTILE, UP, Reader, ring

HEIGHT, WIDTH = 48, 64
FACTS = SceneFacts("a & b/scene", "COLMAP model", (1600, 1200), "as in the files", ("a note",))
# Of pictures: top left, top right, bottom left, bottom right.
QUADRANTS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40))
POINT_COLOUR = (255, 0, 255)


def make_findings(count: int, **more) -> Findings:
    views = [
        ViewFindings(f"view_{i}.png", 0.99 - 0.01 * ((7 * i) % count), 0.2, 1.0, 0.5)
        for i in range(count)
    ]
    return Findings(0.95, 0.4, tuple(views), **more)


def make_picture(count: int, height: int = HEIGHT, width: int = WIDTH) -> ScenePicture:
    """A ring of cameras around a sphere, pictures of four colours, one point off the middle."""
    thumbnails = np.empty((count, height, width, 3), dtype=np.uint8)
    thumbnails[:, : height // 2, : width // 2] = QUADRANTS[0]
    thumbnails[:, : height // 2, width // 2 :] = QUADRANTS[1]
    thumbnails[:, height // 2 :, : width // 2] = QUADRANTS[2]
    thumbnails[:, height // 2 :, width // 2 :] = QUADRANTS[3]
    masks = np.zeros((count, height, width), dtype=bool)
    masks[:, height // 4 : -height // 4, width // 4 : -width // 4] = True
    inner = [[1.4 * width, 0, width / 2 - 0.5], [0, 1.4 * width, height / 2 - 0.5], [0, 0, 1]]
    poses = ring(count, 0.4, 0.0, UP)
    centre, radius = np.array([100.0, -50.0, 20.0]), 0.8
    poses[:, :3, 3] += centre
    point = centre + [[0.3, 0.2, 0.25]]
    colour = np.array([POINT_COLOUR], dtype=np.uint8)
    return ScenePicture(
        thumbnails, masks, np.tile(inner, (count, 1, 1)), poses, centre, radius, point, colour
    )


def report(folder: Path, findings: Findings, picture: ScenePicture, verdict: str = "Fine.") -> Path:
    path = folder / "new" / "report.html"
    write_report(path, findings, picture, FACTS, verdict)
    return path


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def stage(markup: str) -> dict:
    block = re.search(r'<script type="application/json" id="scene-stage">(.*?)</script>', markup)
    assert block
    return json.loads(block[1])


def test_nothing_is_loaded_from_anywhere(tmp_path) -> None:
    markup = read(report(tmp_path, make_findings(5), make_picture(5)))
    reader = Reader(markup)
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object", "base")
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith("data:image/jpeg;base64,") or (
                name not in attributes
            )
    assert "http://" not in markup and "https://" not in markup
    assert "url(" not in markup and "@import" not in markup


def test_every_view_is_in_table_map_and_scene(tmp_path) -> None:
    findings = make_findings(7)
    markup = read(report(tmp_path, findings, make_picture(7)))
    tags = Reader(markup).tags
    for tag in ("tr", "circle"):
        views = [int(a["data-view"] or "") for t, a in tags if t == tag and "data-view" in a]
        assert sorted(views) == list(range(7))
    names = [frustum["name"] for frustum in stage(markup)["frusta"]]
    assert names == [view.name for view in findings.views]
    assert [frustum["picture"] for frustum in stage(markup)["frusta"]] == [
        f"picture-{i}" for i in range(7)
    ]
    assert {f"picture-{i}" for i in range(7)} <= {a.get("id") for t, a in tags if t == "img"}


def test_worst_views_come_first(tmp_path) -> None:
    """Doubted ones before others; then by hull IoU, unmeasured as worst."""
    views = list(make_findings(5).views)
    for i, iou in enumerate((0.97, 0.90, 0.99, float("nan"), 0.95)):
        views[i] = replace(views[i], hull_iou=iou, doubts=("blurred",) if i == 2 else ())
    findings = replace(make_findings(5), views=tuple(views))
    markup = read(report(tmp_path, findings, make_picture(5)))
    order = re.findall(r'<tr data-view="(\d)"', markup)
    assert [int(view) for view in order] == [2, 3, 1, 4, 0]
    assert "nan" not in Reader(markup).words.lower()


def test_names_and_sentences_are_text(tmp_path) -> None:
    """Whoever wrote them: the page has the same elements as with harmless ones."""
    bad = "</script></td><script>document.hacked=1</script><img src=x onerror=alert(1)>"
    surrogate = b"\xff.png".decode("utf-8", "surrogateescape")

    def markup(name: str, remarks: str) -> str:
        view = ViewFindings(name, 0.5, 0.2, 1.0, 0.5, (remarks,))
        remedy = Alternative(remarks, remarks, 0.9)
        findings = Findings(0.3, 0.4, (view,), (remedy,), (remarks,))
        facts = SceneFacts(remarks, remarks, (4, 3), remarks, (remarks,))
        path = tmp_path / "report.html"
        write_report(path, findings, make_picture(1), facts, remarks)
        return read(path)

    plain, hostile = Reader(markup("a", "b")), Reader(markup(bad + surrogate, HOSTILE))
    assert [tag for tag, _ in plain.tags] == [tag for tag, _ in hostile.tags]
    assert not any("onerror" in attributes for _, attributes in hostile.tags)
    assert bad in hostile.words and HOSTILE in hostile.words and "\\udcff.png" in hostile.words
    assert stage(markup(bad + surrogate, HOSTILE))["frusta"][0]["name"] == bad + "\\udcff.png"


def test_sixty_views_are_below_two_megabytes(tmp_path) -> None:
    """Noise and speckled masks too, which nothing packs well; and twice as many views."""
    generator = np.random.default_rng(0)
    for count in (60, 120):
        picture = make_picture(count, 120, 160)
        noise = generator.integers(0, 256, picture.thumbnails.shape[:3] + (1,))
        spread = generator.normal(size=(30_000, 3)) + picture.centre
        picture = replace(
            picture,
            thumbnails=(0.7 * picture.thumbnails + 0.3 * noise).astype(np.uint8),
            points=spread,
            colours=generator.integers(0, 256, spread.shape).astype(np.uint8),
        )
        assert report(tmp_path, make_findings(count), picture).stat().st_size < 2e6


def test_large_pictures_are_shrunk_with_their_cameras(tmp_path) -> None:
    small = stage(read(report(tmp_path, make_findings(3), make_picture(3))))
    markup = read(report(tmp_path, make_findings(3), make_picture(3, 10 * HEIGHT, 10 * WIDTH)))
    sizes = {(a["width"], a["height"]) for tag, a in Reader(markup).tags if tag == "img"}
    assert sizes == {("160", "120")}
    for frustum, other in zip(stage(markup)["frusta"], small["frusta"], strict=True):
        # The same pictures at ten times the pixels: the same corners, to the page's decimals.
        assert np.array(frustum["corners"]) == pytest.approx(np.array(other["corners"]), abs=2e-4)


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({}, "good"),
        ({"doubts": ("odd",)}, "doubts"),
        ({"remedies": (Alternative("inverted poses", "--invert-poses", 0.97),)}, "bad"),
    ],
)
def test_verdict_is_seen_at_a_glance(tmp_path, more, kind) -> None:
    markup = read(report(tmp_path, make_findings(2, **more), make_picture(2), "So it is."))
    reader = Reader(markup)
    assert [a["class"] for tag, a in reader.tags if tag == "header"] == [f"card verdict {kind}"]
    answer = {"good": "Ready to train", "doubts": "Look before", "bad": "Do not train yet"}[kind]
    assert answer in reader.words and "So it is." in reader.words
    assert ("run again with --invert-poses" in reader.words) == (kind == "bad")


def test_points_without_meaning_are_left_out(tmp_path) -> None:
    points = np.array([[100.0, -50, 20], [np.nan, 0, 0], [np.inf, 0, 0]])
    picture = replace(make_picture(2), points=points, colours=None)
    shown = stage(read(report(tmp_path, make_findings(2), picture)))
    assert shown["points"] == [[0, 0, 0]] and shown["colours"] == []
    nothing = replace(picture, points=None)
    assert stage(read(report(tmp_path, make_findings(2), nothing)))["points"] == []


def test_findings_of_other_views_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="3 views found, 2 pictures"):
        report(tmp_path, make_findings(3), make_picture(2))


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine: the page was not opened in a browser")
    with open_browser(program, tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture
def opened(tab: Tab, tmp_path) -> Tab:
    """A report of six views in the browser, one with a hostile name and a doubt."""
    findings = make_findings(6)
    views = list(findings.views)
    views[4] = replace(views[4], name="<script>document.hacked=1</script>", doubts=("dark",))
    path = report(tmp_path, replace(findings, views=tuple(views)), make_picture(6))
    tab.complaints.clear()
    tab.requests.clear()
    tab.show(1280, 900)
    tab.open(path)
    return tab


def canvas_pixels(tab: Tab) -> np.ndarray:
    png = base64.b64decode(canvas_image(tab).split(",")[1])
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def canvas_image(tab: Tab) -> str:
    return tab.run("document.querySelector('canvas').toDataURL()")


def canvas_box(tab: Tab) -> tuple[float, float, float, float]:
    box = "(b => [b.x, b.y, b.width, b.height])"
    x, y, width, height = tab.run(
        f"{box}(document.querySelector('canvas').getBoundingClientRect())"
    )
    return x, y, width, height


def chosen(tab: Tab) -> list[int]:
    items = "[...document.querySelectorAll('[data-view][aria-current]')]"
    return tab.run(f"{items}.map(item => Number(item.dataset.view))")


@pytest.mark.parametrize(("scheme", "paper"), [("light", 255), ("dark", 25)])
def test_it_opens_without_complaint_and_shows_the_scene(opened, scheme, paper) -> None:
    opened.show(1280, 900, scheme)
    pixels = canvas_pixels(opened)
    for colour in QUADRANTS:  # of the pictures, give or take JPEG
        near = np.abs(pixels[..., :3].astype(int) - colour).max(-1) < 12
        assert near.sum() > 100
    card = opened.run("getComputedStyle(document.querySelector('.card.views')).backgroundColor")
    assert abs(int(re.findall(r"\d+", card)[0]) - paper) < 5
    assert opened.complaints == []
    addresses = [address for address in opened.requests if not address.startswith("data:")]
    assert len(addresses) == 1 and addresses[0].startswith("file://")


def test_a_hostile_name_is_read_not_run(opened) -> None:
    names = opened.run("[...document.querySelectorAll('td .name')].map(n => n.textContent)")
    assert names[0] == "<script>document.hacked=1</script>"
    assert opened.run("document.hacked === undefined")


def test_headings_sort_both_ways(opened) -> None:
    """Worst first, then best first; names by their numbers; the heading says how."""
    values = "[...document.querySelectorAll('tbody tr')].map(r => r.cells[{}].dataset.order)"
    click = "document.querySelectorAll('th button')[{}].click()"
    opened.run(click.format(1))
    ious = [float(value) for value in opened.run(values.format(2))]
    assert ious == sorted(ious) and len(set(ious)) == 6
    assert opened.run("document.querySelectorAll('th')[2].ariaSort") == "ascending"
    opened.run(click.format(1))
    assert [float(value) for value in opened.run(values.format(2))] == ious[::-1]
    assert opened.run("document.querySelectorAll('th')[2].ariaSort") == "descending"
    opened.run(click.format(5))
    assert opened.run(values.format(6))[0] == "1 dark"
    assert opened.run("document.querySelectorAll('th[aria-sort]').length") == 1


def test_a_row_highlights_its_frustum(opened) -> None:
    before = canvas_image(opened)
    opened.run("document.querySelector('tr[data-view=\"2\"]').click()")
    assert chosen(opened) == [2, 2]  # its dot and its row
    assert canvas_image(opened) != before
    details = opened.run("document.querySelector('[data-details]').textContent")
    assert "view_2.png" in details and "Hull IoU" in details
    opened.run("document.querySelector('canvas').focus()")
    opened.press("Escape")
    assert chosen(opened) == [] and canvas_image(opened) == before
    opened.run("document.querySelector('circle[data-view=\"5\"]')"
               ".dispatchEvent(new Event('click', {bubbles: true}))")  # fmt: skip
    assert chosen(opened) == [5, 5]


def test_a_click_on_a_frustum_chooses_its_view(opened) -> None:
    """Where the canvas shows a picture's colour, a click chooses a view; beside all, none."""
    x, y, _, _ = canvas_box(opened)
    pixels = canvas_pixels(opened)[..., :3].astype(int)
    rows, columns = np.nonzero(np.abs(pixels - QUADRANTS[2]).max(-1) < 6)
    some = len(rows) // 2
    for place, expected in (((3, 3), 0), ((columns[some], rows[some]), 2)):
        for kind in ("mousePressed", "mouseReleased"):
            at = x + float(place[0]), y + float(place[1])
            opened.mouse(kind, *at, button="left", clickCount=1)
        assert len(chosen(opened)) == expected


def test_it_turns_zooms_and_comes_back(opened) -> None:
    x, y, width, height = canvas_box(opened)
    middle = x + width / 2, y + height / 2
    seen = [canvas_image(opened)]
    opened.mouse("mousePressed", *middle, button="left", buttons=1)
    opened.mouse("mouseMoved", middle[0] + 80, middle[1] + 20, button="left", buttons=1)
    opened.mouse("mouseReleased", middle[0] + 80, middle[1] + 20, button="left")
    seen.append(canvas_image(opened))
    opened.run("document.addEventListener('wheel', e => { window.kept = e.defaultPrevented })")
    opened.mouse("mouseWheel", *middle, deltaX=0, deltaY=-240)
    seen.append(canvas_image(opened))
    assert opened.run("window.kept") and chosen(opened) == []  # the page does not scroll
    opened.mouse("mouseMoved", 2, 2)  # off the canvas: nothing is pointed at
    opened.run("document.querySelector('canvas').focus()")
    opened.press("ArrowLeft")
    seen.append(canvas_image(opened))
    assert len(set(seen)) == 4
    opened.press("0")
    assert canvas_image(opened) == seen[0]


def test_every_pixel_of_the_screen_is_drawn(opened) -> None:
    opened.show(1280, 900, ratio=2)
    _, _, width, height = canvas_box(opened)
    assert canvas_pixels(opened).shape[:2] == (round(2 * height), round(2 * width))


def test_it_fits_a_telephone(opened) -> None:
    opened.show(380, 800)
    assert opened.run("document.documentElement.scrollWidth") <= 380


def test_looking_through_a_camera_shows_its_picture_and_points_in_place(opened) -> None:
    """The chain from world to canvas against the projection K [R | t] X itself."""
    picture, view = make_picture(6), 3
    x, y, width, height = canvas_box(opened)
    opened.run(f"document.querySelector('tr[data-view=\"{view}\"]').click()")
    opened.run("document.querySelector('[data-action=through]').click()")
    pixels = canvas_pixels(opened)[..., :3].astype(int)
    scale = 0.94 * min(width / WIDTH, height / HEIGHT)

    def at(u: float, v: float) -> tuple[int, int]:
        """Row and column of the canvas for a pixel position of the picture."""
        column = width / 2 + scale * (u - (WIDTH / 2 - 0.5))
        return round(height / 2 + scale * (v - (HEIGHT / 2 - 0.5))), round(column)

    left, right, top, bottom = 0.5, WIDTH - 1.5, 0.5, HEIGHT - 1.5  # a pixel inside the border
    corners = [(left, top), (right, top), (left, bottom), (right, bottom)]
    for place, colour in zip(corners, QUADRANTS, strict=True):
        assert np.abs(pixels[at(*place)] - colour).max() < 25
    for place in ((left - 2, top), (right + 2, top), (left, top - 2), (right, bottom + 2)):
        assert np.abs(pixels[at(*place)] - QUADRANTS).max(-1).min() > 40  # no picture there
    assert picture.points is not None
    world = np.append(picture.points[0], 1)
    in_camera = (np.linalg.inv(picture.world_from_camera[view]) @ world)[:3]
    u, v, _ = picture.intrinsics[view] @ in_camera / in_camera[2]
    row, column = at(u, v)
    # 7 parts of the point's colour, 3 of what lies behind.
    near = pixels[row - 1 : row + 2, column - 1 : column + 2].reshape(-1, 3)
    assert (near[:, 0] > 180).any() and (near[:, 2] > 180).any() and near[:, 1].min() < 70
