"""The report of one object learnt from its photographs."""

from pathlib import Path

import numpy as np

from common.pages.markup import Html, element, together
from common.pages.page import write_page
from common.pages.pictures import picture_element
from common.pages.viewer import Frusta, place_cameras, upright_frame, viewer_element
from common.reports.blocks import (
    NOT_SCORED,
    card,
    curves_card,
    header,
    key_numbers,
    mesh_card,
    run_facts,
    still,
    view_panel,
)
from common.reports.looks import CameraLook, ComparedView, SceneLook
from common.reports.record import RunRecord
from common.reports.scores import METRICS, camera_rows, rows_of, score_table
from common.reports.training_curves import run_plots

BLOCKS = ("run", "table", "viewer", "slider", "curves", "mesh_view", "views", "selection")
_THUMBNAIL = 96  # pixels


def write_scene_report(path: Path, record: RunRecord, look: SceneLook) -> None:
    """Write the page; creates the folder."""
    poster = look.views[0].rendering if look.views else None
    body = element(
        "main",
        {},
        header(f"{record.method} · {record.name}", look.subject, key_numbers(record)),
        element("div", {"class": "pair"}, mesh_card(look.meshes, poster), _views_card(look.views)),
        _scores_card(record),
        curves_card(run_plots(record)),
        element(
            "div",
            {"class": "pair"},
            _cameras_card(look.cameras, record),
            card("Run", run_facts(record, look.facts)),
        ),
        _thumbnails(look.cameras),
    )
    write_page(path, f"{record.name}: report", body, BLOCKS)


def _views_card(views: tuple[ComparedView, ...]) -> Html:
    """One view large, the others to choose; the 3D picture's cameras have the same numbers."""
    if not views:
        return Html("")
    panels = (
        element(
            "div",
            {"data-panel": str(view.camera)} | ({} if view is views[0] else {"hidden": ""}),
            view_panel(view, "views"),
        )
        for view in views
    )
    strip = element("div", {"class": "strip"}, *(_choice(view, view is views[0]) for view in views))
    return card("Photographs and what was learnt", *panels, strip, kind="views-card")


def _choice(view: ComparedView, first: bool) -> Html:
    psnr = view.scores.get("psnr")
    words = view.name if psnr is None else METRICS["psnr"].write(psnr)
    kind = "held out" if view.held_out else "training"
    return element(
        "button",
        {"type": "button", "data-view": str(view.camera), "title": f"{view.name} ({kind})"}
        | ({"aria-current": "true"} if first else {}),
        still(view.truth, "", _THUMBNAIL),
        element("span", {}, element("bdi", {}, words)),
        element("small", {}, kind),
    )


def _scores_card(record: RunRecord) -> Html:
    rows = rows_of(record.evaluation)
    if not rows:
        return card("Scores", element("p", {}, NOT_SCORED))
    rivals = [name for name in rows if name != "its training views"]
    tables = [score_table("The run beside what it is compared to", rows, rivals)]
    cameras = camera_rows(record.evaluation)
    if cameras:
        tables.append(score_table("Cameras against the true ones", cameras, list(cameras)))
    return card("Scores", *tables)


def _cameras_card(look: CameraLook, record: RunRecord) -> Html:
    frame = upright_frame(look.poses, np.zeros(3), 1.0)
    after = _frusta(look, frame, look.poses)
    before = None if look.before is None else _frusta(look, frame, look.before)
    viewer = viewer_element("cameras", after, frame, look.points, look.colours, before)
    words = f"{len(look.names)} cameras around the surface"
    if before is not None:
        words += "; violet: where each was before it was refined"
    held_out = sum(look.held_out)
    if held_out:
        words += f"; the {held_out} held out are drawn in amber"
    return element(
        "section",
        {"class": "card viewer-card", "aria-label": "Cameras"},
        viewer,
        element("p", {"class": "quiet below-viewer"}, words + "."),
    )


def _frusta(look: CameraLook, frame: np.ndarray, poses: np.ndarray) -> Frusta:
    height, width = look.thumbnails[0].shape[:2]
    eyes, corners = place_cameras(frame, poses, look.intrinsics, (width, height))
    pictures = [_identifier(view) for view in range(len(look.names))]
    return Frusta(look.names, pictures, eyes, corners, look.held_out)


def _thumbnails(look: CameraLook) -> Html:
    """The pictures that the cameras show; nowhere else on the page."""
    return element(
        "div",
        {"hidden": ""},
        together(
            *(
                element("figure", {}, picture_element(picture, name, _identifier(view)))
                for view, (picture, name) in enumerate(
                    zip(look.thumbnails, look.names, strict=True)
                )
            )
        ),
    )


def _identifier(view: int) -> str:
    return f"picture-{view}"
