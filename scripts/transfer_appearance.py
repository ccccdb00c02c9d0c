"""Draw the shape of one IDR run with the appearance of another, along a smooth camera path.

    python scripts/transfer_appearance.py out/idr_spot out/idr_DTU
    python scripts/transfer_appearance.py out/idr_spot out/idr_DTU pictures/ --path spiral
    python scripts/transfer_appearance.py out/idr_spot out/idr_DTU --beside colour,normal --json

Yariv et al. 2020, Sec. 4.3. The path is a closed curve through some of the geometry run's cameras,
or goes around the object (--path orbit or spiral). Writes OUT/cameras_colour/NNNN.png and a film
of the same, OUT/cameras_colour.mp4 (--format png: pictures alone), named after the path. OUT is
GEOMETRY_RUN/renders/appearance_of_<APPEARANCE_RUN> where it is left out.
"""

import argparse
import json
import sys
import time
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path

from method import find_run, method_of

from common.command_line import add_loading
from common.denormals import start_threads
from common.errors import UserError, run_command
from common.films.film import save_pictures
from common.films.options import add_film_options, along_path, film_of
from common.training.processes import choose_device
from common.training.run_folder import RunFolder
from idr.drawing import draw_views
from idr.experiment import load_experiment


def main() -> None:
    """Parse the command line, draw and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("geometry_run", help="run folder or configuration that lends its shape")
    parser.add_argument("appearance_run", help="run folder or configuration that lends its colours")
    parser.add_argument("out", nargs="?", type=Path, help="folder for the pictures")
    add_film_options(parser, ("colour",), "mp4")
    parser.add_argument(
        "--orbit", action="store_const", const="orbit", dest="path", help="same as --path orbit"
    )
    add_loading(parser)
    arguments = parser.parse_args()
    # Whoever reads the JSON from standard output is not to find anything else there.
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        started = time.perf_counter()
        start_threads()
        device = choose_device(arguments.device)
        runs = [_idr_run(name) for name in (arguments.geometry_run, arguments.appearance_run)]
        geometry, appearance = (load_experiment(run, device, arguments.checkpoint) for run in runs)
        path = arguments.path or "cameras"
        cameras = along_path(arguments, path, geometry.cameras)
        pictures = list(draw_views(geometry, cameras, appearance))
        out = arguments.out or runs[0].renders / f"appearance_of_{runs[1].path.resolve().name}"
        film = film_of(arguments, path)
        films = dict.fromkeys([replace(film, format="png"), film])
        written = [one for each in films for one in save_pictures(out, pictures, each)]
        print(f"shape of {runs[0].path}, appearance of {runs[1].path}: {out}")
    if arguments.json:
        names = {"geometry": str(runs[0].path), "appearance": str(runs[1].path)}
        items = [one.as_json() for one in written]
        took = round(time.perf_counter() - started, 2)
        print(json.dumps(names | {"written": items, "drawn_in": took}, indent=2))


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
