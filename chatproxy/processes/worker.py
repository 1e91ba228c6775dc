"""One worker process: uvicorn inside gunicorn, with the gateway's logging, signals and limits on connections.

`chatproxy.processes.draining_server` is uvicorn's server in the process, and describes how it stops.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import mmap
import sys
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from chatproxy.http.connections import RESERVED_FILES, Connections, allowed_files, connection_limit
from chatproxy.logs import CutConnections, log_everything
from chatproxy.processes import unix_signals
from chatproxy.processes.draining_server import DrainingServer, heartbeats
from chatproxy.processes.heap import keep_freed_memory
from chatproxy.processes.upgrade import start_reports

# After this time a thread that computes, for a page for example, lets the event loop run, which needs the interpreter's
# lock again after each wait. With Python's default of 5 ms, a call would wait several times that long.
SWITCH_SECONDS = 0.001


class Worker(UvicornWorker):  # type: ignore[misc]  # uvicorn-worker has no types
    """A worker process of gunicorn that runs uvicorn, with the gateway's logging, signals and limits on connections."""

    CONFIG_KWARGS: ClassVar[dict[str, object]] = {
        "loop": "uvloop",
        "http": "chatproxy.http.protocol:Protocol",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,  # its lines would show the keys in query strings
        "server_header": False,
    }

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._start = mmap.mmap(-1, 1)  # made in the master and shared with it; not 0 once this worker serves
        # The base class does not pass uvicorn's log on to the root logger, and so to Django's LOGGING. The access
        # log gets no handler, by which uvicorn knows that it is to write none.
        log = logging.getLogger("uvicorn.error")
        log.handlers = []
        log.propagate = True
        log.setLevel(logging.WARNING)
        log.addFilter(CutConnections())
        log_everything()
        sys.setswitchinterval(SWITCH_SECONDS)

    @property
    def has_started(self) -> bool:
        """True once this worker has begun to serve; the master process sees this value, too."""
        return self._start[0] != 0

    def report_start(self) -> None:
        """Reports to the master that this worker serves."""
        self._start[0] = 1
        start_reports.report()

    def init_process(self) -> None:
        """Loads the application in the new worker process, and serves it until the worker ends.

        Turns Python's garbage collector off; `chatproxy.processes.lifespan` turns it on again once the
        application has started.
        """
        # Until the start is over: loading modules leaves no garbage, but searching for it would take a sixth of the
        # start. `chatproxy.processes.lifespan` switches it on again.
        gc.disable()
        keep_freed_memory()
        super().init_process()

    def init_signals(self) -> None:
        """Installs gunicorn's signal handlers in this worker process, but ignores the signals that are for the master.

        `chatproxy.processes.unix_signals` says what each signal does.
        """
        super().init_signals()
        unix_signals.ignore_in_worker()

    async def _serve(self) -> None:
        """Runs uvicorn's server on gunicorn's sockets until it is told to stop and has finished its calls.

        Exits with an error if the start fails.
        """
        # Imported here, since gunicorn's master imports this module too, and has no Django in it.
        from django.conf import settings

        connections = open_connections()
        self.config.app = self.wsgi
        self.config.http = protocol_factory(connections)
        self.config.callback_notify = None  # `heartbeats` does it, also while the worker starts and ends
        server = DrainingServer(self.config, self.ppid, settings.DRAIN_SECONDS, connections, self.report_start)
        async with heartbeats(self.notify):
            # Plain sockets: gunicorn's wrappers complain when uvicorn closes them once more.
            await server.serve(sockets=[listener.sock for listener in self.sockets])
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


def protocol_factory(connections: Connections) -> Callable[..., asyncio.Protocol]:
    """Returns the function that uvicorn calls to create an object for each new client connection.

    All these objects share `connections`, the worker's register of connections.
    """
    from django.conf import settings

    from chatproxy.http.access_log import LoggedProtocol
    from chatproxy.http.protocol import Protocol

    return partial(LoggedProtocol if settings.ACCESS_LOG else Protocol, connections=connections)


def open_connections() -> Connections:
    """Creates the register of a worker's client connections, with the limits on their number."""
    from django.conf import settings

    from usage.metric_counters import counters

    files = allowed_files()
    return Connections(
        connection_limit(files, settings.MAX_PARALLEL_REQUESTS, settings.MAX_CONNECTIONS),
        settings.MAX_CONNECTIONS_PER_ADDRESS,
        settings.TRUSTED_PROXIES,
        files - min(RESERVED_FILES, files // 2) // 2,
        counters.count_refusal,
    )
