"""When a process of this machine began, by which it differs from a later one with its number."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")
QUERY = 0x1000  # Windows: PROCESS_QUERY_LIMITED_INFORMATION
STILL_ACTIVE = 259  # Windows: the exit code of a process that has not ended


def birth(pid: int) -> str | None:
    """The instant a process began, in the words of the system; None where there is none with it.

    Two processes of one machine that have the same number have different births, whatever happened
    to the clock in between.
    """
    if sys.platform == "win32":
        return _windows_birth(pid)
    if BOOT.exists():
        return _linux_birth(pid)
    listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return " ".join(listed.stdout.split()) or None


def _linux_birth(pid: int) -> str | None:
    """The boot, and the ticks from it to the process's start."""
    try:
        # The program's name, in brackets, may hold blanks and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, ticks = fields[0], fields[19]
    # A dead process is listed until its parent asks how it ended.
    return None if state in "ZX" else f"{BOOT.read_text().strip()} {ticks}"


def _windows_birth(pid: int) -> str | None:
    if sys.platform != "win32":
        raise OSError(f"{os.name}: not Windows")
    kernel = ctypes.windll.kernel32
    kernel.OpenProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.OpenProcess(QUERY, False, pid))
    if not process:
        return None
    code, times = ctypes.c_uint32(), [ctypes.c_uint64() for _ in range(4)]
    try:
        kernel.GetExitCodeProcess(process, ctypes.byref(code))
        kernel.GetProcessTimes(process, *(ctypes.byref(time) for time in times))
    finally:
        kernel.CloseHandle(process)
    return str(times[0].value) if code.value == STILL_ACTIVE else None
