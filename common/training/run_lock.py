"""One training a run folder: a file in it names the process that trains there.

The lock is for trainings alone. Whatever reads a run needs none, since files change as a whole.

Every training puts a file of its own there first and then looks for others: of two that start
together at least one sees the other, and is refused. (Both may be, in an instant.)

A training that was killed leaves its lock. On the same host it is recognised: no process has that
number, or one that was born at another time. Of another host's process nothing can be known, so its
lock holds until that run has changed nothing for OLD seconds, or a person deletes the file. The
lock of a folder that was copied holds for the original alone.
"""

import json
import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import UserError
from common.training.process_birth import birth
from common.training.processes import Process
from common.training.run_folder import RunFolder, write_atomically

OLD = 24 * 3600  # seconds; far longer than any training goes without a record or a checkpoint
MOST_BYTES = 4096  # of a lock, which has some 200


@dataclass(frozen=True)
class Holder:
    """The process that trains in a folder."""

    pid: int
    host: str
    birth: str  # see process_birth
    since: str  # for people: when it took the lock, in its local time
    folder: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


@contextmanager
def only_training(run: RunFolder, process: Process) -> Iterator[None]:
    """Keep other trainings out of a run folder, which is made where it is missing.

    Of several processes that train together the leading one alone locks. Raises UserError, naming
    the other process, where one trains there already.
    """
    if not process.leads:
        yield
        return
    run.path.mkdir(parents=True, exist_ok=True)
    # Processes of two hosts may have the same number.
    lock = run.path / f"training-{secrets.token_hex(8)}.lock"
    try:
        write_atomically(lock, lambda file: file.write(_content(_myself(run))))
        _look_for_others(run, lock)
        yield
    finally:
        lock.unlink(missing_ok=True)


def _look_for_others(run: RunFolder, own: Path) -> None:
    """Remove the locks that do not hold; UserError where one does."""
    locks = run.locks()
    if own not in locks:
        raise UserError(f"{run.path}: another process has just renamed this folder; try again")
    now = own.stat().st_mtime
    for lock in locks:
        if lock == own or (content := _read(lock)) is None:
            continue  # its training has just ended
        why = _stale(run, lock, _holder(lock, content), now)
        lock.unlink(missing_ok=True)
        print(f"{lock}: taken over, because {why}")


def _stale(run: RunFolder, lock: Path, holder: Holder, now: float) -> str:
    """Why a lock does not hold; UserError where it does.

    ``now`` is the time of a file just written there: a server's clock may be another than ours.
    """
    if holder.host != platform.node():
        silent = now - max(_changed(path) for path in (lock, run.metrics, run.latest))
        if silent > OLD:
            return f"{holder} has changed nothing for {silent / 3600:.0f} hours"
        raise UserError(
            f"{run.path}: {holder} trains there; stop it there or choose another training.out_dir, "
            f"or, if that process is no more, delete {lock}"
        )
    if birth(holder.pid) != holder.birth:
        return f"{holder} is no more"
    if Path(holder.folder).is_dir() and not os.path.samefile(holder.folder, run.path):
        return f"{holder} trains in {holder.folder}, of which this is a copy"
    raise UserError(
        f"{run.path}: {holder} trains there; wait for its end, stop it or choose another "
        "training.out_dir"
    )


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _myself(run: RunFolder) -> Holder:
    pid = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return Holder(pid, platform.node(), birth(pid) or "", since, str(run.path.resolve()))


def _content(holder: Holder) -> bytes:
    return (json.dumps(asdict(holder)) + "\n").encode()


def _read(lock: Path) -> bytes | None:
    try:
        with lock.open("rb") as file:
            return file.read(MOST_BYTES)
    except FileNotFoundError:
        return None


def _holder(lock: Path, content: bytes) -> Holder:
    try:
        found = json.loads(content)
        holder = Holder(**found)
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(lock) from error
    texts = (holder.host, holder.birth, holder.since, holder.folder)
    whole = type(holder.pid) is int and 0 < holder.pid < 2**31
    if not whole or not all(isinstance(text, str) and text.isprintable() for text in texts):
        raise _damaged(lock)
    return holder


def _damaged(lock: Path) -> UserError:
    return UserError(
        f"{lock}: should name the process that trains here, and is damaged; if none trains here, "
        "delete the file"
    )
