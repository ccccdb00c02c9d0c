"""The training loop that both methods share.

A step's randomness is a function of (seed, step) alone: batches, samples and schedules need no
state, and a resumed run continues exactly where an uninterrupted one would be.
"""

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from common.config import TrainingConfig
from common.denormals import flushed_denormals
from common.errors import Diverged, Stopped
from common.progress import ProgressLine, duration, say, warn
from common.training.averaging import Average
from common.training.batch_norm import average_statistics
from common.training.batches import batches
from common.training.determinism import repeatable
from common.training.divergence import MOST_ROLLBACKS, Watch
from common.training.logs import Log
from common.training.optimiser import make_optimiser
from common.training.pace import CHECKPOINT, PICTURES, VALIDATION, Pace
from common.training.precision import Precisions, multiplied
from common.training.processes import Process, any_process, wait_for_all
from common.training.readings import Reading, read
from common.training.run_folder import RunFolder
from common.training.schedule import learning_rate
from common.training.state import Progress, State, forget_after, keep
from common.training.stopping import StopRequest
from common.training.terms import weighted_total


@dataclass(frozen=True)
class StepResult:
    """Unweighted terms of one step, and what it took."""

    terms: dict[str, Tensor]
    rays: int
    evaluations: int
    notes: dict[str, Tensor]  # further numbers worth a curve; divergence.SURFACE_SHARE is watched


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

    @property
    def precisions(self) -> Precisions:
        """Of a step's products."""
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


def train(
    task: Task,
    config: TrainingConfig,
    run: RunFolder,
    process: Process,
    exit_after: float | None = None,
) -> Progress:
    """Train to ``config.iterations``, from the run's last checkpoint if it has one.

    Raises Stopped after saving where a signal or ``exit_after`` seconds ask for it, Diverged where
    going back to a good state with a lower rate does not help.
    """
    optimiser = make_optimiser(task.rates, config)
    average = None if config.ema is None else Average(task.model, config.ema)
    state = State(task.model, optimiser, Progress(), Watch(), average)
    resumes = run.latest.exists()
    if resumes:
        state.load(run.latest, process.device)
    wait_for_all(process)
    if process.leads:
        if resumes:
            print(f"resuming {run.path} at iteration {state.progress.step} (--fresh starts anew)")
        forget_after(run, state.progress.step)
    log = Log(run, state.progress.step) if process.leads else None
    try:
        with StopRequest(exit_after) as stop, repeatable(process.device, config.deterministic):
            Training(task, config, run, process, state, log).to_the_end(stop, resumes)
    finally:
        if log:
            log.close()
    return state.progress


