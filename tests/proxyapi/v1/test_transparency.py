"""`/v1` is transparent: the same requests, directly and through the gateway, are the same upstream and get the same.

The simulator stands still (`Simulator.freeze`), so it gives the same bytes to the same request.
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from tests.simulator.server import Simulator
from tests.simulator.wire.recording import ReceivedRequest
from tests.support.callers.wire import WireAnswer, connect, connect_to, head
from tests.support.inputs.varied_forms import FORMS
from tests.support.inputs.varied_requests import GROUPS, Exchange
from tests.support.servers.gateway import SECURITY_KEY, UPSTREAM_KEY, Gateway

EXCHANGES = {f"{group}: {name}": exchange for group, named in GROUPS.items() for name, exchange in named.items()} | {
    f"form: {name}": exchange for name, exchange in FORMS.items()
}

# The differences that are allowed, all of them. Up: the connection's own, the length of what is sent another way, the
# account's key, that the answer is to come as it is, and the gateway's pseudonym.
UP_DIFFERENT = {"host", "authorization", "accept-encoding", "content-length", "transfer-encoding", "via"}
# Down: the connection's own; what is upstream's and of no use here; and what is ours.
# A redirect of the simulator names the host that it was asked by; tests/proxyapi/dispatch/test_methods.py compares
# `Location` itself.
DOWN_DIFFERENT = {"date", "content-length", "transfer-encoding", "location"}
DOWN_TAKEN_OUT = {
    "access-control-expose-headers", "alt-svc", "cf-cache-status", "cf-ray", "server", "set-cookie", "vary",
    "x-content-type-options",
}  # fmt: skip
DOWN_ADDED = {
    "access-control-allow-origin", "access-control-expose-headers", "content-security-policy", "vary",
    "x-content-type-options", "x-incoming-request-id",
    "x-proxy-request-id",
}  # fmt: skip

Headers = list[tuple[str, str]]


def replay(url: str, key: str, exchange: Exchange) -> list[WireAnswer]:
    """Each request on one connection, written by hand."""
    base, _, path = url.rpartition("/")
    answers: list[WireAnswer] = []
    with connect_to(base) as wire:
        for sent in exchange:
            wire.send(sent.on_the_wire(f"/{path}", key, found_id(answers)))
            answers.append(wire.read_answer())
    return answers


def found_id(answers: list[WireAnswer]) -> bytes:
    found = re.search(rb'"id": ?"([\w-]+)"', answers[0].body) if answers else None
    return found[1] if found else b""


def without(headers: Headers, names: set[str]) -> Headers:
    return [pair for pair in headers if pair[0] not in names]


def assert_same_upstream(there: ReceivedRequest, here: ReceivedRequest, asks: tuple[bytes, bytes] | None) -> None:
    """`there` came directly, `here` through the gateway."""
    assert (here.method, here.raw_path, here.query) == (there.method, there.raw_path, there.query)
    assert without(here.headers, UP_DIFFERENT) == without(there.headers, UP_DIFFERENT)
    assert here.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert here.header("accept-encoding") == "identity"
    assert there.header("via") is None
    assert re.fullmatch(r"1\.1 chatproxy-[0-9a-f]{16}", here.header("via") or "")
    expected = there.body.replace(*asks, 1) if asks else there.body
    assert expected != there.body or not asks
    assert here.body == expected


def assert_same_answer(there: WireAnswer, here: WireAnswer) -> None:
    assert here.status == there.status
    assert here.body == there.body
    assert sorted(without(here.pairs, DOWN_DIFFERENT | DOWN_ADDED)) == sorted(
        without(there.pairs, DOWN_DIFFERENT | DOWN_TAKEN_OUT)
    )
    assert here.headers["x-proxy-request-id"]


def test_there_are_enough_of_them() -> None:
    assert sum(map(len, EXCHANGES.values())) >= 200


@pytest.mark.parametrize("name", EXCHANGES)
def test_it_passes_unchanged(gateway: Gateway, simulator: Simulator, name: str) -> None:
    exchange = EXCHANGES[name]
    simulator.freeze(name)
    direct = replay(simulator.base_url, UPSTREAM_KEY, exchange)
    there = simulator.requests
    simulator.freeze(name)
    passed = replay(f"{gateway.url}/v1", SECURITY_KEY, exchange)
    here = simulator.requests

    assert [answer.status for answer in passed] == [answer.status for answer in direct], [one.body for one in passed]
    assert len(there) == len(here) == len(exchange)
    for sent, before, after in zip(exchange, there, here, strict=True):
        assert_same_upstream(before, after, sent.asks)
    for before_, after_ in zip(direct, passed, strict=True):
        assert_same_answer(before_, after_)


STAYS_HERE = (
    b"Cookie: session=secret-1", b"Cookie2: $Version=1", b"X-Security-Key: secret-2", b"X-Api-Key: secret-3",
    b"Api-Key: secret-4", b"Proxy-Authorization: Basic secret-5", b"X-Forwarded-For: 10.9.8.7",
    b"X-Forwarded-Host: other.example", b"X-Forwarded-Proto: https", b"Forwarded: for=10.9.8.7;host=other.example",
    b"X-Real-IP: 10.9.8.7", b"True-Client-IP: 10.9.8.7", b"CF-Connecting-IP: 10.9.8.7", b"Via: 1.1 other.example",
    b"Origin: https://other.example", b"Referer: https://other.example/", b"Sec-Fetch-Mode: cors",
    b"Sec-CH-UA: \"x\"", b"Access-Control-Request-Method: POST", b"Connection: X-Hop-1, x-hop-2",
    b"X-Hop-1: hop", b"X-HOP-2: hop", b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"TE: trailers",
    b"Trailer: X-Sum", b"Upgrade: h2c",
)  # fmt: skip


def test_what_names_or_admits_the_caller_stays_here(gateway: Gateway, simulator: Simulator) -> None:
    exchange = (replace(EXCHANGES["chat: plain"][0], headers=(*STAYS_HERE, b"Content-Type: application/json")),)

    [answer] = replay(f"{gateway.url}/v1", SECURITY_KEY, exchange)

    assert answer.status == 200
    assert {name for name, _ in simulator.last.headers} == {
        "host", "content-type", "content-length", "authorization", "accept-encoding", "via",
    }  # fmt: skip
    assert simulator.last.header("host") == urlsplit(simulator.base_url).netloc
    seen = str(simulator.last.headers)
    assert not re.search(rf"secret-|10\.9\.8\.7|other\.example|the\.host|{SECURITY_KEY}", seen)


def test_expect_is_answered_here(gateway: Gateway, simulator: Simulator) -> None:
    body = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}'
    with connect(gateway) as wire:
        wire.send(
            head(
                "POST",
                "/v1/chat/completions",
                "Content-Type: application/json",
                "Expect: 100-continue",
                length=len(body),
            )
        )
        assert wire.read_head().status == 100
        wire.send(body)
        assert wire.read_answer().status == 200

    assert simulator.last.header("expect") is None
    assert simulator.last.body == body


def test_what_is_upstreams_own_stays_there(gateway: Gateway, simulator: Simulator) -> None:
    [there] = replay(simulator.base_url, UPSTREAM_KEY, EXCHANGES["path: /models/gpt-4o-mini"])
    [here] = replay(f"{gateway.url}/v1", SECURITY_KEY, EXCHANGES["path: /models/gpt-4o-mini"])

    assert there.headers.keys() > {"set-cookie", "server", "alt-svc", "cf-ray"}
    assert not here.headers.keys() & {"set-cookie", "server", "alt-svc", "cf-ray", "connection", "keep-alive"}


@pytest.mark.parametrize("name", ["security_key", "access_token"])
def test_a_key_in_the_query_stays_here(gateway: Gateway, simulator: Simulator, name: str) -> None:
    with connect(gateway) as wire:
        wire.send(head("GET", f"/v1/models?a=%20&{name}=secret&a=2"))
        assert wire.read_answer().status == 200

    assert simulator.last.query == "a=+&a=2"


@pytest.mark.parametrize(
    "given",
    [
        "security%5fkey=secret", "security%5Fkey=secret", "%73ecurity_key=secret", "SECURITY_KEY=secret",
        "Security%5FKey=secret", "security%255fkey=secret", "security_key%20=secret", "+security_key=secret",
        "security_key[]=secret", "security_key%5B0%5D=secret", "x=1;security_key=secret", "access%5ftoken=secret",
        "Access_Token=secret", "openai_api_key=secret", "openai%5Fapi%5Fkey=secret", "%00security_key=secret",
        "security_key=x&security%5fkey=secret", "security_key",
    ],
)  # fmt: skip
def test_a_key_in_the_query_stays_here_however_it_is_spelled(
    gateway: Gateway, simulator: Simulator, given: str
) -> None:
    with connect(gateway) as wire:
        wire.send(head("GET", f"/v1/models?a=1&{given}&b=%FF"))
        assert wire.read_answer().status == 200

    assert simulator.last.query in {"a=1&b=%FF", "a=1&x=1&b=%FF"}


@pytest.mark.parametrize("query", ["a=b;c=d", "a=%ff&=&&x", "key=x&my_security_key=y", "q=security_key", "include[]=a"])
def test_a_query_without_a_key_of_ours_passes_as_it_is(gateway: Gateway, simulator: Simulator, query: str) -> None:
    with connect(gateway) as wire:
        wire.send(head("GET", f"/v1/models?{query}"))
        assert wire.read_answer().status == 200

    assert simulator.last.query == query


# Each could be read as another path by somebody on the way.
BAD_PATHS = (
    b"/v1/..", b"/v1/../v1/models", b"/v1/models/..", b"/v1/models/../files", b"/v1/models/.", b"/v1/./models",
    b"/v1/%2e%2e/models", b"/v1/models/%2E%2e", b"/v1/models/.%2e/files", b"/v1/models/%2e", b"/v1/models/..%2Ffiles",
    b"/v1/models/x%2F..%2F..%2Ffiles", b"/v1/models/..%5Cfiles", b"/v1/models/x%5c..", b"/v1/models/..\\files",
    b"/v1/models\\x", b"/v1//models", b"//v1/models", b"/v1/models//", b"/v1/models//x", b"/v1/models/%2Fx",
    b"/v1/models/x%2F", b"/v1/models/x%2F%2Fy", b"/v1/http://other.example/", b"/v1/models/http://other.example/v1",
    b"//other.example/v1/models", b"http://other.example//v1/models", b"http://other.example/v1/models/..",
    b"/v1/models/%00", b"/v1/models/%0d%0aX-Injected:%201", b"/v1/models/%7f", b"/v1/models/\x01", b"/v1/models/\x7f",
    b"/v1/models/\xc3\xbc", b"/v1/models/a b", b"/v1/models/<x>", b"/v1/models/%", b"/v1/models/%2", b"/v1/models/%zz",
    b"/v1/models/" + b"x" * 1100, b"/v1%2Fmodels", b"/%761/models",
    b"/v1/models;x", b"/v1/models/x;y=z", b"/v1/models/x%3By", b"/v1/models%2Fx%2F..", b"v1/models", b"*",
)  # fmt: skip


@pytest.mark.parametrize("target", BAD_PATHS, ids=repr)
def test_a_path_of_two_meanings_is_refused(gateway: Gateway, simulator: Simulator, target: bytes) -> None:
    with connect(gateway) as wire:
        wire.send(b"GET %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n" % (target, SECURITY_KEY.encode()))
        answer = wire.read_answer()

    assert answer.status in {400, 404}
    assert answer.error["type"] == "invalid_request_error"
    assert simulator.requests == []


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ("Content-Length: 2", "Content-Length: 12"),
        ("Content-Length: 2, 12",),
        ("Content-Length: +2",),
        ("Content-Length: -2",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("X-Folded: a", " b", "Content-Length: 2"),
    ],
    ids=repr,
)
def test_a_body_of_two_lengths_is_refused(gateway: Gateway, simulator: Simulator, lines: tuple[str, ...]) -> None:
    """RFC 9112, 6.3: whoever stands behind us must not see another request in it."""
    with connect(gateway) as wire:
        wire.send(head("POST", "/v1/conversations", "Content-Type: application/json", *lines))
        wire.send(b"2\r\n{}\r\n0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.read_answer().status == 400

    assert simulator.requests == []


@pytest.mark.parametrize("target", ["http://other.example/v1/models", "http://127.0.0.1:1/v1/models"])
def test_a_target_with_a_host_reaches_our_upstream_only(gateway: Gateway, simulator: Simulator, target: str) -> None:
    """RFC 9112, 3.2.2: a server must accept the absolute form."""
    with connect(gateway) as wire:
        wire.send(head("GET", target))
        assert wire.read_answer().status == 200

    assert simulator.last.raw_path == "/v1/models"
    assert simulator.last.header("host") == urlsplit(simulator.base_url).netloc


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "PROPFIND"])
def test_a_method_that_openai_does_not_have_is_refused(gateway: Gateway, simulator: Simulator, method: str) -> None:
    with connect(gateway) as wire:
        wire.send(head(method, "/v1/models"))
        assert wire.read_head().status == 405

    assert simulator.requests == []
