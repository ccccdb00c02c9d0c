"""Kill trainings, and keep some running: prints a table, and fails where anything differs.

python -m tests.torture                    # everything: `make torture`
python -m tests.torture --only kills --kills 5
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.torture.kills import kill_and_compare
from tests.torture.long_run import train_for_long

Row = tuple[str, str, bool]  # what was done, what was seen, whether it was as it should be


def main() -> None:
    """Parse the command line, do all parts, and print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["kills", "long"], help="one part alone")
    parser.add_argument("--kills", type=int, default=25, help="of each method")
    parser.add_argument("--steps", type=int, default=3000, help="of each long run")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| what | seen | as it should be | minutes |\n|---|---|---|---|", flush=True)
    good = True
    started = time.monotonic()
    for what, seen, right in _rows(arguments):
        minutes = (time.monotonic() - started) / 60
        print(f"| {what} | {seen} | {'yes' if right else 'NO'} | {minutes:.1f} |", flush=True)
        good, started = good and right, time.monotonic()
    sys.exit(0 if good else 1)


def _rows(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        for method in ("idr", "dvr"):
            own = Path(folder) / method
            if arguments.only != "long":
                (own / "kills").mkdir(parents=True)
                killed = kill_and_compare(method, own / "kills", arguments.kills, arguments.seed)
                wrong = "".join(f"; {difference}" for difference in killed.differences)
                what = f"{method.upper()} killed {arguments.kills} times"
                yield what, killed.sentence + wrong, not killed.differences
            if arguments.only != "kills":
                (own / "long").mkdir(parents=True)
                long = train_for_long(method, own / "long", arguments.steps)
                yield f"{method.upper()} for long", long.sentence, long.flat


if __name__ == "__main__":
    main()
