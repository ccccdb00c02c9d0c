"""Make coloured meshes from a trained run.

    python scripts/generate_mesh.py                              the newest run under out/
    python scripts/generate_mesh.py out/dvr_ShapeNet --resolution 256 --extension glb
    python scripts/generate_mesh.py out/dvr_ShapeNet --images my_pictures/

RUN is a run folder or a configuration. Meshes of the test split (of the scene, for a scene) go to
RUN/meshes/<category>/<object>.<extension> in world units; those of --images to RUN/meshes/images/.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from common.config import validate
from common.errors import run_command
from common.meshes.files import save_mesh
from common.meshes.mesh import transform_mesh
from common.training.processes import choose_device
from dvr.config import GenerationConfig
from dvr.data import Objects
from dvr.experiment import load_run
from dvr.generation import make_mesh, subjects_in_folder, subjects_of


def main() -> None:
    """Parse the command line, make the meshes, and count those that have no surface."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", help="run folder or configuration; default: the newest")
    parser.add_argument("--images", type=Path, help="folder of one's own pictures")
    parser.add_argument("--resolution", type=int, help="cells on a side, 32 times a power of two")
    parser.add_argument("--faces", type=int, help="simplify to this many faces")
    parser.add_argument("--refinement-steps", type=int, help="rounds of mesh refinement")
    parser.add_argument("--extension", choices=["ply", "obj", "glb", "off"])
    parser.add_argument("--checkpoint", choices=["best", "latest"], default="best")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    run = find_run(arguments.run)
    print(f"run {run.path}")
    model, config, _ = load_run(run, device, arguments.checkpoint)
    changes = {
        name: value
        for name in ("resolution", "faces", "refinement_steps", "extension")
        if (value := getattr(arguments, name)) is not None
    }
    settings = config.generation.model_dump() | changes
    generation = validate(GenerationConfig, settings, "command line")
    if arguments.images is not None:
        subjects = subjects_in_folder(model, arguments.images, device)
    else:
        subjects = subjects_of(model, Objects(config, config.data.test_split), device)
    empty = []
    for subject in tqdm(subjects, desc="meshes", unit="mesh"):
        mesh = make_mesh(model, subject.condition, generation)
        path = run.meshes / subject.category / f"{subject.name}.{generation.extension}"
        if mesh.empty:
            path.unlink(missing_ok=True)
            empty.append(f"{subject.category}/{subject.name}")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        save_mesh(path, transform_mesh(mesh, subject.world_from_object))
    print(f"meshes are in {run.meshes}")
    if empty:
        print(f"{len(empty)} without a surface: {', '.join(empty)}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
