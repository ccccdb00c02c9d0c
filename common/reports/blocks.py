"""What the pages of all kinds of runs have in common: cards, key numbers, facts, viewers."""

from collections.abc import Mapping, Sequence

import numpy as np

from common.data.images import resize_image
from common.pages.curves import Plot, curves_element
from common.pages.markup import Html, element, together
from common.pages.mesh_view import ShownMesh, mesh_view
from common.pages.pictures import jpeg_uri
from common.pages.slider import slider_element
from common.reports.error_map import FULL, colours_in_css, error_map
from common.reports.looks import ComparedView, Picture
from common.reports.record import RunRecord, Scores, scores_in
from common.reports.scores import METRICS
from common.reports.settings import settings_block

NOT_SCORED = "Not scored yet: run scripts/evaluate.py, then this report again."
_KEY_NUMBERS = 5


def card(title: str, *content: str, kind: str = "") -> Html:
    """A titled section; nothing where there is nothing in it."""
    inside = together(*content)
    if not inside:
        return inside
    return element("section", {"class": f"card {kind}".strip()}, element("h2", {}, title), inside)


def header(kicker: str, title: str, tiles: Sequence[tuple[str, str, str]], note: str = "") -> Html:
    """A page's head; a tile is a value, its name, and what it was measured on."""
    shown = (
        element(
            "div",
            {},
            element("dd", {}, value),
            element("dt", {}, name, element("small", {}, f" {where}")),
        )
        for value, name, where in tiles
    )
    return element(
        "header",
        {"class": "card head"},
        element("p", {"class": "kicker"}, element("bdi", {}, kicker)),
        element("h1", {}, element("bdi", {}, title)),
        *([element("p", {"class": "quiet"}, note)] if note else []),
        element("dl", {"class": "tiles"}, *shown),
    )


def key_numbers(record: RunRecord) -> list[tuple[str, str, str]]:
    """A few scores that tell most, and the time they took."""
    seen = scores_in(record.evaluation.get("held_out"))
    where = "held-out views" if record.evaluation.get("categories") is None else "held out"
    if not seen:
        seen, where = scores_in(record.evaluation.get("training")), "training views"
    mesh = scores_in(record.evaluation.get("mesh"))
    surface = ("volumetric_iou", "chamfer_l1_relative", "chamfer_l1", "normal_consistency")
    # Distances in the units of the data say less than their share of the object.
    known = [name for name in surface if name in mesh]
    known = [n for n in known if n != "chamfer_l1" or "chamfer_l1_relative" not in mesh]
    chosen = [(name, mesh, "surface") for name in known]
    chosen += [(name, seen, where) for name in ("psnr", "mask_iou", "ssim") if name in seen]
    tiles = [
        (METRICS[name].write(scores[name]), METRICS[name].title, of) for name, scores, of in chosen
    ]
    return [*tiles[:_KEY_NUMBERS], (duration(record.seconds), "training", f"{record.step:,} steps")]


def run_facts(record: RunRecord, more: Mapping[str, str]) -> Html:
    """What the run was, on what, for how long, and made with what; its settings folded below."""
    pairs = {"Method": record.method, "Data": record.data_path} | dict(more)
    pairs |= {
        "Training time": duration(record.seconds),
        "Step": f"{record.step:,}",
        "Seed": record.seed,
        "Parameters": f"{record.parameters:,}",
        "Checkpoint": f"{record.checkpoint_bytes / 2**20:.1f} MB",
    }
    pairs |= {f"{name} version": version for name, version in record.versions.items()}
    return together(facts(pairs), settings_block(record.settings))


def facts(pairs: Mapping[str, str]) -> Html:
    """Names and values."""
    entries = (
        element(
            "div",
            {},
            element("dt", {}, label),
            element("dd", {}, element("bdi", {}, content)),
        )
        for label, content in pairs.items()
    )
    return element("dl", {"class": "facts"}, *entries)


def curves_card(plots: Sequence[Plot]) -> Html:
    """All curves; nothing where nothing was recorded."""
    return card("Training", curves_element("curves", plots)) if plots else Html("")


def mesh_card(meshes: Sequence[ShownMesh], poster: Picture | None) -> Html:
    """The turning viewer."""
    if not meshes:
        return card("Surface", element("p", {}, "There is no surface yet."))
    inside = mesh_view("mesh", meshes, poster)
    return element("section", {"class": "card viewer-card", "aria-label": "Surface"}, inside)


def view_panel(view: ComparedView, group: str = "") -> Html:
    """A photograph and its rendering with a divider; error and normals beside it."""
    slider = slider_element(
        view.truth, view.rendering, ("photograph", "rendering"), view.name, group
    )
    error = error_map(view.truth, view.rendering)
    return element(
        "div",
        {"class": "panes"},
        element("figure", {}, slider, element("figcaption", {}, caption_of(view))),
        element("figure", {}, _still(error, f"Error of {view.name}"), _error_legend()),
        element(
            "figure",
            {},
            _still(view.normals, f"Normals of {view.name}"),
            element("figcaption", {}, "Normals of the surface"),
        ),
    )


def caption_of(view: ComparedView) -> Html:
    """The view's name and its scores."""
    numbers = ", ".join(score_words(view.scores, ("psnr", "mask_iou", "ssim")))
    kind = "" if view.held_out else " (training view)"
    return together(element("bdi", {}, view.name), f"{kind} {numbers}")


def score_words(scores: Scores, names: Sequence[str]) -> list[str]:
    """Scores as words, those of ``names`` that are there."""
    return [f"{METRICS[n].title} {METRICS[n].write(scores[n])}" for n in names if n in scores]


def still(picture: Picture, description: str, largest: int) -> Html:
    """A picture that is no longer than ``largest`` pixels."""
    height, width = picture.shape[:2]
    scale = min(1.0, largest / max(height, width))
    if scale < 1:
        size = max(round(height * scale), 1), max(round(width * scale), 1)
        picture = resize_image(np.ascontiguousarray(picture), *size)
    return _still(picture, description)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as far as they matter."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _still(picture: Picture, description: str) -> Html:
    height, width = picture.shape[:2]
    return element(
        "img",
        {
            "class": "still",
            "src": jpeg_uri(picture),
            "alt": description,
            "width": str(width),
            "height": str(height),
        },
    )


def _error_legend() -> Html:
    scale = element(
        "span", {"class": "scale", "style": f"background:{colours_in_css()}", "aria-hidden": "true"}
    )
    return element("figcaption", {}, "Error 0 ", scale, f" {FULL:.0%} and more")
