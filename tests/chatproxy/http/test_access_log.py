"""ACCESS_LOG: one line for each request, with its status, and without its query or a secret; without it, none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pytest_django import Settings

from chatproxy import asgi, entry
from chatproxy.http.access_log import LoggedProtocol
from chatproxy.http.connections import Connections
from chatproxy.http.protocol import Protocol
from chatproxy.processes.worker import protocol_factory
from tests.support.servers.gateway import SECURITY_KEY, Gateway

LOGGER = '"logger": "chatproxy.http.access_log"'
BEARER = {"Authorization": f"Bearer {SECURITY_KEY}"}
MESSAGE = re.compile(r"([A-Z]+) (\S+) (\d+|-) \d+\.\d ms 127\.0\.0\.1")

EXPECTED = [
    ("POST", "/openai", "200"),
    ("POST", "/v1/chat/completions", "200"),
    ("GET", "/openai2/…", "403"),
    ("GET", "/admin/login/", "200"),
    ("GET", "/v1/models", "400"),
    ("GET", "/nowhere/…", "404"),
]


def lines_of(gateway: Gateway) -> list[dict[str, Any]]:
    """Returns all lines of a server that has ended, but for those of the test that waited for its start."""
    lines = [json.loads(line) for line in gateway.log.splitlines() if LOGGER in line]
    return [line for line in lines if "/healthz" not in line["message"]]


def test_each_request_has_a_line(start_gateway: Callable[..., Gateway]) -> None:
    """Whatever answers it: an endpoint with a whole answer or a stream, Django, a refusal of its head, nobody."""
    gateway = start_gateway(ACCESS_LOG="true", INVALID_KEYS_PER_MINUTE="1000000")
    chat = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
    whole = gateway.post("/openai", chat)
    gateway.http.post("/v1/chat/completions", json={**chat, "stream": True}, headers=BEARER)
    gateway.http.get("/openai2/resp_0123456789abcdef", params={"security_key": "in-a-query"})
    gateway.http.get("/admin/login/", params={"next": "in-a-query"})
    gateway.http.get("/v1/models", headers={"Host": "a b"})
    gateway.http.get("/nowhere/sk-0123456789abcdef0123456789abcdef")
    assert gateway.stop() == 0
    found = lines_of(gateway)
    said = [MESSAGE.fullmatch(line["message"]) for line in found]
    answered = [(match[1], match[2], match[3]) for match in said if match]
    # A page's line may come after that of the next request: it is written when all work for the page has ended.
    assert sorted(answered) == sorted(EXPECTED)
    assert whole.headers["x-proxy-request-id"] in {line.get("request_id") for line in found}
    for secret in (SECURITY_KEY, "in-a-query", "sk-0123"):
        assert secret not in gateway.log


def test_without_the_setting_there_is_no_line(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway()
    assert gateway.http.get("/healthz").status_code == 200
    assert gateway.stop() == 0
    assert LOGGER not in gateway.log


@pytest.mark.parametrize(("is_on", "connection"), [(False, Protocol), (True, LoggedProtocol)])
def test_without_the_setting_a_call_runs_none_of_its_code(
    settings: Settings, is_on: bool, connection: type[Protocol]
) -> None:
    settings.ACCESS_LOG = is_on
    factory = protocol_factory(Connections())
    assert isinstance(factory, partial)
    assert factory.func is connection
    assert asgi.application is entry.application  # which is chosen once, as the settings of the tests are
