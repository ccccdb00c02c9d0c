"""DVR's ray marcher beside the plain dense march, and its training step beside the paper's."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.benchmarks.figures import Figure, agreement, mesh_figures
from common.benchmarks.step import learn
from common.cameras import Cameras, Rays, look_at, pixel_grid
from common.data.furniture.make import GRID_HALF, KINDS, make_piece
from common.data.furniture.photograph import cameras_around, photograph
from common.data.furniture.piece import Piece
from common.data.images import fit_to_square
from common.data.sphere_tracer import step_grid
from common.data.supervision import Draw, draw_object, draw_views, supervision_of
from common.data.views import Views
from common.errors import UserError
from common.measuring import measures_memory, now, peak_bytes, reset_peak
from common.progress import followed
from common.rendering.intervals import cube_intervals
from common.rendering.march import RayLevel, Refinement, march, march_dense
from common.rendering.memory import in_chunks, points_per_chunk
from common.training.precision import EXACT, Precisions, fastest_precisions
from common.training.run_folder import RunFolder
from dvr.config import DVRConfig, MarchConfig
from dvr.data import Objects
from dvr.experiment import load_run, make_model
from dvr.field import OccupancyTextureField
from dvr.model import Batch, DVRModel, StepOutput, images_to_input
from dvr.pictures import object_condition
from dvr.reference_step import TERMS, reference_step, sampled_intervals
from dvr.reference_step import search as search_as_the_paper

SAMPLES = 128
REPEATS = 3
PAPER_WIDTH = 512
FIT_STEPS, FIT_POINTS, FIT_RATES = 800, 512, (1e-3, 2e-4)  # from the first to the last step
POOL, NEAR_SURFACE = 2**15, 0.03
FIT_SIDE = 1.2  # of the cube that a field is fitted in: rays pass outside the object's too
CPU_OBJECTS = 4
VIEWS, PICTURE_SIZE = 2, 64
SEED = 0

Samples = tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]


@dataclass
class EvaluationCount:
    """Points at which a network was evaluated: ``search`` without a graph, ``forward`` with one."""

    search: int = 0
    forward: int = 0


@dataclass(frozen=True)
class Cost:
    """Seconds, and evaluations of the field."""

    seconds: float
    count: EvaluationCount


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
    every_step = Refinement("secant", 8)
    until_found = replace(every_step, tolerance=MarchConfig().refinement_tolerance)
    timed = {}
    ways = ("march", march, until_found), ("dense", march_dense, every_step)
    for name, search, refinement in ways:
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
        f"{SAMPLES} samples; equal hits {equal:.4%}, |depth difference| {_summary(difference)}"
    )
    per_ray = fast.evaluations / crossing, dense.evaluations / crossing
    rate = count / timed["march"][1], count / timed["dense"][1]
    memory = timed["march"][2] / 2**20, timed["dense"][2] / 2**20
    figures = [
        Figure("dvr/evaluations_per_ray", *per_ray, per_ray[1] / per_ray[0], equal, "evaluations"),
        Figure("dvr/rays_per_second", *rate, rate[0] / rate[1], equal, "rays/s"),
    ]
    if measures_memory(device):
        ratio = memory[1] / max(memory[0], 1e-9)
        figures.append(Figure("dvr/peak_memory", *memory, ratio, equal, "MiB"))
    return figures


def _summary(difference: Float[Tensor, "H"]) -> str:
    if not len(difference):
        return "of none"
    return f"median {difference.median():.2g}, max {difference.max():.2g}"


def step_benchmark(config: DVRConfig, pairs: int, device: torch.device) -> list[Figure]:
    """Evaluations a ray and seconds a step, ours beside the paper's, and how far they agree.

    The configured networks are first fitted to pieces of the embedded furniture, each seen in a
    picture, so that rays meet what they meet late in training, when the schedule asks for the most
    samples. Rays are as many as configured for each of ``training.objects``; on a CPU, where the
    paper's step on 64 objects takes many minutes, of CPU_OBJECTS at most: what is counted and
    timed grows with their number alike in both. Raises UserError for a loss that the paper's step
    on ShapeNet has not.
    """
    _check_terms(config)
    objects = config.training.objects
    if device.type == "cpu":
        objects = min(objects, CPU_OBJECTS)
    kinds = list(KINDS)
    pieces = [make_piece(SEED, kinds[i % len(kinds)], i // len(kinds)) for i in range(objects)]
    batch = photographed_batch(pieces, config, device)
    model = make_model(config, objects).to(device).train()
    with torch.no_grad():
        code = model.code(batch.image, batch.index)
    fit(model.decoder, code, pieces, torch.Generator().manual_seed(SEED))
    _, samples = config.march.samples[-1]
    return compare_steps(model, batch, samples, pairs)


def compare_steps(model: DVRModel, batch: Batch, samples: int, pairs: int) -> list[Figure]:
    """Take a step, forward and backward, both ways in turns; seconds are medians."""
    device = batch.index.device
    equal = agree(model, batch, samples)

    def cost(way: Callable[[], StepOutput], precisions: Precisions) -> Cost:
        model.zero_grad()
        with counted(model) as count:
            started = now(device)
            learn(lambda: way().terms, model.config.losses, precisions)
            seconds = now(device) - started
        return Cost(seconds, count)

    precisions = fastest_precisions(device, model.config.model.hidden)
    costs: tuple[list[Cost], list[Cost]] = [], []
    for _ in followed(range(pairs), "timing steps of both", "pair"):
        costs[0].append(cost(lambda: model(batch, samples, SEED), precisions))
        costs[1].append(cost(lambda: reference_step(model, batch, samples, SEED), EXACT))
    rays, (mine, theirs) = batch.supervision.mask.numel(), (taken[0].count for taken in costs)
    per_ray = {
        "step_search_evaluations": (mine.search, theirs.search),
        "step_evaluations": (mine.search + mine.forward, theirs.search + theirs.forward),
    }
    figures = [
        Figure(f"dvr/{name}_per_ray", a / rays, b / rays, b / max(a, 1), equal, "evaluations")
        for name, (a, b) in per_ray.items()
    ]
    first, second = (median(cost.seconds for cost in taken) for taken in costs)
    return [*figures, Figure("dvr/seconds_per_step", first, second, second / first, equal, "s")]


@torch.no_grad()
def agree(model: DVRModel, batch: Batch, samples: int) -> float:
    """Share of rays with the same outcome of both searches; prints what they find."""
    rays, objects = batch.supervision.rays, len(batch.index)
    condition = model.condition(batch.image, batch.index)
    of_ray = torch.arange(objects, device=condition.device)
    of_ray = of_ray.repeat_interleave(len(rays.origin) // objects)
    ours, _ = model.find_surface(condition, of_ray, rays, samples)
    paper = search_as_the_paper(model, condition, rays, sampled_intervals(rays), samples)
    equal, difference = agreement(ours, paper)
    print(
        f"{len(rays.origin)} rays of {objects} objects, {int(cube_intervals(rays).crosses.sum())} "
        f"cross the cube, {int(paper.found.sum())} hit, {int(paper.starts_inside.sum())} start "
        f"inside; {samples} samples; equal outcome {equal:.4%}, "
        f"|depth difference| {_summary(difference)}"
    )
    return equal


@contextmanager
def counted(model: DVRModel) -> Iterator[EvaluationCount]:
    """Count the field's evaluations within the block, at its first layer."""
    count = EvaluationCount()

    def first_layer(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        points = output.shape[:-1].numel()
        if torch.is_grad_enabled():
            count.forward += points
        else:
            count.search += points

    hook = model.decoder.fc_p.register_forward_hook(first_layer)
    try:
        yield count
    finally:
        hook.remove()


def _check_terms(config: DVRConfig) -> None:
    weights = config.losses.model_dump()
    for name in (name for name, weight in weights.items() if weight and name not in TERMS):
        raise UserError(
            f"losses.{name} is {weights[name]:g}, but the paper's step that ours is measured "
            f"beside has no such term; set it to 0 (it has {', '.join(TERMS)})"
        )
    supervision = config.supervision
    if supervision.occupancy_points == "random_normal" or supervision.depth_distance == "points":
        raise UserError(
            "the paper's step that ours is measured beside has supervision.occupancy_points "
            "random, depth or hull and supervision.depth_distance camera_z; got "
            f"{supervision.occupancy_points} and {supervision.depth_distance}"
        )


def photographed_batch(pieces: Sequence[Piece], config: DVRConfig, device: torch.device) -> Batch:
    """What a step gets of small pictures of these pieces."""
    rng, generator = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)
    draw = Draw(config.training.rays, config.supervision.views, config.supervision.patch)
    images, drawn = [], []
    for piece in pieces:
        cameras = cameras_around(rng, VIEWS, PICTURE_SIZE)
        grid = step_grid(piece.distance, GRID_HALF)
        seen, mask, depth = photograph(piece, grid, cameras)
        views = Views(seen, mask, cameras, depth, None, None, torch.eye(4))
        chosen = draw_views(len(views), draw, generator)
        drawn.append(draw_object(views, chosen, draw, generator))
        images.append(torch.from_numpy(fit_to_square(seen[0].numpy(), config.data.input.size)))
    index = torch.arange(len(pieces), device=device)
    seen = images_to_input(torch.stack(images)).to(device)
    return Batch(seen, index, supervision_of(drawn).to(device))


