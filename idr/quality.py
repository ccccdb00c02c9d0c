"""How long a training takes to a quality: ours beside a plain transcription of the paper's.

Both learn the same scene from the same photographs, through the same training loop, and are
examined by the same code, whose time does not count; nor do the reading of the scene and the start
of the process, which are the same for both. The plain one has the paper's networks, search, batch
(pixels of one photograph at random) and learning rate. Ours stops where it has reached what the
plain one had at the end of its budget, and the best that it had at any examination.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from common.benchmarks.figures import Curve, Figure, fewer
from common.data.views import Views
from common.errors import UserError
from common.meshes.extract import extract_mesh
from common.meshes.mesh import largest_component, transform_mesh
from common.meshes.metrics import compare_to_points
from common.progress import ProgressLine, say
from common.scenes.scene import read_scene_truth
from common.training.divergence import SURFACE_SHARE, Watch
from common.training.loop import StepResult, Training
from common.training.optimiser import make_optimiser
from common.training.precision import EXACT
from common.training.processes import Process
from common.training.run_folder import RunFolder
from common.training.state import Progress, State
from idr.benchmark import searched_by
from idr.config import IDRConfig
from idr.data import PixelBatch, Scene, load_scene, pixels_at
from idr.experiment import make_model
from idr.generation import CHUNK, UNIT_CUBE
from idr.model import IDRModel
from idr.pictures import trace_pixels
from idr.reference_step import reference_step
from idr.task import IDRTask

PIXELS = 4096  # of the held-out views' masks
CELLS = 64  # an axis of the meshes that are examined, and of the grids to find pixels' surfaces
POINTS = 30_000  # of either surface
PLAIN_EXAMINATIONS = 8
FIRST, GROWTH = 0.1, 1.07  # seconds until ours is examined, and by how much they grow each time
AT_LEAST = 0.1  # of the plain one's budget that ours is trained, for its curve, whatever it reached
PSNR, CHAMFER = "held-out PSNR inside the masks, dB", "Chamfer-L1, % of the diameter"


@dataclass(frozen=True)
class Examined:
    """What a training has reached after so many steps and seconds."""

    step: int
    seconds: float
    psnr: float  # dB, inside the masks of held-out views; misses count as white
    chamfer: float  # L1, as a share of the diagonal of the true surface's bounding box

    def reaches(self, psnr: float, chamfer: float) -> bool:
        """Whether it is as good in both."""
        return self.psnr >= psnr and self.chamfer <= chamfer


class Examination:
    """The same held-out pixels and true surface for every model of a scene."""

    def __init__(self, config: IDRConfig, scene: Scene, device: torch.device) -> None:
        truth = read_scene_truth(Path(config.data.path))
        if truth is None or not len(scene.held_out):
            raise UserError(
                f"{config.data.path}: has no true surface (pointcloud.npz) or no held-out view "
                "(data.holdout_every); both are needed, and configs/idr_sculpture.yaml has them"
            )
        points, normals = truth
        generator = np.random.default_rng(0)
        chosen = generator.choice(len(points), min(POINTS, len(points)), replace=False)
        diameter = np.linalg.norm(points.max(axis=0) - points.min(axis=0))
        to_unit = np.diag([1 / diameter] * 3 + [1.0])
        self._points, self._normals = points[chosen] / diameter, normals[chosen]
        self._to_unit = to_unit @ scene.held_out.world_from_object.double().numpy()
        self._cameras = scene.held_out.cameras.to(device)
        inside = scene.held_out.masks.reshape(-1).nonzero()[:, 0].numpy()
        pixels = torch.from_numpy(generator.choice(inside, min(PIXELS, len(inside)), replace=False))
        self._pixels = pixels_at(scene.held_out, scene.held_out.masks, pixels).to(device)

    def __call__(self, model: IDRModel) -> tuple[float, float]:
        """PSNR and Chamfer distance."""
        return self.psnr(model), self.chamfer(model)

    def psnr(self, model: IDRModel) -> float:
        """Of the chosen pixels, in dB."""
        cached = searched_by(model, "cached")
        cache, _ = cached.cached(CELLS)
        batch = self._pixels
        colour, *_ = trace_pixels(cached, cache, self._cameras, batch.view, batch.pixel)
        return float(-10 * (colour - batch.colour).square().mean().log10())

    @torch.no_grad()
    def chamfer(self, model: IDRModel) -> float:
        """Of the largest piece of the surface, as a share of the true one's diameter."""

        def level(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
            return torch.maximum(model.sdf(points), points.norm(dim=-1) - 1)

        device = model.cache.device
        with nn.utils.parametrize.cached():
            mesh = extract_mesh(level, *UNIT_CUBE, CELLS, chunk=CHUNK, device=device).mesh
        mesh = transform_mesh(largest_component(mesh), self._to_unit)
        scores = compare_to_points(mesh, self._points, self._normals, samples=POINTS)
        return scores["chamfer_l1"]


class PhotographPixels(Dataset):
    """batches[step]: random pixels of one random photograph, as the paper's program draws them."""

    def __init__(self, views: Views, config: IDRConfig) -> None:
        self.views, self.config = views, config

    def __len__(self) -> int:
        return self.config.training.iterations

    def __getitem__(self, step: int) -> PixelBatch:
        """The pixels of a step, on the CPU; no two are the same."""
        seed = self.config.training.seed * 1_000_003 + step
        generator = torch.Generator().manual_seed(seed % 2**63)
        view = int(torch.randint(len(self.views), (1,), generator=generator))
        pixels = self.views.masks[0].numel()
        chosen = torch.randperm(pixels, generator=generator)[: self.config.training.rays]
        return pixels_at(self.views, self.views.masks, view * pixels + chosen)


class PlainTask(IDRTask):
    """The paper's batches and its step, network pass for network pass."""

    def __init__(self, model: IDRModel, config: IDRConfig, scene: Scene, process: Process) -> None:
        super().__init__(model, config, scene, process)
        self.batches = PhotographPixels(scene.training, config)  # type: ignore[assignment]
        self.weights = {name: getattr(config.losses, name) for name in ("rgb", "mask", "eikonal")}
        self.precisions = EXACT
        model.prepare_step(0)

    def step(self, model: nn.Module, batch: PixelBatch, step: int) -> StepResult:
        """The terms of one batch."""
        generator = self.model._generator(step)
        out = reference_step(self.model, batch.to(self.device), self.cameras, step, generator)
        return StepResult(
            out.terms, len(batch.mask), out.evaluations, {SURFACE_SHARE: out.surface_share}
        )


def quality_benchmark(
    ours: IDRConfig, paper: IDRConfig, minutes: float, device: torch.device
) -> list[Figure]:
    """Seconds until ``ours`` is as good as the networks of ``paper`` after so many minutes.

    Good are PSNR of held-out views and Chamfer distance, both at one examination: as at the end of
    the plain training, and as its best at any examination. Where ours has not reached them when it
    has trained as long, the agreement is the share of the two that it has.
    """
    scene, process = load_scene(ours), _alone(device)
    examination = Examination(ours, scene, device)
    paper = as_plain(paper, ours)
    budget = 60 * minutes

    def plain_task() -> IDRTask:
        return PlainTask(_model(paper, scene, device), paper, scene, process)

    def our_task() -> IDRTask:
        return IDRTask(_model(ours, scene, device), ours, scene, process)

    even = (budget * share / PLAIN_EXAMINATIONS for share in range(1, 10**9))
    plain = trained("plain", plain_task, examination, even, lambda e: e[-1].seconds >= budget)
    targets = [(plain[-1].psnr, plain[-1].chamfer), best_of(plain)]

    def enough(found: Sequence[Examined]) -> bool:
        reached = all(any(e.reaches(*target) for e in found) for target in targets)
        return found[-1].seconds >= budget * (AT_LEAST if reached else 1)

    growing = (FIRST * GROWTH**power for power in range(10**9))
    mine = trained("ours", our_task, examination, growing, enough)
    return quality_figures(mine, plain)


def trained(
    name: str,
    make_task: Callable[[], IDRTask],
    examine: Callable[[IDRModel], tuple[float, float]],
    due: Iterator[float],
    enough: Callable[[Sequence[Examined]], bool],
) -> list[Examined]:
    """Train until ``enough``; examine after the first step past each of the ``due`` seconds.

    These never end and increase. Also after the last step. A step of another model comes first, so
    that none pays for what is done once in a process.
    """
    task = make_task()
    _training(make_task()).step(task.batches[0])
    training, found, mark = _training(task), [], next(due)
    progress = training.state.progress
    with ProgressLine(f"training, {name}", "step") as line:
        while progress.step < task.config.training.iterations:
            training.step(task.batches[progress.step])
            line.advance()
            if progress.seconds < mark and progress.step < task.config.training.iterations:
                continue
            task.model.eval()
            found.append(Examined(progress.step, progress.seconds, *examine(task.model)))
            if enough(found):
                break
            mark = next(seconds for seconds in due if seconds > progress.seconds)
    last = found[-1]
    say(
        f"{name}: {last.step} steps, {last.seconds:.1f} s of training, {last.psnr:.2f} dB, "
        f"Chamfer {last.chamfer:.3%}"
    )
    return found


def quality_figures(ours: Sequence[Examined], plain: Sequence[Examined]) -> list[Figure]:
    """Seconds until ours has what the plain one has at its end, and until it has its best."""
    best = best_of(plain)
    since = max(
        next(e.seconds for e in plain if e.psnr >= best[0]),
        next(e.seconds for e in plain if e.chamfer <= best[1]),
    )
    figures = []
    for name, target, oracle in (
        ("idr/seconds_to_quality", (plain[-1].psnr, plain[-1].chamfer), plain[-1].seconds),
        ("idr/seconds_to_best_quality", best, since),
    ):
        seconds = next((e.seconds for e in ours if e.reaches(*target)), None)
        met = any(e.psnr >= target[0] for e in ours) + any(e.chamfer <= target[1] for e in ours)
        equal = 1.0 if seconds is not None else min(met, 1) / 2
        figures.append(fewer(name, seconds or ours[-1].seconds, oracle, equal, "s"))
    return [replace(figures[0], curves=curves_of(ours, plain)), figures[1]]


def curves_of(ours: Sequence[Examined], plain: Sequence[Examined]) -> tuple[Curve, ...]:
    """PSNR and Chamfer distance of both over their seconds."""
    return tuple(
        Curve(
            quantity,
            name,
            tuple(e.seconds for e in found),
            tuple(factor * getattr(e, score) for e in found),
        )
        for quantity, score, factor in ((PSNR, "psnr", 1), (CHAMFER, "chamfer", 100))
        for name, found in (("ours", ours), ("plain", plain))
    )


def best_of(found: Sequence[Examined]) -> tuple[float, float]:
    """The best PSNR and the best Chamfer distance of any examination."""
    return max(e.psnr for e in found), min(e.chamfer for e in found)


def as_plain(paper: IDRConfig, ours: IDRConfig) -> IDRConfig:
    """The paper's networks, losses and schedule on our data, by the paper's search."""
    search = paper.search.model_copy(update={"method": "reference"})
    training = paper.training.model_copy(update={"seed": ours.training.seed})
    return paper.model_copy(update={"data": ours.data, "search": search, "training": training})


def _model(config: IDRConfig, scene: Scene, device: torch.device) -> IDRModel:
    return make_model(config, scene.rough_cameras).to(device)


def _training(task: IDRTask) -> Training:
    """From the first step; nothing is written."""
    config = task.config.training
    state = State(task.model, make_optimiser(task.rates, config), Progress(), Watch())
    folder = RunFolder(Path(config.out_dir))
    return Training(task, config, folder, _alone(task.device), state, None)


def _alone(device: torch.device) -> Process:
    return Process(0, 1, device)
