"""Make the sculpture's scene: every file a function of the seed and the numbers alone."""

import shutil
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from common.cameras import Cameras
from common.data.origin import is_made, write_origin
from common.data.scene_writer import SceneRecord, write_scene_files
from common.data.sculpture.form import RADIUS, Sculpture, sculpture
from common.data.sculpture.photograph import cameras_around, photograph
from common.data.sculpture.truth import surface_samples
from common.data.sphere_tracer import StepGrid, step_grid
from common.data.workers import worker_pool
from common.errors import UserError, naming
from common.progress import followed

VERSION = 2  # raise it whenever the same seed would give other files
GRID_HALF = RADIUS + 0.02
GRID_RESOLUTION = 128
# A table's frame: metres, z up, the teapot 18 cm high and wide, standing off the origin.
WORLD_FROM_OBJECT = np.array(
    [[0.1, 0, 0, 0.25], [0, 0, -0.1, -0.4], [0, 0.1, 0, 0.8], [0, 0, 0, 1]]
)

Photograph = tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]


@dataclass(frozen=True)
class Origin:
    """What a scene was made from; stored in it as origin.yaml."""

    seed: int
    views: int
    size: int
    surface_points: int
    version: int = VERSION


def make_sculpture(
    root: Path,
    views: int = 48,
    size: int = 200,
    seed: int = 0,
    surface_points: int = 120_000,
    workers: int = 2,
) -> None:
    """Make the sculpture's scene in the folder ``root``, or return at once where it is complete.

    An IDR folder with ``views`` pictures of ``size`` x ``size`` pixels and points of the true
    surface. The seed moves the cameras and the points; the sculpture is always the same. The folder
    gets its name only when all is there. Raises UserError where ``root`` holds something else or a
    sculpture made from other numbers, where a number is not positive, or where a worker dies.
    """
    root = Path(root)
    origin = Origin(seed, views, size, surface_points)
    _check_numbers(origin)
    if is_made(root, asdict(origin), "a sculpture"):
        return
    with naming(root):
        record = make_record(origin, workers)
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    write_scene_files(partial, record)
    write_origin(partial, asdict(origin))
    partial.rename(root)


def make_record(origin: Origin, workers: int = 1) -> SceneRecord:
    """All files' contents."""
    cameras = cameras_around(np.random.default_rng([origin.seed, 0]), origin.views, origin.size)
    if workers <= 1:
        photographs = [
            _photograph(cameras[view : view + 1])
            for view in followed(range(origin.views), "making the sculpture", "view")
        ]
        points, normals = _surface(origin)
    else:
        photographs, (points, normals) = _in_parallel(origin, cameras, workers)
    images, coverage = (np.stack(stack) for stack in zip(*photographs, strict=True))
    linear, shift = WORLD_FROM_OBJECT[:3, :3], WORLD_FROM_OBJECT[:3, 3]
    rotation = linear / np.cbrt(np.linalg.det(linear))
    return SceneRecord(
        images=images,
        coverage=coverage,
        cameras=cameras,
        world_from_object=WORLD_FROM_OBJECT,
        surface_points=(points.numpy() @ linear.T + shift).astype(np.float32),
        surface_normals=(normals.numpy() @ rotation.T).astype(np.float32),
    )


def _in_parallel(
    origin: Origin, cameras: Cameras, workers: int
) -> tuple[list[Photograph], tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]]:
    with worker_pool(workers) as pool:
        surface = pool.submit(_surface, origin)
        jobs = [pool.submit(_photograph, cameras[view : view + 1]) for view in range(origin.views)]
        try:
            finished = [job.result() for job in followed(jobs, "making the sculpture", "view")]
            return finished, surface.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process making the sculpture was killed, often for lack of memory; "
                "run the same command again"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@lru_cache(maxsize=1)
def _traceable() -> tuple[Sculpture, StepGrid]:
    """The form and its step grid, once a process."""
    form = sculpture()
    return form, step_grid(form.distance, GRID_HALF, GRID_RESOLUTION)


def _photograph(camera: Cameras) -> Photograph:
    return photograph(*_traceable(), camera)


def _surface(origin: Origin) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    rng = np.random.default_rng([origin.seed, 1])
    return surface_samples(sculpture().distance, GRID_HALF, rng, origin.surface_points)


def _check_numbers(origin: Origin) -> None:
    for name in ("views", "size", "surface_points"):
        if getattr(origin, name) < 1:
            raise UserError(
                f"{name} of the sculpture is {getattr(origin, name)}; choose a positive number"
            )