def fitted_level(device: torch.device) -> RayLevel:
    """An occupancy network of the paper's width fitted to the embedded furniture's first chair."""
    generator = torch.Generator().manual_seed(0)
    field = OccupancyTextureField(PAPER_WIDTH, 5, 0, colour=False)
    field.start_as_sphere(0.3, 10.0, generator)
    field = field.to(device)
    code = torch.zeros(1, 0, device=device)
    fit(field, code, [make_piece(0, "chair", 0)], generator)
    condition = field.condition(code)
    return lambda points, ray: -field.logits(points, condition)


def fit(
    field: OccupancyTextureField,
    code: Float[Tensor, "B C"],
    pieces: Sequence[Piece],
    generator: torch.Generator,
) -> None:
    """FIT_STEPS on the cross entropy of each piece's occupancy, half of the points near it."""
    samples = [occupancy_samples(piece, generator) for piece in pieces]
    points, inside = (torch.stack(one).to(code.device) for one in zip(*samples, strict=True))
    optimiser = torch.optim.Adam(field.parameters(), fused=True)
    rates = np.geomspace(*FIT_RATES, FIT_STEPS).tolist()
    for rate in followed(rates, "fitting the network", "step"):
        index = torch.randint(POOL, (FIT_POINTS // len(pieces),), generator=generator)
        logits = field.logits(points[:, index], field.condition(code)[:, :, None])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, inside[:, index])
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def occupancy_samples(piece: Piece, generator: torch.Generator) -> Samples:
    """POOL points, half of them near the surface, and 1 for those inside."""
    points = FIT_SIDE * (torch.rand(8 * POOL, 3, generator=generator) - 0.5)
    distance = piece.distance(points)
    near = (distance.abs() < NEAR_SURFACE).nonzero()[:, 0]
    near = near[torch.randint(len(near), (POOL // 2,), generator=generator)]
    chosen = torch.cat([near, torch.arange(POOL // 2)])
    return points[chosen], (distance[chosen] < 0).float()


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
