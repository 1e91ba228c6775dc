"""Owns what the operating system knows of a process: its CPU time, its memory, its core.

CPU time is all threads', dead ones too. Memory is PSS: a page that several processes share counts once for all of them.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[-1], CORES[0]


def cpu(pid: int) -> float:
    """CPU seconds of one process so far, to the nanosecond: its clock is numbered as clock_getcpuclockid(3) does."""
    return time.clock_gettime((~pid << 3) | 2)


def cpu_of(pids: Iterable[int]) -> float:
    """CPU seconds of several, and of those of their children that are gone (proc(5): cutime, cstime)."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):  # gone meanwhile, and so among the children that are
            total += cpu(pid) + sum(map(int, _stat(pid)[15:17])) / os.sysconf("SC_CLK_TCK")
    return total


def memory(pids: Iterable[int]) -> float:
    """MiB."""
    return sum(_pss(pid) for pid in pids) / 1024


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    return [pid, *(member for child in children(pid) for member in family(child))]


def children(pid: int) -> list[int]:
    """Whichever of its threads made them."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


@contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Whatever this thread starts meanwhile runs there, and so does the thread."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_sockets() -> None:
    """For this process and what it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _stat(pid: int) -> list[str]:
    """The fields, at proc(5)'s numbers less one; the second, the process' name, may have anything in it."""
    return ["", "", *Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()]


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("proc(5) has no Pss")
