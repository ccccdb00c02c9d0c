"""Tables of scores: their titles, which way is better, and the best of a column in bold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.pages.markup import Html, element, text
from common.reports.record import Scores, scores_in


@dataclass(frozen=True)
class Metric:
    """How a score is written: its title, unit, digits, and whether more is better."""

    title: str
    higher: bool
    form: str = "{:.3f}"

    def write(self, value: float) -> str:
        """A value as it is shown."""
        return self.form.format(value)


METRICS = {
    "psnr": Metric("PSNR", True, "{:.2f} dB"),
    "ssim": Metric("SSIM", True),
    "mask_iou": Metric("Mask IoU", True),
    "volumetric_iou": Metric("Volumetric IoU", True),
    "chamfer_l1_relative": Metric("Chamfer-L1 / size", False, "{:.2%}"),
    "chamfer_l1": Metric("Chamfer-L1", False, "{:.4g}"),
    "normal_consistency": Metric("Normal consistency", True),
    "f_score": Metric("F-score at 1 %", True),
    "accuracy": Metric("Accuracy", False, "{:.4g}"),
    "completeness": Metric("Completeness", False, "{:.4g}"),
    "psnr_whole": Metric("PSNR, whole picture", True, "{:.2f} dB"),
    "rotation_error_deg": Metric("Rotation error", False, "{:.3f}°"),
    "rotation_error_deg_median": Metric("Rotation error, median", False, "{:.3f}°"),
    "centre_error": Metric("Centre error", False, "{:.4g}"),
    "centre_error_relative": Metric("Centre error / distance", False, "{:.3%}"),
    "centre_error_relative_median": Metric("Centre error / distance, median", False, "{:.3%}"),
}


def rows_of(evaluation: dict) -> dict[str, Scores]:
    """The run itself, the views it was trained on, and what it is compared to."""
    own = scores_in(evaluation.get("mesh")) | scores_in(evaluation.get("held_out"))
    rows = {"this run": own, "its training views": scores_in(evaluation.get("training"))}
    rows |= _named(evaluation.get("baselines"))
    return {name: row for name, row in rows.items() if row}


def category_rows(evaluation: dict) -> dict[str, Scores]:
    """Scores of each kind of object, where there is more than one."""
    rows = _named(evaluation.get("categories"))
    return rows if len(rows) > 1 else {}


def camera_rows(evaluation: dict) -> dict[str, Scores]:
    """Errors of the cameras before and after they were learnt."""
    return {f"cameras {when}": row for when, row in _named(evaluation.get("cameras")).items()}


def _named(content: object) -> dict[str, Scores]:
    if not isinstance(content, dict):
        return {}
    rows = {str(name).replace("_", " "): scores_in(row) for name, row in content.items()}
    return {name: row for name, row in rows.items() if row}


def score_table(caption: str, rows: Mapping[str, Scores], rivals: Sequence[str] = ()) -> Html:
    """A row for each name and a column for each metric; the best of the ``rivals`` in bold."""
    columns = [name for name in METRICS if any(name in row for row in rows.values())]
    heads = [element("th", {"scope": "col"}, _title(METRICS[name])) for name in columns]
    best = {name: _best(name, [rows[rival].get(name) for rival in rivals]) for name in columns}
    body = (
        element(
            "tr",
            {},
            element("th", {"scope": "row"}, element("bdi", {}, title)),
            *(
                score_cell(name, row.get(name), title in rivals and row.get(name) == best[name])
                for name in columns
            ),
        )
        for title, row in rows.items()
    )
    head = element("thead", {}, element("tr", {}, element("td", {}), *heads))
    table = element(
        "table",
        {"class": "scores"},
        element("caption", {}, caption),
        head,
        element("tbody", {}, *body),
    )
    return element("div", {"class": "wide"}, table)


def comparison_table(
    caption: str, names: Sequence[str], sections: Mapping[str, Sequence[Scores]], rated: bool
) -> Html:
    """A column for each run, and below each section's title a row for each metric.

    ``rated``: the best of each row is bold.
    """
    heads = (element("th", {"scope": "col"}, element("bdi", {}, name)) for name in names)
    rows = []
    for section, scores in sections.items():
        for metric in METRICS:
            values = [row.get(metric) for row in scores]
            if all(value is None for value in values):
                continue
            best = _best(metric, values) if rated and len(set(values)) > 1 else None
            cells = (
                score_cell(metric, value, value is not None and value == best) for value in values
            )
            title = element("th", {"scope": "row"}, _title(METRICS[metric]), _small(section))
            rows.append(element("tr", {}, title, *cells))
    table = element(
        "table",
        {"class": "scores"},
        element("caption", {}, caption),
        element("thead", {}, element("tr", {}, element("td", {}), *heads)),
        element("tbody", {}, *rows),
    )
    return element("div", {"class": "wide"}, table)


def score_cell(metric: str, value: float | None, best: bool) -> Html:
    """One number of a table, or a dash."""
    shown = text("–") if value is None else text(METRICS[metric].write(value))
    return element("td", {}, element("strong", {}, shown) if best else shown)


def _title(metric: Metric) -> Html:
    arrow = "↑" if metric.higher else "↓"
    better = {"class": "better", "title": "more is better" if metric.higher else "less is better"}
    return Html(text(metric.title) + " " + element("span", better, arrow))


def _small(words: str) -> Html:
    return element("small", {}, f" {words}")


def _best(metric: str, values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    return max(known) if METRICS[metric].higher else min(known)
