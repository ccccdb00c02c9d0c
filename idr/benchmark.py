"""IDR's training step beside the paper's, on the same fitted network and the same pixels."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from common.benchmarks.figures import Figure, agreement, fewer, mesh_figures
from common.benchmarks.step import learn
from common.cameras import Cameras, Rays, pixel_grid
from common.data.sculpture.form import RADIUS, Sculpture, sculpture
from common.data.sculpture.photograph import cameras_around, photograph
from common.data.sphere_tracer import step_grid
from common.data.views import Views
from common.measuring import measures_memory, now, peak_bytes, reset_peak
from common.progress import followed
from common.rendering.cached_search import FieldCache
from common.training.precision import EXACT, Precisions, fastest_precisions
from idr.config import IDRConfig
from idr.data import PixelBatch, PixelBatches
from idr.evaluation_count import EvaluationCount, counted
from idr.experiment import make_model
from idr.generation import CHUNK, UNIT_CUBE
from idr.geometry import Geometry
from idr.losses import eikonal
from idr.model import IDRModel, StepOutput
from idr.pictures import render_view
from idr.reference_step import reference_step

VIEWS, PICTURE_SIZE = 8, 64
POOL, FIT_BATCH, FIT_RATE = 2**17, 512, 1e-3
EVERY = 61  # of a picture's pixels, one in so many is also traced as the paper does
NEAR_SURFACE = 0.1  # half of the points fitted lie about this near

Samples = tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]


@dataclass(frozen=True)
class Effort:
    """How many steps a network is fitted for, and how many pairs of steps are timed."""

    fit_steps: int
    pairs: int


SHOWN_FIT = 600  # steps of a fit that is meshed and drawn
FULL, QUICK = Effort(fit_steps=300, pairs=5), Effort(fit_steps=150, pairs=9)


@dataclass(frozen=True)
class Cost:
    """Seconds, and evaluations of the geometry."""

    seconds: float
    count: EvaluationCount


def benchmark(config: IDRConfig, effort: Effort, device: torch.device) -> list[Figure]:
    """Evaluations a ray and seconds a step, ours beside the paper's, and how far they agree.

    The configured geometry is first fitted to the sculpture's signed distance, so that rays meet
    what they meet in training. The cached grid is as stale as it is on average.
    """
    form = sculpture()
    views = photographs(form)
    model, samples, optimiser = fitted(config, effort.fit_steps, form, views, device)
    step, rate = last_step(config), config.training.learning_rate
    refresh = measured(model.refresh_cache, model.geometry, device)
    fit(model.geometry, samples, optimiser, [rate] * (config.search.refresh_every // 2))
    batch = PixelBatches(views, config, rank=0, processes=1)[step].to(device)
    return compare(model, batch, views.cameras.to(device), step, refresh, effort.pairs)


def fitted(
    config: IDRConfig, steps: int, form: Sculpture, views: Views, device: torch.device
) -> tuple[IDRModel, Samples, torch.optim.Optimizer]:
    """A model whose geometry is fitted to the sculpture's signed distance, and what fitted it."""
    model = make_model(config, views.cameras).to(device)
    model.prepare_step(last_step(config))
    samples, rate = distance_samples(form, device), config.training.learning_rate
    optimiser = torch.optim.Adam(model.geometry.parameters())
    fit(model.geometry, samples, optimiser, np.geomspace(FIT_RATE, rate, steps).tolist())
    return model, samples, optimiser


def fitted_to_sculpture(config: IDRConfig, device: torch.device) -> tuple[IDRModel, Cameras]:
    """A model to be meshed and drawn, and cameras around it."""
    form = sculpture()
    views = photographs(form)
    return fitted(config, SHOWN_FIT, form, views, device)[0], views.cameras


def last_step(config: IDRConfig) -> int:
    """All bands or levels are in then, and no refresh is due."""
    return config.training.iterations - 1


def compare(
    model: IDRModel, batch: PixelBatch, cameras: Cameras, step: int, refresh: Cost, pairs: int
) -> list[Figure]:
    """Take a step, forward and backward, both ways in turns; seconds are medians.

    The cost of a ``refresh`` of the cached grid counts with its share of our step.
    """
    device, oracle = cameras.intrinsics.device, as_oracle(model)
    equal = agree(model, oracle, cameras.rays(batch.view, batch.pixel))

    def ours() -> StepOutput:
        return model(batch, cameras, step)

    def paper() -> StepOutput:
        generator = torch.Generator(device).manual_seed(0)
        return reference_step(oracle, batch, cameras, step, generator)

    def cost(way: Callable[[], StepOutput], precisions: Precisions) -> Cost:
        model.zero_grad()
        return measured(
            lambda: learn(lambda: way().terms, model.config.losses, precisions),
            model.geometry,
            device,
        )

    ways = (ours, fastest_precisions(device, model.config.model.width)), (paper, EXACT)
    for way in ways:
        cost(*way)  # warm up
    costs: tuple[list[Cost], list[Cost]] = [], []
    for _ in followed(range(pairs), "timing steps of both", "pair"):
        for way, taken in zip(ways, costs, strict=True):
            taken.append(cost(*way))
    rays, share = len(batch.mask), 1 / model.config.search.refresh_every
    mine, theirs = costs[0][0].count, costs[1][0].count
    per_ray = {
        "search_evaluations": (mine.search + share * refresh.count.search, theirs.search),
        "evaluations": (mine.total + share * refresh.count.search, theirs.total),
    }
    figures = [
        Figure(f"idr/{name}_per_ray", a / rays, b / rays, b / a, equal, name.split("_")[-1])
        for name, (a, b) in per_ray.items()
    ]
    first, second = (median(cost.seconds for cost in taken) for taken in costs)
    first += share * refresh.seconds
    return [*figures, Figure("idr/seconds_per_step", first, second, second / first, equal, "s")]


