"""Bodies that nobody reads, and bodies of strangers, over sockets: the answer comes, and the connection ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.simulator.server import Simulator
from tests.support import polling
from tests.support.callers.wire import Wire, WireAnswer, connect
from tests.support.calls.refusals import CALL
from tests.support.servers.gateway import ACCESS_TOKEN, PATIENCE, SECURITY_KEY, Gateway, run_gateway

KIB = 1024
MIB = 1024 * KIB
STRANGER = "POST /openai HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def narrow(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Strangers may have 1 MiB of memory, so one client may have 512 KiB."""
    folder = tmp_path_factory.mktemp("narrow")
    with run_gateway(_simulator.base_url, gateway_database, folder, STRANGER_BYTES=str(MIB)) as gateway:
        yield gateway


def begin(wire: Wire, method: str, path: str, *, length: int | None = None) -> None:
    """The head of a stranger's request with a JSON body, in chunks unless it has a length."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", "Content-Type: application/json", framing, "", ""]
    wire.send("\r\n".join(lines).encode())


def send_until_closed(wire: Wire) -> None:
    chunk = b"10000\r\n" + b"[],{}," * 10922 + b"    \r\n"
    assert len(chunk) == 0x10000 + 9
    for _ in range(1600):  # 100 MiB
        wire.send(chunk)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/log", 403),
        ("GET", "/metrics", 403),
        ("GET", "/usage", 403),
        ("GET", "/health", 403),
        ("GET", "/nowhere", 404),
        ("POST", "/healthz", 405),
        ("POST", "/nowhere", 404),
        ("OPTIONS", "/openai", 204),
        ("POST", "/v1/chat/completions", 401),
        ("GET", "/openai2/resp_1", 413),
        ("DELETE", "/openai2/resp_1", 413),
        ("POST", "/openai2/resp_1/cancel", 413),
    ],
)
def test_a_body_that_nobody_wants_ends_the_connection(gateway: Gateway, method: str, path: str, status: int) -> None:
    with connect(gateway) as wire:
        begin(wire, method, path)
        with pytest.raises(ConnectionError):
            send_until_closed(wire)
        assert wire.read_head().status == status


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/v1/models"])
def test_an_answer_is_not_held_up_by_a_body_that_nobody_wants(gateway: Gateway, path: str) -> None:
    with connect(gateway) as wire:
        begin(wire, "GET", path, length=50 * MIB)
        answer = wire.read_answer()

        assert answer.headers["connection"] == "close"
        assert wire.read_to_end() == b""


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/v1/models"])
def test_a_small_body_that_nobody_wants_is_skipped(gateway: Gateway, path: str) -> None:
    """Many clients send head and body apart; one request of theirs that is refused need not cost a connection."""
    with connect(gateway) as wire:
        for body in (b"{}", b" " * 64 * KIB, b"{}"):
            begin(wire, "GET", path, length=len(body))
            answer = wire.read_answer()
            wire.send(body)
            assert "connection" not in answer.headers


def test_who_expects_a_continue_and_gets_none_may_start_anew(gateway: Gateway) -> None:
    """Its next bytes would be taken for the body, which it need not send."""
    with connect(gateway) as wire:
        wire.send(b"POST /v1/models HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")

        assert wire.read_answer().status == 401
        assert wire.read_to_end() == b""


def stranger_bytes(gateway: Gateway) -> float:
    """What the server counts; its workers say it once a second."""
    page = gateway.http.get("/metrics", headers={"authorization": f"Bearer {ACCESS_TOKEN}"}).text
    found = re.search(r"^chatproxy_stranger_bytes (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else -1.0


def wait_for_stranger_bytes(gateway: Gateway, least: int, most: int) -> None:
    polling.wait_until(lambda: least <= stranger_bytes(gateway) <= most, PATIENCE)


def late_key(size: int) -> bytes:
    """A call with its key behind `size` bytes."""
    return json.dumps({**CALL, "user": "x" * size, "security_key": SECURITY_KEY}).encode()


def post(gateway: Gateway, body: bytes, headers: dict[str, str] | None = None) -> WireAnswer:
    with connect(gateway) as wire:
        given = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        wire.send(f"{STRANGER}{given}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        with suppress(ConnectionError):  # it has been refused
            wire.send(body[-1:])
        return wire.read_answer()


def test_strangers_share_a_budget_and_who_shows_a_key_goes_on(narrow: Gateway, simulator: Simulator) -> None:
    with connect(narrow) as wire:
        begin(wire, "POST", "/openai", length=MIB)
        wire.send(b" " * 500 * KIB)
        wait_for_stranger_bytes(narrow, 400 * KIB, MIB)

        refused = post(narrow, late_key(900 * KIB))
        assert refused.status == 503
        assert refused.error["code"] == "overloaded"
        assert "X-Security-Key" in refused.error["message"]
        assert refused.headers["retry-after"]

        assert post(narrow, late_key(900 * KIB), {"X-Security-Key": SECURITY_KEY}).status == 200
        early = json.dumps({"security_key": SECURITY_KEY, **CALL, "user": "x" * 900 * KIB}).encode()
        assert post(narrow, early).status == 200
        assert post(narrow, late_key(100)).status == 200
    wait_for_stranger_bytes(narrow, 0, 0)

    assert post(narrow, late_key(400 * KIB)).status == 200
    wait_for_stranger_bytes(narrow, 0, 0)
