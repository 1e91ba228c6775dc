"""The connections to upstream: keeps free ones for the next call, and opens new ones.

It stores no cookies, repeats no requests and follows no redirects.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

import aiohappyeyeballs

from proxyapi.upstream.connection import Connection
from proxyapi.upstream.exchange import UNLIMITED, Body, Exchange, SilenceLimits
from proxyapi.upstream.faults import ConnectTimeout, NotConnected, ProxyRefused, not_connected
from proxyapi.upstream.passed_headers import Headers
from proxyapi.upstream.proxies import PORTS, PROXY_SCHEMES, environment_proxy, proxy_authorization

VACANT_SECONDS = 15.0  # upstream may be about to close a connection that has been free for longer
SECOND_ADDRESS_SECONDS = 0.25  # until another address is tried beside the first (RFC 8305)
# While a call waits for its answer its connection is silent, and NAT gateways forget such a connection: AWS after
# 350 s, Azure after 240 s. Linux would send the first keep-alive probe after two hours.
KEEPALIVE_IDLE_SECONDS = 60
KEEPALIVE_INTERVAL_SECONDS = 15
MAX_PROXY_ANSWER_BYTES = 16 * 1024
WITHOUT_BODY = {"GET", "DELETE"}
# The keys say whether a proxy is used.
NO_CONNECTION_IN_TIME = {False: "it does not answer", True: "the proxy on the way does not answer"}


class Transport:
    """The pool of connections to one upstream: reuses free connections, and opens new ones without a limit."""

    def __init__(self, base_url: str, *, connect_timeout: float, silence: SilenceLimits = UNLIMITED) -> None:
        self._url = urlsplit(base_url)
        self._host = self._url.netloc.rpartition("@")[2]
        self._proxy = environment_proxy(base_url)
        self._uses_tls = self._url.scheme == "https"
        self._tls: ssl.SSLContext | None = None
        self._connect_timeout = connect_timeout
        self._silence = silence
        # `proxyapi.call.capacity` limits the calls, and so the connections.
        self._open: set[Connection] = set()
        self._vacant: list[Connection] = []  # the one used last stands last, and is used first

    def prepare(self) -> None:
        """Reads the trusted TLS certificates, if upstream is reached over TLS.

        Call this in a thread before the first request. If they cannot be read, nothing is raised here: the first
        connection tries again, and raises the error.
        """
        if self._uses_tls:
            with suppress(NotConnected):
                self._tls = tls_context()

    async def open(self, method: str, target: str, headers: Headers, body: Body, deadline: float) -> Exchange:
        """Sends a request on a free or new connection to upstream; returns the exchange when the answer's head is here.

        Args:
            method: the HTTP method.
            target: the path and query below the base URL, encoded.
            headers: the headers of the request. Content-Length or Transfer-Encoding is added if necessary.
            body: the body, whole or in pieces, or None.
            deadline: the end of the whole exchange, in seconds of the event loop's clock.

        Raises:
            TransportFault: no connection could be opened, or no head of an answer arrived.
            ValueError: a header has a line break or a zero byte in it, or `target` has a space in it.
            Exception: an exception that `body` has raised, unchanged.
        """
        is_piecewise = body is not None and not isinstance(body, bytes)
        framing = []
        if isinstance(body, bytes):
            framing = [f"Content-Length: {len(body)}"]
        elif is_piecewise and "content-length" not in headers:
            framing = ["Transfer-Encoding: chunked"]
            assert not isinstance(body, bytes | None)  # noqa: S101  (the body comes in pieces)
            body = in_chunks(body)
        elif body is None and method not in WITHOUT_BODY:
            framing = ["Content-Length: 0"]
        head = self._head(method, target, headers, framing)
        connection = self._take_vacant() or await self._connect(deadline)
        return await connection.exchange(head, body, deadline, self._silence)

    async def close(self) -> None:
        """Closes all connections to upstream, including those in use."""
        for connection in list(self._open):
            connection.close()

    def _head(self, method: str, target: str, headers: Headers, framing: list[str]) -> bytes:
        """Builds the bytes of a request's head: the request line, `Host`, `headers`, and the header lines `framing`.

        `framing` says how the body is delimited, such as `Content-Length: 5`. If the request goes to a proxy without a
        tunnel, the head also has the proxy's `Proxy-Authorization`.

        Raises:
            ValueError: a header has a line break or a zero byte in it, or `target` (path and query) has a space in it.
        """
        place = f"{self._url.path}{target}"
        if self._proxy is not None and not self._uses_tls:
            place = f"http://{self._host}{place}"
            framing = [*framing, *proxy_authorization(self._proxy)]
        given = map(": ".join, headers.items())
        lines = [f"{method} {place} HTTP/1.1", f"Host: {self._host}", *given, *framing]
        head = "\r\n".join([*lines, "", ""])
        ends = len(lines) + 1
        if " " in place:
            raise ValueError("the target of the request has a space in it")
        if head.count("\r") != ends or head.count("\n") != ends or "\0" in head:
            raise ValueError("a header or the target of the request has a line break or a zero byte in it")
        return head.encode()

    def _take_vacant(self) -> Connection | None:
        """Takes a free connection out of the pool, and returns it; returns None if no connection is free.

        Connections that have been free for longer than `VACANT_SECONDS` are closed, and those on which something has
        arrived meanwhile.
        """
        oldest = asyncio.get_running_loop().time() - VACANT_SECONDS
        while self._vacant and self._vacant[0].vacant_since < oldest:
            self._vacant.pop(0).close()
        while self._vacant:
            connection = self._vacant.pop()
            # Upstream may have closed it, or sent what would be taken for the next answer, while the loop was busy.
            if not connection.closing and not connection.has_unread_bytes:
                return connection
            connection.close()
        return None

    def _put_back(self, connection: Connection) -> None:
        """Puts a connection back into the pool after its exchange, for a later request."""
        connection.vacant_since = asyncio.get_running_loop().time()
        self._vacant.append(connection)

    def _discard(self, connection: Connection) -> None:
        """Removes a closed connection from the pool of connections to upstream."""
        self._open.discard(connection)
        if connection in self._vacant:
            self._vacant.remove(connection)

    async def _connect(self, deadline: float) -> Connection:
        """Opens a connection to upstream within the time limits.

        Raises `NotConnected` if that fails, and `ConnectTimeout` if it takes too long or the `deadline` passes.
        """
        latest = asyncio.get_running_loop().time() + self._connect_timeout
        try:
            async with asyncio.timeout_at(min(latest, deadline)):
                connection = await self._connected()
        except TimeoutError:  # of the connection or of the call: upstream has received nothing
            reason = NO_CONNECTION_IN_TIME[self._proxy is not None]
            raise ConnectTimeout(reason, is_deadline=deadline < latest) from None
        except (OSError, UnicodeError) as fault:  # UnicodeError: the host is no name
            raise not_connected(fault, is_proxy=self._proxy is not None) from fault
        if connection.closing:
            raise NotConnected("it closed the connection at once")
        self._open.add(connection)
        return connection

    async def _connected(self) -> Connection:
        """Opens a connection to upstream, through a proxy if one is configured, and returns it; has no time limit.

        Raises OSError if it fails, UnicodeError for an impossible host name, and `NotConnected` if the trusted
        certificates cannot be read.
        """
        loop = asyncio.get_running_loop()
        if self._uses_tls and self._tls is None:
            self._tls = tls_context()
        place = self._url if self._proxy is None else self._proxy
        if self._proxy is not None and self._proxy.scheme not in PROXY_SCHEMES:
            raise ProxyRefused("it is no http:// one")
        addresses = await loop.getaddrinfo(
            place.hostname, place.port or PORTS[place.scheme], type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        opened = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=SECOND_ADDRESS_SECONDS)
        try:
            keep_alive(opened)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._proxy is not None and self._uses_tls:
                await self._tunnel(opened, self._proxy)
            name = self._url.hostname if self._uses_tls else None
            _, connection = await loop.create_connection(
                lambda: Connection(self._put_back, self._discard), sock=opened, ssl=self._tls, server_hostname=name
            )
        except BaseException:  # a border: cleans up after any exception, and raises it
            opened.close()
            raise
        return connection

    async def _tunnel(self, opened: socket.socket, proxy: SplitResult) -> None:
        """Asks an HTTP proxy for a tunnel to upstream, over the open socket `opened` (RFC 9110, 9.3.6).

        Raises:
            ProxyRefused: the proxy does not open the tunnel.
        """
        loop = asyncio.get_running_loop()
        place = self._host if self._url.port else f"{self._host.rstrip(':')}:{PORTS[self._url.scheme]}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", *proxy_authorization(proxy), "", ""]
        await loop.sock_sendall(opened, "\r\n".join(lines).encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):  # byte by byte: TLS must read all bytes that follow
            if not (byte := await loop.sock_recv(opened, 1)) or len(answer) > MAX_PROXY_ANSWER_BYTES:
                raise ProxyRefused("it did not answer")
            answer += byte
        if answer.split(maxsplit=2)[1:2] != [b"200"]:
            status = answer.split(maxsplit=2)[1:2]
            raise ProxyRefused(f"it answered {status[0][:3].decode('ascii', 'replace')}" if status else "")


def keep_alive(opened: socket.socket) -> None:
    """Switches on TCP keep-alive for a socket to upstream, with a probe after `KEEPALIVE_IDLE_SECONDS` of silence."""
    # So no NAT gateway on the way forgets the connection.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)  # macOS has the second
    if idle is not None:
        opened.setsockopt(socket.IPPROTO_TCP, idle, KEEPALIVE_IDLE_SECONDS)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)


async def in_chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yields a request's body in HTTP's chunked transfer coding, with the empty chunk that ends it (RFC 9112, 7.1)."""
    async for piece in pieces:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def tls_context() -> ssl.SSLContext:
    """Returns the TLS settings for upstream; they trust the system's authorities, or those in the file `SSL_CERT_FILE`.

    Raises:
        NotConnected: the file cannot be read, or has no certificates in it.
    """
    import httpx2  # it knows where systems keep their certificates; a gateway whose upstream is local needs none of it

    try:
        return httpx2.create_ssl_context()
    except OSError as fault:  # the error of a file without a certificate is one, too
        raise NotConnected("this server cannot read the certificates to trust; see SSL_CERT_FILE") from fault
