"""A second connection to the database, for what happens beside a transaction of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection, connections

from tests.support.polling import PATIENCE


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


class Beside:
    """Another host: does one thing in a thread, on a connection of its own."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.errors: list[BaseException] = []
        self.result: Any = None
        self.thread = threading.Thread(target=self._run, args=(action,))

    def _run(self, action: Callable[[], object]) -> None:
        try:
            self.result = action()
        except BaseException as error:
            self.errors.append(error)
        finally:
            connections.close_all()

    def start_and_wait_until_it_waits(self, waiting: int = 1) -> None:
        """Returns when `waiting` connections, the thread's with them, wait for locks, or the thread has ended."""
        self.thread.start()
        with connection.cursor() as cursor:
            while self.thread.is_alive():
                # Within a transaction, PostgreSQL answers from what it saw at the first question.
                cursor.execute("SELECT pg_stat_clear_snapshot()")
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
                if cursor.fetchone() == (waiting,):
                    return

    def join(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        assert self.errors == []
