"""The report that puts two or more runs side by side."""

from collections.abc import Sequence
from pathlib import Path

from common.pages.curves import COLOURS
from common.pages.markup import Html, element, together
from common.pages.mesh_view import ShownMesh
from common.pages.page import write_page
from common.pages.slider import slider_element
from common.reports.blocks import (
    card,
    curves_card,
    duration,
    facts,
    header,
    mesh_card,
    score_words,
)
from common.reports.looks import ComparedView, Look, compared_views
from common.reports.record import RunRecord, scores_in
from common.reports.scores import camera_rows, comparison_table
from common.reports.settings import differences, differences_table
from common.reports.training_curves import compared_plots

BLOCKS = ("run", "slider", "curves", "mesh_view")
_ROWS = 6  # of pictures
_SECTIONS = {"held_out": "held out", "training": "training views", "mesh": "surface"}


def write_comparison(path: Path, records: Sequence[RunRecord], looks: Sequence[Look]) -> None:
    """Write the page about runs and what each looks like; creates the folder."""
    names = labels(records)
    same_data = len({Path(record.data_path).resolve() for record in records}) == 1
    tiles = [
        (duration(record.seconds), name, f"{record.method}, {record.step:,} steps")
        for record, name in zip(records, names, strict=True)
    ]
    note = (
        "All learnt from the same data: the best score of each row is bold."
        if same_data
        else "Learnt from different data: numbers tell how hard these were, too, so none is bold."
    )
    poster = next((view.rendering for look in looks for view in compared_views(look)), None)
    views = _views_card([compared_views(look) for look in looks], names, same_data)
    runs = _runs_card(records, looks, names)
    body = element(
        "main",
        {},
        header("Comparison", " and ".join(names), tiles, note),
        element(
            "div",
            {"class": "pair"},
            _scores_card(records, names, same_data),
            _differences(records, names),
        ),
        views,
        element("div", {"class": "pair"}, mesh_card(_meshes(looks, names), poster), runs),
        curves_card(compared_plots(records, names)),
    )
    write_page(path, f"Comparison: {', '.join(names)}", body, BLOCKS)


def labels(records: Sequence[RunRecord]) -> list[str]:
    """A name for each run; a number sets those apart that are called alike."""
    names = [record.name for record in records]
    return [
        f"{name} ({names[: number + 1].count(name)})" if names.count(name) > 1 else name
        for number, name in enumerate(names)
    ]


def matching(views: Sequence[Sequence[ComparedView]], same_data: bool) -> list[list[ComparedView]]:
    """Rows of one view of each run: those of one name where all learnt from the same data.

    Else, and where no name is in all runs, the first of each, the second, and so on.
    """
    if not same_data:
        return [list(row) for row in zip(*views, strict=False)][:_ROWS]
    named = [{view.name: view for view in one} for one in views]
    shared = [
        [one[view.name] for one in named]
        for view in views[0]
        if all(view.name in one for one in named)
    ]
    alike = [row for row in shared if len({view.held_out for view in row}) == 1]
    return (alike or [list(row) for row in zip(*views, strict=False)])[:_ROWS]


def _scores_card(records: Sequence[RunRecord], names: Sequence[str], rated: bool) -> Html:
    sections = {
        title: [scores_in(record.evaluation.get(key)) for record in records]
        for key, title in _SECTIONS.items()
    }
    sections["learnt cameras"] = [
        camera_rows(record.evaluation).get("cameras after", {}) for record in records
    ]
    missing = [name for record, name in zip(records, names, strict=True) if not record.evaluation]
    caption = "↑ more is better, ↓ less is better"
    table = comparison_table(caption, names, sections, rated)
    if missing:
        words = f"Not scored yet: {', '.join(missing)}. Run scripts/evaluate.py."
        return card("Scores", table, element("p", {"class": "quiet"}, words))
    return card("Scores", table)


def _views_card(
    views: Sequence[Sequence[ComparedView]], names: Sequence[str], same_data: bool
) -> Html:
    rows = matching(views, same_data)
    if not rows:
        return Html("")
    shown = (
        element(
            "div",
            {"class": "look-row"},
            *(_figure(view, name, f"row-{number}") for view, name in zip(row, names, strict=True)),
        )
        for number, row in enumerate(rows)
    )
    return card(
        "The same view by each run" if same_data else "Views by each run",
        element("div", {"class": "look-rows"}, *shown),
    )


def _figure(view: ComparedView, run: str, group: str) -> Html:
    sides = ("photograph", "rendering")
    slider = slider_element(view.truth, view.rendering, sides, f"{run}: {view.name}", group)
    scores = ", ".join(score_words(view.scores, ("volumetric_iou", "psnr", "mask_iou")))
    title = element("strong", {}, element("bdi", {}, run))
    caption = together(title, " ", element("bdi", {}, view.name), f" {scores}")
    return element("figure", {}, slider, element("figcaption", {}, caption))


def _meshes(looks: Sequence[Look], names: Sequence[str]) -> list[ShownMesh]:
    """The first mesh of each run."""
    return [
        ShownMesh(name, look.meshes[0].content)
        for look, name in zip(looks, names, strict=True)
        if look.meshes
    ]


def _differences(records: Sequence[RunRecord], names: Sequence[str]) -> Html:
    rows = differences([record.settings for record in records])
    if not rows:
        return card("Settings", element("p", {}, "All settings are the same."))
    return card("Settings that differ", differences_table(names, rows))


def _runs_card(records: Sequence[RunRecord], looks: Sequence[Look], names: Sequence[str]) -> Html:
    blocks = (
        element(
            "section",
            {"class": f"line-{number % COLOURS}"},
            element("h3", {}, element("bdi", {}, name)),
            facts({"Data": record.data_path, "Seed": record.seed} | look.facts | record.versions),
        )
        for number, (record, look, name) in enumerate(zip(records, looks, names, strict=True))
    )
    return card("Runs", element("div", {"class": "runs"}, *blocks))
