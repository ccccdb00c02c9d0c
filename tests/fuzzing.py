"""Readers of files fed with damaged ones; those that reach new lines are damaged further.

`python -m tests.fuzzing colmap --seconds 600` for a long look; tests do the same for a moment.
"""

import argparse
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType

from common.errors import UserError
from common.scenes.formats import colmap, colmap_binary, colmap_model, colmap_text
from tests.make_colmap import small_model, touch_images, write_model

MOST_STEPS = 1_000_000  # lines run for one small file: beyond, a reader hangs
_LONGEST = 4096  # bytes of an input that is kept

Read = Callable[[bytes], object]
Step = tuple[str, int, int]  # file, line, the line before


@dataclass(frozen=True)
class Fuzzed:
    """How far a run came."""

    inputs: int
    kept: int  # inputs that reached something new, seeds included
    steps: int  # pairs of lines that were run one after the other
    refused: int  # inputs that ended in a UserError


class Crash(AssertionError):
    """A reader failed other than by a UserError; the message holds the input."""


def fuzz(
    read: Read,
    seeds: Sequence[bytes],
    modules: Sequence[ModuleType],
    rng: random.Random,
    inputs: int | None = None,
    seconds: float = float("inf"),
) -> Fuzzed:
    """Damage the seeds at random and read them, for this many inputs or seconds.

    Inputs that take a new step through the modules' lines join the seeds (Zalewski's American Fuzzy
    Lop, 2013). Raises Crash where reading raises anything but UserError, or takes MOST_STEPS.
    """
    files = frozenset(str(module.__file__) for module in modules)
    pool, known = list(seeds), set[Step]()
    refused = count = 0
    end = time.monotonic() + seconds
    while (inputs is None or count < inputs) and time.monotonic() < end:
        data = seeds[count] if count < len(seeds) else damaged(pool, rng)
        steps, accepted = _followed(read, data, files)
        refused += not accepted
        if not steps <= known and len(data) <= _LONGEST:
            known |= steps
            if count >= len(seeds):
                pool.append(data)
        count += 1
    return Fuzzed(count, len(pool), len(known), refused)


def damaged(pool: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the pool with one to eight changes."""
    data = bytearray(rng.choice(pool))
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        start = rng.randint(0, len(data))
        end = min(start + rng.choice((1, 2, 4, 8, 16, 64)), len(data))
        match rng.randrange(7):
            case 0 if data:
                data[start % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                data[start:end] = rng.randbytes(end - start)
            case 2:
                token = rng.choice(_TOKENS)
                data[start : start + len(token)] = token
            case 3:
                data[start:start] = rng.choice(_TOKENS)
            case 4:
                del data[start:end]
            case 5:
                other = rng.choice(pool)
                data[start:] = other[rng.randint(0, len(other)) :]
            case 6:
                data[start:start] = data[start:end]
    return bytes(data)


def _tokens() -> list[bytes]:
    integers = [0, 1, 2, 18, 2**31 - 1, 2**31, 2**32 - 1, 2**61, 2**63, 2**64 - 1]
    reals = [0.0, -1.0, 1e-310, 1e15, 1e308, float("inf"), float("nan")]
    text = ["\n", " ", "#", "nan", "-1", "1e400", "9" * 30, "../", "/", "\0", "\udcff", "é"]
    return [
        *(struct.pack("<Q", value) for value in integers),
        *(struct.pack("<I", value % 2**32) for value in integers),
        *(struct.pack("<d", value) for value in reals),
        *(value.encode(errors="surrogateescape") for value in text),
    ]


_TOKENS = _tokens()


def _followed(read: Read, data: bytes, files: frozenset[str]) -> tuple[set[Step], bool]:
    """The steps that reading takes through these files, and whether it accepts the data."""
    steps, left = set[Step](), MOST_STEPS

    def enter(frame: FrameType, event: str, _: object):
        return follow(frame) if frame.f_code.co_filename in files else None

    def follow(frame: FrameType):
        name, before = frame.f_code.co_filename, 0

        def line(frame: FrameType, event: str, _: object):
            nonlocal before, left
            steps.add((name, frame.f_lineno, before))
            before = frame.f_lineno
            left -= 1
            if left < 0:
                raise Crash(f"more than {MOST_STEPS} lines")
            return line

        return line

    tracer = sys.gettrace()
    sys.settrace(enter)
    try:
        read(data)
    except UserError as error:
        if "\n" in str(error):
            raise Crash(f"a message of several lines, {error}, for {data!r}") from error
        return steps, False
    except Exception as error:
        raise Crash(f"{type(error).__name__}: {error}, for {data!r}") from error
    finally:
        sys.settrace(tracer)
    return steps, True


def colmap_readers(folder: Path) -> dict[str, tuple[Read, bytes]]:
    """For each file of a COLMAP model, a reader of the model with it exchanged, and its content."""
    readers = {}
    for suffix in (".bin", ".txt"):
        source = write_model(folder / suffix[1:], small_model(), suffix)
        touch_images(source / "images", small_model())
        for name in ("cameras", "images", "points3D"):
            path = source / f"{name}{suffix}"
            readers[path.name] = _exchanging(path, partial(colmap.read_colmap, source))
    return readers


def _exchanging(path: Path, read: Callable[[], object]) -> tuple[Read, bytes]:
    original = path.read_bytes()

    def read_with(data: bytes) -> None:
        # A new file, since the old one may still be mapped.
        path.unlink()
        path.write_bytes(data)
        try:
            read()
        finally:
            path.unlink()
            path.write_bytes(original)

    return read_with, original


COLMAP_MODULES = (colmap, colmap_binary, colmap_model, colmap_text)
TARGETS = {"colmap": (colmap_readers, COLMAP_MODULES)}


def main() -> None:
    """Fuzz every file of a target in turn, and print how far each went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=600, help="for all its files together")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_readers, modules = TARGETS[arguments.target]
    with tempfile.TemporaryDirectory() as folder:
        readers = make_readers(Path(folder))
        for name, (read, seed) in readers.items():
            rng = random.Random(arguments.seed)
            seconds = arguments.seconds / len(readers)
            print(name, fuzz(read, [seed], modules, rng, seconds=seconds), flush=True)


if __name__ == "__main__":
    main()
