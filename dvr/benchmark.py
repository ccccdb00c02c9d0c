"""DVR's ray marcher beside the plain dense march that evaluates every sample."""

import torch

from common.benchmark import Figure, agreement, mesh_figures, now, peak_bytes, reset_peak
from common.cameras import Cameras, Rays, look_at, pixel_grid
from common.data.furniture.make import make_piece
from common.rendering.intervals import cube_intervals
from common.rendering.march import RayLevel, Refinement, march, march_dense
from common.rendering.memory import in_chunks, points_per_chunk
from common.training.run_folder import RunFolder
from dvr.data import Objects
from dvr.experiment import load_run
from dvr.field import OccupancyTextureField
from dvr.pictures import object_condition

SAMPLES = 128
REPEATS = 3
PAPER_WIDTH = 512


def benchmark(run: RunFolder | None, size: int, views: int, device: torch.device) -> list[Figure]:
    """Evaluations per ray, rays per second and peak memory on pictures of this height.

    Of a run's field from its first cameras or, without one, of a field of the paper's size fitted
    to a chair.
    """
    if run is None:
        level, width, cameras = fitted_level(device), PAPER_WIDTH, orbit(views, size)
    else:
        level, width, cameras = trained_level(run, size, views, device)
    # As many points at once as a 64 MB activation of this width holds, for both.
    chunk = points_per_chunk(device, 4 * width * 8)
    return compare(in_chunks(level, chunk), picture_rays(cameras.to(device)), device)


@torch.no_grad()
def mesh_benchmark(run: RunFolder, resolution: int, device: torch.device) -> list[Figure]:
    """The extraction of a run's first test object, beside that of the whole cube's grid."""
    model, config, _ = load_run(run, device)
    condition = object_condition(model, Objects(config, config.data.test_split), 0, device)
    chunk = points_per_chunk(device, 4 * config.model.hidden * 8)
    half = 0.5
    box = (-half, -half, -half), (half, half, half)
    return mesh_figures("dvr", model.level(condition), box, resolution, chunk, device)


def compare(level: RayLevel, rays: Rays, device: torch.device) -> list[Figure]:
    """March the same rays fast and densely."""
    intervals = cube_intervals(rays)
    count, crossing = len(rays.origin), int(intervals.crosses.sum())
    refinement = Refinement("secant", 8)
    timed = {}
    for name, search in (("march", march), ("dense", march_dense)):
        few = Rays(rays.origin[:64], rays.direction[:64])
        search(level, few, cube_intervals(few), SAMPLES, refinement)  # warm up
        seconds = []
        before = reset_peak(device)
        for _ in range(REPEATS):
            started = now(device)
            hits = search(level, rays, intervals, SAMPLES, refinement)
            seconds.append(now(device) - started)
        timed[name] = hits, sorted(seconds)[REPEATS // 2], peak_bytes(device) - before
    fast, dense = timed["march"][0], timed["dense"][0]
    equal, difference = agreement(fast, dense)
    print(
        f"{count} rays, {crossing} cross the cube, {int(dense.found.sum())} hit; "
        f"{SAMPLES} samples; equal hits {equal:.4%}, "
        f"|depth difference| median {difference.median():.2g}, "
        f"max {difference.max():.2g}"
    )
    per_ray = fast.evaluations / crossing, dense.evaluations / crossing
    rate = count / timed["march"][1], count / timed["dense"][1]
    memory = timed["march"][2] / 2**20, timed["dense"][2] / 2**20
    return [
        Figure("dvr/evaluations_per_ray", *per_ray, per_ray[1] / per_ray[0], equal, "evaluations"),
        Figure("dvr/rays_per_second", *rate, rate[0] / rate[1], equal, "rays/s"),
        Figure("dvr/peak_memory", *memory, memory[1] / max(memory[0], 1e-9), equal, "MiB"),
    ]


def fitted_level(device: torch.device) -> RayLevel:
    """An occupancy network of the paper's width fitted to the embedded furniture's first chair."""
    piece = make_piece(0, "chair", 0)
    generator = torch.Generator().manual_seed(0)
    field = OccupancyTextureField(PAPER_WIDTH, 5, 0, colour=False)
    field.start_as_sphere(0.3, 10.0, generator)
    field = field.to(device)
    condition = field.condition(torch.zeros(1, 0, device=device))
    optimiser = torch.optim.Adam(field.parameters(), lr=5e-4)
    for _ in range(200):
        points = torch.rand(2048, 3, generator=generator) - 0.5
        inside = (piece.distance(points) < 0).float().to(device)
        logits = field.logits(points.to(device), condition)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, inside)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return lambda points, ray: -field.logits(points, condition)


def trained_level(
    run: RunFolder, size: int, views: int, device: torch.device
) -> tuple[RayLevel, int, Cameras]:
    """The field, its width, and the cameras of a run's first test object."""
    model, config, _ = load_run(run, device)
    objects = Objects(config, config.data.test_split, held_out=True)
    condition = object_condition(model, objects, 0, device).detach()
    level = model.level(condition)
    cameras = objects[0].views.cameras[:views]
    width = round(cameras.width * size / cameras.height)
    return lambda points, ray: level(points), config.model.hidden, cameras.resized(size, width)


def orbit(views: int, size: int) -> Cameras:
    """Cameras around the cube."""
    angle = 2 * torch.pi * torch.arange(views) / views + 0.3
    centre = 1.8 * torch.stack([angle.sin(), torch.full((views,), 0.5), angle.cos()], dim=-1)
    middle = (size - 1) / 2
    intrinsics = torch.tensor([[1.2 * size, 0, middle], [0, 1.2 * size, middle], [0, 0, 1.0]])
    pose = look_at(centre, torch.zeros(views, 3), torch.tensor([0.0, 1.0, 0.0]))
    return Cameras(intrinsics.repeat(views, 1, 1), pose, size, size)


def picture_rays(cameras: Cameras) -> Rays:
    """The rays of every pixel of every camera."""
    device = cameras.intrinsics.device
    pixel = pixel_grid(cameras.height, cameras.width).to(device)
    view = torch.arange(len(cameras), device=device).repeat_interleave(len(pixel))
    return cameras.rays(view, pixel.repeat(len(cameras), 1))
