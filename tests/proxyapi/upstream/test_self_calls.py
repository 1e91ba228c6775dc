"""A gateway whose upstream is itself: its start says so, or else its first call."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from chatproxy.doctor.finding import Level
from chatproxy.doctor.setting_checks import check_upstream_url
from proxyapi.upstream.self_calls import is_own_address
from tests.support.callers.budgeted_keys import make_key
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway, free_port, run_gateway

PORT = 3002
EVERYWHERE = "0.0.0.0"  # noqa: S104  (the setting of a server that others can reach)
NAMES = {"gateway.example": "192.0.2.1", "self.example": "127.0.0.1"}
BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: object, **options: object) -> object:
        return look_up(NAMES.get(host, host), *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    ("url", "host", "is_own"),
    [
        ("http://127.0.0.1:3002/v1", "127.0.0.1", True),
        ("http://localhost:3002/v1", "127.0.0.1", True),
        ("http://LOCALHOST:3002", "localhost", True),
        ("http://127.0.0.2:3002/v1", EVERYWHERE, True),
        ("http://[::1]:3002/v1", "::", True),
        ("http://[::ffff:127.0.0.1]:3002/v1", "127.0.0.1", True),
        ("http://0.0.0.0:3002/v1", "127.0.0.1", True),
        ("http://self.example:3002/v1", EVERYWHERE, True),
        ("http://127.0.0.1:3003/v1", "127.0.0.1", False),
        ("http://127.0.0.2:3002/v1", "127.0.0.1", False),
        ("http://gateway.example:3002/v1", EVERYWHERE, False),
        ("https://api.openai.com/v1", EVERYWHERE, False),
        ("http://no-such-name.invalid:3002/v1", EVERYWHERE, False),
    ],
)
def test_the_servers_own_address_is_seen(url: str, host: str, is_own: bool) -> None:
    assert is_own_address(url, host, PORT) is is_own
    faults = [finding.words for finding in check_upstream_url(url, host, PORT) if finding.level is Level.FAULT]
    assert [words.partition(",")[0] for words in faults] == ["OPENAI_BASE_URL is this server's own address"] * is_own


@pytest.mark.parametrize(("url", "port"), [("http://localhost/v1", 80), ("https://localhost/v1", 443)])
def test_a_scheme_has_a_port(url: str, port: int) -> None:
    assert is_own_address(url, "127.0.0.1", port)
    assert not is_own_address(url, "127.0.0.1", PORT)


def test_no_name_is_looked_up_for_another_port() -> None:
    with patch("socket.getaddrinfo", side_effect=AssertionError):
        assert not is_own_address("https://api.openai.com/v1", "127.0.0.1", PORT)


@pytest.fixture(scope="module")
def gateway(gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Behind another address, such as a load balancer's, the start cannot see it."""
    url = f"http://127.0.0.1:{free_port()}/v1"
    data_dir = tmp_path_factory.mktemp("loops")
    with run_gateway(url, gateway_database, data_dir, OPENAI_API_KEY=SECURITY_KEY) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/models"),
        ("POST", "/openai"),
        ("POST", "/openai2"),
        ("GET", "/health2"),
    ],
)
def test_a_call_that_would_come_back_is_refused(method: str, path: str, gateway: Gateway) -> None:
    body = None if method == "GET" else {**CHAT, "input": "hi"}
    query = {"access_token": ACCESS_TOKEN} if path == "/health2" else {}
    answer = gateway.http.request(method, path, headers=BEARER, json=body, params=query)

    assert answer.status_code == 508
    assert "OPENAI_BASE_URL" in answer.text
    if path != "/health2":
        assert answer.json()["error"]["code"] == "loop_detected"
        assert gateway.row(answer)["outcome"] == "rejected"


def test_a_key_that_a_call_has_brought_is_looked_at_as_well(gateway: Gateway) -> None:
    text = make_key(gateway, "loop")
    answer = gateway.http.post("/openai", headers=BEARER, json={**CHAT, "openai_api_key": text})
    assert answer.status_code == 508
    answer = gateway.http.post("/openai", headers=BEARER, json={**CHAT, "openai_api_key": f"{text}x"})
    assert answer.json()["error"]["code"] == "upstream_unreachable"  # another gateway's, for all that is known