@torch.no_grad()
def mesh_benchmark(model: IDRModel, resolution: int, device: torch.device) -> list[Figure]:
    """The extraction of the surface in the unit sphere, beside that of the whole cube's grid."""

    def level(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        return torch.maximum(model.geometry.sdf(points), points.norm(dim=-1) - 1)

    with torch.nn.utils.parametrize.cached():
        return mesh_figures("idr", level, UNIT_CUBE, resolution, CHUNK, device)


@torch.no_grad()
def render_benchmark(
    model: IDRModel, cameras: Cameras, height: int, device: torch.device
) -> list[Figure]:
    """Evaluations a pixel of the first camera's picture, colours and its cache included.

    And peak memory beside the picture's own. The picture is this high. The paper's search takes one
    pixel in EVERY, and evaluates each surface point once more.
    """
    cameras = cameras[[0]].to(device)
    cameras = cameras.resized(height, round(cameras.width * height / cameras.height))
    samples, before = model.config.rendering.samples, reset_peak(device)
    with counted(model.geometry) as ours:
        cache, _ = model.cached(model.config.search.evaluation_resolution)
        picture = render_view(model, cache, cameras, 0)
    peak = (peak_bytes(device) - before) / 2**20
    pixel = pixel_grid(cameras.height, cameras.width)[::EVERY].to(device)
    rays = cameras.rays(torch.zeros(len(pixel), dtype=torch.long, device=device), pixel)
    with counted(model.geometry) as theirs:
        oracle = as_oracle(model).find_surface(rays, cache)
    equal, _ = agreement(model.find_surface(rays, cache), oracle)
    mine = ours.total / (cameras.height * cameras.width * samples**2)
    paper = (theirs.total + int(oracle.found.sum())) / len(pixel)
    name = "idr/render_evaluations_per_pixel"
    figures = [fewer(name, mine, paper, equal, "evaluations")]
    if measures_memory(device):
        itself = sum(part.nbytes for part in vars(picture).values()) / 2**20
        figures.append(fewer("idr/render_peak_memory", peak, itself, equal, "MiB"))
    return figures


def as_oracle(model: IDRModel) -> IDRModel:
    """The same networks, searched as the paper does."""
    return searched_by(model, "reference")


def searched_by(model: IDRModel, method: Literal["cached", "reference"]) -> IDRModel:
    """The same networks with this search."""
    other, config = copy(model), model.config
    search = config.search.model_copy(update={"method": method})
    other.config = config.model_copy(update={"search": search})
    return other


def agree(model: IDRModel, oracle: IDRModel, rays: Rays) -> float:
    """Share of rays with the same outcome of both searches in training; prints what they find.

    Also on a fresh and finer grid, as in evaluation. Depths are in radii of the object's ball.
    """
    slow = oracle.find_surface(rays, FieldCache(model.cache))
    print(f"{len(slow.found)} rays, {int(slow.found.sum())} meet the surface")
    fine, _ = model.cached(model.config.search.evaluation_resolution)
    shares = []
    for name, cache in (("in training", FieldCache(model.cache)), ("in evaluation", fine)):
        share, difference = agreement(model.find_surface(rays, cache), slow)
        print(
            f"{name:13s} equal outcome {share:.4%}, |depth difference| "
            f"median {difference.median():.2g}, max {difference.max():.2g}"
        )
        shares.append(share)
    return shares[0]


def measured(work: Callable[[], object], geometry: Geometry, device: torch.device) -> Cost:
    """What some work costs."""
    with counted(geometry) as count:
        started = now(device)
        work()
        seconds = now(device) - started
    return Cost(seconds, count)


def photographs(form: Sculpture) -> Views:
    """Small pictures of the sculpture, with masks and cameras."""
    cameras = cameras_around(np.random.default_rng(0), VIEWS, PICTURE_SIZE)
    grid = step_grid(form.distance, RADIUS + 0.02, 48)
    pictures = [photograph(form, grid, cameras[view : view + 1]) for view in range(VIEWS)]
    images, coverage = (torch.from_numpy(np.stack(one)) for one in zip(*pictures, strict=True))
    return Views(images, coverage > 127, cameras, None, None, None, torch.eye(4))


def distance_samples(form: Sculpture, device: torch.device) -> Samples:
    """Points of [-1, 1]^3, half of them near the surface, and their signed distances."""
    generator = torch.Generator().manual_seed(0)
    points = 2 * torch.rand(8 * POOL, 3, generator=generator) - 1
    distance = torch.cat([form.distance(some) for some in points.split(2**16)])
    near = (distance.abs() < NEAR_SURFACE).nonzero()[:, 0]
    chosen = torch.cat([near[: POOL // 2], torch.arange(POOL // 2)])
    return points[chosen].to(device), distance[chosen].to(device)


def fit(
    geometry: Geometry, samples: Samples, optimiser: torch.optim.Optimizer, rates: Sequence[float]
) -> None:
    """A step at each rate on the signed distance's absolute error and the gradient's length."""
    points, distance = samples
    generator = torch.Generator(points.device).manual_seed(0)
    for rate in followed(rates, "fitting the network", "step"):
        index = torch.randint(len(points), (FIT_BATCH,), generator=generator, device=points.device)
        values = geometry(points[index])
        loss = (values.sdf - distance[index]).abs().mean() + 0.1 * eikonal(values.gradient)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
