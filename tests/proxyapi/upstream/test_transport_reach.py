"""How upstream is reached: its addresses, TLS, the proxies of the environment, and what it is if it is not reached.

Over 300 lines, since every way to reach upstream ends in the same exchange.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohappyeyeballs
import pytest

from proxyapi.upstream import transport as transport_module
from proxyapi.upstream.faults import Broken, ConnectTimeout, NotConnected
from tests.support.servers.gateway import free_port
from tests.support.servers.throw_away_ca import make_server
from tests.support.upstreams.raw import (
    OK,
    Peer,
    RawUpstream,
    Received,
    Script,
    call,
    polite,
    raw_upstream,
    read,
    silent,
    transport_to,
    until,
)

NAME = "upstream.test"  # which no name server knows


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ssl.SSLContext:
    """That of a server whose authority is trusted; its name is the fixture's parameter."""
    trusted, context = make_server(tmp_path, getattr(request, "param", "127.0.0.1"))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    return context


def https(upstream: RawUpstream, host: str = "127.0.0.1") -> str:
    return f"https://{host}:{upstream.port}/v1"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
async def test_a_host_by_its_name_or_address(host: str) -> None:
    async with raw_upstream(polite) as upstream, transport_to(f"http://{host}:{upstream.port}") as transport:
        assert await read(await call(transport)) == b"{}"


