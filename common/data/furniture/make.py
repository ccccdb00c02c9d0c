"""Make the furniture collection: every piece a function of (seed, kind, index) alone."""

import shutil
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common.data.collection_writer import (
    ObjectRecord,
    volume_points,
    write_metadata,
    write_object,
    write_splits,
)
from common.data.furniture.beds import bed
from common.data.furniture.cabinets import cabinet
from common.data.furniture.chairs import chair
from common.data.furniture.lamps import lamp
from common.data.furniture.photograph import cameras_around, photograph
from common.data.furniture.piece import Piece, standing_in_cube
from common.data.furniture.sofas import sofa
from common.data.furniture.tables import table
from common.data.furniture.truth import occupancies, surface_samples
from common.data.hull import visual_hull_depth
from common.data.origin import is_made, read_origin, write_origin
from common.data.sphere_tracer import step_grid
from common.data.workers import worker_pool
from common.errors import UserError
from common.progress import ProgressLine, followed

KINDS = {"chair": chair, "table": table, "sofa": sofa, "lamp": lamp, "cabinet": cabinet, "bed": bed}
VERSION = 3  # raise it whenever the same seed would give other files
GRID_HALF = 0.52  # the object's cube and a little air around it


@dataclass(frozen=True)
class Origin:
    """What a set was made from; stored beside it as origin.yaml."""

    seed: int
    train: int
    held_out: int
    validation: int
    views: int
    size: int
    points: int
    surface_points: int
    kinds: tuple[str, ...]
    version: int = VERSION

    def stored(self) -> dict:
        """The contents of origin.yaml."""
        return asdict(self) | {"kinds": list(self.kinds)}


def make_furniture(
    root: Path,
    seed: int = 0,
    train: int = 256,
    held_out: int = 64,
    validation: int = 16,
    views: int = 24,
    size: int = 64,
    points: int = 30_000,
    surface_points: int = 20_000,
    kinds: tuple[str, ...] = tuple(KINDS),
    workers: int = 2,
) -> None:
    """Make a collection of furniture under ``root``, or return at once where it is complete.

    Splits are train, val (``validation`` objects) and test (``held_out``), each over the kinds in
    turn; each kind is a category. Objects already made by an interrupted call with the same numbers
    are kept; the folder gets its name only when all is there. Raises UserError where ``root`` holds
    something else or a set made from other numbers, where a kind would be missing from a split, or
    where a worker process dies.
    """
    root = Path(root)
    origin = Origin(seed, train, held_out, validation, views, size, points, surface_points, kinds)
    _check_counts(origin)
    if is_made(root, origin.stored(), "furniture"):
        return
    partial = root.with_name(root.name + ".partial")
    if read_origin(partial) != origin.stored():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_origin(partial, origin.stored())
    # Held-out pieces come first, so they stay the same when more are made for training.
    names = [object_name(kinds, number) for number in range(held_out + validation + train)]
    splits = {
        "test": names[:held_out],
        "val": names[held_out : held_out + validation],
        "train": names[held_out + validation :],
    }
    for kind in kinds:
        own = {
            split: [name for category, name in members if category == kind]
            for split, members in splits.items()
        }
        write_splits(partial, kind, own)
    write_metadata(partial, {kind: kind for kind in kinds})
    _make_objects(
        partial, origin, [n for n in names if not (partial / n[0] / n[1]).exists()], workers
    )
    partial.rename(root)


def object_name(kinds: tuple[str, ...], number: int) -> tuple[str, str]:
    """Kind and name of the n-th object: the kinds take turns."""
    kind = kinds[number % len(kinds)]
    return kind, f"{kind}_{number // len(kinds):04d}"


def make_piece(seed: int, kind: str, index: int) -> Piece:
    """The index-th piece of a kind, in its canonical pose: centred, y up, front to +z."""
    rng = _generator(seed, kind, index, "shape")
    return standing_in_cube(KINDS[kind](rng), longest_side=rng.uniform(0.9, 1.0))


def make_record(origin: Origin, kind: str, index: int) -> ObjectRecord:
    """All files' contents of one object."""
    piece = make_piece(origin.seed, kind, index)
    rng = _generator(origin.seed, kind, index, "pictures")
    cameras = cameras_around(rng, origin.views, origin.size)
    grid = step_grid(piece.distance, GRID_HALF)
    images, masks, depth = photograph(piece, grid, cameras)
    surface, normals = surface_samples(piece, grid, rng, origin.surface_points)
    points = volume_points(origin.points)
    return ObjectRecord(
        images=images.numpy(),
        masks=masks.numpy(),
        depth=depth.numpy(),
        hull_depth=visual_hull_depth(masks, cameras).numpy(),
        cameras=cameras,
        surface_points=surface.numpy(),
        surface_normals=normals.numpy(),
        points=points,
        occupancies=occupancies(piece, points).numpy(),
    )


def _make_objects(root: Path, origin: Origin, names: list[tuple[str, str]], workers: int) -> None:
    if workers <= 1:
        for kind, name in followed(names, "making furniture", "object"):
            _make_object(root, origin, kind, name)
        return
    with worker_pool(workers) as pool:
        jobs = [pool.submit(_make_object, root, origin, kind, name) for kind, name in names]
        try:
            with ProgressLine("making furniture", "object", len(jobs)) as line:
                for job in as_completed(jobs):
                    job.result()
                    line.advance()
        except BrokenProcessPool as error:
            raise UserError(
                f"{root}: a process making the furniture was killed, often for lack of memory; "
                "run the same command again: finished objects are kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _make_object(root: Path, origin: Origin, kind: str, name: str) -> None:
    index = int(name.rsplit("_", 1)[1])
    write_object(root / kind / name, make_record(origin, kind, index))


def _generator(seed: int, kind: str, index: int, purpose: str) -> np.random.Generator:
    # One stream each for shape and pictures: another number of views leaves the shapes alone.
    words = [seed, list(KINDS).index(kind), index, ["shape", "pictures"].index(purpose)]
    return np.random.default_rng(words)


def _check_counts(origin: Origin) -> None:
    for kind in origin.kinds:
        if kind not in KINDS:
            raise UserError(f"no furniture is called {kind}; the kinds are {', '.join(KINDS)}")
    for split in ("train", "held_out", "validation"):
        count = getattr(origin, split)
        if 0 < count < len(origin.kinds):
            raise UserError(
                f"{split} of {count} objects cannot show all of {', '.join(origin.kinds)}: "
                f"make at least {len(origin.kinds)}, or fewer kinds"
            )
