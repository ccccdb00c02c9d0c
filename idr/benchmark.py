"""IDR's training step beside the paper's, on the same fitted network and the same pixels."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from common.benchmark import Figure, agreement, now
from common.cameras import Cameras
from common.data.sculpture.form import RADIUS, Sculpture, sculpture
from common.data.sculpture.photograph import cameras_around, photograph
from common.data.sphere_tracer import step_grid
from common.data.views import Views
from common.rendering.cached_search import FieldCache
from common.training.terms import weighted_total
from idr.config import IDRConfig
from idr.data import PixelBatch, PixelBatches
from idr.evaluation_count import EvaluationCount, counted
from idr.experiment import make_model
from idr.geometry import Geometry
from idr.model import IDRModel, StepOutput
from idr.reference_step import reference_step

VIEWS, PICTURE_SIZE = 8, 96
POOL, FIT_BATCH, FIT_RATE = 2**17, 1024, 1e-3
NEAR_SURFACE = 0.1  # half of the points fitted lie about this near

Samples = tuple[Float[Tensor, "N 3"], Float[Tensor, "N"]]


@dataclass(frozen=True)
class Effort:
    """How many steps a network is fitted for, and how many pairs of steps are timed."""

    fit_steps: int
    pairs: int


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
    torch.set_float32_matmul_precision("medium" if device.type == "cpu" else "high")
    form = sculpture()
    views = photographs(form)
    model = make_model(config, views.cameras).to(device)
    step = config.training.iterations - 1  # all bands or levels are in, and no refresh is due
    model.prepare_step(step)
    samples = distance_samples(form, device)
    fit(model.geometry, samples, effort.fit_steps, FIT_RATE)
    refresh = measured(lambda: refresh_cache(model), model.geometry, device)
    fit(model.geometry, samples, config.search.refresh_every // 2, config.training.learning_rate)
    batch = PixelBatches(views, config, rank=0, processes=1)[step].to(device)
    return compare(model, batch, views.cameras.to(device), step, refresh, effort.pairs)


def compare(
    model: IDRModel, batch: PixelBatch, cameras: Cameras, step: int, refresh: Cost, pairs: int
) -> list[Figure]:
    """Take a step, forward and backward, both ways in turns; seconds are medians.

    The cost of a ``refresh`` of the cache counts with its share of our step.
    """
    device, oracle = cameras.intrinsics.device, as_oracle(model)
    rays = cameras.rays(batch.view, batch.pixel)
    fast, slow = (one.find_surface(rays, FieldCache(model.cache)) for one in (model, oracle))
    equal, difference = agreement(fast, slow)
    print(
        f"{len(batch.mask)} pixels, {int(slow.found.sum())} hit; equal outcome {equal:.4%}, "
        f"|depth difference| median {difference.median():.2g}, max {difference.max():.2g} "
        "of the ball's radius"
    )

    def ours() -> StepOutput:
        return model(batch, cameras, step)

    def paper() -> StepOutput:
        generator = torch.Generator(device).manual_seed(0)
        return reference_step(oracle, batch, cameras, step, generator)

    losses, taken = model.config.losses, {ours: [], paper: []}
    weights = {"rgb": losses.rgb, "mask": losses.mask, "eikonal": losses.eikonal}
    for _ in tqdm(range(pairs), desc="timing pairs of steps", unit="pair"):
        for way, costs in taken.items():
            model.zero_grad()
            work = lambda way=way: weighted_total(way().terms, weights).backward()
            costs.append(measured(work, model.geometry, device))
    return []
