"""A long training of a tiny model: what its process holds, and what it leaves on disk.

What a training holds is the median of its memory over a quarter of its time. Single readings tell
little: the C library keeps what was freed at the end of its heap, up to SPARE at a time, and hands
it back now and then. The first quarter is left out, since libraries are still being loaded then and
matrix products compiled for sizes not met before.
"""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common.training.run_folder import RunFolder
from tests.make_run import ROOT, merged, write_settings
from tests.torture.kills import settings

# Megabytes from the second quarter to the last: over 20,000 steps a kilobyte a step, as one kept
# tensor takes, or 200 MB in a training of 200,000.
MOST_GROWTH = 10.0
SPARE = 64.0  # megabytes; glibc: at most twice the largest block that it takes from its heap, 32


@dataclass(frozen=True)
class Sample:
    """Memory and open files of a process at a time."""

    megabytes: float
    files: int


@dataclass(frozen=True)
class Quarter:
    """A quarter of a training's time: usual and most memory in MB, and the most open files."""

    usual: float
    most: float
    files: int


@dataclass(frozen=True)
class LongRun:
    """A training of so many steps, sampled twice a second."""

    steps: int
    early: Quarter  # the second quarter
    late: Quarter  # the last
    log_bytes_per_record: float
    checkpoints: list[str]

    @property
    def growth(self) -> float:
        """Megabytes, from the second quarter to the last: over half the steps."""
        return self.late.usual - self.early.usual

    @property
    def sentence(self) -> str:
        """For the table."""
        return (
            f"{self.steps:,} steps: {self.early.usual:.0f} MB of memory in the second quarter (at "
            f"most {self.early.most:.0f}), {self.late.usual:.0f} MB in the last (at most "
            f"{self.late.most:.0f}), {2e6 * self.growth / self.steps:+,.0f} bytes a step; open "
            f"files {self.early.files} and {self.late.files}; logs {self.log_bytes_per_record:.0f} "
            f"bytes a record; at the end {', '.join(self.checkpoints)}"
        )

    @property
    def flat(self) -> bool:
        """Whether neither memory nor open files grew."""
        return (
            self.growth < MOST_GROWTH
            and self.late.most - self.early.most < SPARE
            and self.late.files <= self.early.files
        )


def train_for_long(method: str, folder: Path, steps: int) -> LongRun:
    """Train in a process of its own, and look at it from outside (Linux)."""
    changes = {
        "log_every": 10,
        "checkpoint_every": 100,
        "validate_every": 500,
        "visualise_every": 10**9,
        "out_dir": str(folder / "run"),
    }
    wanted = merged(settings(method, folder, steps), {"training": changes})
    file = write_settings(folder / "long.yaml", wanted)
    command = [sys.executable, str(ROOT / "scripts/train.py"), str(file), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run, samples = RunFolder(folder / "run"), []
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        while process.poll() is None:
            # Before the first checkpoint of the schedule the program is still being loaded.
            if any(run.kept_steps()):
                samples.append(_look(process.pid))
            time.sleep(0.5)
    samples = [sample for sample in samples if sample is not None]
    if process.returncode or len(samples) < 4:
        raise RuntimeError(f"no long run of {method}: {(folder / 'said').read_text()[-2000:]}")
    return LongRun(
        steps,
        *quarters(samples),
        sum(file.stat().st_size for file in run.logs.iterdir()) / (steps / 10),
        sorted(path.name for path in (run.path / "checkpoints").iterdir()),
    )


def quarters(samples: list[Sample]) -> tuple[Quarter, Quarter]:
    """The second quarter of the samples, and the last."""
    length = len(samples) // 4
    return _quarter(samples[length : 2 * length]), _quarter(samples[-length:])


def _quarter(samples: list[Sample]) -> Quarter:
    memory = [at.megabytes for at in samples]
    return Quarter(statistics.median(memory), max(memory), max(at.files for at in samples))


def _look(pid: int) -> Sample | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return Sample(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(f"/proc/{pid}/fd")))
    except (OSError, IndexError):  # it has just ended
        return None
