"""Make coloured or textured meshes from a trained run, and say whether they are closed.

    python scripts/generate_mesh.py                              the newest run under out/
    python scripts/generate_mesh.py out/dvr_ShapeNet --resolution 256 --extension glb
    python scripts/generate_mesh.py out/dvr_ShapeNet --images my_pictures/
    python scripts/generate_mesh.py out/idr_DTU --export-cameras
    python scripts/generate_mesh.py out/idr_spot --faces 20000 --json
    python scripts/generate_mesh.py out/idr_spot --textured --texture-size 2048 --bake gloss

RUN is a run folder or a configuration. Meshes are in world units. DVR: those of the test split (of
the scene, for a scene) go to RUN/meshes/<category>/<object>.<extension>, those of --images to
RUN/meshes/images/. IDR: RUN/meshes/<scene>.<extension>; --export-cameras writes the learnt cameras
to RUN/cameras/ as cameras.npz, transforms.json, *_par.txt and a COLMAP text model.

--textured writes a .glb, or an .obj with .mtl and .png, of 50,000 faces or as many as --faces says.
Its colours hold the light already, so the .glb is unlit. What shines can be painted as seen from
straight above (--bake normal), as the training cameras see it in the mean (views), or as a texture
under a clear coat that mirrors <scene>_environment.hdr, to be given to the viewer (gloss).
"""

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from method import find_run, method_of

import dvr.config
import idr.config
from common.command_line import positive, refuse_options, run_parser
from common.config import validate
from common.denormals import start_threads
from common.errors import UserError, run_command
from common.meshes.bake import TextureSettings
from common.meshes.checks import MeshChecks, check_mesh
from common.meshes.files import TEXTURED_SUFFIXES
from common.meshes.mesh import Mesh
from common.progress import ProgressLine
from common.training.processes import choose_device
from common.training.run_folder import RunFolder
from dvr.data import Objects
from dvr.experiment import load_run
from dvr.generation import save_meshes, subjects_in_folder, subjects_of
from idr.experiment import load_experiment
from idr.generation import export_cameras, save_scene_mesh, scene_name
from idr.texture import textured_scores

TEXTURED_FACES = 50_000
TEXTURE_OPTIONS = ["texture_size", "bake", "normal_map"]
SHOWN = 4  # meshes whose checks are printed one by one


@dataclass
class Report:
    """The meshes that were written, what was found on them, and the names without a surface."""

    meshes: list[tuple[Path, MeshChecks]] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)  # of a scene's textured mesh, drawn
    empty: list[str] = field(default_factory=list)

    def written(self, path: Path, mesh: Mesh) -> None:
        """Take a mesh in."""
        self.meshes.append((path, check_mesh(mesh)))

    def as_json(self, run: RunFolder) -> dict[str, Any]:
        """All of it under its names."""
        items = [{"name": p.stem, "file": str(p)} | checks.as_json() for p, checks in self.meshes]
        if self.scores:
            items[0]["held_out"] = self.scores
        return {"run": str(run.path), "meshes": items, "empty": self.empty}

    def print(self) -> None:
        """What a person wants to know of it."""
        if len(self.meshes) <= SHOWN:
            for path, checks in self.meshes:
                print(f"{path.name}: {checks}")
        else:
            closed = sum(checks.watertight for _, checks in self.meshes)
            print(f"{closed} of {len(self.meshes)} meshes are watertight")
        if self.scores:
            scores = self.scores
            print(
                f"drawn from the held-out cameras: PSNR {scores['psnr']:.2f} dB, "
                f"mask IoU {scores['mask_iou']:.4f}"
            )
        if self.empty:
            names = ", ".join(self.empty)
            print(f"{len(self.empty)} without a surface: {names}", file=sys.stderr)


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
    parser.add_argument("--textured", action="store_true", help="write a texture, as glb or obj")
    parser.add_argument("--texture-size", type=positive, help="texels on a side; default: 1024")
    parser.add_argument(
        "--bake", choices=["normal", "views", "gloss"], help="IDR: which colours are painted"
    )
    parser.add_argument(
        "--normal-map", action="store_true", help="also write the field's normals, for lit viewers"
    )
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    arguments = parser.parse_args()
    # Whoever reads the JSON from standard output is not to find anything else there.
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        start_threads()
        device = choose_device(arguments.device)
        run = find_run(arguments.run)
        print(f"run {run.path}")
        make = _dvr_meshes if method_of(run) == "dvr" else _idr_mesh
        report = make(run, arguments, device)
        print(f"meshes are in {run.meshes}")
        report.print()
    if arguments.json:
        print(json.dumps(report.as_json(run), indent=2))


