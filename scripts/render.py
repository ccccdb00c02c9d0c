"""Draw a trained run from the data's cameras, along a camera path, or as it came to be.

    python scripts/render.py                                     the newest run, its test views
    python scripts/render.py out/idr_DTU --path cameras --format mp4
    python scripts/render.py out/idr_spot --path spiral --beside colour,normal,depth --format gif
    python scripts/render.py out/dvr_ShapeNet --objects 3 --views 4 --size 256
    python scripts/render.py out/dvr_ShapeNet --orbit 60 --objects 8 --format mp4 --json
    python scripts/render.py out/idr_spot --time-lapse --path orbit --frames 200 --format mp4
    python scripts/render.py out/dvr_ShapeNet --contact-sheet

Writes RUN/renders/<category>/<object>/{colour,normal,depth,mask}/NNNN.png (IDR: without category),
and depth as float32 camera z (EXR, infinite where there is nothing) with --float-depth. --format
gif or mp4 writes one film per kind instead of pictures; --beside one film of several kinds. What is
not of the test views says so in its name: orbit_colour.mp4, training_colour/NNNN.png,
time_lapse_colour.gif, spiral_colour_normal.mp4.

--path leads around each object: in a circle (orbit), smoothly through the cameras learnt from
(cameras), or around and up and down (spiral); all end where they begin. --time-lapse shows every
checkpoint that the run keeps in turn, from one view (--first-view) or along a path.

--contact-sheet writes one picture, RUN/contact_sheet.png: a row per object with input | prediction
and its normals from three sides | truth from the same sides (IDR: a row per view with photograph |
colour | normals).
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import imageio.v3 as imageio
import torch
from method import find_run, method_of

from common.cameras import Cameras
from common.command_line import positive, refuse_options, run_parser
from common.denormals import start_threads
from common.errors import UserError, run_command
from common.films.film import KINDS, Film, Panel, Written, save_pictures, written_image
from common.films.options import add_film_options, along_path, film_of, sized
from common.films.time_lapse import KeptState, kept_states, spread
from common.rendering.picture import Picture
from common.training.processes import choose_device
from common.training.run_folder import RunFolder
from dvr.drawing import draw_object, objects_to_draw
from dvr.drawing import draw_time_lapse as draw_object_time_lapse
from dvr.experiment import load_run
from dvr.pictures import contact_sheet as objects_sheet
from idr.drawing import contact_sheet as scene_sheet
from idr.drawing import draw_time_lapse as draw_scene_time_lapse
from idr.drawing import draw_views, views_of
from idr.experiment import load_experiment
from idr.generation import scene_name

VIEWS, OBJECTS = 4, 4
STATES_A_SECOND = 5  # of a time-lapse from one view

# A folder, the state of the training that each picture shows (of a time-lapse), and the pictures.
Drawn = Iterator[tuple[Path, list[KeptState], Iterator[Picture]]]


def main() -> None:
    """Parse the command line and draw."""
    arguments = _parse()
    # Whoever reads the JSON from standard output is not to find anything else there.
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        started = time.perf_counter()
        start_threads()
        device = choose_device(arguments.device)
        run = find_run(arguments.run)
        print(f"run {run.path}")
        written = _sheet(run, arguments, device) if arguments.contact_sheet else []
        if not arguments.contact_sheet:
            written = _pictures(run, arguments, device)
            print(f"pictures are in {arguments.out or run.renders}")
    if arguments.json:
        items = [one.as_json() for one in written]
        took = round(time.perf_counter() - started, 2)
        print(json.dumps({"run": str(run.path), "written": items, "drawn_in": took}, indent=2))


def _parse() -> argparse.Namespace:
    parser = run_parser(__doc__)
    parser.add_argument("--objects", type=positive, help=f"DVR: how many objects ({OBJECTS})")
    parser.add_argument("--views", type=positive, help=f"how many of the data's cameras ({VIEWS})")
    parser.add_argument("--first-view", type=int, help="the first of them (0)")
    parser.add_argument(
        "--training-views", action="store_true", help="cameras learnt from, not those held out"
    )
    add_film_options(parser, KINDS, "png")
    parser.add_argument(
        "--orbit", type=positive, metavar="N", help="the same as --path orbit --frames N"
    )
    parser.add_argument("--time-lapse", action="store_true", help="every checkpoint of the run")
    parser.add_argument("--out", type=Path, help="folder for the pictures; default: RUN/renders")
    parser.add_argument("--float-depth", action="store_true", help="also depth as EXR")
    parser.add_argument("--contact-sheet", action="store_true", help="one picture of all")
    arguments = parser.parse_args()
    if arguments.orbit:
        refuse_options(arguments, ["path", "frames"], "--orbit says it already; leave one out")
        arguments.path, arguments.frames = "orbit", arguments.orbit
    if arguments.path:
        refuse_options(
            arguments,
            ["views", "first_view", "training_views"],
            "a path leads through cameras of its own; leave one of the two out",
        )
    else:
        refuse_options(arguments, ["frames"], "is the length of a camera path; add --path")
    if arguments.time_lapse:
        refuse_options(
            arguments, ["views"], "a time-lapse is seen from --first-view, or along --path"
        )
    return arguments


def _sheet(run: RunFolder, arguments: argparse.Namespace, device: torch.device) -> list[Written]:
    refuse_options(
        arguments,
        ["path", "time_lapse", "beside", "out"],
        "a contact sheet is one picture from the data's cameras; leave one of the two out",
    )
    path = run.path / "contact_sheet.png"
    if method_of(run) == "dvr":
        model, config, _ = load_run(run, device, arguments.checkpoint)
        objects = objects_to_draw(config, arguments.training_views)
        sheet: Panel = objects_sheet(model, objects, device)
        print(f"input | predictions and normals | truth: {path}")
    else:
        experiment = load_experiment(run, device, arguments.checkpoint)
        sheet = scene_sheet(experiment, arguments.training_views)
        print(f"photograph | colour | normals: {path}")
    imageio.imwrite(path, sheet)
    return [written_image(path, sheet)]


def _pictures(run: RunFolder, arguments: argparse.Namespace, device: torch.device) -> list[Written]:
    states = kept_states(run) if arguments.time_lapse else []
    one_view = bool(states) and not arguments.path
    speed = STATES_A_SECOND if one_view else Film.per_second
    film = film_of(arguments, _series(arguments), speed)
    draw = _draw_dvr if method_of(run) == "dvr" else _draw_idr
    written: list[Written] = []
    for folder, shown, pictures in draw(run, arguments, device, states):
        captions = [state.caption for state in shown] if states else None
        out = (arguments.out or run.renders) / folder
        written += save_pictures(out, pictures, film, captions, arguments.float_depth)
    return written


def _series(arguments: argparse.Namespace) -> str:
    """What tells these pictures from others of the same run; nothing for those of test views."""
    told = {
        "time_lapse": arguments.time_lapse,
        "training": arguments.training_views,
        arguments.path: arguments.path,
    }
    return "_".join(name for name, is_so in told.items() if is_so)


def _draw_dvr(
    run: RunFolder, arguments: argparse.Namespace, device: torch.device, states: list[KeptState]
) -> Drawn:
    model, config, _ = load_run(run, device, arguments.checkpoint)
    objects = objects_to_draw(config, arguments.training_views)
    learnt = objects_to_draw(config, True) if arguments.path and objects.single else objects
    for index in range(min(arguments.objects or OBJECTS, len(objects))):
        cameras = choose_cameras(learnt[index].views.cameras, arguments, len(states))
        entry = objects.entries[index]
        shown = spread(states, len(cameras)) if states else []
        if states:
            paths = [state.path for state in shown]
            pictures = draw_object_time_lapse(model, objects, index, cameras, paths, device)
        else:
            pictures = draw_object(model, objects, index, cameras, device)
        yield Path(entry.category) / entry.name, shown, pictures


def _draw_idr(
    run: RunFolder, arguments: argparse.Namespace, device: torch.device, states: list[KeptState]
) -> Drawn:
    refuse_options(
        arguments,
        ["objects"],
        "this run learnt one scene by IDR; leave the option out, or name a DVR run",
    )
    experiment = load_experiment(run, device, arguments.checkpoint)
    learnt = arguments.training_views or arguments.path is not None
    cameras = choose_cameras(views_of(experiment, learnt)[1], arguments, len(states))
    shown = spread(states, len(cameras)) if states else []
    if states:
        paths = [state.path for state in shown]
        pictures = draw_scene_time_lapse(experiment, cameras, paths)
    else:
        pictures = draw_views(experiment, cameras)
    yield Path(scene_name(experiment)), shown, pictures


def choose_cameras(cameras: Cameras, arguments: argparse.Namespace, states: int) -> Cameras:
    """The cameras that the command line asks for; one again and again for a time-lapse's states."""
    if arguments.path:
        return along_path(arguments, arguments.path, cameras)
    first = arguments.first_view or 0
    if not 0 <= first < len(cameras):
        raise UserError(
            f"--first-view {first}: choose one of the {len(cameras)} views, 0 to {len(cameras) - 1}"
        )
    last = min(first + (arguments.views or VIEWS), len(cameras))
    return sized(arguments, cameras[[first] * states if states else list(range(first, last))])


if __name__ == "__main__":
    run_command(main)
