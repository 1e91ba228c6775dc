"""A real forward proxy between the gateway and upstream: what goes through it, and what `NO_PROXY` lets past it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulator.server import Simulator
from tests.support.servers.gateway import Gateway
from tests.support.servers.throw_away_ca import make_server
from tests.support.servers.tinyproxy import ForwardProxy, run_tinyproxy
from tests.support.upstreams.raw import call, polite, raw_upstream, read, transport_to

# Upstream's host, NO_PROXY, and whether that is past the proxy; {port} is upstream's, {other} another one.
PAST = [
    ("127.0.0.1", "", False),
    ("127.0.0.1", "*", True),
    ("127.0.0.1", "127.0.0.0/8", True),
    ("127.0.0.1", "10.0.0.0/8, 192.168.0.0/16 127.0.0.1/32", True),
    ("127.0.0.1", "10.0.0.0/8", False),
    ("127.0.0.1", "127.0.0.1:{port}", True),
    ("127.0.0.1", "127.0.0.1:{other}", False),
    ("127.0.0.1", ".0.0.1", False),
    ("localhost", "localhost", True),
    ("localhost", ".localhost", True),
    ("localhost", "*.localhost", True),
    ("localhost", "LocalHost:{port}", True),
    ("localhost", ".localhost:{other}", False),
    ("localhost", "host", False),
    ("localhost", "127.0.0.0/8, ::1", False),  # names are not looked up for it
    ("[::1]", "::1", True),
    ("[::1]", "[::1]", True),
    ("[::1]", "[::1]:{port}", True),
    ("[::1]", "[::1]:{other}", False),
    ("[::1]", "::/64", True),
    ("[::1]", "fd00::/8, fe80::/10", False),
    ("[::1]", "127.0.0.0/8", False),
]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForwardProxy]:
    with run_tinyproxy(tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _through_the_proxy(proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("all_proxy", "no_proxy", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")


@pytest.mark.parametrize(("host", "no_proxy", "is_past"), PAST)
async def test_what_goes_past_the_proxy(
    proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, host: str, no_proxy: str, is_past: bool
) -> None:
    asked_before = len(proxy.asked_for)
    async with raw_upstream(polite, address="::1" if host == "[::1]" else "127.0.0.1") as upstream:
        url = f"http://{host}:{upstream.port}/v1"
        monkeypatch.setenv("NO_PROXY", no_proxy.format(port=upstream.port, other=upstream.port - 1))
        async with transport_to(url) as transport:
            assert await read(await call(transport)) == b"{}"
    assert proxy.asked_for[asked_before:] == ([] if is_past else [f"{url}/responses"])


@pytest.mark.parametrize(("no_proxy", "is_past"), [("10.0.0.0/8", False), ("127.0.0.0/8", True)])
async def test_tls_goes_through_it_in_a_tunnel(
    proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_proxy: str, is_past: bool
) -> None:
    trusted, context = make_server(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv("NO_PROXY", no_proxy)
    asked_before = len(proxy.asked_for)
    async with (
        raw_upstream(polite, tls=context) as upstream,
        transport_to(f"https://127.0.0.1:{upstream.port}/v1") as transport,
    ):
        assert await read(await call(transport)) == b"{}"
    assert proxy.asked_for[asked_before:] == ([] if is_past else [f"127.0.0.1:{upstream.port}"])


@pytest.mark.parametrize(("no_proxy", "is_past"), [("10.0.0.0/8,.example.com", False), ("127.0.0.0/8", True)])
def test_a_servers_calls_and_streams(
    proxy: ForwardProxy,
    simulator: Simulator,
    start_gateway: Callable[..., Gateway],
    monkeypatch: pytest.MonkeyPatch,
    no_proxy: str,
    is_past: bool,
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")  # for this process: the SDK reads it, too
    gateway = start_gateway(HTTP_PROXY=f"http://{proxy.address}", NO_PROXY=no_proxy)
    asked_before = len(proxy.asked_for)
    with gateway.sdk("/v1") as client:
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        assert [chunk for chunk in stream if chunk.choices]
        assert client.models.list().data
    asked = {path.rpartition("/v1")[2] for path in proxy.asked_for[asked_before:]}
    assert asked == (set() if is_past else {"/chat/completions", "/models"})
