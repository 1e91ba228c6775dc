"""Owns the sockets to upstream: where it is, the connections that wait for the next call, and how new ones are made.

No cookie is stored, nothing is repeated, no redirect is followed. (`proxyapi.upstream.exchange` has the faults.)
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from urllib.parse import SplitResult, urlsplit

import aiohappyeyeballs
import httpx2

from proxyapi.upstream.connection import Connection
from proxyapi.upstream.exchange import UNLIMITED, Body, Exchange, Silence
from proxyapi.upstream.faults import ConnectTimeout, NotConnected, ProxyRefused, not_connected
from proxyapi.upstream.passed_headers import Headers
from proxyapi.upstream.proxies import PORTS, SPOKEN, environment_proxy, proxy_authorization

VACANT_SECONDS = 15.0  # a connection that has waited for longer may be closing at its other end
SECOND_ADDRESS_AFTER = 0.25  # seconds (RFC 8305)
# A connection that waits for an answer is silent, and NAT gateways forget it after some minutes: 350 s at AWS, 240 s at
# Azure. Linux would ask after two hours.
KEEPALIVE_IDLE_SECONDS = 60
KEEPALIVE_INTERVAL_SECONDS = 15
LONGEST_PROXY_ANSWER = 16 * 1024
WITHOUT_BODY = {"GET", "DELETE"}
IN_TIME = {False: "it does not answer", True: "the proxy on the way does not answer"}


class Transport:
    """Connections to one upstream; calls are limited by `capacity`, not by a pool."""

    def __init__(self, base_url: str, *, connect_timeout: float, silence: Silence = UNLIMITED) -> None:
        self._url = urlsplit(base_url)
        self._host = self._url.netloc.rpartition("@")[2]
        self._proxy = environment_proxy(base_url)
        self._tls = httpx2.create_ssl_context() if self._url.scheme == "https" else None
        self._connect_timeout = connect_timeout
        self._silence = silence
        self._open: set[Connection] = set()
        self._vacant: list[Connection] = []  # the one used last comes last, and is used first

    async def open(self, method: str, target: str, headers: Headers, body: Body, deadline: float) -> Exchange:
        """Sends a request; `target` is a path and query below the base URL, as they go on the wire.

        The whole exchange must be over at `deadline`, on the event loop's clock.

        Raises:
            TransportFault: there is no answer.
            ValueError: a header would be read as more than one.
        """
        is_piecewise = body is not None and not isinstance(body, bytes)
        framing = []
        if isinstance(body, bytes):
            framing = [f"Content-Length: {len(body)}"]
        elif is_piecewise and "content-length" not in headers:
            framing = ["Transfer-Encoding: chunked"]
            assert not isinstance(body, bytes | None)  # noqa: S101  (it comes in pieces)
            body = in_chunks(body)
        elif body is None and method not in WITHOUT_BODY:
            framing = ["Content-Length: 0"]
        head = self._head(method, target, headers, framing)
        connection = self._take_vacant() or await self._connect(deadline)
        return await connection.exchange(head, body, deadline, self._silence)

    async def close(self) -> None:
        for connection in list(self._open):
            connection.close()

    def _head(self, method: str, target: str, headers: Headers, framing: list[str]) -> bytes:
        place = f"{self._url.path}{target}"
        if self._proxy is not None and self._tls is None:
            place = f"http://{self._host}{place}"
            framing = [*framing, *proxy_authorization(self._proxy)]
        given = [f"{name}: {value}" for name, value in headers.items()]
        lines = [f"{method} {place} HTTP/1.1", f"Host: {self._host}", *given, *framing]
        head = "\r\n".join([*lines, "", ""])
        ends = len(lines) + 1
        if head.count("\r") != ends or head.count("\n") != ends or "\0" in head or " " in place:
            raise ValueError("a header has a line break in it")
        return head.encode()

    def _take_vacant(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - VACANT_SECONDS
        while self._vacant and self._vacant[0].vacant_since < oldest:
            self._vacant.pop(0).close()
        while self._vacant:
            if not (connection := self._vacant.pop()).closing:
                return connection
        return None

    def _is_vacant(self, connection: Connection) -> None:
        connection.vacant_since = asyncio.get_running_loop().time()
        self._vacant.append(connection)

    def _is_lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._vacant:
            self._vacant.remove(connection)

    async def _connect(self, deadline: float) -> Connection:
        patience = asyncio.get_running_loop().time() + self._connect_timeout
        try:
            async with asyncio.timeout_at(min(patience, deadline)):
                connection = await self._connected()
        except TimeoutError:  # its own, or the call's: upstream has heard of nothing
            raise ConnectTimeout(IN_TIME[self._proxy is not None]) from None
        except (OSError, UnicodeError) as fault:  # what a name server or TLS says is the first; no name, the second
            raise not_connected(fault, is_proxy=self._proxy is not None) from fault
        if connection.closing:
            raise NotConnected("it closed the connection at once")
        self._open.add(connection)
        return connection

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        place = self._url if self._proxy is None else self._proxy
        if self._proxy is not None and self._proxy.scheme not in SPOKEN:
            raise ProxyRefused("it is no http:// one")
        addresses = await loop.getaddrinfo(
            place.hostname, place.port or PORTS[place.scheme], type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        opened = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=SECOND_ADDRESS_AFTER)
        try:
            keep_alive(opened)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._proxy is not None and self._tls is not None:
                await self._tunnel(opened, self._proxy)
            name = self._url.hostname if self._tls is not None else None
            _, connection = await loop.create_connection(
                lambda: Connection(self._is_vacant, self._is_lost), sock=opened, ssl=self._tls, server_hostname=name
            )
        except BaseException:  # a border: whatever it is, it is cleaned up and goes on
            opened.close()
            raise
        return connection

    async def _tunnel(self, opened: socket.socket, proxy: SplitResult) -> None:
        """Through an HTTP proxy (RFC 9110, 9.3.6)."""
        loop = asyncio.get_running_loop()
        place = self._host if self._url.port else f"{self._host.rstrip(':')}:{PORTS[self._url.scheme]}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", *proxy_authorization(proxy), "", ""]
        await loop.sock_sendall(opened, "\r\n".join(lines).encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):  # byte by byte: what follows is TLS, and not ours to read
            if not (byte := await loop.sock_recv(opened, 1)) or len(answer) > LONGEST_PROXY_ANSWER:
                raise ProxyRefused("it did not answer")
            answer += byte
        if answer.split(maxsplit=2)[1:2] != [b"200"]:
            status = answer.split(maxsplit=2)[1:2]
            raise ProxyRefused(f"it answered {status[0][:3].decode('ascii', 'replace')}" if status else "")


def keep_alive(opened: socket.socket) -> None:
    """Makes the system ask the other end of a silent connection whether it is there."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)  # the second is macOS'
    if idle is not None:
        opened.setsockopt(socket.IPPROTO_TCP, idle, KEEPALIVE_IDLE_SECONDS)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)


async def in_chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body without a length (RFC 9112, 7.1)."""
    async for piece in pieces:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
