"""Owns one worker process: uvicorn inside gunicorn, and how it stops.

SIGTERM (the master's, and a supervisor's to all processes at once) and the master's death drain: no new
connections, calls in flight are finished, the lifespan is shut down, the process exits with 0. SIGQUIT cancels
calls in flight instead. SIGINT and SIGHUP are ignored: Ctrl-C and the end of a terminal reach the whole process
group, and the master decides what they mean.

A worker whose new ids run ahead of the clock, because the clock was ahead for a while, asks the master for new workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from chatproxy.http.connections import RESERVED_FILES, Connections, allowed_files, ceiling
from chatproxy.logs import CutConnections, log_everything
from usage import ids

logger = logging.getLogger(__name__)

REPLACE_WORKERS = signal.SIGUSR2  # what the master is sent for it (chatproxy.processes.gunicorn_conf)
MOST_SECONDS_AHEAD = 60.0
TICKS_A_SECOND = 10
# After this time a thread that computes, of a page for example, gives way to the event loop, which needs the
# interpreter's lock anew after each wait. Python's 5 ms would be added to a call several times.
SWITCH_SECONDS = 0.001
REPLACED_WITHIN = 60  # seconds; then the master is asked once more


class Worker(UvicornWorker):  # type: ignore[misc]  # uvicorn-worker has no types
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": "chatproxy.http.protocol:Protocol",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,  # it would have the keys of query strings in it
        "server_header": False,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The base class keeps uvicorn's log from the root logger, and so from Django's LOGGING. The access log
        # stays without a handler, which is how uvicorn knows that there is to be none.
        log = logging.getLogger("uvicorn.error")
        log.handlers = []
        log.propagate = True
        log.setLevel(logging.WARNING)
        log.addFilter(CutConnections())
        log_everything()
        sys.setswitchinterval(SWITCH_SECONDS)

    def init_signals(self) -> None:
        super().init_signals()
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        self.config.http = counting_protocol()
        server = DrainingServer(self.config, parent=self.ppid)
        # Plain sockets: gunicorn's wrappers complain when uvicorn closes them once more.
        await server.serve(sockets=[listener.sock for listener in self.sockets])
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


def counting_protocol() -> Any:
    """Returns what makes the protocol of each new connection, all of them counted together."""
    from django.conf import settings  # this module is imported by the master too, which has no Django in it

    from chatproxy.http.protocol import Protocol
    from usage.counters import counters

    files = allowed_files()
    connections = Connections(
        ceiling(files, settings.MAX_PARALLEL_REQUESTS, settings.MAX_CONNECTIONS),
        settings.MAX_CONNECTIONS_PER_ADDRESS,
        settings.TRUSTED_PROXIES,
        files - min(RESERVED_FILES, files // 2) // 2,
        counters.count_refusal,
    )
    return partial(Protocol, connections=connections)


class DrainingServer(Server):
    """uvicorn's server, stopped as this module says; uvicorn's own handlers would end the process by the signal."""

    def __init__(self, config: Any, parent: int) -> None:
        super().__init__(config)
        self._parent = parent
        self._ticks_until_check = TICKS_A_SECOND

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.drain)
        loop.add_signal_handler(signal.SIGQUIT, self.force)
        yield

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second, until draining begins."""
        if os.getppid() != self._parent:
            logger.warning("the master process is gone")
            self.drain()
        elif not self.should_exit:
            self._ticks_until_check -= 1
            if self._ticks_until_check <= 0:
                self._ticks_until_check = TICKS_A_SECOND
                self._check_ids()
        return await super().on_tick(counter)

    def _check_ids(self) -> None:
        """Has the workers replaced when new ids are in the future: lists, filters and pruning go by their time."""
        ahead = ids.seconds_ahead()
        if ahead <= MOST_SECONDS_AHEAD:
            return
        logger.warning("ids are %.0f seconds ahead of the clock, which was put back; the workers are replaced", ahead)
        with contextlib.suppress(ProcessLookupError):  # the master has ended since, and the next tick sees it
            os.kill(self._parent, REPLACE_WORKERS)
        self._ticks_until_check = TICKS_A_SECOND * REPLACED_WITHIN

    def drain(self) -> None:
        if self.should_exit:
            return
        self.should_exit = True
        logger.info("draining", extra={"calls_in_flight": len(self.server_state.tasks)})
        begin_drain = getattr(sys.modules.get("chatproxy.asgi"), "begin_drain", None)
        if begin_drain is not None:
            begin_drain()

    def force(self) -> None:
        """The lifespan is still shut down, so the calls that end here are shipped too."""
        self.drain()
        for task in self.server_state.tasks:
            task.cancel("the server was told to stop at once")
