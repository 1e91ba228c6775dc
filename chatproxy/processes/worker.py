"""One worker process: uvicorn inside gunicorn, and how it stops.

SIGTERM and the master's death drain: no new connections, calls in flight are finished, the lifespan is shut down, the
process exits with 0. SIGQUIT cancels calls in flight instead (`chatproxy.processes.unix_signals` has all signals).

A worker whose new ids run ahead of the clock, because the clock was ahead for a while, asks the master for new workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

from gunicorn.arbiter import Arbiter
from uvicorn import Config
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from chatproxy.http.connections import RESERVED_FILES, Connections, allowed_files, connection_limit
from chatproxy.logs import CutConnections, log_everything
from chatproxy.processes import unix_signals
from chatproxy.processes.exit_steps import on_drain
from chatproxy.processes.heap import keep_freed_memory
from usage import ids

logger = logging.getLogger(__name__)

MAX_SECONDS_AHEAD = 60.0  # how far new ids may be ahead of the clock before the workers are replaced
TICKS_PER_SECOND = 10  # how often uvicorn calls `on_tick`
# After this time a thread that computes, for a page for example, lets the event loop run, which needs the interpreter's
# lock again after each wait. With Python's default of 5 ms, a call would wait several times that long.
SWITCH_SECONDS = 0.001
REPLACED_WITHIN_SECONDS = 60  # how long a worker waits to be replaced before it asks the master once more


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
        # The base class does not pass uvicorn's log on to the root logger, and so to Django's LOGGING. The access
        # log gets no handler, by which uvicorn knows that it is to write none.
        log = logging.getLogger("uvicorn.error")
        log.handlers = []
        log.propagate = True
        log.setLevel(logging.WARNING)
        log.addFilter(CutConnections())
        log_everything()
        sys.setswitchinterval(SWITCH_SECONDS)

    def init_process(self) -> None:
        """Loads the application in the new process, and serves it.

        Until the start is over, garbage collection is switched off. Loading modules leaves no garbage, but searching
        for it would take a sixth of the time. The collection is switched on again by `chatproxy.processes.lifespan`.
        """
        gc.disable()
        keep_freed_memory()
        super().init_process()

    def init_signals(self) -> None:
        """Installs gunicorn's signal handlers in this worker process, then ignores the signals that a terminal sends.

        `chatproxy.processes.unix_signals` says what each signal does.
        """
        super().init_signals()
        unix_signals.ignore_in_worker()

    async def _serve(self) -> None:
        """Runs uvicorn's server on gunicorn's sockets until it was told to stop and has finished its calls.

        Exits with an error if the start fails.
        """
        self.config.app = self.wsgi
        self.config.http = protocol_factory()
        server = DrainingServer(self.config, parent=self.ppid)
        # Plain sockets: gunicorn's wrappers complain when uvicorn closes them once more.
        await server.serve(sockets=[listener.sock for listener in self.sockets])
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


def protocol_factory() -> Callable[..., asyncio.Protocol]:
    """Returns the function that uvicorn calls for each new client connection, and that creates the connection's object.

    All of these objects share one `Connections`, which limits their number.
    """
    # Imported here, since gunicorn's master imports this module too, and has no Django in it.
    from django.conf import settings

    from chatproxy.http.access_log import LoggedProtocol
    from chatproxy.http.protocol import Protocol
    from usage.metric_counters import counters

    files = allowed_files()
    connections = Connections(
        connection_limit(files, settings.MAX_PARALLEL_REQUESTS, settings.MAX_CONNECTIONS),
        settings.MAX_CONNECTIONS_PER_ADDRESS,
        settings.TRUSTED_PROXIES,
        files - min(RESERVED_FILES, files // 2) // 2,
        counters.count_refusal,
    )
    return partial(LoggedProtocol if settings.ACCESS_LOG else Protocol, connections=connections)


class DrainingServer(Server):
    """uvicorn's server, which finishes the calls in flight when it is told to stop ("drains").

    It drains at SIGTERM and when the master process has died, and cancels the calls at SIGQUIT.
    """

    def __init__(self, config: Config, parent: int) -> None:
        super().__init__(config)
        self._parent = parent
        self._ticks_until_check = TICKS_PER_SECOND

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Context manager that installs this worker's handlers of SIGTERM and SIGQUIT in place of uvicorn's.

        uvicorn's own version raises a received signal again after the shutdown, which would end the process by that
        signal.
        """
        unix_signals.handle_in_worker(self.drain, self.cancel_calls)
        yield

    async def on_tick(self, counter: int) -> bool:
        """Checks ten times a second whether the master process has died; then this worker finishes its calls and exits.

        Checks once a second whether the times in new ids are ahead of the clock (`_check_ids`). Returns what uvicorn's
        own method returns: whether the server should exit.
        """
        if os.getppid() != self._parent:
            logger.warning("the master process is gone")
            self.drain()
        elif not self.should_exit:
            self._ticks_until_check -= 1
            if self._ticks_until_check <= 0:
                self._ticks_until_check = TICKS_PER_SECOND
                self._check_ids()
        return await super().on_tick(counter)

    def _check_ids(self) -> None:
        """Asks the master process for new workers if new request ids are more than a minute ahead of the clock.

        Each id has a time in it, by which rows are listed, filtered and pruned. That time never goes back, so it is
        ahead after the clock was put back. A new process takes it from the clock again.
        """
        ahead = ids.seconds_ahead()
        if ahead <= MAX_SECONDS_AHEAD:
            return
        logger.warning("ids are %.0f seconds ahead of the clock, which was put back; the workers are replaced", ahead)
        with contextlib.suppress(ProcessLookupError):  # the master has ended; the next tick notices it
            os.kill(self._parent, unix_signals.REPLACE_WORKERS)
        self._ticks_until_check = TICKS_PER_SECOND * REPLACED_WITHIN_SECONDS

    def drain(self) -> None:
        """Stops taking new connections and lets the calls in flight end, after which the process exits.

        May be called more than once.
        """
        if self.should_exit:
            return
        self.should_exit = True
        logger.info("draining", extra={"calls_in_flight": len(self.server_state.tasks)})
        for tell in on_drain:
            tell()

    def cancel_calls(self) -> None:
        """Stops taking new connections and cancels the calls in flight, after which the process exits.

        The parts of the worker are still ended in order, so the rows of the cancelled calls are written too.
        """
        self.drain()
        for task in self.server_state.tasks:
            task.cancel("the server was told to stop at once")
