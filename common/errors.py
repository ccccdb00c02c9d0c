"""A user's mistake becomes one sentence and an exit code, never a traceback."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.allocator import keep_freed_memory

BAD_INPUT = 2
STOPPED = 3
DIVERGED = 4


class UserError(Exception):
    """Bad input or configuration; the message says what, where, what was expected, the remedy."""


class Stopped(Exception):
    """A run that saved its state and stopped early, on --exit-after or a signal."""


class Diverged(Exception):
    """A training that went back to a good state several times and diverged again."""


def run_command(main: Callable[[], None]) -> None:
    """Run a script's main and exit: 0 done, 2 bad input, 3 stopped after saving, 4 diverged."""
    keep_freed_memory()
    try:
        main()
    except UserError as error:
        sys.exit(_report(str(error)))
    except Diverged as error:
        _report(str(error))
        sys.exit(DIVERGED)
    except OSError as error:
        # A full disk or read-only folder is the user's to mend; anything else keeps its traceback.
        if error.filename is None and error.errno is None:
            raise
        sys.exit(_report(describe_os_error(error)))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(STOPPED)


def describe_os_error(error: OSError) -> str:
    """One sentence for a failed file operation: which file, what the system said, what to do."""
    remedy = {
        "ENOSPC": "free some disk space and run the same command again: finished work is kept",
        "EFBIG": "allow larger files there and run the same command again: finished work is kept",
        "EDQUOT": "free some disk space and run the same command again: finished work is kept",
        "EACCES": "give yourself permission there or choose another folder",
        "EPERM": "give yourself permission there or choose another folder",
        "EROFS": "the folder is read-only; choose another one",
        "ENOENT": "check the path",
    }.get(_errno_name(error), "check the path and the disk")
    where = error.filename if error.filename is not None else "a file"
    return f"{where}: {error.strerror}; {remedy}"


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Prefix any UserError raised inside with the file it concerns."""
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error


def _errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "")


def _report(message: str) -> int:
    text = f"error: {message}"
    # Colour only for a person at a terminal.
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        text = f"\033[31m{text}\033[0m"
    print(text, file=sys.stderr)
    return BAD_INPUT
