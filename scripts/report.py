"""One page to look at a trained run, or to compare several: it opens in any browser, from disk.

    python scripts/report.py                                     the newest run: RUN/report.html
    python scripts/report.py out/idr_DTU --views 10
    python scripts/report.py out/dvr_ShapeNet --objects 40
    python scripts/report.py out/idr_spot out/idr_spot_trained_cameras --out comparison.html
    python scripts/report.py out/idr_spot --json | jq -r .page

A scene's page has its surface to turn, photographs beside renderings, error maps, curves, scores
and cameras; a collection's page its best and worst objects. Several runs share one page with their
scores side by side, their curves over each other, and the settings in which they differ. Scores
are those of RUN/evaluation.json: run scripts/evaluate.py first.
"""

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import torch
from method import find_run, method_of

from common.command_line import add_loading, positive
from common.denormals import start_threads
from common.errors import UserError, run_command
from common.reports.collection_page import write_collection_report
from common.reports.comparison_page import write_comparison
from common.reports.looks import Look, SceneLook
from common.reports.record import RunRecord, read_record
from common.reports.scene_page import write_scene_report
from common.training.processes import choose_device
from common.training.run_folder import RunFolder
from dvr import report as dvr_report
from dvr.data import Objects
from dvr.experiment import load_run
from idr.experiment import load_experiment
from idr.report import scene_look


def main() -> None:
    """Parse the command line, draw, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN",
        help="run folders or configurations; default: the newest run",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="file to write (one run: RUN/report.html)")
    parser.add_argument("--views", type=positive, default=6, help="views drawn of a scene (6)")
    parser.add_argument(
        "--objects", type=positive, default=16, help="objects drawn of a collection (16)"
    )
    add_loading(parser)
    parser.add_argument("--json", action="store_true", help="print where the page is as JSON")
    arguments = parser.parse_args()
    # Whoever reads the JSON from standard output is not to find anything else there.
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        runs = [find_run(name) for name in arguments.runs] or [find_run(None)]
        out = arguments.out or _default_place(runs)
        _write(out, runs, arguments)
        print(f"open in a browser: {out}")
    if arguments.json:
        print(json.dumps({"runs": [str(run.path) for run in runs], "page": str(out)}, indent=2))


def _write(out: Path, runs: list[RunFolder], arguments: argparse.Namespace) -> None:
    """Draw the runs and write their page."""
    start_threads()
    device = choose_device(arguments.device)
    records = [read_record(run, arguments.checkpoint) for run in runs]
    looks = []
    for run, record in zip(runs, records, strict=True):
        print(f"run {run.path}")
        looks.append(_look(run, record, arguments, device))
    if len(runs) > 1:
        write_comparison(out, records, looks)
    elif isinstance(looks[0], SceneLook):
        write_scene_report(out, records[0], looks[0])
    else:
        write_collection_report(out, records[0], looks[0])


def _default_place(runs: list[RunFolder]) -> Path:
    if len(runs) > 1:
        raise UserError("--out: needed to compare runs: name the file, such as comparison.html")
    return runs[0].path / "report.html"


def _look(
    run: RunFolder, record: RunRecord, arguments: argparse.Namespace, device: torch.device
) -> Look:
    if method_of(run) == "idr":
        experiment = load_experiment(run, device, arguments.checkpoint)
        return scene_look(experiment, run.meshes, arguments.views)
    model, config, _ = load_run(run, device, arguments.checkpoint)
    objects = Objects(config, config.data.test_split, held_out=True)
    if objects.single:
        return dvr_report.scene_look(model, config, device, arguments.views)
    return dvr_report.collection_look(model, objects, record.evaluation, device, arguments.objects)


if __name__ == "__main__":
    run_command(main)
