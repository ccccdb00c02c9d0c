"""Measure the core beside its plain oracles, in one run, as ratios.

    python scripts/benchmark.py                       DVR: a field of the paper's size
    python scripts/benchmark.py out/dvr_DTU           a trained DVR run's field and cameras
    python scripts/benchmark.py idr                   IDR: networks of the paper's size
    python scripts/benchmark.py idr --size small      those of configs/idr_DTU.yaml
    python scripts/benchmark.py idr --quick --json benchmark.json
    python scripts/benchmark.py mesh out/idr_spot     a run's extraction at 512 cells an axis
    python scripts/benchmark.py render out/idr_DTU    an IDR run's picture, 1200 pixels high

DVR: network evaluations per ray, rays per second and peak memory of the ray marcher, beside the
dense march that evaluates every sample. Without RUN the field is 512 wide and fitted for a minute
to a chair, so that it has thin parts.

IDR: evaluations per ray and seconds per training step, beside a plain version of the paper's step
on the same pixels with the same networks, which are fitted to a teapot first. A minute on two
cores; with --quick, a smaller network and fewer pixels, a quarter of that.

mesh and render count network evaluations, beside those of every vertex of the grid and those of
the paper's search. All say how far fast and plain agree.
"""

import argparse
import sys
from pathlib import Path

import torch
from method import find_run, load_config, method_of

import dvr.benchmark
import idr.benchmark
from common.benchmark import Figure, report
from common.command_line import positive
from common.errors import UserError, run_command
from common.training.processes import choose_device
from dvr.benchmark import mesh_benchmark as dvr_mesh
from idr.benchmark import mesh_benchmark as idr_mesh
from idr.benchmark import render_benchmark
from idr.config import IDRConfig
from idr.experiment import load_experiment

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SIZES = {"paper": "idr_DTU_paper.yaml", "small": "idr_DTU.yaml"}
QUICK = ("training.rays=512", "model.mlp.hidden=128", "model.appearance.hidden=64")


def main() -> None:
    """Measure and print."""
    words = sys.argv[1:]
    subject = words.pop(0) if words and words[0] in PARSERS else "dvr"
    arguments = PARSERS[subject]().parse_args(words)
    device = choose_device(arguments.device)
    if subject == "mesh":
        figures = measure_mesh(arguments, device)
    elif subject == "render":
        figures = measure_render(arguments, device)
    elif subject == "idr":
        config = load_config(str(CONFIGS / SIZES[arguments.size]), QUICK * arguments.quick)
        assert isinstance(config, IDRConfig)
        effort = idr.benchmark.QUICK if arguments.quick else idr.benchmark.FULL
        figures = idr.benchmark.benchmark(config, effort, device)
    else:
        run = None if arguments.run is None else find_run(arguments.run)
        figures = dvr.benchmark.benchmark(run, arguments.size, arguments.views, device)
    report(figures, arguments.json)


def measure_mesh(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """Of a run of either method."""
    run = find_run(arguments.run)
    if method_of(run) == "dvr":
        return dvr_mesh(run, arguments.resolution, device)
    return idr_mesh(load_experiment(run, device, "best").model, arguments.resolution, device)


def measure_render(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """Of an IDR run."""
    run = find_run(arguments.run)
    if method_of(run) == "dvr":
        raise UserError(
            f"{run.path}: was trained with DVR, whose pictures benchmark.py RUN measures; name a "
            "run of method idr"
        )
    return render_benchmark(load_experiment(run, device, "best"), arguments.height, device)


def mesh_parser() -> argparse.ArgumentParser:
    """mesh [RUN] ..."""
    parser = common_parser()
    parser.add_argument("run", nargs="?", help="run folder or configuration; default: the newest")
    parser.add_argument(
        "--resolution", type=positive, default=512, help="cells: 32 times a power of two (512)"
    )
    return parser


def render_parser() -> argparse.ArgumentParser:
    """render [RUN] ..."""
    parser = common_parser()
    parser.add_argument("run", nargs="?", help="run folder or configuration; default: the newest")
    parser.add_argument("--height", type=positive, default=1200, help="of the picture (1200)")
    return parser


def dvr_parser() -> argparse.ArgumentParser:
    """[dvr] [RUN] ..."""
    parser = common_parser()
    parser.add_argument("run", nargs="?", help="run folder or configuration")
    parser.add_argument("--size", type=positive, default=96, help="height of the pictures marched")
    parser.add_argument("--views", type=positive, default=2, help="number of pictures")
    return parser


def idr_parser() -> argparse.ArgumentParser:
    """idr ..."""
    parser = common_parser()
    parser.add_argument(
        "--size", choices=list(SIZES), default="paper", help="whose networks; default: the paper's"
    )
    parser.add_argument("--quick", action="store_true", help="a smaller network and fewer pixels")
    return parser


def common_parser() -> argparse.ArgumentParser:
    """What both methods' command lines share."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return parser


PARSERS = {"dvr": dvr_parser, "idr": idr_parser, "mesh": mesh_parser, "render": render_parser}


if __name__ == "__main__":
    run_command(main)
