"""TensorBoard scalars and images, and metrics.jsonl beside them."""

import json
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from common.training.run_folder import RunFolder, write_atomically


class Log:
    """Writes each record to TensorBoard and to metrics.jsonl.

    Opened at a step: what an interrupted run wrote beyond its last checkpoint is dropped, so that
    the record has neither gaps nor doubles.
    """

    def __init__(self, run: RunFolder, step: int) -> None:
        run.logs.mkdir(parents=True, exist_ok=True)
        _drop_after(run.metrics, step)
        self._writer = SummaryWriter(str(run.logs), purge_step=step + 1 if step else None)
        self._metrics = run.metrics.open("a", encoding="utf-8")

    def scalars(self, group: str, values: dict[str, float], step: int, seconds: float) -> None:
        """Record named numbers of one group, such as 'train' or 'validation'."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        record = {"step": step, "seconds": round(seconds, 3)}
        record |= {f"{group}/{name}": value for name, value in values.items()}
        self._metrics.write(json.dumps(record) + "\n")
        self._metrics.flush()

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Record an RGB picture (H, W, 3), uint8."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def mesh(
        self,
        name: str,
        vertices: np.ndarray,
        faces: np.ndarray,
        colours: np.ndarray | None,
        step: int,
    ) -> None:
        """Record a mesh: (V, 3), (F, 3) and uint8 (V, 3) or None."""
        self._writer.add_mesh(
            name,
            vertices=np.ascontiguousarray(vertices)[None].astype(np.float32),
            faces=np.ascontiguousarray(faces)[None].astype(np.int32),
            colors=None if colours is None else np.ascontiguousarray(colours)[None],
            global_step=step,
        )

    def text(self, name: str, text: str, step: int) -> None:
        """Record a text, shown as Markdown."""
        self._writer.add_text(name, text, step)

    def flush(self) -> None:
        """Hand everything to the system."""
        self._writer.flush()
        self._metrics.flush()

    def close(self) -> None:
        """Flush and close both."""
        self._writer.close()
        self._metrics.close()


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
