"""Two processes beside one: how much faster a training is, and whether its weights are the same.

scripts/train.py is run as a user runs it, with one thread in each process, on the same number of
rays a step in all. Throughput is read off the run's own records, whose clock stands still between
steps: neither the start nor validations and checkpoints count.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from common.benchmarks.figures import Figure, fewer
from common.errors import UserError
from common.training.run_folder import RunFolder, load_checkpoint

RECORDS = 6  # of a run; the first, which warms up, does not count
FEW = 3  # steps after which weights are compared: float errors grow with every further one
# What a model's state holds besides weights: grids of values, schedules, statistics of a batch.
NOT_LEARNT = ("cache", "level_weight", "running_mean", "running_var", "num_batches_tracked")
# Two weights are the same within this share of the farthest that any has moved.
SAME = 0.01
# Adam divides by a gradient's size, which makes whole steps of float error in a tiny one. With as
# much added to the divisor it does not.
COMPARED = f"training.iterations={FEW}", "training.log_every=1", "training.epsilon=1e-3"


@dataclass(frozen=True)
class Case:
    """A training to be measured: a name, train.py's arguments, and the steps between records."""

    name: str
    arguments: tuple[str, ...]
    steps: int


def processes_figures(case: Case, train: Path, folder: Path) -> list[Figure]:
    """Steps a second of two processes beside one, and the largest difference of any weight.

    The difference, after FEW steps, stands beside the farthest that a weight has moved in them; the
    agreement is the share, of the weights that moved, of those that are the same. ``train`` is the
    script, ``folder`` a scratch folder. Raises UserError where a training fails.
    """
    runs = [
        run_training(case, train, folder / f"{count}_short", count, *COMPARED) for count in (1, 2)
    ]
    start = weights(runs[0].kept(0))
    one, two = (weights(run.latest) for run in runs)
    learnt = one != start
    apart, moved = (one - two).abs()[learnt], (one - start).abs().max()
    equal = float((apart <= SAME * moved).double().mean())
    long = f"training.iterations={RECORDS * case.steps}", f"training.log_every={case.steps}"
    speeds = [
        steps_per_second(run_training(case, train, folder / f"{count}_long", count, *long))
        for count in (1, 2)
    ]
    largest = max(float(apart.max()), torch.finfo(torch.float32).tiny)
    ratio = speeds[1] / speeds[0]
    return [
        Figure(f"{case.name}_steps_per_second", speeds[1], speeds[0], ratio, equal, "steps/s"),
        fewer(f"{case.name}_weight_difference", largest, float(moved), equal, "of its motion"),
    ]


def run_training(case: Case, train: Path, folder: Path, count: int, *settings: str) -> RunFolder:
    """Train in a new folder with so many processes; UserError with its last words if it fails."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command = [sys.executable, *(launch if count > 1 else []), str(train), *case.arguments]
    command += [*settings, f"training.out_dir={json.dumps(str(folder))}", "--device", "cpu"]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(
            f"{' '.join(command)}: a training of the benchmark ended with exit code "
            f"{done.returncode}; run it by itself to see why. It said last: {done.stderr[-500:]}"
        )
    return RunFolder(folder)


def weights(checkpoint: Path) -> torch.Tensor:
    """The weights of a checkpoint's model, as one row of float64."""
    state = load_checkpoint(checkpoint)["model"]
    learnt = [value for name, value in state.items() if name.split(".")[-1] not in NOT_LEARNT]
    return torch.cat([value.double().flatten() for value in learnt])


def steps_per_second(run: RunFolder) -> float:
    """Between the first record of training and the last."""
    lines = run.metrics.read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if "train/loss" in record]
    return steps_between(records)


def steps_between(records: Sequence[dict]) -> float:
    """Steps a second from the first to the last of some records."""
    first, last = records[0], records[-1]
    return (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])
