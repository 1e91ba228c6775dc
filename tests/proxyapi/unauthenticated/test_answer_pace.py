"""A flood of the smallest requests is answered late, wherever it goes; nobody else waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from django.conf import settings

from chatproxy.asgi import application
from proxyapi.keys.keyring import keyring
from proxyapi.unauthenticated import answer_pace as module
from proxyapi.unauthenticated.answer_pace import (
    DELAY_SECONDS,
    PROMPT_PER_NETWORK,
    PROMPT_PER_WORKER,
    WAITING_PER_DELAY,
    StrangerPace,
    stranger_pace,
)
from tests.support.callers.asgi import Asgi
from tests.support.upstreams.raw import until
from usage.ledger import ledger

ANYWHERE = [
    ("GET", "/healthz", {}),
    ("GET", "/", {}),
    ("GET", "/readyz", {}),
    ("GET", "/docs", {}),
    ("GET", "/openapi.json", {}),
    ("GET", "/nowhere", {}),
    ("PUT", "/openai", {}),
    ("OPTIONS", "/v1/models", {"origin": "https://example.com", "access-control-request-method": "GET"}),
    ("GET", "/metrics", {"authorization": "Bearer wrong"}),
    ("GET", "/log?access_token=wrong", {}),
    ("GET", "/v1/models", {"authorization": "Bearer wrong"}),
    ("POST", "/v1/chat/completions", {"authorization": "Bearer wrong"}),
    ("POST", "/openai", {"x-security-key": "wrong", "content-type": "application/json"}),
    ("GET", "/healthz", {"host": "a b"}),
    ("GET", "/healthz", {"content-type": "a/b" + ";" * 1000}),
    ("GET", "/admin/login/", {}),
    ("GET", "/admin/login/", {"host": "foreign.example"}),
    ("PUT", "/static/x", {}),
    ("GET", "/static/admin/js/cancel.js", {}),
    ("GET", "/my-usage/", {"cookie": "chatproxy_my_usage=made-up"}),
]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def flood(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worker's pace is used up, in a second that does not end, and every delay is longer than a test."""
    monkeypatch.setattr(module, "DELAY_SECONDS", 600.0)
    monkeypatch.setattr(stranger_pace, "_clock", Clock())
    while not stranger_pace.delay("198.51.100.1"):
        pass
    for number in range(PROMPT_PER_WORKER):
        stranger_pace.delay(f"198.51.100.{number % 250}")
    yield
    stranger_pace._second = 0


@pytest.fixture
def _keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process knows SECURITY_KEY, as a worker does."""
    monkeypatch.setattr(keyring, "_entries", keyring._entries)
    keyring._replace_keys(None)
    monkeypatch.setattr(ledger, "end", lambda *_: None)


def test_a_network_and_a_worker_have_a_number_of_answers_each_second() -> None:
    clock = Clock()
    pace = StrangerPace(clock)
    for _ in range(2):
        one = [pace.delay("192.0.2.1") for _ in range(PROMPT_PER_NETWORK + 50)]
        assert one.count(0) == PROMPT_PER_NETWORK
        assert set(one) == {0, DELAY_SECONDS}
        assert pace.delay("::ffff:192.0.2.1") == DELAY_SECONDS  # the same client
        many = [pace.delay(f"198.51.100.{number}") for number in range(PROMPT_PER_WORKER)]
        assert many.count(0) == PROMPT_PER_WORKER - PROMPT_PER_NETWORK
        clock.now += 1


async def test_the_more_wait_the_longer_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELAY_SECONDS", 600.0)
    pace = StrangerPace(Clock())
    calls = [asyncio.create_task(pace.wait("192.0.2.1")) for _ in range(PROMPT_PER_NETWORK + WAITING_PER_DELAY)]
    _, waiting = await asyncio.wait(calls, timeout=0.05)
    assert len(waiting) == pace.waiting == WAITING_PER_DELAY
    assert pace.delay("192.0.2.1") == 2 * 600.0
    for call in waiting:
        call.cancel()
    await asyncio.wait(waiting)
    assert pace.waiting == 0


@pytest.mark.django_db
@pytest.mark.usefixtures("flood")
@pytest.mark.parametrize(("method", "path", "headers"), ANYWHERE)
async def test_a_stranger_waits_wherever_it_asks(method: str, path: str, headers: dict[str, str]) -> None:
    request = Asgi(method, path, headers={"transfer-encoding": "", **headers})
    asked = asyncio.create_task(request.ask(application))
    await until(lambda: stranger_pace.waiting or asked.done())
    assert stranger_pace.waiting == 1
    assert request.status == 0
    asked.cancel()
    await asyncio.wait({asked})
    assert stranger_pace.waiting == 0


@pytest.mark.usefixtures("flood", "_keyring")
@pytest.mark.parametrize(
    ("path", "header", "known"),
    [
        ("/healthz", "", True),
        ("/v1/organization/x", "authorization", False),  # a closed family: refused, but not for its key
        ("/v1/organization/x", "authorization", True),
    ],
)
async def test_whoever_shows_a_key_does_not_wait(path: str, header: str, known: bool) -> None:
    headers = {header: f"Bearer {settings.SECURITY_KEY}"} if header else {}
    request = Asgi("GET", path, headers={"transfer-encoding": "", **headers})
    request.is_known = known
    assert await request.ask(application) == (404 if header else 200)
    assert stranger_pace.waiting == 0


@pytest.mark.usefixtures("flood")
async def test_a_wrong_key_waits_also_on_a_proxys_connection() -> None:
    request = Asgi("GET", "/v1/models", headers={"transfer-encoding": "", "authorization": "Bearer wrong"})
    request.is_known = True
    asked = asyncio.create_task(request.ask(application))
    _, waiting = await asyncio.wait({asked}, timeout=0.1)
    assert waiting
    asked.cancel()
    await asyncio.wait({asked})