class Training:
    """A training under way. ``log`` is there in the process that leads, alone."""

    def __init__(
        self,
        task: Task,
        config: TrainingConfig,
        run: RunFolder,
        process: Process,
        state: State,
        log: Log | None,
    ) -> None:
        self.task, self.config, self.run, self.process = task, config, run, process
        self.state, self.log = state, log
        self.model = _distributed(task.model, process)
        self.meter = _Meter()
        self.pace = Pace(config)
        self.loss = math.nan
        self._lap_started = time.perf_counter()

    def to_the_end(self, stop: StopRequest, resumes: bool) -> None:
        """All steps, however often the training must go back."""
        if resumes:
            self._keep_if_due()
        else:
            self._checkpoint()
        with self._line() as line:
            while self.state.progress.step < self.config.iterations or self.state.watch.lost:
                if self.state.watch.lost:
                    line.advance(self._go_back())
                self._steps(stop, line)
        self._save_latest()

    def _steps(self, stop: StopRequest, line: ProgressLine) -> None:
        """To the last step, or until the watch says that the weights are lost."""
        progress = self.state.progress
        due = range(progress.step, self.config.iterations)
        self.lap()
        for batch in batches(self.task.batches, due, self.task.workers):
            self.step(batch)
            self.pace.step(self.lap())
            line.advance()
            if self.state.watch.lost:
                return
            with multiplied(self.task.precisions.forward):
                self._milestones()
            if any_process(stop.raised(), self.process):
                self._save_latest()
                raise Stopped(
                    f"stopped by {stop.reason or 'another process'} after {progress.step} of "
                    f"{self.config.iterations} iterations; the same command continues from there "
                    f"({self.run.path})"
                )

    @flushed_denormals()
    def step(self, batch: Any) -> None:
        """One update, unless something is wrong with it."""
        started = time.perf_counter()
        progress, optimiser, watch = self.state.progress, self.state.optimiser, self.state.watch
        rate = learning_rate(self.config, progress.step) * watch.slower
        for group, (_, factor) in zip(optimiser.param_groups, self.task.rates, strict=True):
            group["lr"] = rate * factor
        self.model.train()
        optimiser.zero_grad(set_to_none=True)
        with multiplied(self.task.precisions.forward):
            result = self.task.step(self.model, batch, progress.step)
            loss = weighted_total(result.terms, self.task.weights)
        with multiplied(self.task.precisions.backward):
            loss.backward()
        average_statistics(self.task.model, self.process)
        limit = math.inf if self.config.clip_gradient is None else self.config.clip_gradient
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        reading = read(loss, norm, result.terms, result.notes, self.process)
        progress.step += 1
        wrong = watch.judge(reading, self.task.weights)
        if wrong is None:
            optimiser.step()
        else:
            self._warn(f"step {progress.step} left out: {wrong}")
            if any_process(not _finite_buffers(self.task.model), self.process):
                watch.condemn()
        if self.state.average is not None:
            self.state.average.update(progress.step)
        if progress.step == self.config.iterations:
            watch.end()
        seconds = time.perf_counter() - started
        progress.seconds += seconds
        self.meter.add(result, seconds)
        if progress.step % self.config.log_every == 0:
            values = self.meter.scalars(reading, rate) | {"left_out": watch.left_out}
            if self.log:
                self.log.scalars("train", values, progress.step, progress.seconds)
        self.loss = reading.loss

    def _milestones(self) -> None:
        """What happens every so many steps: validation, pictures, checkpoints (rank 0 alone)."""
        config, progress, task = self.config, self.state.progress, self.task
        step, last = progress.step, progress.step == config.iterations
        if self._is_good_to_keep():
            self.state.watch.rollbacks_here = 0
        if self.log is None:
            return
        if step % config.validate_every == 0 or last:
            self._validate(self.log)
            self.pace.between(VALIDATION, self.lap())
        if step % config.visualise_every == 0 or last:
            task.model.eval()
            with self.state.averaged():
                task.show(self.log, step)
            self.pace.between(PICTURES, self.lap())
        if step % config.checkpoint_every == 0:
            self._checkpoint()

    def _validate(self, log: Log) -> None:
        """Record the scores, and keep the best where one is to be chosen."""
        progress, criterion = self.state.progress, self.config.select_by
        self.task.model.eval()
        with self.state.averaged():
            metrics = self.task.validate()
        log.scalars("validation", metrics, progress.step, progress.seconds)
        summary = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        say(f"step {progress.step}: {summary}")
        if criterion is None:
            return
        score = metrics[criterion] * (-1 if criterion == "depth_error" else 1)
        if not math.isnan(score) and (progress.best is None or score > progress.best):
            progress.best = score
            self.state.save(self.run.best)

    def _checkpoint(self) -> None:
        """Save, and keep what is good to go back to."""
        self._save_latest()
        self._keep_if_due()
        self.pace.between(CHECKPOINT, self.lap())

    def _is_good_to_keep(self) -> bool:
        """The same for interrupted runs, which save at other steps too."""
        on_schedule = self.state.progress.step % self.config.checkpoint_every == 0
        return on_schedule and self.state.watch.calm

    def _keep_if_due(self) -> None:
        if self.log and self._is_good_to_keep():
            keep(self.run, self.state.progress.step)

    def _save_latest(self) -> None:
        if self.log:
            self.log.flush()
            self.state.save(self.run.latest)

    def _go_back(self) -> int:
        """To a kept checkpoint, each time without success to the one before, at a lower rate.

        Returns by how many steps, as a negative number.
        """
        watch, trouble = self.state.watch, self.state.watch.lost
        step, seconds = self.state.progress.step, self.state.progress.seconds
        kept = [number for number in self.run.kept_steps() if number <= step]
        if despair := watch.despair(step) or (None if kept else "no checkpoint to go back to"):
            raise Diverged(
                f"{self.run.path}: training diverged at iteration {step}: {trouble}; "
                f"{despair}. The last checkpoint is kept"
            )
        target = kept[-1 - min(watch.rollbacks_here, len(kept) - 1)]
        self.state.load(self.run.kept(target), self.process.device)
        self.state.progress.seconds = seconds
        self.state.watch = watch.gone_back(self.state.watch)
        wait_for_all(self.process)
        if self.log:
            self.state.save(self.run.latest)
            forget_after(self.run, target)
            self.log.rewind(target)
        self._warn(
            f"iteration {step}: {trouble}; back to iteration {target} with "
            f"{self.state.watch.slower:g} of the learning rate "
            f"(rollback {self.state.watch.rollbacks} of {MOST_ROLLBACKS})"
        )
        return target - step

    def _warn(self, sentence: str) -> None:
        if self.process.leads:
            warn(sentence)

    def lap(self) -> float:
        """Seconds since it was last asked."""
        before, self._lap_started = self._lap_started, time.perf_counter()
        return self._lap_started - before

    def _line(self) -> ProgressLine:
        total, done, shown = self.config.iterations, self.state.progress.step, self.process.leads
        return ProgressLine("training", "step", total, done, self._describe, shown)

    def _describe(self) -> str:
        """The end of the line: the time left, the speed and the loss."""
        step, pace = self.state.progress.step, self.pace.seconds_per_step
        left = self.pace.left(step)
        if left is None or not pace:
            return ""
        now = f"{_speed(pace)}, loss {self.loss:.4f}"
        if step == self.config.iterations:
            return now
        # Before the first validation nobody knows how long one takes.
        about = duration(left.seconds) if left.whole else f"at least {duration(left.seconds)}"
        return f"{about} left, {now}"


