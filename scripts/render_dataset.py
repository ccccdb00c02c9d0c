"""Make a training collection (DVR's layout) from folders of meshes, rendered with Mitsuba 3.

    python scripts/render_dataset.py MESH_DIR [MESH_DIR ...] OUT [options]

A MESH_DIR holds meshes (OBJ, PLY, GLB, STL, OFF), one folder per object, or category folders of
those; its name becomes the category. With --scene, make the multi-view scene of one mesh instead
(IDR's layout, with the true surface), seen from all around in soft light:

    python scripts/render_dataset.py MESH OUT --scene [options]

With --ground too, the object stands on a textured floor and is seen from above it: pictures that
structure from motion can find the cameras of, like one's own photographs.

Interrupted work is continued by the same command.

    python scripts/render_dataset.py cad/chairs cad/tables data/furniture --views 24
    python scripts/render_dataset.py spot.obj data/spot --scene --gloss
    python scripts/render_dataset.py cad/chairs data/chairs --limit 10 --json
"""

import argparse
import json
import os
import sys
from collections import Counter
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from common.data.mesh_collection import (
    Settings,
    close_collection,
    is_finished,
    open_collection,
    render_objects,
)
from common.data.mesh_files import MeshSource, find_objects, missing_files
from common.data.mesh_rendering import MAX_ELEVATION, use_threads
from common.data.mesh_scene import (
    SceneSettings,
    describe,
    find_mesh,
    find_texture,
    is_scene_finished,
    render_scene,
)
from common.errors import Stopped, UserError, run_command
from common.progress import ProgressLine, warn

# Distances of 1 are the unit cube's side for a collection, the unit ball's radius for a scene.
COLLECTION = {
    "views": 24,
    "size": 64,
    "samples": 64,
    "distance": 1.7,
    "focal": 2.1875,
    "gloss": 0.0,
    "elevation": (0.0, 60.0),
    "holdout_every": 5,
}
SCENE = {"views": 60, "size": 300, "samples": 128, "distance": 3.0, "focal": 3.1, "gloss": 0.5}
GROUND = {"views": 36, "size": 480, "samples": 32, "focal": 2.8}  # where a scene has other values
ONLY_COLLECTION = ("category", "holdout_every", "elevation", "limit")
ONLY_SCENE = ("texture", "ground")


def main() -> None:
    """Parse the command line and render."""
    arguments = _parse()
    # Whoever reads the JSON from standard output is not to find anything else there.
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        made = _make_scene(arguments) if arguments.scene else _make_collection(arguments)
    if arguments.json:
        print(json.dumps({"out": str(arguments.out)} | made, indent=2))


def _make_scene(arguments: argparse.Namespace) -> dict[str, object]:
    """Render a scene, unless it is there; what --json says of it."""
    if len(arguments.mesh_dirs) > 1:
        raise UserError("--scene: a scene is of one mesh; several were given")
    out, settings = arguments.out, _scene_settings(arguments)
    mesh = find_mesh(arguments.mesh_dirs[0])
    texture = arguments.texture or find_texture(mesh)
    print(mesh if texture is None else f"{mesh} with {texture.name} around it")
    if is_scene_finished(out, describe(mesh, texture, settings)):
        print(f"{out}: was there already")
        return {"views": settings.views, "size": settings.size, "rendered": 0}
    use_threads(arguments.workers)
    try:
        with ProgressLine("rendering", "view", settings.views) as line:
            for _ in render_scene(mesh, texture, out, settings):
                line.advance()
    except KeyboardInterrupt:
        raise Stopped(f"stopped; the same command finishes {out}") from None
    print(f"{out}: {settings.views} views of {settings.size} x {settings.size} pixels")
    return {"views": settings.views, "size": settings.size, "rendered": settings.views}


def _make_collection(arguments: argparse.Namespace) -> dict[str, object]:
    """Render the objects that are not there yet; what --json says of them."""
    out = arguments.out
    settings = _collection_settings(arguments)
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
    names = [f"{source.category}/{source.name}" for source in skipped]
    return {"rendered": rendered, "there_already": before, "skipped": names}


def _render(
    chosen: list[MeshSource], before: int, out: Path, settings: Settings, workers: int
) -> list[MeshSource]:
    """Render what is not there yet; returns the failures."""
    skipped = []
    with ProgressLine("rendering", "object", len(chosen), before) as line:
        for source, reason in render_objects(chosen, out, settings, workers):
            if reason is not None:
                skipped.append(source)
                warn(f"skipped {source.category}/{source.name}: {reason}")
            line.advance()
    return skipped


