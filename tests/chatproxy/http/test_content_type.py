"""A Content-Type longer than clients need is refused on every path, before Django takes seconds to read it."""

from __future__ import annotations

import pytest

from chatproxy.http.content_type import MAX_BYTES
from tests.support.callers.wire import connect
from tests.support.calls.routes import PATHS
from tests.support.servers.gateway import Gateway


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
def test_a_long_one_is_refused(gateway: Gateway, path: str, method: str) -> None:
    with connect(gateway) as wire:
        lines = ["Host: localhost", f'Content-Type: a/b;"{";" * 60_000}', "Content-Length: 0"]
        wire.send("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode())
        answer = wire.read_answer()

    assert answer.status == 400
    assert "Content-Type" in answer.error["message"]
    assert answer.headers["connection"] == "close"


def test_all_its_lines_count(gateway: Gateway) -> None:
    with connect(gateway) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"Content-Type: a/b;\r\n" * 200 + b"\r\n")

        assert wire.read_answer().status == 400


def test_the_longest_is_taken(gateway: Gateway) -> None:
    with connect(gateway) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Type: " + b"a" * MAX_BYTES + b"\r\n\r\n")

        assert wire.read_answer().status == 200
