"""Curves over the steps or the time of training, read off with the pointer."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from common.pages.markup import Html, data_block, element, together

COLOURS = 8  # that curves.css tells apart; further lines start again
_MOST_POINTS = 400  # of a line: more than a plot has pixels for


@dataclass(frozen=True)
class Line:
    """Values at some steps and seconds; ``dashed`` to tell two of one colour apart."""

    name: str
    colour: int
    steps: Sequence[float]
    seconds: Sequence[float]
    values: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """Lines of one unit; ``log``: on a logarithmic axis, which leaves out what is not positive."""

    title: str
    lines: tuple[Line, ...]
    log: bool = False


def curves_element(identifier: str, plots: Sequence[Plot]) -> Html:
    """Plots side by side and what they are drawn over to choose; needs the block "curves"."""
    stage = [
        {"log": plot.log, "lines": [_points(line, plot.log) for line in plot.lines]}
        for plot in plots
    ]
    buttons = together(*(_button(axis, axis == "steps") for axis in ("steps", "minutes")))
    over = element("div", {"class": "tools"}, element("small", {}, "Over"), buttons)
    figures = element("div", {"class": "plots"}, *map(_figure, plots))
    data = data_block(f"{identifier}-stage", stage)
    return element(
        "div", {"class": "curves", "data-curves": f"{identifier}-stage"}, over, figures, data
    )


def _points(line: Line, log: bool) -> dict:
    kept = [
        (float(step), round(float(seconds) / 60, 4), float(f"{value:.5g}"))
        for step, seconds, value in zip(line.steps, line.seconds, line.values, strict=True)
        if isfinite(value) and isfinite(step) and isfinite(seconds) and (value > 0 or not log)
    ]
    every = -(-len(kept) // _MOST_POINTS) or 1
    chosen = kept[::-1][::every][::-1]  # the last point always
    return {
        "name": line.name.encode("utf-8", "backslashreplace").decode("utf-8"),
        "colour": line.colour % COLOURS,
        "dashed": line.dashed,
        "points": chosen,
    }


def _button(axis: str, pressed: bool) -> Html:
    attributes = {"type": "button", "data-axis": axis, "aria-pressed": str(pressed).lower()}
    return element("button", attributes, axis)


def _figure(plot: Plot) -> Html:
    named = plot.lines if len(plot.lines) > 1 else ()
    legend = (
        element(
            "li",
            {"class": f"line-{line.colour % COLOURS}" + " dashed" * line.dashed},
            element("bdi", {}, line.name),
        )
        for line in named
    )
    title = element("figcaption", {}, plot.title)
    names = [element("ul", {"class": "legend"}, *legend)] if named else []
    label = f"{plot.title}, logarithmic axis" if plot.log else plot.title
    return element(
        "figure",
        {"class": "plot"},
        title,
        *names,
        element("svg", {"role": "img", "aria-label": label}),
        element("div", {"class": "reading", "aria-hidden": "true"}),
    )
