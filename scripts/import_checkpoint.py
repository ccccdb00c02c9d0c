"""Turn a checkpoint of DVR's or IDR's authors into a run that the other scripts take.

    python scripts/import_checkpoint.py model.pt out/imported
    python scripts/import_checkpoint.py model.pt out/skull --data data/DTU data.categories=[scan65]
    python scripts/import_checkpoint.py ModelParameters/latest.pth out/scan65 --data data/DTU/scan65
    python scripts/import_checkpoint.py ModelParameters/2000.pth out/scan65_trained \\
        --cameras CamParameters/2000.pth --data data/DTU/scan65
    python scripts/import_checkpoint.py model.pt out/imported --json

FILE is read as data: nothing in it is run. OUT becomes a run folder whose network is the same
function; its sizes come from FILE and everything else from CONFIG, by default the configuration of
the paper's experiment. Afterwards: generate_mesh.py OUT, render.py OUT, evaluate.py OUT, and
transfer_appearance.py for IDR. See docs/checkpoints.md.
"""

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from common.command_line import refuse_options
from common.config import apply_overrides, load_yaml, merge
from common.errors import UserError, run_command
from common.training.foreign_weights import read_foreign
from common.training.imported_run import refuse_occupied, write_imported_run
from common.training.run_folder import RunFolder
from dvr.author_weights import is_dvr, read_dvr
from dvr.data import Objects
from idr.author_weights import is_idr, read_idr, read_poses

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
INPUT_SIZE = 224  # to which the authors resize every input picture


def main() -> None:
    """Parse the command line, convert, and say what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="DVR: .pt, IDR: ModelParameters")
    parser.add_argument("out", metavar="OUT", type=Path, help="the run folder to make")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument("--config", metavar="CONFIG", help="YAML file with all but the network")
    parser.add_argument("--cameras", metavar="FILE", type=Path, help="IDR: CamParameters")
    parser.add_argument("--data", metavar="PATH", help="the scene or collection learnt from")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    arguments = parser.parse_intermixed_args()
    run = RunFolder(arguments.out)
    # Whoever reads the JSON from standard output is not to find anything else there.
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        found = _import(run, arguments)
        print(f"{arguments.file}: {found}")
        print(f"run folder {run.path}")
        print(f"mesh:  python scripts/generate_mesh.py {run.path}")
    if arguments.json:
        outcome = {"file": str(arguments.file), "run": str(run.path), "found": found}
        print(json.dumps(outcome, indent=2))


def _import(run: RunFolder, arguments: argparse.Namespace) -> str:
    """Make the run folder; what the file holds, in words."""
    refuse_occupied(run)
    content = read_foreign(arguments.file)
    if is_dvr(content):
        return _import_dvr(run, content, arguments)
    if is_idr(content):
        return _import_idr(run, content, arguments)
    raise UserError(
        f"{arguments.file}: holds weights of neither DVR (decoder.fc_p ...) nor IDR "
        "(implicit_network.lin0 ...); name DVR's model.pt or a file of IDR's ModelParameters"
    )


def _import_dvr(run: RunFolder, content: Any, arguments: argparse.Namespace) -> str:
    refuse_options(
        arguments, ["cameras"], "the file is DVR's, which learns no cameras; leave the option out"
    )
    state = content.get("model", content.get("state_dict", content))
    scene = not any(str(name).startswith("encoder.") for name in state)
    _need_scene(arguments, scene)
    paper = "dvr_DTU_paper" if scene else "dvr_ShapeNet_paper"
    settings, source = _settings("dvr", paper, arguments)
    config, model, step = read_dvr(arguments.file, content, settings, source)
    if arguments.data:
        Objects(config, config.data.test_split)
    write_imported_run(run, config, config.training, model, [(list(model.parameters()), 1.0)], step)
    network = config.model
    return (
        f"DVR, {network.blocks} blocks {network.hidden} wide, {network.encoder.kind} encoder, "
        f"{'with' if network.colour else 'without'} colour, iteration {step}"
    )


def _import_idr(run: RunFolder, content: Any, arguments: argparse.Namespace) -> str:
    _need_scene(arguments, True)
    poses = None
    if arguments.cameras:
        poses = read_poses(arguments.cameras, read_foreign(arguments.cameras))
    settings, source = _settings("idr", "idr_DTU_paper", arguments)
    config, model, step = read_idr(arguments.file, content, poses, settings, source)
    write_imported_run(run, config, config.training, model, model.rates(), step)
    network, colour = config.model.mlp, config.model.appearance
    sees = [
        name
        for name, used in (
            ("view", colour.view != "none"),
            ("normal", colour.normal),
            ("feature", colour.feature),
        )
        if used
    ]
    return (
        f"IDR, {network.layers} layers {network.hidden} wide, colour of point, {', '.join(sees)}, "
        f"{'learnt' if poses is not None else 'fixed'} cameras, iteration {step}"
    )


def _need_scene(arguments: argparse.Namespace, scene: bool) -> None:
    """Networks of one scene make pictures and world units with that scene alone."""
    named = arguments.config or any(one.startswith("data.path=") for one in arguments.overrides)
    if scene and not arguments.data and not named:
        raise UserError(
            f"{arguments.file}: has learnt one scene; name the folder of that scene with --data"
        )


def _settings(method: str, paper: str, arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The settings around the network, and where they come from."""
    source = arguments.config or str(CONFIGS / f"{paper}.yaml")
    settings = load_yaml(Path(source))
    if settings.get("method") != method:
        raise UserError(
            f"{source}: is of method {settings.get('method')}, but {arguments.file} is of "
            f"{method}; name another configuration, or none"
        )
    given: dict[str, Any] = {"training": {"out_dir": str(arguments.out)}, "data": {}}
    if method == "dvr":
        given["data"]["input"] = {"size": INPUT_SIZE}
    if arguments.data:
        given["data"]["path"] = arguments.data
    return apply_overrides(merge(settings, given), arguments.overrides), source


if __name__ == "__main__":
    run_command(main)
