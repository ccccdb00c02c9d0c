"""A table whose rows stand for views, sorted by its reader."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.pages.markup import Html, element


@dataclass(frozen=True)
class Column:
    """A heading; ``explanation`` shows while the pointer rests on it."""

    title: str
    explanation: str
    numeric: bool = True
    descending: bool = False  # what the first click on the heading gives
    sortable: bool = True


@dataclass(frozen=True)
class Cell:
    """What a cell shows and what it is sorted by (a number's text in a numeric column)."""

    content: Html
    order: str


@dataclass(frozen=True)
class Row:
    """One view's cells; ``doubtful`` rows are marked."""

    view: int
    cells: tuple[Cell, ...]
    doubtful: bool


def sortable_table(caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> Html:
    """A table in the given order of rows, with headings to click; needs the block "table"."""
    head = element("thead", {}, element("tr", {}, *map(_heading, columns)))
    body = element("tbody", {}, *(_row(columns, row) for row in rows))
    title = element("caption", {}, caption)
    return element("table", {"class": "sortable"}, title, head, body)


def _heading(column: Column) -> Html:
    kind = "number" if column.numeric else "words"
    if not column.sortable:
        return element("th", {"scope": "col", "class": kind}, column.title)
    order = {"data-first": "descending" if column.descending else "ascending", "data-kind": kind}
    button = element("button", {"type": "button", "title": column.explanation}, column.title)
    return element("th", {"scope": "col", "class": kind} | order, button)


def _row(columns: Sequence[Column], row: Row) -> Html:
    cells = (
        element(
            "td",
            {
                "class": "number" if column.numeric else "words",
                "data-order": cell.order,
                "data-label": column.title,
            },
            cell.content,
        )
        for column, cell in zip(columns, row.cells, strict=True)
    )
    doubtful = {"class": "doubtful"} if row.doubtful else {}
    return element("tr", {"data-view": str(row.view)} | doubtful, *cells)
