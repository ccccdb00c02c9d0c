"""The pre-flight report: one page that shows a person whether a scene is right before training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from common.data.images import resize_image, resize_mask
from common.pages.directions import direction_map
from common.pages.markup import Html, element, name_of_file, text, together
from common.pages.page import write_page
from common.pages.pictures import outline_element, picture_element
from common.pages.table import Cell, Column, Row, sortable_table
from common.pages.viewer import Frusta, place_cameras, upright_frame, viewer_element
from common.scenes.checks.findings import Alternative, Findings, ViewFindings

_LARGEST_PICTURE = 160  # pixels, of the longer side
_AS_MANY = 60  # views at that size; more views get smaller ones, so that the page stays under 2 MB

_HINT = "Choose a view in the 3D picture, the map or the table."
_COLUMNS = (
    Column("Picture", "The picture and the outline of its mask", numeric=False, sortable=False),
    Column("Name", "The picture's file", numeric=False),
    Column("Hull IoU", "Does the mask agree with the hull of all masks seen here? 1: fully"),
    Column("Mask", "Share of the picture that is object"),
    Column("Sharp", "Sharpness against the median view's"),
    Column("Bright", "Mean brightness of the object"),
    Column("Doubts", "What looks wrong with this view", numeric=False, descending=True),
)


@dataclass(frozen=True)
class ScenePicture:
    """What there is to see of V views, in the order of Findings.views; cameras, points in world."""

    thumbnails: UInt8[np.ndarray, "V h w 3"]
    masks: Bool[np.ndarray, "V h w"]
    intrinsics: Float[np.ndarray, "V 3 3"]  # pixels of the thumbnails
    world_from_camera: Float[np.ndarray, "V 4 4"]  # rigid
    centre: Float[np.ndarray, "3"]  # of the object's sphere
    radius: float
    points: Float[np.ndarray, "P 3"] | None = None  # on the surface or in the hull
    colours: UInt8[np.ndarray, "P 3"] | None = None


@dataclass(frozen=True)
class SceneFacts:
    """What else a person wants to know of a scene; ``units`` in words, as "millimetres"."""

    source: str
    format: str
    image_size: tuple[int, int]  # width, height
    units: str
    notes: tuple[str, ...] = ()


def write_report(
    path: Path, findings: Findings, picture: ScenePicture, facts: SceneFacts, verdict: str
) -> None:
    """Write report.html about a scene; ``verdict`` is one or a few plain sentences.

    The file needs no server and no network. All names and sentences may be anybody's: they are
    shown as text. Creates the folder; raises ValueError where findings and picture differ in their
    number of views.
    """
    if len(findings.views) != len(picture.thumbnails):
        raise ValueError(f"{len(findings.views)} views found, {len(picture.thumbnails)} pictures")
    picture = _small(picture)
    doubtful = [bool(view.doubts) for view in findings.views]
    names = [view.name for view in findings.views]
    frame = upright_frame(picture.world_from_camera, picture.centre, picture.radius)
    height, width = picture.masks.shape[1:]
    eyes, corners = place_cameras(
        frame, picture.world_from_camera, picture.intrinsics, (width, height)
    )
    frusta = Frusta(names, [_identifier(v) for v in range(len(names))], eyes, corners, doubtful)
    viewer = viewer_element("scene", frusta, frame, picture.points, picture.colours)
    directions = eyes / np.maximum(np.linalg.norm(eyes, axis=-1, keepdims=True), 1e-9)
    look = together(
        element("div", {"class": "card viewer-card"}, viewer),
        element(
            "div",
            {"class": "below"},
            _card("Chosen view", element("p", {}, _HINT), {"data-details": ""}),
            _card(_coverage(findings), direction_map(directions, names, doubtful)),
        ),
    )
    table = sortable_table("Views, worst first", _COLUMNS, _rows(findings, picture))
    scene = (
        element("div", {"class": "look"}, look),
        element("div", {"class": "card views"}, table),
    )
    known = _facts(facts, picture, len(names))
    body = element(
        "main",
        {},
        _verdict(findings, verdict),
        element("div", {"class": "said"}, *_remedies(findings), *_doubts(findings), known),
        element("div", {"class": "scene"}, *scene),
    )
    write_page(path, f"Scene report: {facts.source}", body)


def _small(picture: ScenePicture) -> ScenePicture:
    """The same with pictures no larger than the page can carry."""
    count, height, width = picture.masks.shape
    most = _LARGEST_PICTURE * min(1.0, (_AS_MANY / count) ** 0.5)
    scale = min(1.0, most / max(height, width))
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    if size == (height, width):
        return picture
    scale_x, scale_y = size[1] / width, size[0] / height
    resize = np.array(
        [[scale_x, 0, 0.5 * scale_x - 0.5], [0, scale_y, 0.5 * scale_y - 0.5], [0, 0, 1]]
    )
    return replace(
        picture,
        thumbnails=np.stack([resize_image(image, *size) for image in picture.thumbnails]),
        masks=np.stack([resize_mask(mask, *size) for mask in picture.masks]),
        intrinsics=resize @ picture.intrinsics,
    )


def _verdict(findings: Findings, verdict: str) -> Html:
    if findings.remedies:
        kind, answer, shape = "bad", "Do not train yet", "M4 4L22 22M22 4L4 22"
    elif findings.doubts:
        kind, answer, shape = "doubts", "Look before training", "M13 3V15M13 22V22.1"
    else:
        kind, answer, shape = "good", "Ready to train", "M3 14L10 21L23 5"
    badge = element(
        "svg",
        {"class": "badge", "viewBox": "0 0 26 26", "aria-hidden": "true"},
        element("path", {"d": shape}),
    )
    attributes = {"class": f"card verdict {kind}"}
    return element(
        "header",
        attributes,
        badge,
        element("p", {"class": "answer"}, answer),
        element("h1", {}, verdict),
    )


def _remedies(findings: Findings) -> list[Html]:
    if not findings.remedies:
        return []
    sentences = [_remedy(remedy, findings.hull_iou) for remedy in findings.remedies]
    return [_card("What to do", _list(sentences, "list remedies"))]


def _remedy(remedy: Alternative, hull_iou: float) -> Html:
    return together(
        f"With {remedy.name}, cameras and masks fit with IoU ",
        element("strong", {}, _decimal(remedy.hull_iou)),
        f" instead of {_decimal(hull_iou)}: run again with ",
        element("code", {}, remedy.remedy),
    )


def _doubts(findings: Findings) -> list[Html]:
    if not findings.doubts:
        return []
    return [_card("Doubts", _list(findings.doubts, "list doubtful"))]


def _facts(facts: SceneFacts, picture: ScenePicture, count: int) -> Html:
    centre = ", ".join(f"{coordinate:.4g}" for coordinate in picture.centre)
    pairs = {
        "Source": name_of_file(facts.source),
        "Format": text(facts.format),
        "Views": text(str(count)),
        "Image size": text(f"{facts.image_size[0]} × {facts.image_size[1]}"),
        "Sphere centre": text(f"({centre})"),
        "Sphere radius": text(f"{picture.radius:.4g}"),
        "Units": text(facts.units),
    }
    entries = (
        element("div", {}, element("dt", {}, label), element("dd", {}, content))
        for label, content in pairs.items()
    )
    notes = element("div", {"class": "notes"}, _list(facts.notes, "list"))
    return element(
        "section",
        {"class": "card", "aria-label": "Facts"},
        element("dl", {"class": "facts"}, *entries),
        *([notes] if facts.notes else []),
    )


def _coverage(findings: Findings) -> str:
    return f"Coverage: {findings.coverage:.0%} of directions lie within 30° of a camera"


def _rows(findings: Findings, picture: ScenePicture) -> list[Row]:
    """Doubted views first, then those whose masks fit least."""
    rows = [
        Row(view, _cells(found, picture, view), bool(found.doubts))
        for view, found in enumerate(findings.views)
    ]
    worst = [(not found.doubts, _order(found.hull_iou)) for found in findings.views]
    return [rows[view] for view in sorted(range(len(rows)), key=worst.__getitem__)]


def _cells(found: ViewFindings, picture: ScenePicture, view: int) -> tuple[Cell, ...]:
    figure = element(
        "figure",
        {"class": "view"},
        picture_element(picture.thumbnails[view], found.name, _identifier(view)),
        outline_element(picture.masks[view]),
    )
    name = element("button", {"type": "button", "class": "choose"}, name_of_file(found.name))
    share = {"class": "bar", "style": f"--share:{max(_order(found.hull_iou), 0):.3f}"}
    return (
        Cell(figure, ""),
        Cell(name, found.name),
        _number(found.hull_iou, element("span", share, _decimal(found.hull_iou))),
        _number(found.mask_share, _percentage(found.mask_share)),
        _number(found.sharpness, _decimal(found.sharpness)),
        _number(found.brightness, _percentage(found.brightness)),
        Cell(_list(found.doubts, "doubt-list"), f"{len(found.doubts)} {' '.join(found.doubts)}"),
    )


def _number(value: float, shown: str) -> Cell:
    return Cell(text(shown), f"{_order(value):.6g}")


def _order(value: float) -> float:
    """What could not be measured counts as worst."""
    return value if isfinite(value) else -1.0


def _decimal(value: float) -> str:
    return f"{value:.2f}" if isfinite(value) else "–"


def _percentage(value: float) -> str:
    return f"{value:.0%}" if isfinite(value) else "–"


def _card(title: str, content: Html, attributes: dict[str, str] | None = None) -> Html:
    inside = element("div", attributes or {}, content)
    return element("section", {"class": "card"}, element("h2", {}, title), inside)


def _list(sentences: Sequence[str], kind: str) -> Html:
    if not sentences:
        return Html("")
    return element("ul", {"class": kind}, *(element("li", {}, line) for line in sentences))


def _identifier(view: int) -> str:
    return f"picture-{view}"
