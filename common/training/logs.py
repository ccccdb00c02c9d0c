"""What TensorBoard shows of a run, and metrics.jsonl beside it."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import summary

from common.progress import say
from common.training.curves import curve, page
from common.training.event_file import EventFile
from common.training.run_folder import RunFolder, write_atomically
from common.training.run_summary import run_summaries

# Pictures and meshes are no longer added to logs of this size.
MOST_BYTES = 2**30


class Log:
    """Writes each record to TensorBoard and to metrics.jsonl.

    Opened at a step: what an interrupted run wrote beyond its last checkpoint is dropped, so that
    the record has neither gaps nor doubles. TensorBoard is told the run's settings then, too.
    """

    def __init__(self, run: RunFolder, step: int) -> None:
        self._run, self._full = run, False
        self._open(step)

    def scalars(self, group: str, values: dict[str, float], step: int, seconds: float) -> None:
        """Record named numbers of one group, 'train' or 'validation'.

        In metrics.jsonl they are ``group/name``; TensorBoard's curves are named by their meaning.
        """
        record: dict[str, float | None] = {"step": step, "seconds": round(seconds, 3)}
        record |= {
            # JSON knows neither infinity nor NaN.
            f"{group}/{name}": value if math.isfinite(value) else None
            for name, value in values.items()
        }
        with _naming(self._run.metrics):
            self._metrics.write(json.dumps(record) + "\n")
            self._metrics.flush()
        for name, value in values.items():
            self._add(summary.scalar(curve(group, name), value), step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Record an RGB picture (H, W, 3), uint8."""
        if self._has_room():
            self._add(summary.image(name, image, dataformats="HWC"), step)

    def mesh(
        self,
        name: str,
        vertices: np.ndarray,
        faces: np.ndarray,
        colours: np.ndarray | None,
        step: int,
    ) -> None:
        """Record a mesh: (V, 3), (F, 3) and uint8 (V, 3) or None."""
        if self._has_room():
            points, triangles = vertices[None].astype(np.float32), faces[None].astype(np.int32)
            shades = None if colours is None else colours[None]
            self._add(summary.mesh(name, points, shades, triangles, None), step)

    def text(self, name: str, text: str, step: int) -> None:
        """Record a text, shown as Markdown."""
        self._add(summary.text(name, text), step)

    def flush(self) -> None:
        """Bring everything to the disk: what a checkpoint follows must outlive a power cut too."""
        with _naming(self._run.logs):
            self._events.flush()
        with _naming(self._run.metrics):
            self._metrics.flush()
            os.fsync(self._metrics.fileno())

    def rewind(self, step: int) -> None:
        """Forget what was recorded beyond a step."""
        self.close()
        self._open(step)

    def close(self) -> None:
        """Flush and close both."""
        self._metrics.close()
        with _naming(self._run.logs):
            self._events.close()

    def _open(self, step: int) -> None:
        _drop_after(self._run.metrics, step)
        self._events = EventFile(self._run.logs, step)
        for content in (page(), *run_summaries(self._run)):
            self._add(content, step + 1)
        self._metrics = self._run.metrics.open("a", encoding="utf-8")

    def _add(self, content: Summary, step: int) -> None:
        with _naming(self._run.logs):
            self._events.add(content, step)

    def _has_room(self) -> bool:
        """Whether there is room for more than numbers; says so once where there is none."""
        if not self._full:
            size = sum(file.stat().st_size for file in self._run.logs.iterdir() if file.is_file())
            self._full = size > MOST_BYTES
            if self._full:
                say(
                    f"{self._run.logs}: has {size / 2**30:.1f} GiB; no more pictures and meshes "
                    "are added (raise training.visualise_every)"
                )
        return not self._full


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A full disk reports no name; say which file it was."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break  # the line that an interruption cut short, always the last
        if record["step"] <= step:
            kept.append(line)
    text = "".join(line + "\n" for line in kept)
    write_atomically(path, lambda file: file.write(text.encode()))
