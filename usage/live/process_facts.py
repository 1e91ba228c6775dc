"""The resources of the gateway's processes: memory, CPU time and open files, read from `/proc`."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple


class ProcessFacts(NamedTuple):
    """The resources of one process: memory in bytes, CPU time in seconds, and numbers of open and allowed files."""

    resident_bytes: int
    cpu_seconds: float
    open_files: int
    allowed_files: int


def read_process_facts(pid: int) -> ProcessFacts | None:
    """Returns the resources that the process `pid` uses; None if the process has ended, or if there is no `/proc`."""
    directory = Path("/proc") / str(pid)
    try:
        resident = int((directory / "statm").read_text().split()[1])
        # From the third field on, since the second one, the program's name, may have spaces in it.
        fields = (directory / "stat").read_text().rpartition(")")[2].split()
        open_files = len(os.listdir(directory / "fd"))
    except (OSError, IndexError, ValueError):
        return None
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    # The limit of this process: all processes of the gateway raise it alike.
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ProcessFacts(resident * resource.getpagesize(), ticks / os.sysconf("SC_CLK_TCK"), open_files, soft)
