"""Damaged files of every kind, as many as there is time for."""

from pathlib import Path

from tests.fuzz_targets import TARGETS, run_target
from tests.fuzzing import Crash

# The first part of a target's name, or all of it, and where it belongs.
GROUPS = {
    "settings and records": ("config", "override", "run", "origin.yaml"),
    "weights": ("checkpoint", "weights"),
    "pictures and depth": ("picture", "depth", "environment"),
    "meshes": ("mesh",),
    "archives": ("archive",),
    "arrays": ("cameras.npz", "sparse.npz", "object"),
    "cameras and names": (
        "collection", "transforms.json", "middlebury", "mvsnet", "projections", "names",
    ),
    "COLMAP": ("colmap",),
}  # fmt: skip


def targets_of(group: str) -> list[str]:
    """The targets of a group."""
    return [name for name in TARGETS if name.split("/")[0] in GROUPS[group]]


def fuzz_group(group: str, folder: Path, seed: int, seconds: float) -> tuple[str, bool]:
    """Fuzz a group's targets for seconds of the processor each; what was seen, and whether well."""
    inputs = refused = 0
    wrong = []
    names = targets_of(group)
    for number, name in enumerate(names):
        own = folder / str(number)
        own.mkdir()
        print(name, flush=True)  # the last one, if reading ends this process
        try:
            found = run_target(name, own, seed, seconds=seconds)
        except Crash as crash:
            wrong.append(f"{name}: {str(crash)[:300]}")
            continue
        inputs, refused = inputs + found.inputs, refused + found.refused
    seen = f"{len(names)} kinds, {inputs:,} files, {refused:,} refused in a sentence"
    return "; ".join([seen, *wrong]), not wrong