class _Meter:
    """Rates over the steps since the last record."""

    def __init__(self) -> None:
        self.seconds, self.rays, self.evaluations, self.steps = 0.0, 0, 0, 0

    def add(self, result: StepResult, seconds: float) -> None:
        self.seconds += seconds
        self.rays += result.rays
        self.evaluations += result.evaluations
        self.steps += 1

    def scalars(self, reading: Reading, rate: float) -> dict[str, float]:
        values = {"loss": reading.loss, "gradient_norm": reading.gradient_norm}
        values |= {"learning_rate": rate}
        values |= {f"loss_{name}": term for name, term in reading.terms.items()}
        values |= reading.notes
        values |= {
            "steps_per_second": self.steps / self.seconds,
            "rays_per_second": self.rays / self.seconds,
            "evaluations_per_second": self.evaluations / self.seconds,
        }
        self.__init__()  # type: ignore[misc]
        return values


def _speed(seconds: float) -> str:
    return f"{1 / seconds:.1f} steps/s" if seconds < 1 else f"{seconds:.1f} s/step"


def _distributed(model: nn.Module, process: Process) -> nn.Module:
    if process.count == 1:
        return model
    devices = [process.device] if process.device.type == "cuda" else None
    # Buffers follow from weights and averaged statistics: alike everywhere without a broadcast.
    # Gradients live where they are exchanged: not copied there and back.
    return DistributedDataParallel(
        model, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def _finite_buffers(model: nn.Module) -> bool:
    return all(bool(torch.isfinite(buffer).all()) for buffer in model.buffers())
