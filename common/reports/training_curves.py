"""The curves of one run, or of several over each other, from what training recorded."""

from collections.abc import Sequence

from common.pages.curves import Line, Plot
from common.reports.record import RunRecord

_TITLES = {
    "loss": "Loss",
    "gradient_norm": "Gradient norm",
    "learning_rate": "Learning rate",
    "surface_share": "Share of object pixels whose ray meets the surface",
    "steps_per_second": "Steps per second",
    "psnr": "PSNR, dB",
    "mask_iou": "Mask IoU",
    "ssim": "SSIM",
    "depth_error": "Depth error",
    "rotation_error_deg": "Rotation error of the cameras, degrees",
    "centre_error": "Centre error of the cameras",
}
# Speed once is enough.
_LEFT_OUT = ("train/rays_per_second", "train/evaluations_per_second")
_LINEAR = ("Learning rate", "Steps per second")  # where small values matter little
_WIDE = 20.0  # highest over lowest value from which an axis is logarithmic


def run_plots(record: RunRecord) -> list[Plot]:
    """Loss with its terms, then validation, then the rest; mean and median in one plot."""
    names = _recorded([record])
    terms = [name for name in names if name.startswith("train/loss_")]
    plots = []
    if "train/loss" in names:
        lines = [_line(record, "train/loss", "weighted total", 0)]
        lines += [
            _line(record, name, name.removeprefix("train/loss_"), number)
            for number, name in enumerate(terms, 1)
        ]
        plots.append(_plot("Loss and its unweighted terms, training", lines, log=True))
    for name in _singles(names):
        lines = [_line(record, name, "mean" if f"{name}_median" in names else "", 0)]
        if f"{name}_median" in names:
            lines.append(_line(record, f"{name}_median", "median", 1))
        plots.append(_plot(_title(name), lines))
    return plots


def compared_plots(records: Sequence[RunRecord], labels: Sequence[str]) -> list[Plot]:
    """What more than one run recorded, a line for each run."""
    names = _recorded(records)
    losses = [name for name in names if name.startswith("train/loss")]
    plots = []
    for name in (*losses, *_singles(names)):
        having = [
            (number, record)
            for number, record in enumerate(records)
            if any(name in row for row in record.metrics)
        ]
        if len(having) < 2:
            continue
        lines = [_line(record, name, labels[number], number) for number, record in having]
        plots.append(_plot(_title(name), lines, log=name in losses))
    return plots


def _recorded(records: Sequence[RunRecord]) -> list[str]:
    """All names in the order of their first appearance."""
    return list(dict.fromkeys(name for one in records for row in one.metrics for name in row))


def _singles(names: Sequence[str]) -> list[str]:
    """Those that get a plot of their own, validation first."""
    chosen = [
        name
        for name in names
        if "/" in name
        and not name.startswith("train/loss")
        and not name.endswith("_median")
        and name not in _LEFT_OUT
    ]
    return sorted(chosen, key=lambda name: not name.startswith("validation/"))


def _line(record: RunRecord, name: str, label: str, colour: int) -> Line:
    rows = [row for row in record.metrics if name in row]
    return Line(
        label,
        colour,
        [row["step"] for row in rows],
        [row["seconds"] for row in rows],
        [row[name] for row in rows],
    )


def _plot(title: str, lines: Sequence[Line], log: bool = False) -> Plot:
    values = [value for line in lines for value in line.values]
    positive = [value for value in values if value > 0]
    spans = bool(values) and len(positive) == len(values) and max(values) > _WIDE * min(values)
    decades = log or (spans and title not in _LINEAR)
    return Plot(title, tuple(lines), bool(positive) and decades)


def _title(name: str) -> str:
    group, _, rest = name.partition("/")
    if rest.startswith("loss_"):
        return f"Loss term {rest.removeprefix('loss_').replace('_', ' ')}, unweighted"
    title = _TITLES.get(rest, rest.replace("_", " "))
    return f"{title}, validation" if group == "validation" else title
