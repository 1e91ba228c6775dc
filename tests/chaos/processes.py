"""Owns what the runner knows of processes: whose child is whose, and which journal a process writes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    """Returns the ids of a process's direct children, whichever of its threads has started them.

    There is none if the process is gone.
    """
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def is_alive(pid: int) -> bool:
    """Returns whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def is_shipper(pid: int) -> bool:
    """Returns whether a process is a shipper, `manage.py ship`."""
    try:
        return b"ship" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def send(number: int, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def kill(*pids: int) -> None:
    """Kills processes by SIGKILL, and waits until they are gone."""
    send(signal.SIGKILL, pids)
    wait_for(lambda: not any(map(is_alive, pids)), 10)


def wait_for(condition: Callable[[], object], seconds: float, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what or 'the end of a process'}")
        time.sleep(0.005)


def open_journals(pid: int, suffix: str) -> list[Path]:
    """Returns those files of the journal that a process has open and whose names end in `suffix`."""
    found = []
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                path = link.readlink()
                if path.name.endswith(suffix) and path.parent.name == "journal":
                    found.append(path)
    return found