def _parse() -> argparse.Namespace:
    """Arguments that fit together; those not given have the defaults of a collection or scene."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("mesh_dirs", metavar="MESH_DIR", nargs="+", type=Path, help="a folder of meshes")
    add("out", metavar="OUT", type=Path, help="the collection or scene to make or to continue")
    add("--scene", action="store_true", help="make the scene of one mesh, a file or in a folder")
    add("--ground", action="store_true", default=None, help="stand a scene's object on a floor")
    add("--views", type=int, help="pictures of each object (24; scene: 60, on the ground: 36)")
    add("--size", type=int, help="height and width of a picture in pixels (64; 300; 480)")
    add("--samples", type=int, help="light paths a pixel (64; 128; 32)")
    add("--seed", type=int, default=0, help="of cameras, light paths and points (0)")
    add("--up", choices=("y", "z"), default="y", help="the meshes' upward axis (y)")
    add(
        "--distance",
        type=float,
        help="of cameras; an object's longest side is 0.9, a scene's object has radius 0.9 "
        "(1.7; scene: 3)",
    )
    add("--focal", type=float, help="focal length over half the image (2.1875; scene: 3.1; 2.8)")
    add(
        "--gloss",
        type=float,
        nargs="?",
        const=0.5,
        help="how shiny surfaces are, 0 to 1 (0; scene, or without a number: 0.5)",
    )
    add("--workers", type=int, default=_cores(), help="processes, or a scene's threads (all cores)")
    add("--category", help="the category's name, instead of that of the one MESH_DIR")
    add(
        "--holdout-every",
        type=int,
        metavar="N",
        help="every Nth object of a category is for testing; 0: none (5). Of the others, "
        "every 8th is for validation",
    )
    add(
        "--elevation",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="of a collection's cameras above the horizon, degrees (0 60)",
    )
    add("--limit", type=int, metavar="N", help="only the first N objects of each category")
    add(
        "--texture",
        type=Path,
        help="picture for a scene's mesh, instead of its material (where the file names none: "
        "the only picture beside it)",
    )
    add("--json", action="store_true", help="print what was rendered as JSON")
    arguments = parser.parse_args()
    for name in ONLY_COLLECTION if arguments.scene else ONLY_SCENE:
        if getattr(arguments, name) is not None:
            kind = "collection, so not with" if arguments.scene else "scene: add"
            raise UserError(f"--{name.replace('_', '-')}: is for a {kind} --scene")
    for name, value in _defaults(arguments).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    _check(arguments)
    return arguments


def _defaults(arguments: argparse.Namespace) -> dict[str, object]:
    if not arguments.scene:
        return COLLECTION
    return {**SCENE, **GROUND} if arguments.ground else SCENE


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # the share of the machine this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check(arguments: argparse.Namespace) -> None:
    low, high = arguments.elevation or (0.0, 0.0)
    for option, holds, expected in [
        ("views", arguments.views >= 1, "at least 1"),
        ("size", arguments.size >= 8, "at least 8 pixels"),
        ("samples", arguments.samples >= 1, "at least 1"),
        ("seed", arguments.seed >= 0, "0 or more"),
        ("holdout-every", not arguments.holdout_every or arguments.holdout_every >= 2,
         "0 or at least 2"),
        ("distance", arguments.distance >= 1, "at least 1, outside the object"),
        ("focal", arguments.focal > 0, "positive"),
        ("gloss", 0 <= arguments.gloss <= 1, "0 to 1"),
        ("elevation", -MAX_ELEVATION <= low <= high <= MAX_ELEVATION,
         f"LOW HIGH in order, between {-MAX_ELEVATION:g} and {MAX_ELEVATION:g} degrees"),
        ("limit", arguments.limit is None or arguments.limit >= 1, "at least 1"),
        ("workers", arguments.workers >= 1, "at least 1"),
    ]:  # fmt: skip
        if not holds:
            raise UserError(f"--{option}: expected {expected}")


def _collection_settings(arguments: argparse.Namespace) -> Settings:
    low, high = arguments.elevation
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


def _scene_settings(arguments: argparse.Namespace) -> SceneSettings:
    return SceneSettings(
        views=arguments.views,
        size=arguments.size,
        samples=arguments.samples,
        seed=arguments.seed,
        up=arguments.up,
        distance=arguments.distance,
        focal=arguments.focal,
        gloss=arguments.gloss,
        ground=bool(arguments.ground),
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
