"""One connection of a client, from its first byte to its end: uvicorn's protocol class for HTTP/1.1, with limits.

`chatproxy.http.request_reader` is the half that reads requests; this half opens and closes the connection, and has the
methods that calls use. Each call finds its connection in its ASGI scope
(`proxyapi.call.caller_connection.CallerConnection`), because ASGI has no messages for these methods.

Requests of one connection are answered in turn. uvicorn keeps the waiting ones in `pipeline`. `cycle` is the newest
request, and `_running` the request that is being answered, or was answered last.

Over 300 lines, since it is one class, whose methods share the state of one connection.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable
from typing import cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from chatproxy.http.connections import Network
from chatproxy.http.lingering_transport import LingeringTransport
from chatproxy.http.request_reader import RequestReader
from chatproxy.http.slow_readers import MIN_STRANGER_BYTES_PER_SECOND, StallWatch
from proxyapi.exceptions import TooManyConnections

# Between the end of an answer and the close of a connection on which more of a body may be coming: a close with unread
# bytes resets the connection, and a client that is still sending might lose the answer.
LINGER_SECONDS = 1.0
# What a caller with a valid key still sends after the end of its answer is read and dropped, within these bounds,
# because many clients send everything before they read.
DISCARD_SECONDS = 30.0
MAX_DISCARDED_BYTES = 64 * 1024 * 1024
# How long a connection may be idle after its last answer while the worker ends, if the answer did not announce the end.
LAST_IDLE_SECONDS = 1
# How long a connection may be idle on which no valid key was sent; others may as long as gunicorn's `keepalive` says.
STRANGER_KEEPALIVE_SECONDS = 15


class Protocol(RequestReader):
    """A client connection over HTTP/1.1: starts a call for each request, and sends the answers.

    It is registered among the worker's connections, and tells a call when the client has left.
    """

    # State of a connection, beside the reader's. `connection_made` adds `_stall_watch` and `_lingering_transport`.
    network: Network | None = None  # set by `connections`
    is_trusted_proxy = False
    is_lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Registers a new client connection; if there are too many, answers with status 503 and closes the new one."""
        self.timeout_keep_alive = min(STRANGER_KEEPALIVE_SECONDS, self.config.timeout_keep_alive)
        self._stall_watch = StallWatch(self.loop, transport, self._least_speed, self._count_stalled)
        self._lingering_transport = LingeringTransport(transport, self._stall_watch.start)
        super().connection_made(cast(asyncio.Transport, self._lingering_transport))
        opened = transport.get_extra_info("socket")
        address = self.client[0] if self.client else ""
        self.is_trusted_proxy = self._connections.trusts(address)
        descriptor = opened.fileno() if opened else -1
        if self._connections.admit(self, address, descriptor):
            self._start_head_timer()
        else:
            self._ignores_input = True
            if not self._connections.is_short_of_files(descriptor):
                self._lingering_transport.linger(
                    self._linger
                )  # its request is on the way, and must not reset the answer
            self._answer_and_close(TooManyConnections())

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the running call of a lost connection that its client has left; frees the connection's memory.

        Also removes the connection from the register of the worker's connections. asyncio calls this.
        """
        # uvicorn tells only the newest request of the loss: a call with other requests behind it would go on.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
            if self._on_departure is not None:
                self._on_departure()
        self._cancel_head_timer()
        if self._delay_timer is not None:
            self._delay_timer.cancel()
        self._connections.remove(self)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._break_cycles()

    def _break_cycles(self) -> None:
        """Drops the objects of a lost connection, so that their memory is freed at once."""
        # This object and those refer to each other, and Python's collector of such cycles runs too rarely. A call that
        # still runs has references of its own to its scope and to its `RequestResponseCycle`.
        self.is_lost = True
        self._unread.clear()
        self._drop_body()
        self._on_departure = None
        self._running = None
        del self.cycle, self.scope
        self.pipeline.clear()
        self._stall_watch.forget_callbacks()
        self._lingering_transport.forget_callbacks()

    # What a call may ask of its connection: `proxyapi.call.caller_connection.CallerConnection`.

    @property
    def has_whole_body(self) -> bool:
        """True if no more of the running request's body will come: it is complete, or the connection is lost."""
        return self.is_lost or (self._running is not None and not self._running.more_body)

    @property
    def takes_bytes(self) -> bool:
        """True if bytes of an answer can be sent without waiting for the client to read earlier ones."""
        return not self.flow.write_paused

    def mark_known(self) -> None:
        """Records that a valid key was sent on this connection: from now on it may be idle for longer.

        Its bytes are also parsed at once from now on, before those of clients without a valid key.
        """
        if not self.is_known:
            self.is_known = True
            self.timeout_keep_alive = self.config.timeout_keep_alive
            if self._unread:
                self.loop.call_soon(self._read_next_piece)  # parses its waiting bytes now, before those of strangers

    def watch_departure(self, departed: Callable[[], None]) -> None:
        """Registers a function to be called when the client hangs up; calls it at once if the client has left.

        A new function replaces the one before.
        """
        if self.is_lost:
            departed()
            return
        self._on_departure = departed
        self.flow.resume_reading()  # a large body has paused reading, and a hang-up is noticed only while reading

    def forget_departure(self, departed: Callable[[], None]) -> None:
        """Unregisters the function `departed`, so that it is not called any more if the client hangs up.

        Does nothing if `watch_departure` has registered another function meanwhile.
        """
        if self._on_departure == departed:
            self._on_departure = None

    def send_whole(self, status: int, lines: bytes, body: bytes) -> bool:
        """Sends a whole answer in one write and returns True; returns False if uvicorn must send the answer.

        uvicorn must send it if the write would have to wait, if the client has left, or if an answer has begun. `lines`
        are the header lines, Content-Length among them. If the connection is not to be kept open, it is closed after
        the answer.
        """
        # uvicorn is slower: it checks and writes each header by itself.
        running = self._running
        if running is None or running.disconnected or running.response_started or self.flow.write_paused:
            return False
        own = b"".join([b"%b: %b\r\n" % pair for pair in running.default_headers])
        closing = b"" if running.keep_alive else b"connection: close\r\n"
        self.transport.writelines([b"%b%b%b%b\r\n" % (STATUS_LINE[status], own, lines, closing), body])
        running.response_started = running.response_complete = True
        running.message_event.set()
        if not running.keep_alive:
            self.transport.close()
        running.on_response()
        return True

    def send_now(self, chunk: bytes) -> bool:
        """Sends a piece of a chunked answer and returns True; returns False if uvicorn must send the piece.

        uvicorn must send it if the write would have to wait, if the client has left, or if the answer is not chunked.
        For an empty piece nothing is written, since an empty chunk would end the answer; the result is still True.
        """
        running = self._running
        if running is None or running.disconnected or not running.chunked_encoding or self.flow.write_paused:
            return False
        if chunk:  # an empty chunk would end the answer
            self.transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        return True

    def answer_until_close(self) -> None:
        """Makes the answer end with the close of the connection, without Content-Length or chunks (RFC 9112, 6.3)."""
        if self._running is None:  # the connection was lost
            return
        self._running.keep_alive = False
        self._running.chunked_encoding = False
        self._running.expected_content_length = sys.maxsize

    def close_behind_answer(self, *, discard: bool) -> None:
        """Makes the connection close after the running answer has been sent.

        With `discard`, bytes that the client still sends are read and dropped before the close; otherwise they stay
        unread.
        """
        if self._running is None:  # the connection was lost
            return
        self._running.keep_alive = False
        self._discardable_bytes = MAX_DISCARDED_BYTES if discard else 0
        self._lingering_transport.linger(self._linger)

    def abort(self) -> None:
        """Closes the client connection at once; unsent bytes are lost."""
        self.transport.abort()

    # How a connection ends whose last request has an unread body.

    def _linger(self) -> None:
        """Closes the connection after a delay, so that a client that is still sending a body can read the answer.

        The delay is `LINGER_SECONDS`. After `close_behind_answer` with `discard` it is `DISCARD_SECONDS`, and the bytes
        that arrive meanwhile are read and dropped.
        """
        self._ignores_input = True
        self._unread.clear()
        self._drop_body()
        if self._discardable_bytes:
            self.flow.resume_reading()
            self.transport.resume_reading()  # which `_read_next_piece` has paused
        else:
            self.transport.pause_reading()
        seconds = DISCARD_SECONDS if self._discardable_bytes else LINGER_SECONDS
        self._delay_timer = self.loop.call_later(seconds, self.transport.close)

    def _drop_body(self) -> None:
        """Frees the memory of the bodies of the running and of the newest request, which nobody will read."""
        for cycle in (self._running, self.cycle):
            if cycle is not None:
                cycle.body = bytearray()

    # Requests are answered one after the other; in between, the connection is registered as idle.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Starts the call of a request or, if the client has not read earlier answers yet, queues the request.

        While the worker drains, the connection is closed after the answer, unless another request waits on it.
        """
        if self.flow.write_paused and not self.transport.is_closing():
            # Otherwise unread answers would pile up in memory.
            self.pipeline.append((cycle, app))  # the next one to start
            self.flow.pause_reading()
            return
        if self._connections.is_draining and not self.pipeline:
            cycle.keep_alive = False
        self._running = cycle
        self._connections.remove_idle(self)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Starts the next request that waits on this connection; if none waits, registers the connection as idle.

        uvicorn calls this after each answer. A connection that is being closed is not registered.
        """
        # uvicorn's own method starts a request that waits.
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            self._connections.add_idle(self)

    def close_idle(self) -> bool:
        """Closes this idle connection and returns True; returns False while bytes of its last answer are unsent."""
        if self.transport.get_write_buffer_size():
            return False
        self.transport.close()
        return True

    # How a connection ends with its worker.

    @property
    def awaits_request(self) -> bool:
        """True if no call runs on this connection, and a request is expected on it or arriving.

        A request is expected on a new connection until the first one has come. False if the connection is being closed.
        """
        if self.transport.is_closing() or not self._is_between_requests:
            return False
        return self.cycle is None or self._is_in_head or self._has_unread_bytes

    def shutdown(self) -> None:
        """Ends this connection because its worker ends: at once if it is idle, otherwise after the answer in progress.

        An idle connection on which bytes have arrived stays open, so that the request in these bytes is answered first.
        """
        # uvicorn calls this once. A request that has just arrived is answered as well: its bytes are in the socket
        # while this worker still takes the connection for an idle one.
        if self._is_between_requests:
            if not self._has_unread_bytes:
                self.transport.close()
        else:
            self.end_after_answer()

    def close_between_requests(self) -> None:
        """Closes this connection if no call runs on it, even if a request is arriving.

        A worker calls this for all of its connections when it cancels its calls.
        """
        if self._is_between_requests:
            self.transport.close()

    def end_after_answer(self) -> None:
        """Makes this connection end after the answer in progress, because its worker ends.

        Does nothing if no call runs. If the answer has not begun, its head announces the close. If it has begun, the
        client may already be sending another request: the connection then stays open for `LAST_IDLE_SECONDS` after the
        answer.
        """
        if self._is_between_requests:
            return
        if not self.cycle.response_started:
            self.cycle.keep_alive = False
        else:
            # The client was told that it may send another request, and can be sending one when the answer ends.
            self.timeout_keep_alive = LAST_IDLE_SECONDS

    @property
    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _has_unread_bytes(self) -> bool:
        """True if bytes from the client, or the end of the connection, have arrived but were not processed yet."""
        opened = self.transport.get_extra_info("socket")
        if self._unread or opened is None:
            return bool(self._unread)
        poll = select.poll()
        poll.register(opened.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    # Clients that do not read their answers.

    def pause_writing(self) -> None:
        """Starts to watch whether the client reads its answer; asyncio calls this when the write buffer is full."""
        super().pause_writing()
        self._stall_watch.start()

    def resume_writing(self) -> None:
        """Stops watching how fast the client reads, and starts the next request if one waits on this connection.

        asyncio calls this when the client has read so much that the write buffer has room again. If the connection is
        being closed, the watch goes on until the client has read the rest.
        """
        super().resume_writing()
        if self.transport.is_closing():
            return  # the watch goes on: the socket stays open until the client has read the rest
        self._stall_watch.stop()
        if self.pipeline and (self._running is None or self._running.response_complete):
            self._start_asgi_task(*self.pipeline.pop())

    def _least_speed(self) -> float:
        """Returns how many bytes of its answer this client must read per second; 0 if it has sent a valid key."""
        return 0 if self.is_known else MIN_STRANGER_BYTES_PER_SECOND

    def _count_stalled(self) -> None:
        """Counts a refusal named `slow_reader`: this client is cut off because it reads its answer too slowly."""
        self._connections.count_refusal("slow_reader")
