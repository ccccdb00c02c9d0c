"""The report of a collection of objects, each seen in one picture."""

from pathlib import Path

from common.pages.markup import Html, element, text, together
from common.pages.page import write_page
from common.pages.table import Cell, Column, Row, sortable_table
from common.reports.blocks import (
    NOT_SCORED,
    card,
    curves_card,
    header,
    key_numbers,
    mesh_card,
    run_facts,
    still,
)
from common.reports.looks import CollectionLook, ObjectLook, Picture
from common.reports.record import RunRecord
from common.reports.scores import METRICS, category_rows, rows_of, score_table
from common.reports.training_curves import run_plots

BLOCKS = ("run", "table", "curves", "mesh_view")
_SIDE = 84  # pixels of a picture in the table
_SHOWN = ("volumetric_iou", "chamfer_l1", "mask_iou", "psnr")


def write_collection_report(path: Path, record: RunRecord, look: CollectionLook) -> None:
    """Write the page; creates the folder."""
    first = look.objects[0] if look.objects else None
    body = element(
        "main",
        {},
        header(f"{record.method} · {record.name}", look.subject, key_numbers(record)),
        element(
            "div",
            {"class": "pair"},
            mesh_card(look.meshes, first.predictions[0] if first else None),
            card("Run", run_facts(record, look.facts)),
        ),
        _objects_card(look.objects, bool(record.evaluation)),
        _scores_card(record),
        curves_card(run_plots(record)),
    )
    write_page(path, f"{record.name}: report", body, BLOCKS)


def _objects_card(objects: tuple[ObjectLook, ...], scored: bool) -> Html:
    """The best, then the worst from the worst on, so that both are seen at once."""
    metrics = [name for name in _SHOWN if any(name in one.scores for one in objects)]
    columns = [
        Column("Input", "The one picture that is given", numeric=False, sortable=False),
        Column("Object", "Its name", numeric=False),
        Column("Learnt", "Its shape from other sides", numeric=False, sortable=False),
        Column("Truth", "The same sides in truth", numeric=False, sortable=False),
        *(
            Column(METRICS[name].title, f"Sort by {METRICS[name].title}", descending=True)
            for name in metrics
        ),
    ]
    best = (len(objects) + 1) // 2
    tagged = [(one, "best") for one in objects[:best]]
    tagged += [(one, "worst") for one in objects[best:][::-1]]
    rows = [
        Row(number, _cells(one, tag if scored else "", metrics), doubtful=False)
        for number, (one, tag) in enumerate(tagged)
    ]
    caption = "The best objects, then the worst; a heading sorts" if scored else NOT_SCORED
    table = sortable_table(caption, columns, rows)
    return card("Objects never seen in training", element("div", {"class": "wide objects"}, table))


def _cells(one: ObjectLook, tag: str, metrics: list[str]) -> tuple[Cell, ...]:
    seen = [] if one.seen is None else [one.seen]
    label = element("span", {"class": f"tag {tag}"}, tag) if tag else Html("")
    name = together(element("div", {}, element("bdi", {}, one.name)), label)
    learnt = together(
        _sides(one.predictions, f"{one.name} as learnt"),
        _sides(one.normals, f"Normals of {one.name}"),
    )
    return (
        Cell(_sides(seen, f"Input of {one.name}"), ""),
        Cell(name, one.name),
        Cell(learnt, ""),
        Cell(_sides(one.truths, f"{one.name} in truth"), ""),
        *(_number(name, one.scores.get(name)) for name in metrics),
    )


def _sides(pictures: tuple[Picture, ...] | list[Picture], description: str) -> Html:
    shown = (still(picture, description, 2 * _SIDE) for picture in pictures)
    return element("div", {"class": "sides"}, *shown)


def _number(metric: str, value: float | None) -> Cell:
    if value is None:
        return Cell(text("–"), "-1")
    return Cell(text(METRICS[metric].write(value)), f"{value:.6g}")


def _scores_card(record: RunRecord) -> Html:
    rows = rows_of(record.evaluation)
    if not rows:
        return card("Scores", element("p", {}, NOT_SCORED))
    tables = [score_table("The run beside what it is compared to", rows, list(rows))]
    categories = category_rows(record.evaluation)
    if categories:
        tables.append(score_table("By kind", categories))
    return card("Scores", *tables)
