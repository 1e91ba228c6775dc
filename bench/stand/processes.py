"""Reads the CPU time and memory of processes from the operating system, and sets the cores on which they run.

CPU time is that of all threads of a process, including ended ones. Memory is the proportional set size (PSS): in a sum
over several processes, a page that they share counts once.
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
    """Returns the CPU seconds that one process has used since its start, to the nanosecond.

    The number of the process's CPU clock is computed as in clock_getcpuclockid(3).
    """
    return time.clock_gettime((~pid << 3) | 2)


def cpu_of(pids: Iterable[int]) -> float:
    """Returns the CPU seconds that several processes, and their children that have ended, have used since their start.

    The seconds of the children are `cutime` and `cstime` in proc(5).
    """
    total = 0.0
    for pid in pids:
        with suppress(OSError):  # ended meanwhile: then its parent counts its CPU
            total += cpu(pid) + sum(map(int, _stat(pid)[15:17])) / os.sysconf("SC_CLK_TCK")
    return total


def memory(pids: Iterable[int]) -> float:
    """Returns the MiB of memory that several processes use together (PSS); a process that has ended uses none."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += _pss(pid)
    return total / 1024


def family(pid: int) -> list[int]:
    """Returns the ids of a process and of all its descendants."""
    return [pid, *(member for child in children(pid) for member in family(child))]


def children(pid: int) -> list[int]:
    """Returns the ids of a process's children, whichever of its threads has started them."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended meanwhile
            found += map(int, path.read_text().split())
    return found


@contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Keeps this thread, and the processes that it starts meanwhile, on the given cores until the `with` block ends.

    A process that was started in the block stays on them afterwards.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_sockets() -> None:
    """Raises the limit of open files of this process, and so of those that it will start, to the hard limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _stat(pid: int) -> list[str]:
    """Reads the fields of `/proc/PID/stat`; the index of a field is its number in proc(5) minus one.

    The first two fields, the process's id and name, are left empty, since the name may contain spaces and brackets.
    """
    return ["", "", *Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()]


def _pss(pid: int) -> int:
    """Returns the memory of a process in KiB (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("proc(5) has no Pss")
