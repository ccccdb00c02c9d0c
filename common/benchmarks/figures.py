"""What benchmarks have in common: a figure beside its oracle's."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from common.measuring import measures_memory, peak_bytes, reset_peak
from common.meshes.extract import Corner, Level, extract_dense, extract_mesh
from common.rendering.march import Hits
from common.rendering.sphere_tracing import TracedRays
from common.training.run_folder import write_json

SAME_CROSSING = 1e-3  # units of the object frame
START, CHECKED = 32, 64  # cells an axis: where extractions start, and where the dense one is made
PAGE = 4096  # bytes: the least that a process can grow by


@dataclass(frozen=True)
class Curve:
    """A quantity over the seconds of a training, as it was measured at some of them."""

    quantity: str  # with its unit; curves of one quantity are drawn together
    name: str
    seconds: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Figure:
    """One measured quantity beside that of the oracle; ratio says how many times better it is.

    ``agreement`` is the share of rays on which the two have the same outcome. ``curves`` are there
    where a figure was read off them.
    """

    name: str
    value: float
    oracle: float
    ratio: float
    agreement: float
    unit: str
    curves: tuple[Curve, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Everything by its name; no curves where there are none."""
        content = asdict(self)
        return content if self.curves else {k: v for k, v in content.items() if k != "curves"}


def report(figures: Sequence[Figure], file: Path | None) -> None:
    """Print the figures as a table; also write them to a JSON file, if one is named."""
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        print(
            f"{figure.name:{width}s} {figure.value:12.4g} oracle {figure.oracle:12.4g} "
            f"ratio {figure.ratio:7.2f}  agreement {figure.agreement:8.3%}  {figure.unit}"
        )
    if file is not None:
        write_json(file, [figure.as_json() for figure in figures])


def agreement(
    fast: Hits | TracedRays, oracle: Hits | TracedRays
) -> tuple[float, Float[Tensor, "H"]]:
    """Share of rays with the same outcome (hit or not, at the same crossing).

    And the absolute difference of the depths of the H rays that both say hit.
    """
    both = fast.found & oracle.found
    difference = (fast.depth - oracle.depth).abs()[both]
    same = (fast.found == oracle.found) & (fast.starts_inside == oracle.starts_inside)
    same[both] &= difference < SAME_CROSSING
    return float(same.float().mean()), difference


def mesh_figures(
    method: str,
    level: Level,
    box: tuple[Corner, Corner],
    resolution: int,
    chunk: int,
    device: torch.device,
) -> list[Figure]:
    """Evaluations of a surface's extraction beside those of the whole grid of its box.

    And peak memory beside what the whole grid's values alone would take; and how both grow when
    cells become half as large. They agree on the share of the whole grid's vertices, at CHECKED
    cells an axis, that the extraction has too.
    """  # fmt: skip

    def taken(cells: int) -> tuple[float, float]:
        before = reset_peak(device)
        done = extract_mesh(level, *box, cells, START, chunk=chunk, device=device)
        return float(done.evaluations), max(peak_bytes(device) - before, PAGE) / 2**20

    taken(CHECKED)  # warm up
    (fine, peak), (half, peak_of_half) = taken(resolution), taken(resolution // 2)
    ours = extract_mesh(level, *box, CHECKED, START, chunk=chunk, device=device).mesh
    dense = extract_dense(level, *box, CHECKED, chunk=chunk, device=device).mesh
    cell = (box[1][0] - box[0][0]) / CHECKED
    apart = cKDTree(ours.vertices).query(dense.vertices)[0] if len(ours.vertices) else np.inf
    equal = float(np.mean(apart < 0.01 * cell))
    every, of_half = (float((cells + 1) ** 3) for cells in (resolution, resolution // 2))
    compared = {"evaluations": (fine, half, "evaluations", 1.0)}
    if measures_memory(device):
        compared["peak_memory"] = (peak, peak_of_half, "MiB", 4 / 2**20)
    figures = []
    for what, (at_fine, at_half, unit, of_a_vertex) in compared.items():
        name, growth = f"{method}/mesh_{what}", at_fine / at_half
        figures += [
            fewer(name, at_fine, every * of_a_vertex, equal, unit),
            fewer(f"{name}_growth", growth, every / of_half, equal, "times at half the cell"),
        ]
    return figures


def fewer(name: str, value: float, oracle: float, equal: float, unit: str) -> Figure:
    """A figure of which less is better."""
    return Figure(name, value, oracle, oracle / value, equal, unit)
