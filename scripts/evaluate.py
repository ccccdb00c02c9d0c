"""Score a trained run: volumes, meshes (made by generate_mesh.py), pictures and cameras.

    python scripts/evaluate.py                                   the newest run under out/
    python scripts/evaluate.py out/dvr_ShapeNet --baselines
    python scripts/evaluate.py out/idr_DTU --views 3
    python scripts/evaluate.py out/idr_spot --json | jq .held_out.psnr

Writes RUN/evaluation.json and evaluation.csv and prints the table. A textured mesh, where
generate_mesh.py --textured made one, is drawn from the held-out cameras and scored beside the
network's pictures. The same run and seed print the same digits.
"""

import argparse
import csv
import io
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import torch
from method import find_run, method_of

from common.command_line import positive, refuse_options, run_parser
from common.denormals import start_threads
from common.errors import run_command
from common.progress import ProgressLine
from common.training.processes import choose_device
from common.training.run_folder import RunFolder, write_atomically, write_json
from dvr.data import Objects
from dvr.evaluation import evaluate_run
from dvr.experiment import load_run
from idr.evaluation import evaluate_scene, views_compared
from idr.experiment import load_experiment

SHOWN = (
    "volumetric_iou", "chamfer_l1", "chamfer_l1_x10", "chamfer_l1_relative", "accuracy",
    "completeness", "normal_consistency", "f_score", "mask_iou", "psnr", "psnr_whole", "ssim",
    "rotation_error_deg", "rotation_error_deg_median", "centre_error", "centre_error_relative",
    "centre_error_relative_median",
)  # fmt: skip


def main() -> None:
    """Parse the command line, score, write and print."""
    parser = run_parser(__doc__)
    parser.add_argument(
        "--views", type=positive,
        help="pictures compared (DVR: 3 of each object; IDR: all held-out, 7 training views)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the points sampled on meshes")
    parser.add_argument("--split", help="DVR: split to score; default: data.test_split")
    parser.add_argument(
        "--baselines", action="store_true", help="DVR: also retrieval and mean shape"
    )
    parser.add_argument("--json", action="store_true", help="print evaluation.json, nothing else")
    arguments = parser.parse_args()
    # Whoever reads the JSON from standard output is not to find anything else there.
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        start_threads()
        device = choose_device(arguments.device)
        run = find_run(arguments.run)
        print(f"run {run.path}")
        score = _score_dvr if method_of(run) == "dvr" else _score_idr
        result = score(run, arguments, device)
        write_json(run.evaluation, result)
        write_csv(run.evaluation.with_suffix(".csv"), result["items"])
        print(table(rows_of(result)))
        failed = [item["mesh_problem"] for item in result["items"] if "mesh_problem" in item]
        if failed:
            count = len(failed)
            print(f"{count} meshes count as failures, the first: {failed[0]}", file=sys.stderr)
        print(f"scores are in {run.evaluation}")
    if arguments.json:
        print(run.evaluation.read_text(encoding="utf-8").strip())


def _score_dvr(run: RunFolder, arguments: argparse.Namespace, device: torch.device) -> dict:
    model, config, numbers = load_run(run, device, arguments.checkpoint)
    objects = Objects(config, arguments.split or config.data.test_split, held_out=True)
    training = Objects(config, config.data.train_split) if arguments.baselines else None
    with ProgressLine("scoring", "object", len(objects)) as line:
        return evaluate_run(
            model, objects, training, run.meshes, numbers, arguments.views or 3, arguments.seed,
            line.advance,
        )  # fmt: skip


def _score_idr(run: RunFolder, arguments: argparse.Namespace, device: torch.device) -> dict:
    refuse_options(
        arguments,
        ["split", "baselines"],
        "this run learnt one scene by IDR, where there are neither splits nor objects to retrieve; "
        "leave the option out, or name a DVR run",
    )
    experiment = load_experiment(run, device, arguments.checkpoint)
    scene = experiment.scene
    total = views_compared(len(scene.held_out), len(scene.training), arguments.views) + 1
    with ProgressLine("scoring", "view", total) as line:
        return evaluate_scene(experiment, run.meshes, arguments.views, arguments.seed, line.advance)


def rows_of(result: dict) -> dict[str, dict[str, float]]:
    """The lines of the table: this run, the views it was trained on, and what it is compared to."""
    rows = {
        "this run": result["mesh"] | result["held_out"],
        "training views": result["training"],
        "textured mesh": result.get("textured", {}),
    }
    rows |= result["baselines"] | result.get("categories", {})
    rows |= {f"cameras {when}": scores for when, scores in result.get("cameras", {}).items()}
    return {name: row for name, row in rows.items() if row}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Names and scores as aligned text; a score that a row lacks is left blank."""
    columns = [name for name in SHOWN if any(name in row for row in rows.values())]
    lines = [["", *columns]]
    for name, row in rows.items():
        lines.append([name, *(f"{row[c]:.4f}" if c in row else "" for c in columns)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        )
        for line in lines
    )


def write_csv(path: Path, items: list[dict]) -> None:
    """One line an item, atomically."""
    names = list(dict.fromkeys(name for item in items for name in item))
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(items)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


if __name__ == "__main__":
    run_command(main)
