"""How far a job is and how long it will take: a bar on a terminal, elsewhere a line now and then.

A log file gets whole lines, fewer the longer the job takes, and never a carriage return.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

REDRAWN_EVERY = 0.2  # seconds between two looks of a bar
A_LINE_EVERY = 15.0  # seconds between two lines at first, and then ...
A_LINE_EACH = 0.02  # ... this share of the time so far: a week's log has some four hundred lines
BYTE = "B"  # the unit that is said by the thousand, million, ...

Item = TypeVar("Item")


class ProgressLine:
    """A job under way, of ``total`` units or of an unknown number, ``done`` of them before.

    ``describe`` gives what the line ends with: remaining time, speed, a loss. Left out, it is the
    time that the rest will take at the mean speed so far. With ``shown`` false nothing is written.
    """

    def __init__(
        self,
        title: str,
        unit: str,
        total: int | None = None,
        done: int = 0,
        describe: Callable[[], str] | None = None,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.unit, self.total, self.done = title, unit, total, done
        self._before, self._clock, self._shown = done, clock, shown
        self._describe = self._time_left if describe is None else describe
        self._started = self._due = clock()
        self._bar = self._terminal_bar() if shown and sys.stderr.isatty() else None
        if self._bar is None:
            self._due += A_LINE_EVERY

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, count: int = 1) -> None:
        """So many units more are done; fewer, where work is to be done again."""
        self.done += count
        if self._shown and self._clock() >= self._due:
            self._show()

    def close(self) -> None:
        """Leave a last line."""
        if self._shown:
            self._show()
        if self._bar is not None:
            self._bar.close()
        self._shown = False

    def _show(self) -> None:
        now = self._clock()
        if self._bar is not None:
            self._bar.n = self.done
            self._bar.set_postfix_str(self._describe())
            self._due = now + REDRAWN_EVERY
        else:
            print(self._line(now - self._started), file=sys.stderr, flush=True)
            self._due = now + max(A_LINE_EVERY, A_LINE_EACH * (now - self._started))

    def _line(self, elapsed: float) -> str:
        parts = [self._counted(), f"{duration(elapsed)} so far", self._describe()]
        return f"{self.title}: " + ", ".join(filter(None, parts))

    def _counted(self) -> str:
        """Such as: step 8 of 40 (20%); 8 steps; 1.20GB of 4.80GB (25%)."""
        of_all = f" ({self.done / self.total:.0%})" if self.total else ""
        if self.unit == BYTE:
            whole = f" of {size_text(self.total)}" if self.total else ""
            return size_text(self.done) + whole + of_all
        if self.total:
            return f"{self.unit} {self.done:,} of {self.total:,}" + of_all
        return f"{self.done:,} {self.unit}" + ("s" if self.done != 1 else "")

    def _time_left(self) -> str:
        fresh = self.done - self._before
        if not self.total or fresh <= 0 or self.done >= self.total:
            return ""
        elapsed = self._clock() - self._started
        return f"{duration(elapsed / fresh * (self.total - self.done))} left"

    def _terminal_bar(self) -> tqdm:
        in_bytes = self.unit == BYTE
        counted = "{n_fmt}" + ("{unit}" if in_bytes else " {unit}s") + " [{elapsed}{postfix}]"
        if self.total:
            counted = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        return tqdm(
            desc=self.title,
            unit=self.unit,
            unit_scale=in_bytes,
            total=self.total,
            initial=self.done,
            bar_format="{desc}: " + counted,
            dynamic_ncols=True,
            colour="green" if wants_colour() else None,
        )


def followed(items: Iterable[Item], title: str, unit: str) -> Iterator[Item]:
    """The same items, with a line that follows how many were taken."""
    total = len(items) if isinstance(items, Sized) else None
    with ProgressLine(title, unit, total) as line:
        for item in items:
            yield item
            line.advance()


def say(sentence: str) -> None:
    """Print a line on standard output, above the bar if there is one."""
    tqdm.write(sentence, file=sys.stdout)


def warn(sentence: str) -> None:
    """The same on standard error."""
    tqdm.write(sentence, file=sys.stderr)


def wants_colour() -> bool:
    """Whether standard error is a terminal, and nobody asked for plain text (no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def size_text(size: int) -> str:
    """Bytes for a person: 114GB, 4.00MB."""
    return str(tqdm.format_sizeof(size, "B"))


def duration(seconds: float) -> str:
    """Two figures that a person remembers: 45 s, 5 min 10 s, 2 h 5 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, name, smaller, its_name in _UNITS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {its_name}" if rest else "")
    raise AssertionError("the last unit is a minute")


_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
