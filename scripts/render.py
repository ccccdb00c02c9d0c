"""Draw a trained run from the data's cameras or along an orbit.

    python scripts/render.py                                     the newest run, its test views
    python scripts/render.py out/idr_DTU --orbit 60 --format mp4
    python scripts/render.py out/dvr_ShapeNet --objects 3 --views 4 --size 256
    python scripts/render.py out/dvr_ShapeNet --contact-sheet

Writes RUN/renders/<category>/<object>/{colour,normal,depth,mask}/NNNN.png (IDR: without category),
and depth as float32 camera z (EXR, infinite where there is nothing) with --float-depth. --format
gif or mp4 writes one film per kind instead of pictures; --contact-sheet one picture,
RUN/contact_sheet.png: a row per object with input | prediction and its normals from three sides |
truth from the same sides (IDR: a row per view with photograph | colour | normals).
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import imageio.v3 as imageio
import torch
from method import find_run, method_of

from common.cameras import Cameras
from common.command_line import positive, refuse_options, run_parser
from common.errors import UserError, run_command
from common.films import FORMATS, KINDS, save_pictures
from common.rendering.orbit import orbit_cameras
from common.rendering.picture import Picture
from common.training.processes import choose_device
from common.training.run_folder import RunFolder
from dvr.drawing import draw_objects, objects_to_draw
from dvr.experiment import load_run
from dvr.pictures import contact_sheet as objects_sheet
from idr.drawing import contact_sheet as scene_sheet
from idr.drawing import draw_scene
from idr.experiment import load_experiment
from idr.generation import scene_name

Drawn = Iterator[tuple[Path, list[Picture]]]


def main() -> None:
    """Parse the command line and draw."""
    parser = run_parser(__doc__)
    parser.add_argument("--objects", type=positive, help="DVR: how many objects of the split (4)")
    parser.add_argument("--views", type=positive, default=4, help="how many of the data's cameras")
    parser.add_argument("--first-view", type=int, default=0)
    parser.add_argument(
        "--training-views", action="store_true", help="cameras learnt from, not those held out"
    )
    parser.add_argument("--orbit", type=positive, metavar="N", help="N cameras around instead")
    parser.add_argument("--size", type=positive, help="height in pixels; default: the data's")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--format", choices=FORMATS, default="png")
    parser.add_argument("--float-depth", action="store_true", help="also depth as EXR")
    parser.add_argument("--contact-sheet", action="store_true", help="one picture of all")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    run = find_run(arguments.run)
    print(f"run {run.path}")
    draw = _draw_dvr if method_of(run) == "dvr" else _draw_idr
    for folder, pictures in draw(run, arguments, device):
        save_pictures(
            run.renders / folder, pictures, arguments.kinds, arguments.format,
            arguments.float_depth,
        )  # fmt: skip
    if not arguments.contact_sheet:
        print(f"pictures are in {run.renders}")


def _draw_dvr(run: RunFolder, arguments: argparse.Namespace, device: torch.device) -> Drawn:
    model, config, _ = load_run(run, device, arguments.checkpoint)
    objects = objects_to_draw(config, arguments.training_views)
    if arguments.contact_sheet:
        path = run.path / "contact_sheet.png"
        imageio.imwrite(path, objects_sheet(model, objects, device))
        print(f"input | predictions and normals | truth: {path}")
        return
    choose = partial(choose_cameras, arguments=arguments)
    yield from draw_objects(model, objects, arguments.objects or 4, choose, device)


def _draw_idr(run: RunFolder, arguments: argparse.Namespace, device: torch.device) -> Drawn:
    refuse_options(
        arguments,
        ["objects"],
        "this run learnt one scene by IDR; leave the option out, or name a DVR run",
    )
    experiment = load_experiment(run, device, arguments.checkpoint)
    if arguments.contact_sheet:
        path = run.path / "contact_sheet.png"
        imageio.imwrite(path, scene_sheet(experiment, arguments.training_views))
        print(f"photograph | colour | normals: {path}")
        return
    choose = partial(choose_cameras, arguments=arguments)
    yield Path(scene_name(experiment)), draw_scene(experiment, arguments.training_views, choose)


def choose_cameras(cameras: Cameras, arguments: argparse.Namespace) -> Cameras:
    """The cameras that the command line asks for."""
    if arguments.orbit:
        cameras = orbit_cameras(cameras, arguments.orbit)
    else:
        last = min(arguments.first_view + arguments.views, len(cameras))
        if not 0 <= arguments.first_view < len(cameras):
            raise UserError(
                f"--first-view {arguments.first_view}: choose one of the {len(cameras)} views, "
                f"0 to {len(cameras) - 1}"
            )
        cameras = cameras[list(range(arguments.first_view, last))]
    if arguments.size:
        width = round(cameras.width * arguments.size / cameras.height)
        cameras = cameras.resized(arguments.size, width)
    return cameras


if __name__ == "__main__":
    run_command(main)
