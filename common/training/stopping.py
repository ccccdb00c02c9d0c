"""A polite end: a signal or a time limit is answered after the step that is under way."""

import signal
import time


class StopRequest:
    """Turns SIGINT and SIGTERM, or the end of ``seconds``, into a polite stop after a step."""

    def __init__(self, seconds: float | None) -> None:
        self.reason: str | None = None
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def __enter__(self) -> "StopRequest":
        signals = (signal.SIGINT, signal.SIGTERM)
        self._previous = {number: signal.signal(number, self._note) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if self.reason is not None:
            raise KeyboardInterrupt  # asked twice: the person does not want to wait
        self.reason = signal.Signals(number).name

    def raised(self) -> bool:
        """Whether to stop now."""
        if self.reason is None and self._deadline and time.monotonic() > self._deadline:
            self.reason = "--exit-after"
        return self.reason is not None
