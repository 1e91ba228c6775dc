"""A second connection to the database, for what happens beside a transaction of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import connections


def elsewhere(action: Callable[[], object]) -> None:
    """Runs `action` with another connection to the database."""

    def run() -> None:
        try:
            action()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
