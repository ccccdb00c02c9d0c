"""Draw the shape of one IDR run with the appearance of another, along a smooth camera path.

    python scripts/transfer_appearance.py out/idr_spot out/idr_DTU
    python scripts/transfer_appearance.py out/idr_spot out/idr_DTU pictures/ --frames 120 --orbit

The path is a closed curve through some of the geometry run's cameras, or a circle with --orbit.
Writes OUT/colour/NNNN.png and a film of the same, OUT/colour.mp4 (--format png: pictures alone).
OUT is GEOMETRY_RUN/renders/appearance_of_<APPEARANCE_RUN> where it is left out.
"""

import argparse
from pathlib import Path

from method import find_run, method_of

from common.command_line import add_loading, positive
from common.errors import UserError, run_command
from common.films import FORMATS, save_pictures
from common.rendering.orbit import orbit_cameras
from common.training.processes import choose_device
from common.training.run_folder import RunFolder
from idr.drawing import draw_views
from idr.experiment import load_experiment
from idr.transfer import closed_path


def main() -> None:
    """Parse the command line, draw and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("geometry_run", help="run folder or configuration that lends its shape")
    parser.add_argument("appearance_run", help="run folder or configuration that lends its colours")
    parser.add_argument("out", nargs="?", type=Path, help="folder for the pictures")
    parser.add_argument("--frames", type=positive, default=60, help="pictures along the path (60)")
    parser.add_argument("--orbit", action="store_true", help="move on a circle around the object")
    parser.add_argument("--size", type=positive, help="height in pixels; default: the data's")
    parser.add_argument("--format", choices=FORMATS, default="mp4", help="of the film (mp4)")
    add_loading(parser)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    runs = [_idr_run(name) for name in (arguments.geometry_run, arguments.appearance_run)]
    geometry, appearance = (load_experiment(run, device, arguments.checkpoint) for run in runs)
    path = orbit_cameras if arguments.orbit else closed_path
    cameras = path(geometry.cameras, arguments.frames)
    if arguments.size:
        width = round(cameras.width * arguments.size / cameras.height)
        cameras = cameras.resized(arguments.size, width)
    pictures = draw_views(geometry, cameras, appearance)
    out = arguments.out or runs[0].renders / f"appearance_of_{runs[1].path.resolve().name}"
    for film_format in dict.fromkeys(["png", arguments.format]):
        save_pictures(out, pictures, ["colour"], film_format)
    print(f"shape of {runs[0].path}, appearance of {runs[1].path}: {out}")


def _idr_run(name: str) -> RunFolder:
    run = find_run(name)
    if method_of(run) != "idr":
        raise UserError(
            f"{run.path}: was trained with DVR, whose one network holds both shape and colour; "
            "name a run of method idr"
        )
    return run


if __name__ == "__main__":
    run_command(main)
