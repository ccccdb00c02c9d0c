"""Make a training collection (DVR's layout) from folders of meshes, rendered with Mitsuba 3.

    python scripts/render_dataset.py MESH_DIR [MESH_DIR ...] OUT [options]

A MESH_DIR holds meshes (OBJ, PLY, GLB, STL, OFF), one folder per object, or category folders of
those; its name becomes the category. Interrupted work is continued by the same command.
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from common.data.mesh_collection import (
    Settings,
    close_collection,
    is_finished,
    open_collection,
    render_objects,
)
from common.data.mesh_files import MeshSource, find_objects, missing_files
from common.data.mesh_rendering import MAX_ELEVATION
from common.errors import Stopped, UserError, run_command


def main() -> None:
    arguments = _parse()
    out = arguments.out
    settings = _settings(arguments)
    sources = _find(arguments.mesh_dirs, arguments.category)
    chosen = _first_of_each(sources, arguments.limit)
    _print_choices(chosen)
    open_collection(out, settings)
    before = sum(is_finished(out, source) for source in chosen)
    try:
        skipped = _render(chosen, before, out, settings, arguments.workers)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; the same command finishes {out}") from None
    close_collection(sources, out, settings.holdout_every)
    rendered = len(chosen) - before - len(skipped)
    print(_summary(out, rendered, before, skipped))
    if rendered + before == 0:
        raise UserError("no object could be rendered; the reasons are above")


def _render(
    chosen: list[MeshSource], before: int, out: Path, settings: Settings, workers: int
) -> list[MeshSource]:
    """Render with a progress bar, or a line an object if nobody watches; returns the failures."""
    skipped = []
    progress = tqdm(
        total=len(chosen), initial=before, unit="object", disable=not sys.stderr.isatty()
    )
    for source, reason in render_objects(chosen, out, settings, workers):
        progress.update()
        if reason is not None:
            skipped.append(source)
            progress.write(f"skipped {source.category}/{source.name}: {reason}", file=sys.stderr)
        elif progress.disable:
            print(f"{source.category}/{source.name}", flush=True)
    progress.close()
    return skipped


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("mesh_dirs", metavar="MESH_DIR", nargs="+", type=Path, help="a folder of meshes")
    add("out", metavar="OUT", type=Path, help="the collection to make or to continue")
    add("--category", help="the category's name, instead of that of the one MESH_DIR")
    add("--views", type=int, default=24, help="pictures of each object (24)")
    add("--size", type=int, default=64, help="height and width of a picture in pixels (64)")
    add("--samples", type=int, default=64, help="light paths a pixel (64)")
    add("--seed", type=int, default=0, help="of cameras, light paths and points (0)")
    add(
        "--holdout-every",
        type=int,
        default=5,
        metavar="N",
        help="every Nth object of a category is for testing; 0: none (5). Of the others, "
        "every 8th is for validation",
    )
    add("--up", choices=("y", "z"), default="y", help="the meshes' upward axis (y)")
    add("--distance", type=float, default=1.7, help="of cameras; an object's side is 0.9 (1.7)")
    add("--focal", type=float, default=2.1875, help="focal length over half the image (2.1875)")
    add(
        "--elevation",
        type=float,
        nargs=2,
        default=(0.0, 60.0),
        metavar=("LOW", "HIGH"),
        help="of the cameras above the horizon, degrees (0 60)",
    )
    add("--gloss", action="store_true", help="make every surface a little shiny")
    add("--limit", type=int, metavar="N", help="only the first N objects of each category")
    add("--workers", type=int, default=_cores(), help="processes, one object each (all cores)")
    return parser.parse_args()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # the share of the machine this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _settings(arguments: argparse.Namespace) -> Settings:
    low, high = arguments.elevation
    for option, holds, expected in [
        ("views", arguments.views >= 1, "at least 1"),
        ("size", arguments.size >= 8, "at least 8 pixels"),
        ("samples", arguments.samples >= 1, "at least 1"),
        ("seed", arguments.seed >= 0, "0 or more"),
        ("holdout-every", arguments.holdout_every == 0 or arguments.holdout_every >= 2,
         "0 or at least 2"),
        ("distance", arguments.distance >= 1, "at least 1, outside the unit cube"),
        ("focal", arguments.focal > 0, "positive"),
        ("elevation", -MAX_ELEVATION <= low <= high <= MAX_ELEVATION,
         f"LOW HIGH in order, between {-MAX_ELEVATION:g} and {MAX_ELEVATION:g} degrees"),
        ("limit", arguments.limit is None or arguments.limit >= 1, "at least 1"),
        ("workers", arguments.workers >= 1, "at least 1"),
    ]:  # fmt: skip
        if not holds:
            raise UserError(f"--{option}: expected {expected}")
    return Settings(
        views=arguments.views,
        size=arguments.size,
        samples=arguments.samples,
        seed=arguments.seed,
        holdout_every=arguments.holdout_every,
        up=arguments.up,
        distance=arguments.distance,
        focal=arguments.focal,
        elevation=(low, high),
        gloss=arguments.gloss,
    )


def _find(mesh_dirs: list[Path], category: str | None) -> list[MeshSource]:
    if category is not None and len(mesh_dirs) > 1:
        raise UserError("--category: names the objects of one MESH_DIR; several were given")
    sources = [source for folder in mesh_dirs for source in find_objects(folder, category)]
    twice = [
        f"{category}/{name}"
        for (category, name), count in Counter((s.category, s.name) for s in sources).items()
        if count > 1
    ]
    if twice:
        raise UserError(
            f"two meshes would become the same object: {', '.join(twice[:5])}; "
            "rename one, or give their folders different names"
        )
    return sources


def _first_of_each(sources: list[MeshSource], limit: int | None) -> list[MeshSource]:
    taken: Counter[str] = Counter()
    chosen = []
    for source in sorted(sources, key=lambda source: (source.category, source.name)):
        if limit is None or taken[source.category] < limit:
            taken[source.category] += 1
            chosen.append(source)
    return chosen


def _print_choices(sources: list[MeshSource]) -> None:
    counts = Counter(source.category for source in sources)
    print("objects:", ", ".join(f"{count} {category}" for category, count in counts.items()))
    for source in sources:
        if source.passed_over:
            print(
                f"{source.path.parent} holds {source.passed_over + 1} meshes: took "
                f"{source.path.name} (were they separate objects, give that folder as MESH_DIR)"
            )
        missing = missing_files(source.path)
        if missing:
            print(f"{source.path}: lacks {', '.join(missing)}; what they colour will be plain")


def _summary(out: Path, rendered: int, before: int, skipped: list[MeshSource]) -> str:
    text = f"{out}: {rendered} rendered, {len(skipped)} skipped"
    if before:
        text += f", {before} were there already"
    if skipped:
        text += f" (skipped: {', '.join(f'{s.category}/{s.name}' for s in skipped)})"
    return text


if __name__ == "__main__":
    run_command(main)
