"""A worker keeps the memory of a large body, so that the next one costs no page faults."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from chatproxy.processes.heap import keep_freed_memory
keep_freed_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def body(): return [bytes(256 * 1024) + b"x" for _ in range(40)]
body()
before = faults()
body()
print(faults() - before)
"""
ALL_PAGES = 40 * 64


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such options")
@pytest.mark.parametrize("set_by_an_administrator", [False, True])
def test_the_memory_of_a_body_is_used_again(set_by_an_administrator: bool) -> None:
    variables = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "4096"} if set_by_an_administrator else {}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | variables, capture_output=True, text=True, check=True
    )

    assert (int(done.stdout) < ALL_PAGES // 10) is not set_by_an_administrator
