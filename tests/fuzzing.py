"""Readers of files fed with damaged ones; those that reach new lines are damaged further.

What may be read is in tests/fuzz_targets.py. Whatever the damage: a value or a sentence, within
bounds of memory and processor time, and nothing run, nothing written elsewhere.
"""

import random
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType

from common.errors import UserError

MOST_STEPS = 1_000_000  # lines run for one small file: beyond, a reader hangs
MOST_SECONDS = 20  # of the processor, for readers that hang in other lines
MOST_MEMORY = 400_000_000  # bytes that a small file may make a reader touch
ROOM = 4_000_000_000  # bytes that it may ask for: beyond, the system refuses them
_LONGEST = 4096  # bytes of an input that is kept
# What no file may lead to: other programs, other machines, functions that a pickle names.
_FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen",
    "socket.connect", "urllib.Request", "pickle.find_class", "code.__new__", "ctypes.dlopen",
)  # fmt: skip

Read = Callable[[bytes], object]
Step = tuple[str, int, int]  # file, line, the line before


@dataclass(frozen=True)
class Fuzzed:
    """How far a run came."""

    inputs: int
    kept: int  # inputs that reached something new, seeds included
    steps: int  # pairs of lines that were run one after the other
    refused: int  # inputs that ended in a sentence


class Crash(BaseException):
    """A reader failed other than by a sentence; no reader that catches all exceptions hides it."""


def fuzz(
    read: Read,
    seeds: Sequence[bytes],
    modules: Sequence[ModuleType],
    rng: random.Random,
    inputs: int | None = None,
    seconds: float = float("inf"),
    folder: Path | None = None,
) -> Fuzzed:
    """Damage the seeds at random and read them, for this many inputs or seconds of the processor.

    Inputs that take a new step through the modules' lines join the seeds (Zalewski's American Fuzzy
    Lop, 2013). Raises Crash where reading raises anything but UserError or the system's own words,
    takes MOST_STEPS, MOST_SECONDS or MOST_MEMORY, does what is forbidden, or writes outside of
    ``folder``, where one is given.
    """
    files = frozenset(str(module.__file__) for module in modules)
    pool, known = list(seeds), set[Step]()
    refused = count = 0
    end = time.process_time() + seconds
    while (inputs is None or count < inputs) and time.process_time() < end:
        data = seeds[count] if count < len(seeds) else damaged(pool, rng)
        try:
            steps, accepted = _followed(read, data, files, folder)
        except Crash as crash:
            crash.args = (f"{crash}, for {data!r}",)
            raise
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
        match rng.randrange(8):
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
            case 7:
                _exchange_number(data, start, rng)
    return bytes(data)


def _exchange_number(data: bytearray, start: int, rng: random.Random) -> None:
    """Another number for the one whose digits are next."""
    digits = b"0123456789"
    first = next((at for at in range(start, len(data)) if data[at] in digits), len(data))
    last = next((at for at in range(first, len(data)) if data[at] not in digits), len(data))
    data[first:last] = rng.choice(_NUMBERS)


def _tokens() -> list[bytes]:
    integers = [0, 1, 2, 18, 2**31 - 1, 2**31, 2**32 - 1, 2**61, 2**63, 2**64 - 1]
    reals = [0.0, -1.0, 1e-310, 1e15, 1e308, float("inf"), float("nan")]
    text = ["\n", " ", "#", "nan", "-1", "1e400", "9" * 30, "../", "/", "\0", "\udcff", "é"]
    return [
        *(struct.pack("<Q", value) for value in integers),
        *(struct.pack("<I", value % 2**32) for value in integers),
        *(struct.pack(">I", value % 2**32) for value in integers),
        *(struct.pack("<d", value) for value in reals),
        *(value.encode(errors="surrogateescape") for value in text),
    ]


_TOKENS = _tokens()
_NUMBERS = [
    b"0", b"1", b"-1", b"3", b"65537", b"16777216", b"134217728", b"2147483647", b"4294967296",
    b"1000000000000", b"9" * 30, b"9" * 5000, b"1e9", b"1e400", b"nan", b"",
]  # fmt: skip


def _followed(
    read: Read, data: bytes, files: frozenset[str], folder: Path | None
) -> tuple[set[Step], bool]:
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
    with bounded(folder):
        sys.settrace(enter)
        try:
            read(data)
        except UserError as error:
            if "\n" in str(error):
                raise Crash(f"a message of several lines, {error}") from error
            return steps, False
        except OSError as error:
            if error.errno is None:  # else scripts say it in a sentence
                raise Crash(f"{type(error).__name__}: {error}") from error
            return steps, False
        except Exception as error:
            raise Crash(f"{type(error).__name__}: {error}") from error
        finally:
            sys.settrace(tracer)
    return steps, True


@contextmanager
def bounded(folder: Path | None = None) -> Iterator[None]:
    """Watch over a body that reads a file: raises Crash as ``fuzz`` does (Linux; elsewhere not)."""
    if sys.platform != "linux":
        yield
        return
    import resource

    def too_long(*_: object) -> None:
        raise Crash(f"more than {MOST_SECONDS} seconds")

    own_room = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handler = signal.signal(signal.SIGVTALRM, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, own_room[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    _watch.begin(folder)
    try:
        yield
    finally:
        done = _watch.end()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, own_room)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        if done:
            raise Crash(f"a file led to {'; '.join(done)}")
        if grown > MOST_MEMORY:
            raise Crash(f"touched {grown / 1e6:.0f} MB")


class _Watch:
    """Hears of all that Python is asked to do (PEP 578), and refuses some of it for a while."""

    def __init__(self) -> None:
        self.on, self.added = False, False
        self.folder: Path | None = None
        self.done: list[str] = []

    def begin(self, folder: Path | None) -> None:
        if not self.added:
            sys.addaudithook(self.hear)  # for ever, as hooks are
        self.added, self.on, self.done = True, True, []
        self.folder = None if folder is None else folder.resolve()

    def end(self) -> list[str]:
        self.on = False
        return self.done

    def hear(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event in _FORBIDDEN or (event == "open" and self._elsewhere(*arguments[:2])):
            self.on = False  # what follows may open files too
            self.done.append(f"{event}{arguments!r:.200}")
            self.on = True
            raise Crash(self.done[-1])

    def _elsewhere(self, path: object, mode: object) -> bool:
        writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        if self.folder is None or not writes or not isinstance(path, str | Path):
            return False
        return not Path(path).absolute().is_relative_to(self.folder)


_watch = _Watch()
