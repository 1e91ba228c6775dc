"""Moves the clock that the tested code reads: in the test's own process, and in a server in another process.

Only the wall clock moves. `time.monotonic` goes on as usual, so that measured durations stay right.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest

# The C library's functions for the time of day, with the seconds added that stand in the file `MOVED_CLOCK`. Python,
# Rust and PostgreSQL call one of them. (libfaketime 0.9.10 makes Python's `sleep` fail if it leaves the monotonic clock
# alone.)
LIBRARY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static double nothing = 0.0;
static volatile double *ahead = &nothing;
static int (*real_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MOVED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *mapped = mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED) ahead = mapped;
    }
    real_clock = dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock) real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real_clock(clock, now);
    if (!failed && now && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += (time_t)*ahead;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    if (!failed && now) { now->tv_sec = precise.tv_sec; now->tv_usec = precise.tv_nsec / 1000; }
    return failed;
}

time_t time(time_t *result) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (result) *result = precise.tv_sec;
    return precise.tv_sec;
}
"""


class Traveller(Protocol):
    """Interface of the pytest fixture `time_machine`, which sets the clock of this process."""

    def move_to(self, destination: float, tick: bool | None = None) -> None:
        """Sets the clock to the Unix time `destination`, from which it goes on only if `tick` is true."""


class ProcessClock:
    """The wall clock of this process, which a test can set: Python's functions for time and date, in all threads."""

    def __init__(self, traveller: Traveller) -> None:
        self._traveller = traveller
        self._began = time.time() - time.monotonic()

    def put(self, ahead: timedelta) -> None:
        """Puts the clock ahead of the true time, or behind it if `ahead` is negative; zero sets it right again."""
        self._traveller.move_to(self._began + time.monotonic() + ahead.total_seconds(), tick=True)


class ServerClock:
    """The wall clock of a server that a test starts with `settings`, and can set: for all code in it and its children.

    A small library is loaded before the C library for this. Skips the test if there is no compiler to build it.
    """

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("there is no C compiler; on Debian and Ubuntu: apt install gcc libc6-dev")
        source, library, self._file = (directory / name for name in ("clock.c", "clock.so", "clock"))
        source.write_text(LIBRARY)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self._file.write_bytes(struct.pack("d", 0.0))
        self.settings = {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(self._file)}

    def put(self, ahead: timedelta) -> None:
        """Puts the server's clock ahead of the true time, or behind it if `ahead` is negative."""
        with self._file.open("r+b", buffering=0) as file:  # the library has mapped this file
            file.write(struct.pack("d", ahead.total_seconds()))


PutClock = Callable[[timedelta], None]
