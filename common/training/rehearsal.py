"""A few real steps of a training that is not to begin yet: what will it take?

They are taken at several places of the run, as schedules change what a step costs, and followed by
a validation, pictures and a checkpoint as long as patience lasts.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from common.config import TrainingConfig
from common.measuring import peak_bytes
from common.training.batches import batches
from common.training.divergence import Watch
from common.training.logs import Log
from common.training.loop import Task, Training
from common.training.optimiser import make_optimiser
from common.training.pace import CHECKPOINT, PICTURES, SLOW_START, VALIDATION, TimeLeft
from common.training.processes import Process, any_process
from common.training.run_folder import RunFolder
from common.training.state import Progress, State

PLACES = (0.0, 0.5, 0.25, 0.75)  # of what is left of the run
STEPS_HERE = 16  # at each place
PATIENCE = 6.0  # seconds of steps; nothing else is begun after twice as many
ENOUGH = SLOW_START + 2  # steps that are waited for even so, up to ...
LONGEST = 60.0  # ... so many seconds


@dataclass(frozen=True)
class Rehearsal:
    """What some steps took; ``first_loss`` is that of the first of them."""

    starts_at: int
    steps: int
    seconds_per_step: float
    left: TimeLeft
    first_loss: float
    peak_memory: int | None  # bytes of this process or of its GPU's memory; None where not known
    checkpoint_size: int  # bytes


def rehearse(
    task: Task, config: TrainingConfig, run: RunFolder | None, process: Process
) -> Rehearsal:
    """Train a little in a scratch folder, from a run's last checkpoint if it has one.

    The run's folder stays as it is; the task's model does not. Raises UserError where the
    checkpoint is of another model.
    """
    state = State(task.model, make_optimiser(task.rates, config), Progress(), Watch())
    if run is not None and run.latest.exists():
        state.load(run.latest, process.device)
    start, began = state.progress.step, time.perf_counter()
    with TemporaryDirectory() as folder:
        scratch = RunFolder(Path(folder))
        log = Log(scratch, 0)
        training = Training(task, config, scratch, process, state, log)
        losses = _take_steps(training, start, began)
        _interrupt(training, log, began)
        log.close()
        size = scratch.latest.stat().st_size
    pace = training.pace.seconds_per_step
    left = training.pace.left(min(start, config.iterations))
    assert pace is not None and left is not None
    memory = peak_bytes(process.device) or None  # Windows does not tell
    return Rehearsal(start, len(losses), pace, left, losses[0], memory, size)


def _take_steps(training: Training, start: int, began: float) -> list[float]:
    """At each place as many as there is time for, and one at least; their losses."""
    losses: list[float] = []
    config, process = training.config, training.process
    for place in PLACES:
        first = min(start + int(place * (config.iterations - start)), config.iterations - 1)
        steps = range(first, min(first + STEPS_HERE, config.iterations))
        training.state.progress.step = first
        training.lap()
        for batch in batches(training.task.batches, steps, 0):
            training.step(batch)
            training.pace.step(training.lap())
            losses.append(training.loss)
            spent = time.perf_counter() - began
            if any_process(spent > (PATIENCE if len(losses) >= ENOUGH else LONGEST), process):
                return losses
    return losses


def _interrupt(training: Training, log: Log, began: float) -> None:
    """Do once what comes between the steps, the quickest first."""
    step = training.state.progress.step
    for kind, work in (
        (CHECKPOINT, lambda: training.state.save(training.run.latest)),
        (VALIDATION, training.task.validate),
        (PICTURES, lambda: training.task.show(log, step)),
    ):
        if kind == CHECKPOINT or time.perf_counter() - began < 2 * PATIENCE:
            training.task.model.eval()
            training.lap()
            work()
            training.pace.between(kind, training.lap())