def _dvr_meshes(run: RunFolder, arguments: argparse.Namespace, device: torch.device) -> Report:
    refuse_options(
        arguments, ["export_cameras"], "DVR takes cameras as they are; leave the option out"
    )
    refuse_options(
        arguments, ["bake"], "DVR's colours do not depend on the view; leave the option out"
    )
    texture = _texture(arguments)
    model, config, _ = load_run(run, device, arguments.checkpoint)
    settings = config.generation.model_dump() | _changes(
        arguments, "resolution", "faces", "extension", "refinement_steps"
    )
    settings |= _textured_settings(settings, arguments)
    generation = validate(dvr.config.GenerationConfig, settings, "command line")
    report = Report()
    if arguments.images is not None:
        subjects = subjects_in_folder(model, arguments.images, device)
    else:
        subjects = subjects_of(model, Objects(config, config.data.test_split), device)
    report.empty = save_meshes(run.meshes, model, subjects, generation, texture, report.written)
    return report


def _idr_mesh(run: RunFolder, arguments: argparse.Namespace, device: torch.device) -> Report:
    refuse_options(
        arguments,
        ["images", "refinement_steps"],
        "this run learnt one scene by IDR, from no input pictures and without a refinement of its "
        "mesh; leave the option out, or name a DVR run",
    )
    texture = _texture(arguments)
    experiment = load_experiment(run, device, arguments.checkpoint)
    settings = experiment.config.generation.model_dump() | _changes(
        arguments, "resolution", "faces", "extension"
    )
    settings |= _textured_settings(settings, arguments)
    generation = validate(idr.config.GenerationConfig, settings, "command line")
    report = Report()
    if arguments.export_cameras:
        folder = run.path / "cameras"
        for problem in export_cameras(folder, experiment):
            print(f"not written: {problem}", file=sys.stderr)
        print(f"{len(experiment.cameras)} training cameras are in {folder}")
    with ProgressLine("mesh", "point") as line:
        path = save_scene_mesh(
            run.meshes, experiment, generation, line.advance, texture, report.written
        )
    if path is None:
        report.empty = [scene_name(experiment)]
    elif texture is not None and len(experiment.scene.held_out):
        every = range(len(experiment.scene.held_out))
        report.scores = textured_scores(experiment, path, every)
    return report


def _texture(arguments: argparse.Namespace) -> TextureSettings | None:
    """How textures are to be made, if they are; UserError for options that do not fit together."""
    if not arguments.textured:
        refuse_options(arguments, TEXTURE_OPTIONS, "this is about textures; add --textured")
        return None
    if arguments.extension is not None and f".{arguments.extension}" not in TEXTURED_SUFFIXES:
        raise UserError(
            f"--extension {arguments.extension}: the format holds no texture; use glb or obj"
        )
    if arguments.bake == "gloss" and arguments.extension == "obj":
        raise UserError("--bake gloss: .obj files know no mirrored surroundings; use glb")
    defaults = TextureSettings()
    return TextureSettings(
        arguments.texture_size or defaults.size,
        arguments.bake or defaults.colours,
        arguments.normal_map,
    )


def _textured_settings(settings: dict, arguments: argparse.Namespace) -> dict:
    """What a texture asks of the mesh, where neither command line nor configuration says more."""
    if not arguments.textured:
        return {}
    fits = f".{settings['extension']}" in TEXTURED_SUFFIXES
    return {
        "extension": settings["extension"] if fits and arguments.bake != "gloss" else "glb",
        "faces": settings["faces"] or TEXTURED_FACES,
    }


def _changes(arguments: argparse.Namespace, *names: str) -> dict:
    """The settings that the command line gives."""
    given = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


if __name__ == "__main__":
    run_command(main)
