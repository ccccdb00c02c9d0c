"""Measure the core beside its plain oracles, in one run, as ratios.

    python scripts/benchmark.py                       DVR: a field of the paper's size
    python scripts/benchmark.py out/dvr_DTU           a trained DVR run's field and cameras
    python scripts/benchmark.py dvr-step              DVR: networks of the paper's size
    python scripts/benchmark.py idr                   IDR: networks of the paper's size
    python scripts/benchmark.py idr --size small      those of configs/idr_DTU.yaml
    python scripts/benchmark.py idr --quick --json benchmark.json
    python scripts/benchmark.py quality               IDR: training time to equal quality
    python scripts/benchmark.py processes             two processes beside one, both methods
    python scripts/benchmark.py mesh out/idr_spot     a run's extraction at 512 cells an axis
    python scripts/benchmark.py render out/idr_DTU    an IDR run's picture, 1200 pixels high
    python scripts/benchmark.py profile out/idr_spot  what a step of a run (or YAML) consists of
    python scripts/benchmark.py all --json out/benchmark.json --plot out/benchmark.png

DVR: network evaluations per ray, rays per second and peak memory of the ray marcher, beside the
dense march that evaluates every sample. Without RUN the field is 512 wide and fitted for a minute
to a chair, so that it has thin parts.

IDR: evaluations per ray and seconds per training step, beside a plain version of the paper's step
on the same pixels with the same networks, which are fitted to a teapot first. A minute on two
cores; with --quick, a smaller network and fewer pixels, a quarter of that.

dvr-step: the same of DVR, on networks that are fitted to furniture.

quality: seconds of training until CONFIG (configs/idr_spot.yaml where Spot is there, else
configs/idr_sculpture.yaml) has the held-out PSNR and the Chamfer distance that a plain version of
the paper's training has after --minutes. Neither reading data, starting, nor examining counts.

processes: steps per second of scripts/train.py under torchrun, and whether the weights are the
same, beside one process on as many rays a step; one thread each.

mesh and render count network evaluations, beside those of every vertex of the grid and those of
the paper's search, and peak memory, beside the grid's values and the picture's. all takes all of
it in sizes for ten minutes on two cores; there mesh and render are of a fitted teapot. All say how
far fast and plain agree.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from method import CONFIGS as CONFIGS_OF
from method import find_run, load_config, method_of

import dvr.benchmark
import dvr.profile
import idr.benchmark
import idr.profile
from common.benchmarks.figures import Figure, report
from common.benchmarks.plot import plot
from common.benchmarks.processes import Case, processes_figures
from common.command_line import positive, refuse_options
from common.config import apply_overrides, validate
from common.data.furniture.make import make_furniture
from common.data.sculpture import make_sculpture
from common.errors import UserError, run_command
from common.progress import say
from common.training.processes import Process, choose_device
from common.training.profile import as_table
from common.training.run_config import read_settings
from common.training.run_folder import write_json
from dvr.benchmark import mesh_benchmark as dvr_mesh
from dvr.config import DVRConfig
from idr.benchmark import mesh_benchmark as idr_mesh
from idr.benchmark import render_benchmark
from idr.config import IDRConfig
from idr.experiment import SCULPTURE, load_experiment
from idr.quality import quality_benchmark

SCRIPTS = Path(__file__).resolve().parent
CONFIGS = SCRIPTS.parent / "configs"
SIZES = {"paper": str(CONFIGS / "idr_DTU_paper.yaml"), "small": str(CONFIGS / "idr_DTU.yaml")}
DVR_PAPER = str(CONFIGS / "dvr_ShapeNet_paper.yaml")
PAIRS, PAIRS_OF_ALL = 3, 2  # of DVR's steps
MARCH_OF_ALL = 48, 1  # height of pictures, and how many
QUICK = ("training.rays=512", "model.mlp.hidden=128", "model.appearance.hidden=64")
MINUTES, MINUTES_OF_ALL = 5.0, 1.0  # of the plain training that a quality is taken from
SPOT = Path("data/spot")
Method = TypeVar("Method", DVRConfig, IDRConfig)


@dataclass(frozen=True)
class Subject:
    """What can be measured: the options it adds to the common ones, and how it is measured.

    Figures are none where the subject reports by itself.
    """

    options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace, torch.device], list[Figure]]


def main() -> None:
    """Measure, print, and write what is asked for."""
    words = sys.argv[1:]
    subject = SUBJECTS[words.pop(0) if words and words[0] in SUBJECTS else "dvr"]
    parser = common_parser()
    subject.options(parser)
    arguments = parser.parse_args(words)
    figures = subject.measure(arguments, choose_device(arguments.device))
    if figures:
        report(figures, arguments.json)
        if arguments.plot is not None:
            plot(figures, arguments.plot)


def common_parser() -> argparse.ArgumentParser:
    """What all subjects' command lines share."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="also draw them here")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return parser


