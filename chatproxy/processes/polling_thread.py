"""The thread of the shipper that polls upstream for background responses (`proxyapi.call.background_polling`).

If the settings do not allow polls, the thread estimates the usage of these responses (see
`usage.journal_shipping.background_responses`). Polling begins when the first response is pending. Only then is the code
that calls upstream loaded (a quarter as much memory as the rest of the shipper), and a journal opened for the rows of
polls. These rows are shipped like those of calls.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import uvloop
from django.conf import settings
from django.db import Error, connections

from usage.database.fault_words import is_explained
from usage.journal_shipping.background_responses import suppose_unasked
from usage.ledger import ledger
from usage.models import PendingResponse
from usage.money.spent_and_reserved import responses_are_polled

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
UNASKED_SECONDS, UNASKED_BATCH = 60.0, 1000  # journals of earlier processes may bring more of them


class BackgroundPolls:
    """The thread that learns the usage of background responses: those that upstream makes while no caller waits.

    It asks upstream about each until the response has finished. If the settings do not allow this, it estimates the
    usage.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._wake: Callable[[], object] = lambda: None  # tells the event loop that `_stopping` is set
        self._thread = threading.Thread(target=self._run, name="background polls", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and cancels the polls under way; waits at most `STOP_SECONDS`."""
        self._stopping.set()
        with suppress(RuntimeError):  # the event loop has ended by itself
            self._wake()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        is_polling = responses_are_polled()
        while not self._stopping.wait(settings.BACKGROUND_POLL_SECONDS if is_polling else UNASKED_SECONDS):
            try:
                if not is_polling:
                    _estimate_unasked()
                elif _is_any_pending():
                    self._poll_until_stopped()
            except (
                Exception
            ) as error:  # the border: without this thread nobody would learn what these responses have used
                if isinstance(error, Error) and is_explained(error):
                    continue  # the shipper's other thread meets the same outage, and reports it
                logger.exception("background responses cannot be counted, and it is tried again")

    def _poll_until_stopped(self) -> None:
        ledger.start()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._watch())
        finally:
            ledger.stop()

    async def _watch(self) -> None:
        from proxyapi.call.background_polling import watch_pending  # only if needed: see above
        from proxyapi.upstream import client

        woken = asyncio.Event()
        self._wake = partial(asyncio.get_running_loop().call_soon_threadsafe, woken.set)
        tasks = asyncio.create_task(watch_pending()), asyncio.create_task(woken.wait())
        if not self._stopping.is_set():
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
        if isinstance(errors[0], Exception):  # not that the task was cancelled
            raise errors[0]


def _estimate_unasked() -> None:
    try:
        suppose_unasked(UNASKED_BATCH)
    finally:
        connections.close_all()


def _is_any_pending() -> bool:
    try:
        return PendingResponse.objects.exists()
    finally:
        connections.close_all()
