"""Where the time of a training step goes: a few real steps, with a clock around their parts.

The steps are the training loop's own. Parts are named functions, wrapped while it is measured and
no longer, so that a training that nobody measures pays nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch

from common.config import TrainingConfig
from common.measuring import now
from common.training import loop
from common.training.batches import batches
from common.training.divergence import Watch
from common.training.loop import Task, Training
from common.training.optimiser import make_optimiser
from common.training.pace import SLOW_START
from common.training.processes import Process
from common.training.run_folder import RunFolder
from common.training.state import Progress, State

DATA, FORWARD, BACKWARD, OPTIMISER = "data", "rest of the forward pass", "backward", "optimiser"
REST = "rest of the loop"


@dataclass(frozen=True)
class Part:
    """Calls of ``owner.attribute`` (a module's, an object's or a class's), timed under a name."""

    name: str
    owner: Any
    attribute: str


def parts_in(name: str, module: ModuleType) -> list[Part]:
    """Every function that a module defines, under one name."""
    own = [
        attribute
        for attribute, value in vars(module).items()
        if callable(value) and value.__module__ == module.__name__
    ]
    return [Part(name, module, attribute) for attribute in own]


@dataclass(frozen=True)
class Share:
    """What a part took of a step: seconds, and the share of all."""

    name: str
    seconds: float
    share: float


def profile(
    task: Task,
    config: TrainingConfig,
    parts: Sequence[Part],
    steps: int,
    run: RunFolder | None,
    process: Process,
) -> list[Share]:
    """Mean times of the parts of ``steps`` training steps, the longest first.

    From a run's last checkpoint if it has one, in a scratch folder; SLOW_START steps come before
    them. ``parts`` split what the forward pass takes. A part called by another part counts as that
    one's: a search's evaluations are search. On a GPU each part waits for its own work, which the
    step otherwise does not. Raises UserError where the checkpoint is of another model.
    """
    state = State(task.model, make_optimiser(task.rates, config), Progress(), Watch())
    if run is not None and run.latest.exists():
        state.load(run.latest, process.device)
    # Past the end of a run there are no steps; a finished run repeats its last ones.
    first = max(min(state.progress.step, config.iterations - SLOW_START - steps), 0)
    state.progress.step = first
    clock = _Clock(process.device)
    loops_own = [
        Part(FORWARD, task, "step"),
        Part(BACKWARD, torch.Tensor, "backward"),
        Part(OPTIMISER, state.optimiser, "step"),
        Part(OPTIMISER, state.optimiser, "zero_grad"),
        Part("losses", loop, "weighted_total"),
        Part("gradient norm", torch.nn.utils, "clip_grad_norm_"),
        Part("reading the loss", loop, "read"),
    ]
    with TemporaryDirectory() as folder, ExitStack() as wrapped:
        training = Training(task, config, RunFolder(Path(folder)), process, state, None)
        for part in (*loops_own, *parts):
            wrapped.enter_context(_timed(part, clock))
        due = range(first, first + SLOW_START + steps)
        source = batches(task.batches, due, task.workers)
        for step in due:
            if step == first + SLOW_START:
                clock.restart()
            with clock.running(DATA):
                batch = next(source)
            training.step(batch)
        return clock.shares(steps)


def as_table(shares: Sequence[Share]) -> str:
    """The shares for a person, a line each, and their sum."""
    total = Share("a whole step", sum(s.seconds for s in shares), sum(s.share for s in shares))
    width = max(len(share.name) for share in (*shares, total))
    return "\n".join(
        f"{share.name:<{width}}  {1000 * share.seconds:9.2f} ms  {share.share:6.1%}"
        for share in (*shares, total)
    )


class _Clock:
    """Adds up the time during which each part is the one that runs."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._name = device, REST
        self.restart()

    def restart(self) -> None:
        """Forget what was added up."""
        self._seconds: dict[str, float] = defaultdict(float)
        self._since = now(self._device)

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """The block is this part's, unless it is called by another; the pass forward has parts."""
        before = self._name
        if before not in (REST, FORWARD):
            yield
            return
        self._turn_to(name)
        try:
            yield
        finally:
            self._turn_to(before)

    def _turn_to(self, name: str) -> None:
        moment = now(self._device)
        self._seconds[self._name] += moment - self._since
        self._name, self._since = name, moment

    def shares(self, steps: int) -> list[Share]:
        """Of everything since the start, the longest first."""
        self._turn_to(self._name)
        total = sum(self._seconds.values())
        found = [Share(name, s / steps, s / total) for name, s in self._seconds.items()]
        return sorted(found, key=lambda share: -share.seconds)


@contextmanager
def _timed(part: Part, clock: _Clock) -> Iterator[None]:
    """Within the block, calls of the part are timed."""
    original: Callable[..., Any] = getattr(part.owner, part.attribute)
    own = vars(part.owner).get(part.attribute)  # None: an object's class has it

    @wraps(original)
    def timed(*arguments: Any, **named: Any) -> Any:
        with clock.running(part.name):
            return original(*arguments, **named)

    setattr(part.owner, part.attribute, timed)
    try:
        yield
    finally:
        if own is None:
            delattr(part.owner, part.attribute)
        else:
            setattr(part.owner, part.attribute, own)