def march_options(parser: argparse.ArgumentParser) -> None:
    """[dvr] [RUN] ..."""
    parser.add_argument("run", nargs="?", help="run folder or configuration")
    parser.add_argument("--size", type=positive, default=96, help="height of the pictures marched")
    parser.add_argument("--views", type=positive, default=2, help="number of pictures")


def measure_march(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """DVR's ray marcher."""
    run = None if arguments.run is None else find_run(arguments.run)
    return dvr.benchmark.benchmark(run, arguments.size, arguments.views, device)


def dvr_step_options(parser: argparse.ArgumentParser) -> None:
    """dvr-step [CONFIG] ..."""
    parser.add_argument("config", nargs="?", default=DVR_PAPER, help="of DVR")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument(
        "--pairs", type=positive, default=PAIRS, help="of steps timed (%(default)s)"
    )


def measure_dvr_step(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """DVR's training step."""
    config = config_of(DVRConfig, arguments.config, arguments.overrides)
    return dvr.benchmark.step_benchmark(config, arguments.pairs, device)


def step_options(parser: argparse.ArgumentParser) -> None:
    """idr ..."""
    parser.add_argument(
        "--size", choices=list(SIZES), default="paper", help="whose networks; default: the paper's"
    )
    parser.add_argument("--quick", action="store_true", help="a smaller network and fewer pixels")


def measure_step(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """IDR's training step."""
    config = config_of(IDRConfig, SIZES[arguments.size], QUICK * arguments.quick)
    effort = idr.benchmark.QUICK if arguments.quick else idr.benchmark.FULL
    return idr.benchmark.benchmark(config, effort, device)


def quality_options(parser: argparse.ArgumentParser) -> None:
    """quality [CONFIG] ..."""
    parser.add_argument("config", nargs="?", help="YAML file of a scene with a true surface")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="of the plain training (%(default)g)"
    )


def measure_quality(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """Time to quality, of IDR."""
    if not arguments.minutes > 0:
        raise UserError(f"--minutes {arguments.minutes:g}: expected more than 0, as in 5")
    return quality(arguments.config, arguments.overrides, arguments.minutes, device)


def quality(
    name: str | None, overrides: Sequence[str], minutes: float, device: torch.device
) -> list[Figure]:
    """Of a configuration, or of the scene that is there."""
    if name is None:
        name = str(CONFIGS / ("idr_spot.yaml" if SPOT.exists() else "idr_sculpture.yaml"))
    config = config_of(IDRConfig, name, overrides)
    if Path(config.data.path) == SCULPTURE:
        make_sculpture(SCULPTURE)
    say(f"time to quality on {config.data.path}, beside {minutes:g} minutes of plain training")
    return quality_benchmark(config, config_of(IDRConfig, SIZES["paper"]), minutes, device)


def measure_processes(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """Both methods' trainings, on data made for it."""
    figures = []
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_sculpture(folder / "sculpture", views=8, size=64, surface_points=1000)
        make_furniture(
            folder / "furniture", train=16, held_out=1, validation=1, points=1000,
            surface_points=1000, kinds=("chair",),
        )  # fmt: skip
        # Of what is not measured, a little less.
        less = "search.evaluation_resolution=32", "training.checkpoint_every=1000000"
        scene, collection = (f"data.path={folder / name}" for name in ("sculpture", "furniture"))
        for case in (
            Case("idr/two_processes", (SIZES["small"], scene, *less), 20),
            Case("idr/two_processes_8x512", (SIZES["paper"], scene, *less), 5),
            Case("dvr/two_processes", (str(CONFIGS / "dvr_ShapeNet.yaml"), collection), 10),
        ):
            say(f"{case.name}: {Path(case.arguments[0]).name}, one thread a process")
            figures += processes_figures(case, SCRIPTS / "train.py", folder / case.name)
    return figures


def mesh_options(parser: argparse.ArgumentParser) -> None:
    """mesh [RUN] ..."""
    parser.add_argument("run", nargs="?", help="run folder or configuration; default: the newest")
    parser.add_argument(
        "--resolution", type=positive, default=512, help="cells: 32 times a power of two (512)"
    )


def measure_mesh(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """Of a run of either method."""
    run = find_run(arguments.run)
    if method_of(run) == "dvr":
        return dvr_mesh(run, arguments.resolution, device)
    return idr_mesh(load_experiment(run, device, "best").model, arguments.resolution, device)


def render_options(parser: argparse.ArgumentParser) -> None:
    """render [RUN] ..."""
    parser.add_argument("run", nargs="?", help="run folder or configuration; default: the newest")
    parser.add_argument("--height", type=positive, default=1200, help="of the picture (1200)")


def measure_render(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """Of an IDR run."""
    run = find_run(arguments.run)
    if method_of(run) == "dvr":
        raise UserError(
            f"{run.path}: was trained with DVR, whose pictures benchmark.py RUN measures; name a "
            "run of method idr"
        )
    experiment = load_experiment(run, device, "best")
    return render_benchmark(experiment.model, experiment.cameras, arguments.height, device)


def profile_options(parser: argparse.ArgumentParser) -> None:
    """profile RUN_OR_CONFIG ..."""
    parser.add_argument("run", help="run folder, to go on from its last checkpoint, or YAML")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="of a YAML file")
    parser.add_argument("--steps", type=positive, default=20, help="that are timed (%(default)s)")


def report_profile(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """Print the parts of a training step; no figures, as there is no oracle beside them."""
    refuse_options(arguments, ["plot"], "a profile is a table; leave it out")
    if Path(arguments.run).suffix in (".yaml", ".yml"):
        run, config = None, load_config(arguments.run, arguments.overrides)
    else:
        run = find_run(arguments.run)
        content = apply_overrides(read_settings(run), arguments.overrides)
        config = validate(CONFIGS_OF[method_of(run)], content, str(run.config))
    process = Process(0, 1, device)
    if isinstance(config, DVRConfig):
        shares = dvr.profile.profile_experiment(config, run, arguments.steps, process)
    else:
        shares = idr.profile.profile_experiment(config, run, arguments.steps, process)
    print(as_table(shares))
    if arguments.json is not None:
        write_json(arguments.json, [asdict(share) for share in shares])
    return []


def all_options(parser: argparse.ArgumentParser) -> None:
    """all ..."""
    parser.add_argument(
        "--minutes", type=float, default=MINUTES_OF_ALL,
        help="of the plain training that quality is taken from (%(default)g)",
    )  # fmt: skip


def measure_all(arguments: argparse.Namespace, device: torch.device) -> list[Figure]:
    """Every subject, where a run is needed with a fitted model in its place."""
    figures = []
    for title, measure in {
        "DVR's ray marcher": lambda: dvr.benchmark.benchmark(None, *MARCH_OF_ALL, device),
        "DVR's training step": lambda: dvr.benchmark.step_benchmark(
            config_of(DVRConfig, DVR_PAPER), PAIRS_OF_ALL, device
        ),
        "IDR's training step": lambda: idr.benchmark.benchmark(
            config_of(IDRConfig, SIZES["paper"]), idr.benchmark.FULL, device
        ),
        "mesh and picture": lambda: mesh_and_picture(device),
        "two processes": lambda: measure_processes(arguments, device),
        "time to quality": lambda: quality(None, [], arguments.minutes, device),
    }.items():
        say(f"--- {title}")
        figures += measure()
    return figures


def mesh_and_picture(device: torch.device) -> list[Figure]:
    """Of the small networks, fitted to the sculpture; of 1600 x 1200 pixels and 512 cells."""
    model, cameras = idr.benchmark.fitted_to_sculpture(config_of(IDRConfig, SIZES["small"]), device)
    wide = cameras.resized(1200, 1600)
    return idr_mesh(model, 512, device) + render_benchmark(model, wide, 1200, device)


def config_of(method: type[Method], path: str, overrides: Sequence[str] = ()) -> Method:
    """A configuration of this method; UserError where it is of the other."""
    config = load_config(path, overrides)
    if not isinstance(config, method):
        wanted = "idr" if method is IDRConfig else "dvr"
        raise UserError(f"{path}: method is {config.method}; name a configuration of {wanted}")
    return config


SUBJECTS = {
    "dvr": Subject(march_options, measure_march),
    "dvr-step": Subject(dvr_step_options, measure_dvr_step),
    "idr": Subject(step_options, measure_step),
    "quality": Subject(quality_options, measure_quality),
    "processes": Subject(lambda parser: None, measure_processes),
    "mesh": Subject(mesh_options, measure_mesh),
    "render": Subject(render_options, measure_render),
    "profile": Subject(profile_options, report_profile),
    "all": Subject(all_options, measure_all),
}


if __name__ == "__main__":
    run_command(main)
