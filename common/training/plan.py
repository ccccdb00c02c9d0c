"""What a training would do, to be read before it starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.config import TrainingConfig
from common.progress import duration
from common.training.pace import still_to_come
from common.training.processes import Process
from common.training.rehearsal import Rehearsal


@dataclass(frozen=True)
class Plan:
    """The data that was found, the model, the steps, what they take, and where results will be.

    ``found`` counts what there is to learn from by its name, as in {"training views": 42};
    ``picture_size`` is (width, height).
    """

    method: str
    data: str
    found: Mapping[str, int]
    picture_size: tuple[int, int]
    parameters: int
    rays: int  # of a step, over all processes
    config: TrainingConfig
    process: Process
    rehearsal: Rehearsal

    def as_json(self) -> dict[str, Any]:
        """All of it under its names, times in seconds and sizes in bytes."""
        rehearsal = self.rehearsal
        return {
            "method": self.method,
            "data": {
                "path": self.data,
                "picture_size": list(self.picture_size),
                **{name.replace(" ", "_").replace("-", "_"): n for name, n in self.found.items()},
            },
            "parameters": self.parameters,
            "device": str(self.process.device),
            "processes": self.process.count,
            "iterations": self.config.iterations,
            "starts_at": rehearsal.starts_at,
            "rays_per_step": self.rays,
            "steps_measured": rehearsal.steps,
            "seconds_per_step": rehearsal.seconds_per_step,
            "seconds_left": rehearsal.left.seconds,
            "everything_was_timed": rehearsal.left.whole,
            "first_loss": rehearsal.first_loss,
            "peak_memory": rehearsal.peak_memory,
            "checkpoint_size": rehearsal.checkpoint_size,
            "run_folder": self.config.out_dir,
        }

    def as_text(self) -> str:
        """The same for a person."""
        config, rehearsal = self.config, self.rehearsal
        width, height = self.picture_size
        found = ", ".join(f"{count:,} {name}" for name, count in self.found.items())
        start = f"from iteration {rehearsal.starts_at:,}" if rehearsal.starts_at else "anew"
        between = ", ".join(
            f"{count} {kind if count == 1 or kind.endswith('s') else kind + 's'}"
            for kind, count in still_to_come(config, rehearsal.starts_at)
        )
        lines = {
            "data": f"{self.data}: {found}, of {width} x {height} pixels",
            "model": f"{self.method}, {self.parameters:,} parameters",
            "runs on": f"{self.process.device}, {_processes(self.process.count)}",
            "training": f"{config.iterations:,} iterations of {self.rays:,} rays, {start}",
            "between": between,
            "time": f"{_time(rehearsal)}; {_step(rehearsal.seconds_per_step)}, "
            f"measured over {rehearsal.steps}",
            "memory": _memory(rehearsal.peak_memory),
            "first loss": f"{rehearsal.first_loss:.4f}",
            "writes to": f"{config.out_dir}, checkpoints of "
            f"{rehearsal.checkpoint_size / 2**20:.1f} MiB",
        }
        return "\n".join(f"{name:<11} {line}" for name, line in lines.items())


def _time(rehearsal: Rehearsal) -> str:
    left = rehearsal.left
    return f"{'about' if left.whole else 'at least'} {duration(left.seconds)}"


def _memory(peak: int | None) -> str:
    if peak is None:
        return "not known: this system does not tell it"
    return f"{peak / 2**30:.1f} GiB at most in these steps"


def _step(seconds: float) -> str:
    return f"{seconds:.1f} s a step" if seconds >= 1 else f"{1000 * seconds:.0f} ms a step"


def _processes(count: int) -> str:
    return "one process" if count == 1 else f"{count} processes"
