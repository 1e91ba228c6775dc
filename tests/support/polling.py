"""Waits for what tells nobody when it happens: a row of a table, another process, a page of a server."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_SECONDS = 0.01


def wait_until(condition: Callable[[], object], patience: float, complaint: Callable[[], object] = str) -> None:
    """Returns once the condition holds; fails with the complaint after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, complaint() or "it never came true"
        time.sleep(LOOK_SECONDS)
