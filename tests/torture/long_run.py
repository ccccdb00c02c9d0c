"""A long training of a tiny model: what its process holds, and what it leaves on disk."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common.training.run_folder import RunFolder
from tests.make_run import ROOT, merged, write_settings
from tests.torture.kills import settings


@dataclass(frozen=True)
class Sample:
    """Memory and open files of a process at a time."""

    megabytes: float
    files: int


@dataclass(frozen=True)
class LongRun:
    """A training of so many steps, sampled twice a second."""

    steps: int
    early: Sample  # the most in the second quarter of the time
    late: Sample  # in the last quarter
    log_bytes_per_record: float
    checkpoints: list[str]

    @property
    def sentence(self) -> str:
        """For the table."""
        return (
            f"{self.steps:,} steps: at most {self.early.megabytes:.0f} MB of memory in the second "
            f"quarter, {self.late.megabytes:.0f} MB in the last; open files {self.early.files} and "
            f"{self.late.files}; logs {self.log_bytes_per_record:.0f} bytes a record; at the end "
            f"{', '.join(self.checkpoints)}"
        )

    @property
    def flat(self) -> bool:
        """Whether memory grew by less than a twentieth and files not at all."""
        grown = self.late.megabytes / self.early.megabytes
        return grown < 1.05 and self.late.files <= self.early.files


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
    quarter = len(samples) // 4
    return LongRun(
        steps,
        _most(samples[quarter : 2 * quarter]),
        _most(samples[3 * quarter :]),
        sum(file.stat().st_size for file in run.logs.iterdir()) / (steps / 10),
        sorted(path.name for path in (run.path / "checkpoints").iterdir()),
    )


def _most(samples: list[Sample]) -> Sample:
    return Sample(max(at.megabytes for at in samples), max(at.files for at in samples))


def _look(pid: int) -> Sample | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return Sample(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(f"/proc/{pid}/fd")))
    except (OSError, IndexError):  # it has just ended
        return None
