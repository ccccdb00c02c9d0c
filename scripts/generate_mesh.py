"""Make coloured meshes from a trained run.

    python scripts/generate_mesh.py                              the newest run under out/
    python scripts/generate_mesh.py out/dvr_ShapeNet --resolution 256 --extension glb
    python scripts/generate_mesh.py out/dvr_ShapeNet --images my_pictures/
    python scripts/generate_mesh.py out/idr_DTU --export-cameras

RUN is a run folder or a configuration. Meshes are in world units. DVR: those of the test split (of
the scene, for a scene) go to RUN/meshes/<category>/<object>.<extension>, those of --images to
RUN/meshes/images/. IDR: RUN/meshes/<scene>.<extension>; --export-cameras writes the learnt cameras
to RUN/cameras/ as cameras.npz, transforms.json, *_par.txt and a COLMAP text model.
"""

import argparse
import sys
from pathlib import Path

import torch
from method import find_run, method_of
from tqdm import tqdm

import dvr.config
import idr.config
from common.command_line import refuse_options, run_parser
from common.config import validate
from common.errors import run_command
from common.training.processes import choose_device
from common.training.run_folder import RunFolder
from dvr.data import Objects
from dvr.experiment import load_run
from dvr.generation import save_meshes, subjects_in_folder, subjects_of
from idr.experiment import load_experiment
from idr.generation import export_cameras, save_scene_mesh, scene_name


def main() -> None:
    """Parse the command line, make the meshes, and name those that have no surface."""
    parser = run_parser(__doc__)
    parser.add_argument(
        "--resolution",
        type=int,
        help="cells on a side (DVR: 32 times a power of two; IDR: on the object's short side)",
    )
    parser.add_argument("--faces", type=int, help="simplify to this many faces")
    parser.add_argument("--extension", choices=["ply", "obj", "glb", "off"])
    parser.add_argument("--images", type=Path, help="DVR: folder of one's own pictures")
    parser.add_argument("--refinement-steps", type=int, help="DVR: rounds of mesh refinement")
    parser.add_argument(
        "--export-cameras", action="store_true", help="IDR: also write the learnt cameras"
    )
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    run = find_run(arguments.run)
    print(f"run {run.path}")
    make = _dvr_meshes if method_of(run) == "dvr" else _idr_mesh
    empty = make(run, arguments, device)
    print(f"meshes are in {run.meshes}")
    if empty:
        print(f"{len(empty)} without a surface: {', '.join(empty)}", file=sys.stderr)


def _dvr_meshes(run: RunFolder, arguments: argparse.Namespace, device: torch.device) -> list[str]:
    refuse_options(
        arguments, ["export_cameras"], "DVR takes cameras as they are; leave the option out"
    )
    model, config, _ = load_run(run, device, arguments.checkpoint)
    settings = config.generation.model_dump() | _changes(
        arguments, "resolution", "faces", "extension", "refinement_steps"
    )
    generation = validate(dvr.config.GenerationConfig, settings, "command line")
    if arguments.images is not None:
        subjects = subjects_in_folder(model, arguments.images, device)
    else:
        subjects = subjects_of(model, Objects(config, config.data.test_split), device)
    return save_meshes(run.meshes, model, subjects, generation)


def _idr_mesh(run: RunFolder, arguments: argparse.Namespace, device: torch.device) -> list[str]:
    refuse_options(
        arguments,
        ["images", "refinement_steps"],
        "this run learnt one scene by IDR, from no input pictures and without a refinement of its "
        "mesh; leave the option out, or name a DVR run",
    )
    experiment = load_experiment(run, device, arguments.checkpoint)
    settings = experiment.config.generation.model_dump() | _changes(
        arguments, "resolution", "faces", "extension"
    )
    generation = validate(idr.config.GenerationConfig, settings, "command line")
    if arguments.export_cameras:
        folder = run.path / "cameras"
        for problem in export_cameras(folder, experiment):
            print(f"not written: {problem}", file=sys.stderr)
        print(f"{len(experiment.cameras)} training cameras are in {folder}")
    with tqdm(desc="mesh", unit="point", unit_scale=True) as bar:
        path = save_scene_mesh(run.meshes, experiment, generation, bar.update)
    return [] if path else [scene_name(experiment)]


def _changes(arguments: argparse.Namespace, *names: str) -> dict:
    """The settings that the command line gives."""
    given = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


if __name__ == "__main__":
    run_command(main)
