"""The newest checkpoint of a run, read again whenever training writes another."""

from collections.abc import Callable
from pathlib import Path

from common.errors import UserError, describe_os_error
from common.training.run_folder import RunFolder, load_checkpoint
from common.viewing.run_view import LearntRun


class Following:
    """What a run has learnt so far; the first reading raises UserError as ``load`` does.

    ``trouble`` says why the newest checkpoint is not the one that is shown; None where it is.
    """

    def __init__(self, run: RunFolder, checkpoint: str, load: Callable[[], LearntRun]) -> None:
        self._run, self._checkpoint, self._load = run, checkpoint, load
        # Before reading: what is written meanwhile is seen at the next look.
        self._seen = _stamp(self._path)
        self.learnt = load()
        self.trouble: str | None = None

    def refresh(self) -> bool:
        """Read a checkpoint that was written since; whether there is something newer to show.

        One that is half copied, or gone with its folder, leaves what is shown as it is, until the
        file changes again.
        """
        stamp = _stamp(self._path)
        if stamp is None or stamp == self._seen:
            return False
        self._seen = stamp
        try:
            load_checkpoint(self._path)  # in place of a damaged one ``load`` takes an older one
            self.learnt = self._load()
        except UserError as error:
            self.trouble = str(error)
        except OSError as error:
            self.trouble = describe_os_error(error)
        else:
            self.trouble = None
        return self.trouble is None

    @property
    def _path(self) -> Path:
        best, latest = self._run.best, self._run.latest
        return best if self._checkpoint == "best" and best.exists() else latest


def _stamp(path: Path) -> tuple[str, int, int, int] | None:
    """What changes with a file's content; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return path.name, status.st_mtime_ns, status.st_size, status.st_ino
