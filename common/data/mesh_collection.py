"""A collection in DVR's layout from mesh files: pictures, cameras, depth and ground truth.

Beside the layout's own files, `<out>/origin.yaml` keeps the settings; each object's `source.json`
its file, credits and object_from_file; `<out>/credits.json` gathers the credits.
"""

import json
import zlib
from collections.abc import Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from common.data.collection_writer import (
    ObjectRecord,
    volume_points,
    write_metadata,
    write_object,
    write_splits,
)
from common.data.hull import visual_hull_depth
from common.data.mesh_files import MeshSource, missing_files, normalise, read_parts
from common.data.mesh_rendering import cameras_around, load_mitsuba, render_images
from common.data.mesh_truth import (
    depth_maps,
    load_embree,
    occupancy,
    silhouettes,
    solid,
    visible_surface,
)
from common.data.origin import open_origin
from common.errors import UserError

SURFACE_POINTS = 20_000
VOLUME_POINTS = 30_000
VALIDATION_EVERY = 8  # of the objects that are not held out
FINISHED = "source.json"  # written last


@dataclass(frozen=True)
class Settings:
    """What decides the contents of a collection, besides its meshes."""

    views: int
    size: int  # pixels
    samples: int  # light paths a pixel
    seed: int
    holdout_every: int
    up: str  # "y" or "z"
    distance: float  # of the cameras from the origin, object units
    focal: float  # 1 where a pixel at the image's edge is seen at 45 degrees
    elevation: tuple[float, float]  # degrees
    gloss: float  # 0 to 1


def open_collection(out: Path, settings: Settings) -> None:
    """Make the folder and note its settings, or check that they are the ones it was begun with.

    Raises UserError where they differ, the folder holds something else, or no renderer is there.
    """
    load_mitsuba(), load_embree()
    open_origin(out, {**asdict(settings), "elevation": list(settings.elevation)})


def render_objects(
    sources: list[MeshSource], out: Path, settings: Settings, workers: int
) -> Iterator[tuple[MeshSource, str | None]]:
    """Render the objects that are not finished; yields each with the reason if it failed."""
    waiting = [source for source in sources if not is_finished(out, source)]
    if workers == 1:
        for source in waiting:
            yield source, _try_object(source, out, settings)
        return
    with worker_pool(workers) as pool:
        futures = {pool.submit(_try_object, source, out, settings): source for source in waiting}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process died, perhaps for want of memory; run the same command again "
                "with fewer --workers: finished objects are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def is_finished(out: Path, source: MeshSource) -> bool:
    """Whether an earlier run rendered this object to its end."""
    return (out / source.category / source.name / FINISHED).is_file()


def render_object(source: MeshSource, out: Path, settings: Settings) -> None:
    """Render one object and write its folder.

    Its random numbers depend on the seed and its own name alone, not on what else is rendered.
    """
    torch.set_num_threads(1)
    seed = np.random.SeedSequence(
        [settings.seed, zlib.crc32(f"{source.category}/{source.name}".encode())]
    )
    rng = np.random.default_rng(seed)
    parts, object_from_file = normalise(read_parts(source.path), settings.up)
    shape = solid(np.concatenate([part.corners for part in parts]))
    cameras = cameras_around(
        settings.views, settings.size, settings.distance, settings.focal, settings.elevation, rng
    )
    depth = depth_maps(shape, cameras)
    masks = np.isfinite(depth)
    if not masks.any(axis=(1, 2)).all():
        raise UserError(f"{source.path}: falls between the pixels in some view; raise --size")
    hull = visual_hull_depth(torch.from_numpy(silhouettes(shape, cameras)), cameras)
    surface_points, surface_normals = visible_surface(shape, SURFACE_POINTS, rng)
    points = volume_points(VOLUME_POINTS)
    record = ObjectRecord(
        images=render_images(
            parts, cameras, settings.samples, settings.gloss, int(rng.integers(2**24))
        ),
        masks=masks,
        depth=depth,
        hull_depth=np.where(masks, hull.numpy(), np.float32(np.inf)),
        cameras=cameras,
        surface_points=surface_points,
        surface_normals=surface_normals,
        points=points,
        occupancies=occupancy(shape, points.astype(np.float64)),
    )
    folder = out / source.category / source.name
    write_object(folder, record)
    description = {
        "mesh": source.path.name,
        "missing_files": missing_files(source.path),
        "object_from_file": object_from_file.tolist(),
        "credit": source.credit,
    }
    (folder / FINISHED).write_text(json.dumps(description, indent=1))


def close_collection(sources: list[MeshSource], out: Path, holdout_every: int) -> None:
    """Write the split lists, metadata and credits of all that is finished."""
    credits = {}
    for category in sorted({source.category for source in sources}):
        finished = {path.parent.name for path in (out / category).glob(f"*/{FINISHED}")}
        if not finished:
            continue
        # Failed and postponed objects keep their place in the count, so that no object changes
        # sides when they are added.
        known = finished | {source.name for source in sources if source.category == category}
        splits = split_names(sorted(known), holdout_every)
        write_splits(
            out,
            category,
            {split: [n for n in names if n in finished] for split, names in splits.items()},
        )
    for path in sorted(out.glob(f"*/*/{FINISHED}")):
        credit = json.loads(path.read_text())["credit"]
        if credit:
            credits[f"{path.parts[-3]}/{path.parts[-2]}"] = credit
    categories = {path.parent.name for path in out.glob("*/train.lst")}
    write_metadata(out, {category: category for category in sorted(categories)})
    if credits:
        (out / "credits.json").write_text(json.dumps(credits, indent=1, ensure_ascii=False))


def split_names(names: list[str], holdout_every: int) -> dict[str, list[str]]:
    """Every ``holdout_every``-th name to test (0: none), every eighth of the others to val."""
    test = names[holdout_every - 1 :: holdout_every] if holdout_every else []
    others = [name for name in names if name not in set(test)]
    val = others[VALIDATION_EVERY - 1 :: VALIDATION_EVERY]
    train = [name for name in others if name not in set(val)]
    return {"train": train, "val": val, "test": test}


def _try_object(source: MeshSource, out: Path, settings: Settings) -> str | None:
    """Why an object could not be rendered, or None.

    Trouble with the disk or memory is no such reason: it would befall the next object too.
    """
    try:
        render_object(source, out, settings)
    except UserError as error:
        return str(error)
    except (ValueError, RuntimeError) as error:  # as trimesh and Mitsuba report odd geometry
        return f"{source.path}: {type(error).__name__}: {error}"
    return None
