"""Score a trained run: volumes, meshes (made by generate_mesh.py) and pictures.

    python scripts/evaluate.py                                   the newest run under out/
    python scripts/evaluate.py out/dvr_ShapeNet --baselines

Writes RUN/evaluation.json and evaluation.csv and prints the table. The same run and seed print the
same digits.
"""

import argparse
import csv
import io
import sys
from pathlib import Path

from tqdm import tqdm

from common.command_line import positive
from common.errors import run_command
from common.training.processes import choose_device
from common.training.run_folder import write_atomically, write_json
from dvr.data import Objects
from dvr.evaluation import (
    PICTURE_SCORES,
    baseline_scores,
    evaluate_objects,
    mean_scores,
    scores_by_category,
    training_view_scores,
)
from dvr.experiment import load_run

SHOWN = (
    "volumetric_iou", "chamfer_l1", "chamfer_l1_x10", "accuracy", "completeness",
    "normal_consistency", "f_score", "mask_iou", "psnr", "ssim",
)  # fmt: skip


def main() -> None:
    """Parse the command line, score, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", help="run folder or configuration; default: the newest")
    parser.add_argument("--split", help="split to score; default: data.test_split")
    parser.add_argument("--baselines", action="store_true", help="also retrieval and mean shape")
    parser.add_argument("--views", type=positive, default=3, help="pictures compared per object")
    parser.add_argument("--seed", type=int, default=0, help="of the points sampled on meshes")
    parser.add_argument("--checkpoint", choices=["best", "latest"], default="best")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    run = find_run(arguments.run)
    print(f"run {run.path}")
    model, config, numbers = load_run(run, device, arguments.checkpoint)
    objects = Objects(config, arguments.split or config.data.test_split, held_out=True)
    with tqdm(total=len(objects), desc="scoring", unit="object") as bar:
        items = evaluate_objects(
            model, objects, run.meshes, config.generation.extension, device,
            arguments.views, arguments.seed, bar.update,
        )  # fmt: skip
    baselines = {}
    if arguments.baselines:
        training = Objects(config, config.data.train_split)
        baselines = baseline_scores(objects, training, arguments.seed)
    means = mean_scores(items)
    held_out = {name: means[name] for name in PICTURE_SCORES if name in means}
    training = training_view_scores(model, objects, device, arguments.views)
    if training and not config.data.holdout_every:
        held_out = {}  # every view was trained on
    result = {
        "method": config.method,
        "step": numbers["step"],
        "seconds": numbers["seconds"],
        "held_out": held_out,
        "training": training,
        "mesh": {name: value for name, value in means.items() if name not in PICTURE_SCORES},
        "categories": scores_by_category(items),
        "baselines": baselines,
        "items": items,
    }
    write_json(run.evaluation, result)
    write_csv(run.evaluation.with_suffix(".csv"), items)
    rows = {"this run": means, **baselines, **scores_by_category(items)}
    print(table(rows))
    failed = [item["mesh_problem"] for item in items if "mesh_problem" in item]
    if failed:
        print(f"{len(failed)} meshes count as failures, the first: {failed[0]}", file=sys.stderr)
    print(f"scores are in {run.evaluation}")


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
    """One line an object, atomically."""
    names = list(dict.fromkeys(name for item in items for name in item))
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(items)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


if __name__ == "__main__":
    run_command(main)
