"""Measure the core beside its plain oracle, in one run, as ratios.

    python scripts/benchmark.py                       the untrained paper-size field
    python scripts/benchmark.py out/dvr_DTU           a trained run's field and cameras
    python scripts/benchmark.py out/dvr_DTU --json benchmark.json

For the ray marcher: network evaluations per ray, rays per second and peak memory, beside the dense
march that evaluates every sample, and how far the two agree. Without RUN the field has the paper's
size (512 wide, 128 samples) and is fitted for a minute to a chair, so that it has thin parts.
"""

import argparse
import ctypes
import json
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from common.cameras import Cameras, Rays, look_at, pixel_grid
from common.data.furniture.make import make_piece
from common.errors import run_command
from common.rendering.intervals import cube_intervals
from common.rendering.march import Hits, RayLevel, Refinement, march, march_dense
from common.rendering.memory import in_chunks, points_per_chunk
from common.training.processes import choose_device
from common.training.run_folder import write_json
from dvr.data import Objects
from dvr.experiment import load_run
from dvr.field import OccupancyTextureField
from dvr.pictures import object_condition

SAMPLES = 128
REPEATS = 3
CLEAR_PEAK = Path("/proc/self/clear_refs")  # Linux forgets a process's peak memory on writing 5


@dataclass(frozen=True)
class Figure:
    """One measured quantity beside that of the oracle; ratio = oracle / value."""

    name: str
    value: float
    oracle: float
    ratio: float
    agreement: float
    unit: str


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", help="run folder or configuration")
    parser.add_argument("--size", type=int, default=96, help="height of the pictures marched")
    parser.add_argument("--views", type=int, default=2, help="number of pictures")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    if arguments.run is None:
        level, width = fitted_level(device), 512
        cameras = orbit(arguments.views, arguments.size)
    else:
        level, width, cameras = trained_level(arguments, device)
    # As many points at once as a 64 MB activation of this width holds, for both.
    chunk = points_per_chunk(device, 4 * width * 8)
    rays = picture_rays(cameras.to(device))
    figures = compare(in_chunks(level, chunk), rays, device)
    for figure in figures:
        print(
            f"{figure.name:32s} {figure.value:12.4g} oracle {figure.oracle:12.4g} "
            f"ratio {figure.ratio:7.2f}  {figure.unit}"
        )
    if arguments.json:
        write_json(arguments.json, json.loads(json.dumps([asdict(f) for f in figures])))


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


def agreement(fast: Hits, dense: Hits) -> tuple[float, torch.Tensor]:
    """Share of rays with the same outcome (hit or not, at the same crossing), and |difference|."""
    both = fast.found & dense.found
    difference = (fast.depth - dense.depth).abs()[both]
    same = (fast.found == dense.found) & (fast.starts_inside == dense.starts_inside)
    same[both] &= difference < 1e-3
    return float(same.float().mean()), difference


def fitted_level(device: torch.device) -> RayLevel:
    """A 512-wide occupancy network fitted to the embedded furniture's first chair."""
    piece = make_piece(0, "chair", 0)
    generator = torch.Generator().manual_seed(0)
    field = OccupancyTextureField(512, 5, 0, colour=False)
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
    arguments: argparse.Namespace, device: torch.device
) -> tuple[RayLevel, int, Cameras]:
    """The field and cameras of a run's first test object."""
    model, config, _ = load_run(find_run(arguments.run), device)
    objects = Objects(config, config.data.test_split, held_out=True)
    condition = object_condition(model, objects, 0, device).detach()
    level = model.level(condition)
    cameras = objects[0].views.cameras[: arguments.views]
    size = arguments.size, round(cameras.width * arguments.size / cameras.height)
    return lambda points, ray: level(points), config.model.hidden, cameras.resized(*size)


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


def now(device: torch.device) -> float:
    """Seconds, with the device's work done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_peak(device: torch.device) -> int:
    """Forget earlier peaks; bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if not CLEAR_PEAK.exists():
        return 0  # then the peak is that of the whole process so far
    # What earlier work freed counts as used until the C library hands it back.
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR_PEAK.write_text("5")
    return status_bytes("VmRSS")


def peak_bytes(device: torch.device) -> int:
    """Peak memory since the last reset, of the device or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not CLEAR_PEAK.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return status_bytes("VmHWM")


def status_bytes(name: str) -> int:
    """A line of Linux's own account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


if __name__ == "__main__":
    run_command(main)
