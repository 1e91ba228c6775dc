"""An upstream server for tests of the transport: a socket that sends what a test's script says, on the test's loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from proxyapi.upstream.exchange import Body, Exchange
from proxyapi.upstream.passed_headers import Headers
from proxyapi.upstream.transport import Transport
from tests.support.servers.gateway import PATIENCE

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
SEND_BUFFER = 32 * 1024  # little, so that a client that stops reading is soon felt


@dataclass
class Received:
    """A request that upstream has received: its head, and its body as bytes.

    `line` is the request line. The names of `headers` are in lower case. `body` are the bytes as they came, with the
    framing of a chunked body.
    """

    line: str
    headers: dict[str, str]
    body: bytes = b""


class Peer:
    """A connection that upstream has accepted, as upstream sees it: reads requests, and sends bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def gone(self) -> bool:
        """True if the client has closed the connection."""
        return self.reader.at_eof() or self.writer.is_closing()

    @property
    def waits(self) -> bool:
        """True if sent bytes have to wait, because the client does not read and the kernel takes no more of them."""
        return self.writer.transport.get_write_buffer_size() > 0

    async def head(self) -> Received | None:
        """Reads the head of the next request; returns the request without its body, or None if no request comes."""
        try:
            text = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        line, *lines = text.decode().removesuffix("\r\n\r\n").split("\r\n")
        return Received(line, {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)})

    async def request(self) -> Received | None:
        """Reads the next request with its body, and returns it; None if no request comes."""
        if (received := await self.head()) is None:
            return None
        if received.headers.get("transfer-encoding") == "chunked":
            received.body = await self.reader.readuntil(b"0\r\n\r\n")
        else:
            received.body = await self.reader.readexactly(int(received.headers.get("content-length", "0")))
        return received

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def left(self) -> bytes:
        """Reads until the client closes the connection, and returns all bytes that still come."""
        received = b""
        with suppress(ConnectionError):
            while data := await self.reader.read(65536):
                received += data
        return received


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class RawUpstream:
    """A server in upstream's place whose every byte a test decides; `peers` are the connections it has accepted."""

    port: int
    peers: list[Peer] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def raw_upstream(
    script: Script, *, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1"
) -> AsyncIterator[RawUpstream]:
    """Runs a `RawUpstream` that calls the function `script` with each connection, until the block ends; yields it.

    Upstream closes a connection when its script returns. An exception in a script fails the test.
    """
    listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    upstream = RawUpstream(listener.getsockname()[1])
    scripts: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        scripts.add(task)
        peer = Peer(reader, writer)
        upstream.peers.append(peer)
        with suppress(asyncio.CancelledError):  # by the test's end
            await script(peer)
        writer.close()

    server = await asyncio.start_server(accept, sock=listener, ssl=tls)
    try:
        yield upstream
    finally:
        server.close()
        for task in scripts:
            task.cancel()
        for ended in await asyncio.gather(*scripts, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        for peer in upstream.peers:  # else the test's loop may be closed while TLS still says that it ends
            peer.writer.transport.abort()
            with suppress(OSError):
                async with asyncio.timeout(PATIENCE):
                    await peer.writer.wait_closed()


def answering(*answers: bytes) -> Script:
    """Makes a script for a raw upstream that gives the n-th of `answers` to the n-th request of a connection.

    The connection is closed after the last answer.
    """

    async def script(peer: Peer) -> None:
        for answer in answers:
            if await peer.request() is None:
                return
            peer.send(answer)

    return script


async def polite(peer: Peer) -> None:
    """Answers every request of a connection with `OK`, until the client closes it: a script for a raw upstream."""
    while await peer.request() is not None:
        peer.send(OK)


async def silent(peer: Peer) -> None:
    await peer.left()


@asynccontextmanager
async def transport_to(url: str, *, connect_timeout: float = PATIENCE) -> AsyncIterator[Transport]:
    transport = Transport(url, connect_timeout=connect_timeout)
    try:
        yield transport
    finally:
        await transport.close()


async def call(
    transport: Transport, body: Body = b"{}", *, seconds: float = PATIENCE, headers: dict[str, str] | None = None
) -> Exchange:
    """Sends a POST request by the gateway's transport; returns the exchange once the head of its answer is there.

    The deadline for the whole exchange is in `seconds` from now.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    return await transport.open("POST", "/responses", Headers(headers or {}), body, deadline)


async def read(exchange: Exchange) -> bytes:
    """Reads the rest of an answer's body and returns it; closes the exchange in any case."""
    try:
        pieces = []
        while piece := await exchange.chunk():
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        exchange.close()


async def until(condition: Callable[[], object]) -> None:
    """Waits until `condition` is true; fails after `PATIENCE` seconds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  (sockets tell nobody)
            await asyncio.sleep(0.001)
