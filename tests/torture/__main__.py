"""Everything that may befall a training or a file: prints a table, and fails where anything is off.

python -m tests.torture                       # everything: `make torture`, half an hour at most
python -m tests.torture --only killed --kills 5

Parts run in processes of their own, two at a time; what one does on the processor is told too,
since clocks tell little on a busy machine. The table is also written to a file (Markdown).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

from tests.make_run import ROOT
from tests.torture.files import GROUPS, fuzz_group
from tests.torture.kills import (
    Killed,
    kill_and_compare,
    kill_exports,
    lose_workers_and_compare,
    refuse_read_only,
)
from tests.torture.long_run import train_for_long

HEADING = "| what | seen | as it should be | minutes | of the processor |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Row:
    """What was done, what was seen, whether it was as it should be, and minutes."""

    what: str
    seen: str
    right: bool
    minutes: float
    processor: float

    @property
    def markdown(self) -> str:
        """A row of the table."""
        seen = self.seen.replace("|", "\\|").replace("\n", " ")
        right = "yes" if self.right else "**NO**"
        return f"| {self.what} | {seen} | {right} | {self.minutes:.1f} | {self.processor:.1f} |"


Part = Callable[[Path, argparse.Namespace], tuple[str, bool]]


def _told(killed: Killed) -> tuple[str, bool]:
    return "; ".join([killed.sentence, *killed.differences]), not killed.differences


def _killed(method: str, folder: Path, arguments: argparse.Namespace) -> tuple[str, bool]:
    return _told(kill_and_compare(method, folder, arguments.kills, arguments.seed))


def _interrupted(
    method: str, kind: str, folder: Path, arguments: argparse.Namespace
) -> tuple[str, bool]:
    return _told(kill_and_compare(method, folder, arguments.few, arguments.seed, kinds=(kind,)))


def _long(method: str, folder: Path, arguments: argparse.Namespace) -> tuple[str, bool]:
    run = train_for_long(method, folder, arguments.steps)
    return run.sentence, run.flat


def _damaged(group: str, folder: Path, arguments: argparse.Namespace) -> tuple[str, bool]:
    return fuzz_group(group, folder, arguments.seed, arguments.seconds)


# The longest first, so that both processors are busy to the end.
PARTS: dict[str, Part] = {
    "IDR for long": partial(_long, "idr"),
    "IDR killed": partial(_killed, "idr"),
    "DVR killed": partial(_killed, "dvr"),
    "DVR for long": partial(_long, "dvr"),
    "IDR, full disk": partial(_interrupted, "idr", "full"),
    "DVR, full disk": partial(_interrupted, "dvr", "full"),
    "IDR, SIGTERM": partial(_interrupted, "idr", "term"),
    "DVR, SIGTERM": partial(_interrupted, "dvr", "term"),
    "DVR, a loading process killed": lambda folder, arguments: _told(
        lose_workers_and_compare(folder, arguments.few, arguments.seed)
    ),
    "mesh export killed": lambda folder, arguments: _told(
        kill_exports(folder, arguments.kills, arguments.seed)
    ),
    "read-only folder": lambda folder, _: _told(refuse_read_only(folder)),
    **{f"damaged files: {group}": partial(_damaged, group) for group in GROUPS},
}


def main() -> None:
    """Parse the command line, do all parts, print the table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="parts whose names contain this")
    parser.add_argument("--kills", type=int, default=25, help="of each method")
    parser.add_argument(
        "--few", type=int, default=6, help="full disks, SIGTERMs and lost processes"
    )
    parser.add_argument("--steps", type=int, default=20_000, help="of each long run")
    parser.add_argument(
        "--seconds", type=float, default=12, help="of the processor, a kind of file"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--together", type=int, default=2, help="parts at a time")
    parser.add_argument("--longest", type=float, default=28, help="minutes that a part may take")
    parser.add_argument("--table", type=Path, default=ROOT / "out/torture.md")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is not None:
        print(json.dumps(asdict(_do(arguments.part, arguments))))
        return
    started, found = time.monotonic(), dict[str, Row]()
    print(HEADING, flush=True)
    for row in _rows([name for name in PARTS if arguments.only in name], arguments):
        found[row.what] = row
        print(row.markdown, flush=True)
        _write(arguments.table, found)
    minutes = (time.monotonic() - started) / 60
    processor = sum(row.processor for row in found.values())
    print(f"{minutes:.1f} minutes, {processor:.1f} of the processor; {arguments.table}")
    sys.exit(0 if all(row.right for row in found.values()) else 1)


def _rows(names: list[str], arguments: argparse.Namespace) -> Iterator[Row]:
    with ThreadPoolExecutor(arguments.together) as pool:
        running = [pool.submit(_in_its_own_process, name, arguments.longest) for name in names]
        yield from (done.result() for done in as_completed(running))


def _in_its_own_process(name: str, longest: float) -> Row:
    """A part that dies, or hangs, is a row of the table too."""
    started = time.monotonic()
    command = [sys.executable, "-m", "tests.torture", *sys.argv[1:], "--part", name]
    try:
        ended = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60 * longest, check=True
        )
        return Row(**json.loads(ended.stdout.splitlines()[-1]))
    except subprocess.CalledProcessError as error:
        last = error.stdout.splitlines()[-1:]
        said = f"ended with {error.returncode} {last}: {error.stderr[-500:]}"
    except subprocess.TimeoutExpired:
        said = f"no end after {longest:g} minutes"
    return Row(name, said, False, (time.monotonic() - started) / 60, 0.0)


def _do(name: str, arguments: argparse.Namespace) -> Row:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seen, right = PARTS[name](Path(folder), arguments)
    # Only of children that have ended is the time known; this one ends when it is told to.
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(usage.ru_utime + usage.ru_stime for usage in spent) / 60
    return Row(name, seen, right, (time.monotonic() - started) / 60, processor)


def _write(path: Path, found: dict[str, Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [found[name].markdown for name in PARTS if name in found]
    path.write_text("\n".join([HEADING, *rows]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
