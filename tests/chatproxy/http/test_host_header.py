"""HTTP/1.1 without exactly one Host is refused on every path (RFC 9112, 3.2); HTTP/1.0 needs none."""

from __future__ import annotations

import pytest

from tests.simulator.server import Simulator
from tests.support.callers.wire import WireAnswer, connect
from tests.support.calls.routes import PATHS
from tests.support.servers.gateway import SECURITY_KEY, Gateway


def ask(gateway: Gateway, path: str, *lines: str, version: str = "1.1") -> WireAnswer:
    with connect(gateway) as wire:
        key = f"Authorization: Bearer {SECURITY_KEY}"
        wire.send("\r\n".join([f"GET {path} HTTP/{version}", key, *lines, "", ""]).encode("latin-1"))
        return wire.read_answer()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "lines",
    [(), ("Host: a", "Host: a"), ("Host: a", "Host: b"), ("Host: a b",), ("Host: a/b",), ("Host: a@b",)],
    ids=repr,
)
def test_it_is_refused(gateway: Gateway, simulator: Simulator, path: str, lines: tuple[str, ...]) -> None:
    answer = ask(gateway, path, *lines)

    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert "Host" in answer.error["message"]
    assert simulator.requests == []


def test_the_connection_is_closed_behind_it(gateway: Gateway) -> None:
    with connect(gateway) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")

        answer = wire.read_to_end()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"content-length:") == 1


@pytest.mark.parametrize("host", ["Host: a", "Host: a:3002", "Host: [::1]:3002", "Host:", "host: xn--a.example"])
def test_one_is_enough(gateway: Gateway, simulator: Simulator, host: str) -> None:
    assert ask(gateway, "/v1/models", host).status == 200


def test_http_1_0_needs_none(gateway: Gateway, simulator: Simulator) -> None:
    assert ask(gateway, "/v1/models", version="1.0").status == 200
    assert ask(gateway, "/v1/models", "Host: a", "Host: b", version="1.0").status == 400