@pytest.mark.parametrize(
    ("way", "tls"),
    [*((way, "127.0.0.1") for way in ("plain", "by name", "TLS", "plain proxy")), ("tunnel", NAME)],
    indirect=["tls"],
)
async def test_each_connection_asks_a_silent_end_after_a_minute(
    way: str, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NAT gateways forget a connection after 120 to 350 seconds of silence."""
    connect = aiohappyeyeballs.start_connection

    async def watched(*arguments: Any, **options: Any) -> socket.socket:
        sockets.append(await connect(*arguments, **options))
        return sockets[-1]

    sockets: list[socket.socket] = []
    monkeypatch.setattr(aiohappyeyeballs, "start_connection", watched)
    async with (
        raw_upstream(polite) as upstream,
        raw_upstream(polite, tls=tls) as secure,
        raw_upstream(tunnel_to(secure, [], ESTABLISHED)) as proxy,
    ):
        proxies = {"plain proxy": ("HTTP_PROXY", upstream), "tunnel": ("HTTPS_PROXY", proxy)}
        if way in proxies:
            name, through = proxies[way]
            monkeypatch.setenv(name, f"http://127.0.0.1:{through.port}")
        url = {
            "plain": f"http://127.0.0.1:{upstream.port}/v1",
            "by name": f"http://localhost:{upstream.port}/v1",
            "TLS": https(secure),
            "plain proxy": f"http://{NAME}:8080/v1",
            "tunnel": f"https://{NAME}/v1",
        }[way]
        async with transport_to(url) as transport:
            assert await read(await call(transport)) == b"{}"
            asked = [
                (
                    one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                    one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                )
                for one in sockets
                if one.fileno() != -1
            ]
    assert asked == [(1, 60, 15)]


async def test_nobody_there() -> None:
    async with transport_to(f"http://127.0.0.1:{free_port()}/v1") as transport:
        with pytest.raises(NotConnected, match=r"^it refuses connections$") as raised:
            await call(transport)
        assert not isinstance(raised.value, ConnectTimeout)


@pytest.mark.parametrize("host", ["nobody.invalid", f"{'x' * 64}.test"])
async def test_no_such_name(host: str) -> None:
    async with transport_to(f"http://{host}/v1") as transport:
        with pytest.raises(NotConnected, match=r"^its name is not known$"):
            await call(transport)


async def test_an_ipv6_address() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        writer.close()

    head = asyncio.get_running_loop().create_future()
    try:
        server = await asyncio.start_server(script, "::1", 0)
    except OSError:
        pytest.skip("there is no IPv6 here")
    port = server.sockets[0].getsockname()[1]
    async with server, transport_to(f"http://[::1]:{port}/v1") as transport:
        assert await read(await call(transport)) == b"{}"
        assert f"Host: [::1]:{port}\r\n".encode() in await head


@pytest.mark.parametrize("tls", ["127.0.0.1", "localhost"], indirect=True)
async def test_tls_with_an_authority_of_the_environment(tls: ssl.SSLContext, request: pytest.FixtureRequest) -> None:
    host = request.node.callspec.params["tls"]
    async with raw_upstream(polite, tls=tls) as upstream, transport_to(https(upstream, host)) as transport:
        assert [await read(await call(transport)) for _ in range(2)] == [b"{}"] * 2
        assert len(upstream.peers) == 1


async def test_tls_of_an_authority_that_is_not_trusted(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with raw_upstream(polite, tls=tls) as upstream, transport_to(https(upstream)) as transport:
        with pytest.raises(NotConnected, match="certificate is not trusted: an authority that is not known"):
            await call(transport)


@pytest.mark.parametrize("what", ["missing", "a folder", "no certificate"])
async def test_tls_without_certificates_to_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The next connection is tried anew: the file may be there by then."""
    trusted = tmp_path / "trusted.pem"
    if what == "a folder":
        trusted.mkdir()
    elif what == "no certificate":
        trusted.write_text("none")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with raw_upstream(polite) as upstream, transport_to(https(upstream)) as transport:
        transport.prepare()  # a server starts without them
        for _ in range(2):
            with pytest.raises(NotConnected, match="cannot read the certificates to trust"):
                await call(transport)


async def test_no_call_waits_for_certificates(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_upstream(polite, tls=tls) as upstream, transport_to(https(upstream)) as transport:
        transport.prepare()
        monkeypatch.delattr(transport_module, "tls_context")  # a call would fail that reads them
        assert (await call(transport)).status == 200


@pytest.mark.parametrize("tls", [NAME], indirect=True)
async def test_tls_of_somebody_else(tls: ssl.SSLContext) -> None:
    async with raw_upstream(polite, tls=tls) as upstream, transport_to(https(upstream)) as transport:
        with pytest.raises(NotConnected, match="certificate is not trusted: it is for another address"):
            await call(transport)


async def test_tls_where_there_is_none(tls: ssl.SSLContext) -> None:
    async def script(peer: Peer) -> None:
        peer.send(b"220 mail.test ESMTP\r\n")
        await peer.left()

    async with raw_upstream(script) as upstream, transport_to(https(upstream)) as transport:
        with pytest.raises(NotConnected, match="TLS with it failed"):
            await call(transport)


@pytest.mark.parametrize(("says_so", "expected"), [(True, b"half"), (False, None)])
async def test_an_answer_without_a_length_ends_as_tls_ends(
    tls: ssl.SSLContext, says_so: bool, expected: bytes | None
) -> None:
    """Who cuts the connection could not say so within TLS (RFC 9112, 9.8)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await peer.writer.drain()
        if not says_so:
            peer.writer.transport.abort()

    async with raw_upstream(script, tls=tls) as upstream, transport_to(https(upstream)) as transport:
        if expected is None:
            with pytest.raises(Broken):
                await read(await call(transport))
        else:
            assert await read(await call(transport)) == expected


async def test_a_large_body_through_tls(tls: ssl.SSLContext) -> None:
    size = 3 * 1024 * 1024

    async def script(peer: Peer) -> None:
        request = await peer.request()
        assert request is not None
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + request.body)
        await peer.left()

    async with raw_upstream(script, tls=tls) as upstream, transport_to(https(upstream)) as transport:
        exchange = await call(transport, b"x" * size)
        await asyncio.sleep(0.05)  # slow enough to be waited for
        assert len(await read(exchange)) == size
        assert len(transport._vacant) == 1


@pytest.mark.parametrize(("patience", "seconds"), [(0.05, 60), (60, 0.05)], ids=["its time", "the call's time"])
async def test_connecting_takes_too_long(tls: ssl.SSLContext, patience: float, seconds: float) -> None:
    async with (
        raw_upstream(silent) as upstream,
        transport_to(https(upstream), connect_timeout=patience) as transport,
    ):
        with pytest.raises(ConnectTimeout):
            await call(transport, seconds=seconds)
        await until(lambda: upstream.peers and upstream.peers[0].gone)


async def test_cancelled_while_connecting(tls: ssl.SSLContext) -> None:
    async with raw_upstream(silent) as upstream, transport_to(https(upstream)) as transport:
        calling = asyncio.create_task(call(transport))
        await until(lambda: upstream.peers)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await until(lambda: upstream.peers[0].gone)


def tunnel_to(upstream: RawUpstream, proxy_heads: list[list[str]], answer: bytes) -> Script:
    """A proxy that connects to `upstream`, whatever name it is asked for."""

    async def script(peer: Peer) -> None:
        head = await peer.head()
        assert head is not None
        proxy_heads.append([head.line, *(f"{name}: {value}" for name, value in head.headers.items())])
        peer.send(answer)
        if b"200" not in answer:
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        try:
            await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))
        finally:
            writer.close()

    return script


async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
    sink.close()


@asynccontextmanager
async def behind_a_proxy(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, answer: bytes, user: str = ""
) -> AsyncIterator[list[list[str]]]:
    heads: list[list[str]] = []
    async with (
        raw_upstream(polite, tls=tls) as upstream,
        raw_upstream(tunnel_to(upstream, heads, answer)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://{user}127.0.0.1:{proxy.port}")
        yield heads


ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n"


@pytest.mark.parametrize("answer", [ESTABLISHED, b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200\r\n\r\n"])
@pytest.mark.parametrize("tls", [NAME], indirect=True)
async def test_through_a_proxy(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    async with behind_a_proxy(tls, monkeypatch, answer) as heads, transport_to(f"https://{NAME}/v1") as transport:
        assert [await read(await call(transport)) for _ in range(2)] == [b"{}"] * 2
    assert heads == [[f"CONNECT {NAME}:443 HTTP/1.1", f"host: {NAME}:443"]]


@pytest.mark.parametrize("tls", ["::1"], indirect=True)
async def test_through_a_proxy_to_an_ipv6_address(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    async with behind_a_proxy(tls, monkeypatch, ESTABLISHED) as heads, transport_to("https://[::1]/v1") as transport:
        assert await read(await call(transport)) == b"{}"
    assert heads[0][0] == "CONNECT [::1]:443 HTTP/1.1"


@pytest.mark.parametrize("tls", [NAME], indirect=True)
async def test_through_a_proxy_that_asks_who(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        behind_a_proxy(tls, monkeypatch, ESTABLISHED, "me:p%40ss@") as heads,
        transport_to(f"https://{NAME}:8443/v1") as transport,
    ):
        assert await read(await call(transport)) == b"{}"
    assert heads[0][0] == f"CONNECT {NAME}:8443 HTTP/1.1"
    assert heads[0][2] == f"proxy-authorization: Basic {base64.b64encode(b'me:p@ss').decode()}"


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"", b"no\r\n\r\n", b"x" * 20000]
)
async def test_a_proxy_that_refuses(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    async with behind_a_proxy(tls, monkeypatch, answer), transport_to(f"https://{NAME}/v1") as transport:
        with pytest.raises(NotConnected, match="proxy"):
            await call(transport)


@pytest.mark.parametrize("user", ["", "me:secret@"])
async def test_a_proxy_of_plain_http_gets_the_whole_url(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        peer.send(OK)

    seen: list[Received | None] = []
    async with raw_upstream(script) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{user}127.0.0.1:{proxy.port}" if user else f"127.0.0.1:{proxy.port}")
        async with transport_to(f"http://{NAME}:8080/v1") as transport:
            assert await read(await call(transport)) == b"{}"
    assert seen[0] is not None
    assert seen[0].line == f"POST http://{NAME}:8080/v1/responses HTTP/1.1"
    assert seen[0].headers["host"] == f"{NAME}:8080"
    assert ("proxy-authorization" in seen[0].headers) == bool(user)


@pytest.mark.parametrize("no_proxy", ["example.com,127.0.0.1", "127.0.0.0/8", "*", "127.0.0.1:{port}"])
async def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    async with raw_upstream(polite) as upstream:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("NO_PROXY", no_proxy.format(port=upstream.port))
        async with transport_to(upstream.url) as transport:
            assert await read(await call(transport)) == b"{}"


@pytest.mark.parametrize("scheme", ["socks5", "https"])
async def test_a_proxy_of_another_kind_is_not_spoken_to(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    async with raw_upstream(polite) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        async with transport_to(f"http://{NAME}/v1") as transport:
            with pytest.raises(NotConnected, match="http://"):
                await call(transport)
        assert not proxy.peers
