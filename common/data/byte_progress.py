"""Progress of work counted in bytes: a bar for a person, a line at each tenth for a log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def byte_progress(what: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield the function to call with every number of bytes done.

    ``total`` is None where nobody knows it; ``done`` bytes were there before.
    """
    bar = tqdm(
        desc=what,
        total=total,
        initial=done,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
    )

    def advance(count: int) -> None:
        nonlocal done
        tenth, done = 10 * done // (total or 1), done + count
        bar.update(count)
        if bar.disable and total and 10 * done // total > tenth:
            print(f"{what}: {100 * done // total} % of {size_text(total)}", flush=True)

    with bar:
        yield advance


def size_text(size: int) -> str:
    """For a person: 114GB, 4.00MB."""
    return str(tqdm.format_sizeof(size, "B"))
