"""The picture of a benchmark: where values come to lie, and what is drawn there."""

import numpy as np
import pytest
from PIL import Image

from common.benchmarks.figures import Curve, Figure
from common.benchmarks.plot import (
    BETTER,
    LINES,
    MARGIN,
    NAMES,
    PANEL,
    RIGHT,
    ROW,
    SHARPER,
    WIDTH,
    WORSE,
    Scale,
    plot,
)


def colour(name: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(name[1:]))


class TestScale:
    @pytest.mark.parametrize("log", [True, False])
    def test_ends_are_ends_and_beyond_them_nothing_moves(self, log) -> None:
        scale = Scale(0.1, 1000, 50, 250, log)
        assert [scale(v) for v in (0.1, 1000, 0.01, 1e6)] == [50, 250, 50, 250]

    def test_each_order_of_magnitude_is_as_long(self) -> None:
        scale = Scale(0.1, 1000, 0, 400, log=True)
        assert [scale(10.0**power) for power in range(-1, 4)] == pytest.approx(range(0, 401, 100))
        assert scale.ticks() == pytest.approx([0.1, 1, 10, 100, 1000])

    @pytest.mark.parametrize("low, high", [(0, 1), (12.3, 19.7), (-2, 700), (0.0011, 0.0012)])
    def test_even_ticks_are_a_few_round_numbers_inside(self, low, high) -> None:
        ticks = Scale(low, high, 0, 1, log=False).ticks()
        step = ticks[1] - ticks[0]
        assert 3 <= len(ticks) <= 9 and low <= ticks[0] and ticks[-1] <= high * (1 + 1e-9)
        assert np.diff(ticks) == pytest.approx(step)
        mantissa = step / 10 ** np.floor(np.log10(step * (1 + 1e-9)))
        assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-6


def figure(ratio: float, curves: tuple[Curve, ...] = ()) -> Figure:
    return Figure("x/name", 1.0, float(ratio), float(ratio), 1.0, "s", curves)


def drawn(figures: list[Figure], folder) -> np.ndarray:
    plot(figures, folder / "plot.png")
    return np.asarray(Image.open(folder / "plot.png"))


class TestPlot:
    def test_a_bar_goes_from_one_to_the_ratio(self, tmp_path) -> None:
        """Three rows: 10, 0.1 and 1000 times better, on an axis from 0.1 to 1000."""
        pixels = drawn([figure(10), figure(0.1), figure(1000)], tmp_path)
        scale = Scale(0.1, 1000, NAMES, WIDTH - RIGHT, log=True)
        for row, (ratio, ink) in enumerate(((10, BETTER), (0.1, WORSE), (1000, BETTER))):
            line = pixels[round(SHARPER * (MARGIN + (row + 1.5) * ROW))]
            painted = (
                (line[: SHARPER * (WIDTH - RIGHT) + 1] == colour(ink)).all(axis=1).nonzero()[0]
            )
            left, right = sorted((scale(1), scale(ratio)))
            # Behind the bar the ratio stands in the same ink, so the bar is the first stretch.
            end = painted[np.append(np.diff(painted) > 1, True)][0]
            assert painted[0] / SHARPER == pytest.approx(left, abs=1)
            assert end / SHARPER == pytest.approx(right, abs=1)

    def test_curves_add_a_panel_with_both_lines(self, tmp_path) -> None:
        curves = tuple(
            Curve("PSNR, dB", name, (0.0, 1.0, 10.0 * scale), (10.0, 12.0, 15.0))
            for name, scale in (("ours", 1), ("plain", 10))
        )
        without = drawn([figure(10)], tmp_path)
        assert not (without == colour(LINES[1])).all(axis=-1).any()
        # Two figures read off the same curves: they are drawn once.
        pixels = drawn([figure(10, curves), figure(5, curves)], tmp_path)
        assert pixels.shape[0] - without.shape[0] == SHARPER * (ROW + PANEL + MARGIN)
        panel = pixels[-SHARPER * (PANEL + MARGIN) :]
        columns = [
            (panel == colour(ink)).all(axis=-1).any(axis=0).nonzero()[0] for ink in LINES[:2]
        ]
        # Both begin at one second, where the second's dot hides the first's; it goes on for longer.
        assert abs(columns[0][0] - columns[1][0]) <= SHARPER * 8
        assert columns[1][-1] > columns[0][-1]
