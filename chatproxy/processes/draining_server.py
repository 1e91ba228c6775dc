"""uvicorn's server in a worker process, which accepts connections, and stops without failing a call.

After SIGTERM it serves on for DRAIN_SECONDS, and each answer ends its connection. (If only this worker is to end, it
serves on for at least `REPLACED_DRAIN_SECONDS`.) Then it closes the port, and finishes what it has accepted: calls in
flight, connections that still wait in the port's queue, requests that arrive meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

from uvicorn import Config
from uvicorn.server import Server

from chatproxy.processes import unix_signals
from chatproxy.processes.exit_steps import on_port_close, on_server_stop
from usage import ids

if TYPE_CHECKING:  # gunicorn's master imports this module, and has no Django in it
    from chatproxy.http.connections import Connections
    from chatproxy.http.protocol import Protocol

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
MAX_SECONDS_AHEAD = 60.0  # how far new ids may be ahead of the clock before the workers are replaced
TICK_SECONDS, DRAINING_TICK_SECONDS = 0.5, 0.1  # between two calls of `on_tick`; an idle worker should seldom wake up
CHECK_IDS_SECONDS = 1.0
REPLACED_WITHIN_SECONDS = 60  # how long a worker waits to be replaced before it asks the master once more
# How long a connection has, once the port is closed, to send a request that it has begun, or its first one.
ARRIVING_SECONDS = 1.0
LOOK_SECONDS = 0.02
# How long a worker that is replaced serves on at least. A client that calls all the time is then told by an answer that
# its connection ends. If the connection were closed between two of its calls, the next one could fail.
REPLACED_DRAIN_SECONDS = 1.0


@contextlib.asynccontextmanager
async def heartbeats(beat: Callable[[], object]) -> AsyncIterator[None]:
    """Context manager that calls `beat` once a second from the event loop, until its block ends."""

    # gunicorn replaces a worker that sends no heartbeat. uvicorn would send them only until the worker begins to drain.
    async def beat_forever() -> None:
        while True:
            beat()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    task = asyncio.create_task(beat_forever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class DrainingServer(Server):
    """The server of uvicorn in a worker; when told to stop, it drains: it finishes the requests that it has accepted.

    It drains at SIGTERM, and when the master process `parent` dies. At SIGQUIT it cancels the calls. `connections` are
    the worker's open connections; `report_start` is called once the worker serves.
    """

    def __init__(
        self,
        config: Config,
        parent: int,
        drain_seconds: float,
        connections: Connections,
        report_start: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._parent = parent
        self._drain_seconds = drain_seconds
        self._connections = connections
        self._report_start = report_start
        self._closes_at = math.inf  # when the port closes at the latest, as a time of `time.monotonic()`
        self._knows_of_stop = False
        self._is_cancelling = False
        self._check_ids_at = 0.0  # a time of `time.monotonic()`
        self._woken = asyncio.Event()  # set when the server has begun to drain, or to exit

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Context manager that installs this worker's handlers of SIGTERM and SIGQUIT instead of uvicorn's."""
        # uvicorn's own version raises a received signal again after the shutdown, which would end the process by that
        # signal.
        unix_signals.handle_in_worker(self.drain, self.cancel_calls)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the parts of the worker, begins to accept connections, and tells the master that it serves."""
        await super().startup(sockets)
        if self.started:
            self._report_start()

    async def main_loop(self) -> None:
        """Calls `on_tick` until the server should exit: twice a second, and ten times a second while it drains."""
        # uvicorn's own calls it ten times a second, which is half of an idle worker's CPU.
        while not await self.on_tick(0):
            pause = TICK_SECONDS if self._closes_at == math.inf else DRAINING_TICK_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            self._woken.clear()

    async def on_tick(self, counter: int) -> bool:
        """Does what a worker does twice a second, or ten times while draining; returns whether the server should exit.

        If the master process has died, begins to drain, and closes the port at once; otherwise closes a port whose time
        has come. Once a second, looks whether new request ids are ahead of the clock, as after the clock was set back;
        if so, the workers are replaced. uvicorn updates the `Date` header if `counter` is divisible by ten.
        """
        if os.getppid() != self._parent and not self.should_exit:
            logger.warning("the master process is gone")
            self._stop_at_once()
        self._do_what_is_due()
        now = time.monotonic()
        if now >= self._check_ids_at:
            self._check_ids_at = now + CHECK_IDS_SECONDS
            self._check_ids()
        return await super().on_tick(counter)

    def _check_ids(self) -> None:
        """Asks the master to replace the workers if new request ids are more than a minute ahead of the clock.

        This happens when the clock is put back, since the times in ids never go back; new processes begin at the
        clock's time. Does nothing while this worker drains.
        """
        # Rows are listed, filtered and pruned by the time in their id.
        ahead = ids.seconds_ahead()
        if ahead <= MAX_SECONDS_AHEAD or self._closes_at < math.inf:
            return
        logger.warning("ids are %.0f seconds ahead of the clock, which was put back; the workers are replaced", ahead)
        with contextlib.suppress(ProcessLookupError):  # the master has ended; the next tick notices it
            os.kill(self._parent, unix_signals.REPLACE_WORKERS)
        self._check_ids_at = time.monotonic() + REPLACED_WITHIN_SECONDS

    def drain(self) -> None:
        """Begins to drain: from now on each connection ends after its answer, and later the port is closed.

        If the whole server stops, the port is closed DRAIN_SECONDS after the stop signal; if only this worker ends,
        after DRAIN_SECONDS or `REPLACED_DRAIN_SECONDS`, whichever is longer. If the worker drains already, only closes
        the port if the time for this has come.
        """
        # gunicorn repeats SIGTERM until a worker that it replaces has ended.
        if self._closes_at == math.inf:
            # An end of the whole server may become known only later; then `_do_what_is_due` closes the port in time.
            self._closes_at = time.monotonic() + max(self._drain_seconds, REPLACED_DRAIN_SECONDS)
            self._woken.set()
            self._connections.is_draining = True
            for connection in cast("set[Protocol]", self.server_state.connections):
                connection.end_after_answer()
            logger.info("draining", extra={"calls_in_flight": len(self.server_state.tasks)})
        self._do_what_is_due()

    def cancel_calls(self) -> None:
        """Closes the port and cancels the calls in flight; the process then exits."""
        # The parts of the worker are still ended in order, so the rows of the cancelled calls are written, too.
        # `shutdown` cancels the calls that begin after this one.
        self._is_cancelling = True
        self._stop_at_once()
        self._cancel_what_runs()

    def _cancel_what_runs(self) -> None:
        """Closes the idle connections; in the event loop's next round, cancels the calls in flight."""
        for connection in cast("set[Protocol]", self.server_state.connections.copy()):
            connection.close_between_requests()
        # Until then, a call that has just been read begins. If it were cancelled before, it would never run, and so
        # never end its connection.
        asyncio.get_running_loop().call_soon(self._cancel_tasks)

    def _cancel_tasks(self) -> None:
        """Cancels the calls in flight, apart from those that are being cancelled already."""
        for task in self.server_state.tasks:
            if not task.cancelling():  # a second time would disturb its end
                task.cancel("the server was told to stop at once")

    def _stop_at_once(self) -> None:
        """Begins to drain, but closes the port at once, not after DRAIN_SECONDS, as the whole server must end."""
        self.drain()
        self._closes_at = 0
        self._learn_of_stop()
        self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        """Tells the application if the whole server is stopping; begins to close the port once that is due."""
        stop_moment = unix_signals.stop_moment.at
        if stop_moment < math.inf:
            self._learn_of_stop()
        # A worker that is replaced gets SIGTERM as well, and then there is no `stop_moment`.
        is_due = self._closes_at < math.inf and min(self._closes_at, stop_moment) <= time.monotonic()
        if is_due and not self.should_exit:
            self.should_exit = True
            self._woken.set()
            for tell in on_port_close:
                tell()

    def _learn_of_stop(self) -> None:
        if not self._knows_of_stop:
            self._knows_of_stop = True
            for tell in on_server_stop:
                tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends this worker: closes the port, finishes all accepted requests, and stops what `startup` has started.

        Connections that wait in the port's queue are accepted first. After `cancel_calls`, they are not, and the
        requests are cancelled instead.
        """
        # Connections in the port's queue are accepted first: their clients may have sent their requests already, and
        # nobody could tell them that these were not served. If the calls are to be cancelled, nothing more is accepted.
        queued = [] if self._is_cancelling else queued_connections(sockets or [])
        for server in self.servers:
            server.close()  # nothing was awaited since the last look into the queue
        for connection in queued:
            with contextlib.suppress(OSError):  # the client has left
                await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)
        await self._receive_requests()
        if self._is_cancelling:
            self._cancel_what_runs()
        await super().shutdown(sockets)

    def _make_protocol(self) -> asyncio.Protocol:
        """Creates the asyncio protocol that serves a new client connection, with the same arguments as uvicorn."""
        factory = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return factory(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _receive_requests(self) -> None:
        """Waits until all requests that have begun to arrive are complete, but at most `ARRIVING_SECONDS`.

        Does not wait if the calls are to be cancelled.
        """
        connections = cast("set[Protocol]", self.server_state.connections)
        deadline = time.monotonic() + ARRIVING_SECONDS
        await asyncio.sleep(0)  # what the loop has noticed by now is read
        while (  # noqa: ASYNC110  (no event tells of bytes in a socket before they are read)
            not self._is_cancelling and time.monotonic() < deadline and any(each.awaits_request for each in connections)
        ):
            await asyncio.sleep(LOOK_SECONDS)


def queued_connections(listeners: Sequence[socket.socket]) -> list[socket.socket]:
    """Accepts and returns the connections that wait in the queues of listening sockets.

    If the process runs out of file descriptors, the other connections stay in the queues.
    """
    accepted = []
    for listener in listeners:
        with contextlib.suppress(OSError):  # BlockingIOError at the end of the queue; or no descriptor is left
            while True:
                connection, _ = listener.accept()
                connection.setblocking(False)
                accepted.append(connection)
    return accepted
