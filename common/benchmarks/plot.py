"""A picture of a benchmark: ratios as bars on a logarithmic axis, and curves over training time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from common.benchmarks.figures import Curve, Figure
from common.training.run_folder import write_atomically

WIDTH, MARGIN = 1200, 24
ROW, BAR = 30, 16  # heights of a figure's row and of its bar
NAMES, RIGHT = 320, 390  # widths left of the bars and right of them
PANEL = 330  # height of the curves
SHARPER = 2  # times the pixels that lengths are given in
Number = int | float
INK, FAINT, BETTER, WORSE = "#1f2328", "#d0d7de", "#2f6fb5", "#c4432b"
LINES = ("#2f6fb5", "#d9822b", "#3c8f5a", "#8a5fb0")


@dataclass(frozen=True)
class Scale:
    """From values to pixels, evenly or by orders of magnitude."""

    low: Number
    high: Number
    start: Number
    end: Number
    log: bool

    def __call__(self, value: Number) -> float:
        """The pixel of a value; of one beyond the ends, the end's."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values from end to end: powers of ten, or some four to eight steps of 1, 2 or 5."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * min((1, 2, 5, 10), key=lambda factor: abs(factor - rough / power))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [number * step for number in range(first, last + 1)]


class Canvas:
    """White paper to draw on, in lengths that do not know of SHARPER."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * SHARPER, height * SHARPER), "white")
        self._draw = ImageDraw.Draw(self.image)

    def text(
        self, x: Number, y: Number, words: str, anchor: str = "lm", size: int = 14, ink: str = INK
    ) -> None:
        """Words at a point, where ``anchor`` is Pillow's."""
        font = ImageFont.load_default(size * SHARPER)
        self._draw.text((x * SHARPER, y * SHARPER), words, ink, font, anchor)

    def line(self, points: Sequence[tuple[Number, Number]], ink: str, width: int = 1) -> None:
        """Straight from point to point."""
        places = [(x * SHARPER, y * SHARPER) for x, y in points]
        self._draw.line(places, ink, width * SHARPER, joint="curve")

    def bar(self, x: tuple[Number, Number], y: tuple[Number, Number], ink: str) -> None:
        """A filled rectangle."""
        (left, right), (top, bottom) = sorted(x), sorted(y)
        corners = [v * SHARPER for v in (left, top, right, bottom)]
        self._draw.rectangle(corners, ink)

    def dot(self, x: Number, y: Number, ink: str, radius: Number = 3) -> None:
        """A filled circle."""
        ends = [(v - radius) * SHARPER for v in (x, y)] + [(v + radius) * SHARPER for v in (x, y)]
        self._draw.ellipse(ends, ink)


def plot(figures: Sequence[Figure], file: Path) -> None:
    """Write a PNG of all the figures' ratios, and of the curves that some were read off."""
    curves = list(dict.fromkeys(curve for figure in figures for curve in figure.curves))
    bars = 3 * MARGIN + (len(figures) + 1) * ROW
    canvas = Canvas(WIDTH, bars + (PANEL + MARGIN if curves else 0))
    draw_ratios(canvas, figures, MARGIN)
    if curves:
        draw_curves(canvas, curves, bars)
    write_atomically(file, lambda stream: canvas.image.save(stream, "png"))


def draw_ratios(canvas: Canvas, figures: Sequence[Figure], top: Number) -> None:
    """A row for each figure: its name, a bar from 1 to its ratio, the numbers, the agreement."""
    ratios = [figure.ratio for figure in figures]
    low, high = 10 ** math.floor(_log10(min(1, *ratios))), 10 ** math.ceil(_log10(max(10, *ratios)))
    scale = Scale(low, high, NAMES, WIDTH - RIGHT, log=True)
    first, last = top + ROW, top + (len(figures) + 1) * ROW
    canvas.text(MARGIN, top + ROW / 2, "times better than the plain oracle", size=16)
    canvas.text(WIDTH - MARGIN, top + ROW / 2, "agreement", "rm")
    for tick in scale.ticks():
        canvas.line([(scale(tick), first), (scale(tick), last)], INK if tick == 1 else FAINT)
        canvas.text(scale(tick), last + 12, f"{tick:g}", "mm")
    for row, figure in enumerate(figures):
        middle = first + (row + 0.5) * ROW
        canvas.text(MARGIN, middle, figure.name)
        ink = BETTER if figure.ratio >= 1 else WORSE
        rows = middle - BAR / 2, middle + BAR / 2
        canvas.bar((scale(1), scale(figure.ratio)), rows, ink)
        numbers = f"{_short(figure.value)} against {_short(figure.oracle)} {figure.unit}"
        canvas.text(max(scale(1), scale(figure.ratio)) + 8, middle, f"{figure.ratio:.3g}", ink=ink)
        canvas.text(WIDTH - RIGHT + 60, middle, numbers, size=12)
        canvas.text(WIDTH - MARGIN, middle, f"{figure.agreement:.4g}", "rm")


def draw_curves(canvas: Canvas, curves: Sequence[Curve], top: Number) -> None:
    """A panel for each quantity, over seconds on a logarithmic axis."""
    quantities = [(q, list(some)) for q, some in groupby(curves, lambda curve: curve.quantity)]
    step = (WIDTH - MARGIN) / len(quantities)
    for column, (quantity, some) in enumerate(quantities):
        left = MARGIN + column * step
        draw_panel(canvas, quantity, some, (left, left + step - MARGIN), (top, top + PANEL))


def draw_panel(
    canvas: Canvas,
    quantity: str,
    curves: Sequence[Curve],
    x: tuple[Number, Number],
    y: tuple[Number, Number],
) -> None:
    """Curves of one quantity in a frame, each named at its last point."""
    seconds = [s for curve in curves for s in curve.seconds if s > 0]
    values = [value for curve in curves for value in curve.values]
    spread = max(max(values) - min(values), 1e-9)
    left, right, high, low = x[0] + 60, x[1] - 60, y[0] + 30, y[1] - 40
    along = Scale(min(seconds) / 1.5, 1.5 * max(seconds), left, right, log=True)
    up = Scale(min(values) - 0.1 * spread, max(values) + 0.1 * spread, low, high, log=False)
    canvas.text(x[0], y[0] + 10, quantity, size=16)
    canvas.text(right, y[1] - 8, "seconds of training", "rm", size=12)
    for tick in along.ticks():
        canvas.line([(along(tick), low), (along(tick), high)], FAINT)
        canvas.text(along(tick), low + 12, f"{tick:g}", "mm", size=12)
    for tick in up.ticks():
        canvas.line([(left, up(tick)), (right, up(tick))], FAINT)
        canvas.text(left - 8, up(tick), f"{tick:.4g}", "rm", size=12)
    for curve, ink in zip(curves, LINES, strict=False):
        points = [
            (along(s), up(value))
            for s, value in zip(curve.seconds, curve.values, strict=True)
            if s > 0
        ]
        canvas.line(points, ink, 2)
        for point in points:
            canvas.dot(*point, ink)
        canvas.text(points[-1][0] + 8, points[-1][1], curve.name, ink=ink)


def _log10(value: Number) -> float:
    return math.log10(max(value, 1e-6))


def _short(value: Number) -> str:
    """Three figures: 0.039, 12.5, 3.4 M."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
