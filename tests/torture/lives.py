"""Processes that run a script, to which something happens at a chosen instant of it.

They are forked from a server that has imported everything and computed nothing, so that a life
costs little more than its work.
"""

import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from tests.make_run import Outcome, run_script

# Where an instant matters: between any two lines of these, files are written or steps counted.
WATCHED = {
    "line": ("common/training/", "common/meshes/files.py", "torch/serialization.py"),
    "checkpoint": ("common/training/run_folder.py", "torch/serialization.py"),
    "logs": ("common/training/logs.py", "common/training/event_file.py", "record_writer.py"),
    "mesh": ("common/meshes/files.py",),
}


@dataclass(frozen=True)
class Death:
    """What happens, and after how many watched lines, milliseconds, or bytes of one file.

    A key of WATCHED: SIGKILL before a line. "clock": the same at a time. "bytes": the system kills
    in the middle of a write. "full": that write fails, as on a full disk. "term": SIGTERM.
    "worker": a process that loads data is killed, once there is one.
    """

    kind: str
    at: int


@dataclass(frozen=True)
class Life:
    """How a process ended: its exit code, negative for a signal, and what it printed."""

    code: int
    out: str
    err: str
    lines: Counter[str]  # by key of WATCHED; all 0 where death came by another way than lines


def live(*arguments: object, death: Death | None = None) -> Life:
    """Run scripts/<first argument>.py in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.torture.lives", "dvr.experiment", "idr.experiment"])
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_live, args=(writer, arguments, death))
    process.start()
    writer.close()
    try:
        outcome = reader.recv()
    except EOFError:
        outcome = (None, "", "", Counter())
    process.join()
    code = process.exitcode if outcome[0] is None else outcome[0]
    return Life(code or 0, *outcome[1:])


def _live(writer: Any, arguments: tuple, death: Death | None) -> None:
    torch.set_num_threads(1)
    counter = _Lines(death)
    if death is None or death.kind in WATCHED:
        sys.settrace(counter.enter)
    elif death.kind in ("bytes", "full"):
        # Python usually asks the system not to kill.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if death.kind == "bytes" else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (death.at, death.at))
    else:
        answers = {"clock": signal.SIG_DFL, "term": _terminate, "worker": _kill_a_worker}
        signal.signal(signal.SIGALRM, answers[death.kind])
        signal.setitimer(signal.ITIMER_REAL, death.at / 1000)
    try:
        outcome = run_script(*map(str, arguments))
    except Exception:  # else the process would end without a word of what went wrong in it
        outcome = Outcome(1, "", traceback.format_exc())
    sys.settrace(None)
    writer.send((outcome.code, outcome.out, outcome.err, counter.count))


def _terminate(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _kill_a_worker(*_: object) -> None:
    for child in multiprocessing.active_children():
        try:
            return os.kill(child.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            continue  # interrupted where this process waits for its end: it is no more
    signal.setitimer(signal.ITIMER_REAL, 0.05)  # look again


class _Lines:
    """Counts the watched lines, and kills the process at one of them."""

    def __init__(self, death: Death | None) -> None:
        self.count: Counter[str] = Counter()
        self._death = death
        self._kinds: dict[str, list[str]] = {}  # of a file

    def enter(self, frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename
        if name not in self._kinds:
            self._kinds[name] = [
                kind for kind, parts in WATCHED.items() if any(part in name for part in parts)
            ]
        return self._line if self._kinds[name] else None

    def _line(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            self.count.update(self._kinds[frame.f_code.co_filename])
            if self._death and self.count[self._death.kind] >= self._death.at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._line


def partial_files(folder: Path) -> list[str]:
    """What a killed process left half written."""
    return sorted(path.name for path in folder.rglob("*") if path.name.endswith(".partial"))
