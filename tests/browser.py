"""A headless Chromium for tests of pages, driven through its debugging pipe: no package needed."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",  # which root, as in containers, cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
)
# The browser reads commands on descriptor 3 and answers on 4.
_LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_PATIENCE = 60  # seconds without a word: it hangs


def find_browser() -> str | None:
    """The program's path; None where there is none."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


@contextmanager
def open_browser(program: str, folder: Path) -> Iterator["Tab"]:
    """A tab of a new browser that keeps its files in ``folder``."""
    command_out, command_in = os.pipe()
    answer_out, answer_in = os.pipe()
    profile = f"--user-data-dir={folder}"
    # Descriptors that _LAUNCH does not overwrite before it has read them.
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (command_out, answer_in)]
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, *map(str, theirs), program, *_FLAGS, profile],
        pass_fds=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (command_out, answer_in, *theirs):
        os.close(end)
    try:
        yield Tab(command_in, answer_out)
    finally:
        os.close(command_in)  # which ends the browser
        os.close(answer_out)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Tab:
    """One page: open a file, run JavaScript, use mouse and keys, collect complaints."""

    def __init__(self, commands: int, answers: int) -> None:
        self.complaints: list[str] = []  # console errors and warnings, exceptions
        self.requests: list[str] = []  # every address that was asked for
        self._commands, self._answers = commands, answers
        self._number, self._session, self._loaded = 0, "", False
        self._unread = [b""]  # parts of the answers; each message ends with a zero byte
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, path: Path) -> None:
        """Load a file and wait until it is drawn."""
        self._loaded = False
        self._call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._next()
        self._settle()

    def show(self, width: int, height: int, scheme: str = "light", ratio: float = 1) -> None:
        """Set the window's size, the colour scheme, the screen's pixels per CSS pixel."""
        size = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)
        self._settle()

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, drawn results waited for."""
        result = self._evaluate(expression)
        self._settle()
        return result

    def mouse(self, kind: str, x: float, y: float, **details: Any) -> None:
        """mouseMoved, mousePressed, mouseReleased or mouseWheel at a place in the window."""
        self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **details)
        self._settle()

    def press(self, key: str) -> None:
        """One key, by its name in JavaScript."""
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key)
        self._settle()

    def photograph(self, path: Path) -> None:
        """What the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def _settle(self) -> None:
        """Until what was asked for so far has been drawn."""
        self._evaluate("new Promise(d => requestAnimationFrame(() => requestAnimationFrame(d)))")

    def _evaluate(self, expression: str) -> Any:
        options = {"returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", expression=expression, **options)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        while (answer := self._next()).get("id") != self._number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread[-1]:
            ready, _, _ = select.select([self._answers], [], [], _PATIENCE)
            part = os.read(self._answers, 1 << 16) if ready else b""
            if not part:
                raise RuntimeError("the browser does not answer")
            self._unread.append(part)
        last, rest = self._unread.pop().split(b"\0", 1)
        content = json.loads(b"".join([*self._unread, last]))
        self._unread = [rest]
        self._note(content.get("method", ""), content.get("params", {}))
        return content

    def _note(self, event: str, details: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(details["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(details["args"]))
        elif event == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.complaints.append(details["entry"]["text"])
