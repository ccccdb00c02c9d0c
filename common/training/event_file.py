"""TensorBoard's event file, written by the training's own thread.

TensorBoard's writer has a thread of its own, which reports a full disk by a traceback.
"""

import os
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class EventFile:
    """A new event file in a folder; earlier files count up to ``after_step`` only."""

    def __init__(self, folder: Path, after_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        first = after_step + 1
        self._write(Event(file_version="brain.Event:2", step=first))
        # Here TensorBoard forgets what an interrupted run wrote of this step and later ones.
        self._write(Event(session_log=SessionLog(status=SessionLog.START), step=first))

    def add(self, summary: Summary, step: int) -> None:
        """Record a summary of a step."""
        self._write(Event(summary=summary, step=step))

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
