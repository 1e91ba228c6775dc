"""Makes a worker keep freed memory of a large body for the next one, instead of returning it to the system.

By default, glibc gets the memory for a large body from the kernel each time, and the kernel fills it with zeros, page
by page. For a body of 7 MB, of which memory has a few copies, that takes two thirds of the time.
"""

from __future__ import annotations

import ctypes
import os

KEPT_BYTES = 32 * 1024 * 1024  # in each of the few heaps of a worker; the most that glibc allows for M_MMAP_THRESHOLD
# `mallopt(3)`: the parameters, and the variables by which an administrator may have set them.
OPTIONS = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}


def keep_freed_memory() -> None:
    """Tells the C library to keep up to `KEPT_BYTES` of freed memory in each heap, for the next large body.

    Does nothing if the C library is not glibc, or if an administrator has set one of glibc's environment variables for
    this (`OPTIONS`).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and OPTIONS.keys().isdisjoint(os.environ):
        for option in OPTIONS.values():
            mallopt(option, KEPT_BYTES)
