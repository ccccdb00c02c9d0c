"""The training loop that both methods share.

A step's randomness is a function of (seed, step) alone: batches, samples and schedules need no
state, and a resumed run continues exactly where an uninterrupted one would be.
"""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from common.config import TrainingConfig
from common.errors import Stopped, UserError
from common.training.logs import Log
from common.training.processes import Process, any_process
from common.training.run_folder import (
    RunFolder,
    load_checkpoint,
    load_model_state,
    save_checkpoint,
)
from common.training.schedule import learning_rate
from common.training.terms import weighted_total


@dataclass(frozen=True)
class StepResult:
    """Unweighted terms of one step, and what it took."""

    terms: dict[str, Tensor]
    rays: int
    evaluations: int
    notes: dict[str, Tensor]  # further numbers worth a curve


@runtime_checkable
class Task(Protocol):
    """What a method gives the loop."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def rates(self) -> list[tuple[list[nn.Parameter], float]]:
        """Groups of the model's parameters, and their learning rate relative to the schedule's."""
        ...

    @property
    def batches(self) -> Dataset:
        """batches[step] is this process's batch of that step."""
        ...

    @property
    def workers(self) -> int:
        """Processes that prepare batches; 0: the training process itself."""
        ...

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each loss term."""
        ...

    def step(self, model: nn.Module, batch: Any, step: int) -> StepResult:
        """Loss terms of a batch; ``model`` is the (possibly distributed) model to call."""
        ...

    def validate(self) -> dict[str, float]:
        """Metrics on the validation data."""
        ...

    def show(self, log: Log, step: int) -> None:
        """Pictures and meshes for the logs."""
        ...


@dataclass
class Progress:
    """Where a run is: steps done, seconds of training, best validation so far."""

    step: int = 0
    seconds: float = 0.0
    best: float | None = None


class StopRequest:
    """Turns SIGINT and SIGTERM, or the end of ``seconds``, into a polite stop after a step."""

    def __init__(self, seconds: float | None) -> None:
        self.reason: str | None = None
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def __enter__(self) -> "StopRequest":
        signals = (signal.SIGINT, signal.SIGTERM)
        self._previous = {number: signal.signal(number, self._note) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if self.reason is not None:
            raise KeyboardInterrupt  # asked twice: the person does not want to wait
        self.reason = signal.Signals(number).name

    def raised(self) -> bool:
        """Whether to stop now."""
        if self.reason is None and self._deadline and time.monotonic() > self._deadline:
            self.reason = "--exit-after"
        return self.reason is not None


def train(
    task: Task,
    config: TrainingConfig,
    run: RunFolder,
    process: Process,
    exit_after: float | None = None,
) -> Progress:
    """Train to ``config.iterations``, from the run's last checkpoint if it has one.

    Raises Stopped after saving where a signal or ``exit_after`` seconds ask for it, UserError
    where the loss is no longer finite.
    """
    groups = [{"params": parameters} for parameters, _ in task.rates]
    optimiser = torch.optim.Adam(groups, lr=config.learning_rate, fused=True)
    progress = Progress()
    if run.latest.exists():
        progress = _resume(task.model, optimiser, run, process)
    model = _distributed(task.model, process)
    log = Log(run, progress.step) if process.leads else None
    try:
        with StopRequest(exit_after) as stop, _bar(config, progress, process) as bar:
            _steps(task, model, optimiser, config, run, process, progress, log, stop, bar)
    finally:
        if log:
            log.close()
    return progress


def _steps(
    task: Task,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: TrainingConfig,
    run: RunFolder,
    process: Process,
    progress: Progress,
    log: Log | None,
    stop: StopRequest,
    bar: tqdm,
) -> None:
    meter = _Meter()
    for batch in _batches(task, range(progress.step, config.iterations)):
        started = time.perf_counter()
        rate = learning_rate(config, progress.step)
        for group, (_, factor) in zip(optimiser.param_groups, task.rates, strict=True):
            group["lr"] = rate * factor
        model.train()
        optimiser.zero_grad(set_to_none=True)
        result = task.step(model, batch, progress.step)
        loss = weighted_total(result.terms, task.weights)
        loss.backward()
        limit = float("inf") if config.clip_gradient is None else config.clip_gradient
        norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
        logs_now = (progress.step + 1) % config.log_every == 0
        # Every step: a checkpoint may follow any of them.
        if not torch.isfinite(loss + norm):
            raise _diverged(result.terms, progress.step, run)
        optimiser.step()
        progress.step += 1
        progress.seconds += time.perf_counter() - started
        meter.add(result, time.perf_counter() - started)
        if logs_now:
            scalars = meter.scalars(result, loss, norm, rate)
            if log:
                log.scalars("train", scalars, progress.step, progress.seconds)
            bar.set_postfix({"loss": f"{scalars['loss']:.4f}"}, refresh=False)
        bar.update()
        _milestones(task, optimiser, config, run, process, progress, log)
        if any_process(stop.raised(), process):
            if process.leads:
                _save(run.latest, task.model, optimiser, progress)
            raise Stopped(
                f"stopped by {stop.reason or 'another process'} after {progress.step} of "
                f"{config.iterations} iterations; the same command continues from there "
                f"({run.path})"
            )
    if process.leads:
        _save(run.latest, task.model, optimiser, progress)


def _milestones(
    task: Task,
    optimiser: torch.optim.Optimizer,
    config: TrainingConfig,
    run: RunFolder,
    process: Process,
    progress: Progress,
    log: Log | None,
) -> None:
    """What happens every so many steps: validation, pictures, checkpoints (rank 0 alone)."""
    if not process.leads or log is None:
        return
    step, last = progress.step, progress.step == config.iterations
    if step % config.validate_every == 0 or last:
        task.model.eval()
        metrics = task.validate()
        log.scalars("validation", metrics, step, progress.seconds)
        summary = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        tqdm.write(f"step {step}: {summary}", file=sys.stdout)
        score = metrics[config.select_by] * (-1 if config.select_by == "depth_error" else 1)
        if progress.best is None or score > progress.best:
            progress.best = score
            _save(run.best, task.model, optimiser, progress)
    if step % config.visualise_every == 0 or last:
        task.model.eval()
        task.show(log, step)
    if step % config.checkpoint_every == 0:
        log.flush()
        _save(run.latest, task.model, optimiser, progress)


class _Meter:
    """Rates over the steps since the last record."""

    def __init__(self) -> None:
        self.seconds, self.rays, self.evaluations, self.steps = 0.0, 0, 0, 0

    def add(self, result: StepResult, seconds: float) -> None:
        self.seconds += seconds
        self.rays += result.rays
        self.evaluations += result.evaluations
        self.steps += 1

    def scalars(
        self, result: StepResult, loss: Tensor, norm: Tensor, rate: float
    ) -> dict[str, float]:
        values = {"loss": float(loss.detach()), "gradient_norm": float(norm), "learning_rate": rate}
        values |= {f"loss_{name}": float(term.detach()) for name, term in result.terms.items()}
        values |= {name: float(note) for name, note in result.notes.items()}
        values |= {
            "steps_per_second": self.steps / self.seconds,
            "rays_per_second": self.rays / self.seconds,
            "evaluations_per_second": self.evaluations / self.seconds,
        }
        self.__init__()  # type: ignore[misc]
        return values


class _Reporting(Dataset):
    """The same batches, with a UserError in place of a batch that could not be made.

    A loading process would bury the message in the traceback that it sends along.
    """

    def __init__(self, batches: Dataset) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> Any:
        try:
            return self._batches[step]
        except UserError as error:
            return error


def _batches(task: Task, steps: Sequence[int]) -> Iterator[Any]:
    loader = DataLoader(
        _Reporting(task.batches),
        batch_size=None,
        sampler=steps,
        num_workers=task.workers,
        persistent_workers=task.workers > 0,
        multiprocessing_context="spawn" if task.workers else None,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _bar(config: TrainingConfig, progress: Progress, process: Process) -> tqdm:
    return tqdm(
        total=config.iterations,
        initial=progress.step,
        unit="step",
        desc="training",
        disable=not process.leads,
        # A file gets a line now and then instead of a bar redrawn ten times a second.
        mininterval=0.1 if sys.stderr.isatty() else 15,
        ascii=not sys.stderr.isatty(),
    )


def _distributed(model: nn.Module, process: Process) -> nn.Module:
    if process.count == 1:
        return model
    devices = [process.device] if process.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def _save(
    path: Any, model: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": progress.step,
        "seconds": progress.seconds,
        "best": progress.best,
    }
    save_checkpoint(path, state)


def _resume(
    model: nn.Module, optimiser: torch.optim.Optimizer, run: RunFolder, process: Process
) -> Progress:
    state = load_checkpoint(run.latest, process.device)
    load_model_state(model, state["model"], run.latest)
    optimiser.load_state_dict(state["optimiser"])
    progress = Progress(state["step"], state["seconds"], state["best"])
    if process.leads:
        print(f"resuming {run.path} at iteration {progress.step} (--fresh starts anew)")
    return progress


def _diverged(terms: dict[str, Tensor], step: int, run: RunFolder) -> UserError:
    wrong = [name for name, term in terms.items() if not torch.isfinite(term)]
    where = f"in {', '.join(wrong)}" if wrong else "in the gradient"
    return UserError(
        f"{run.path}: training diverged at iteration {step + 1}: a value {where} is not finite; "
        "the last checkpoint is kept. Lower training.learning_rate or set training.clip_gradient"
    )
