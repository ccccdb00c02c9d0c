"""Processes that run a script and may be killed at a chosen instant of it.

They are forked from a server that has imported everything and computed nothing, so that a life
costs little more than its work.
"""

import multiprocessing
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from tests.make_run import run_script

# Where an instant matters: between any two lines of these, files are written or steps counted.
WATCHED = ("common/training/", "common/meshes/files.py", "torch/serialization.py")


@dataclass(frozen=True)
class Death:
    """Of a kind, at a time: after ``at`` watched lines, milliseconds, or bytes of one file."""

    kind: str  # "line", "clock" or "bytes"
    at: int


@dataclass(frozen=True)
class Life:
    """How a process ended: its exit code, negative for a signal, and what it printed."""

    code: int
    out: str
    err: str
    lines: int


def live(*arguments: object, death: Death | None = None, file_limit: int | None = None) -> Life:
    """Run scripts/<first argument>.py in a process of its own.

    A write beyond ``file_limit`` bytes fails, as on a full disk.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.torture.lives", "dvr.experiment", "idr.experiment"])
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_live, args=(writer, arguments, death, file_limit))
    process.start()
    writer.close()
    try:
        outcome = reader.recv()
    except EOFError:
        outcome = (None, "", "", 0)
    process.join()
    code = process.exitcode if outcome[0] is None else outcome[0]
    return Life(code or 0, *outcome[1:])


def _live(writer: Any, arguments: tuple, death: Death | None, file_limit: int | None) -> None:
    torch.set_num_threads(1)
    counter = _Lines(death.at if death and death.kind == "line" else sys.maxsize)
    if death and death.kind == "clock":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, death.at / 1000)
    if death and death.kind == "bytes":
        # The system kills in the middle of the write; Python usually asks it not to.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (death.at, death.at))
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if death is None or death.kind == "line":
        sys.settrace(counter.enter)
    outcome = run_script(*map(str, arguments))
    sys.settrace(None)
    writer.send((outcome.code, outcome.out, outcome.err, counter.count))


class _Lines:
    """Counts the watched lines, and kills the process at one of them."""

    def __init__(self, last: int) -> None:
        self.count, self.last = 0, last

    def enter(self, frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename
        return self._line if any(part in name for part in WATCHED) else None

    def _line(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            self.count += 1
            if self.count >= self.last:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._line


def partial_files(folder: Path) -> list[str]:
    """What a killed process left half written."""
    return sorted(path.name for path in folder.rglob("*") if path.name.endswith(".partial"))
