"""The pace of wrong keys: after so many from one address they get 429, while a good key passes at once."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from django.test import override_settings

from proxyapi.exceptions import InvalidKey, TooManyInvalidKeys
from proxyapi.unauthenticated import wrong_key_pace as pace_module
from proxyapi.unauthenticated.wrong_key_pace import RefusalPace
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import make_key
from tests.support.callers.metrics import value, wait_until
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.raw import until

CALL: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
OFFICE, OTHER = {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "198.51.100.8"}
WRONG = {"Authorization": "Bearer cp-wrong"}
GOOD = {"Authorization": f"Bearer {SECURITY_KEY}"}
# Every place that a key or token can be wrong at, and its usual refusal.
PLACES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "/v1": ("POST", "/v1/chat/completions", {"json": CALL}, 401),
    "/v1 without a key": ("GET", "/v1/models", {}, 401),
    "the simple API": ("POST", "/openai", {"json": {**CALL, "security_key": "wrong"}}, 403),
    "its query": ("GET", "/openai2/resp_1?security_key=wrong", {}, 403),
    "its header": ("POST", "/openai", {"json": CALL, "headers": {"X-Security-Key": "wrong"}}, 403),
    "the access token": ("GET", "/log?access_token=wrong", {}, 403),
    "metrics": ("GET", "/metrics", {}, 403),
    "its own usage": ("GET", "/usage", {}, 403),
}


@pytest.fixture(scope="module")
def slow_one(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A server that takes ten wrong keys a minute."""
    settings = {"INVALID_KEYS_PER_MINUTE": "10", "TRUSTED_PROXIES": "127.0.0.1"}
    with run_gateway(_simulator.base_url, gateway_database, tmp_path_factory.mktemp("pace"), **settings) as gateway:
        yield gateway


def ask(gateway: Gateway, place: str, *headers: dict[str, str]) -> httpx2.Response:
    method, path, content, _ = PLACES[place]
    given = {name: text for some in (*headers, content.get("headers", {})) for name, text in some.items()}
    return gateway.http.request(method, path, **{**content, "headers": given})


@pytest.mark.parametrize("place", PLACES)
def test_wrong_keys_are_slowed_down_wherever_they_stand(slow_one: Gateway, place: str) -> None:
    address = {"X-Forwarded-For": f"203.0.113.{1 + [*PLACES].index(place)}"}
    usual = PLACES[place][3]

    assert [ask(slow_one, place, address).status_code for _ in range(10)] == [usual] * 10
    answer = ask(slow_one, place, address)

    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_invalid_keys")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert answer.headers["connection"] == "close"
    assert ask(slow_one, place, OTHER).status_code in {usual, 429}


def test_a_good_key_passes_at_once_from_the_same_address(slow_one: Gateway) -> None:
    for _ in range(11):
        refused = slow_one.http.post("/v1/chat/completions", json=CALL, headers={**WRONG, **OFFICE})
    assert refused.status_code == 429

    assert slow_one.http.post("/v1/chat/completions", json=CALL, headers={**GOOD, **OFFICE}).status_code == 200
    assert slow_one.post("/openai", CALL, headers=OFFICE).status_code == 200
    assert slow_one.http.get("/metrics", params={"access_token": ACCESS_TOKEN}, headers=OFFICE).status_code == 200
    assert slow_one.http.post("/v1/chat/completions", json=CALL, headers={**WRONG, **OFFICE}).status_code == 429


def test_the_answer_says_nothing_about_the_key(slow_one: Gateway) -> None:
    revoked = make_key(slow_one, "gone")
    assert slow_one.manage("keys", "revoke", "gone").returncode == 0
    slow_one.wait_until_known(revoked, known=False)
    address = {"X-Forwarded-For": "198.51.100.20"}
    for _ in range(10):
        ask(slow_one, "/v1", address)

    answers = [
        slow_one.http.get("/v1/models", headers={**address, "Authorization": f"Bearer {key}"})
        for key in (revoked, "cp-unknown", "x")
    ]
    assert {answer.status_code for answer in answers} == {429}
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1


def test_it_is_counted_and_not_logged_with_the_key(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(INVALID_KEYS_PER_MINUTE="10")
    for _ in range(13):
        ask(gateway, "/v1", {"Authorization": "Bearer cp-a-secret-guess"})

    expected = {"invalid_key": 10, "too_many_invalid_keys": 3}
    wait_until(
        gateway,
        lambda found: all(
            value(found, "chatproxy_refused_total", reason=reason) == count for reason, count in expected.items()
        ),
    )
    assert "cp-a-secret-guess" not in gateway.log


# Without a server.


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


def count(pace: RefusalPace, times: int, address: str = "192.0.2.1") -> list[float]:
    return [pace.count(address) for _ in range(times)]


async def test_a_minute_after_the_first_it_begins_anew(clock: Clock) -> None:
    pace = RefusalPace()
    with override_settings(INVALID_KEYS_PER_MINUTE=3):
        assert count(pace, 5) == [0, 0, 0, 60, 60]
        clock.now += 50
        assert count(pace, 1) == [10]
        clock.now += 10
        assert count(pace, 4) == [0, 0, 0, 60]


@pytest.mark.parametrize(
    ("other", "is_the_same"),
    [("::ffff:192.0.2.1", True), ("192.0.2.2", False), ("2001:db8::1", False)],
)
async def test_a_client_is_an_ipv4_address_in_every_form(other: str, is_the_same: bool) -> None:
    pace = RefusalPace()
    with override_settings(INVALID_KEYS_PER_MINUTE=1):
        count(pace, 1)
        assert (pace.count(other) > 0) == is_the_same


async def test_a_client_is_a_64_of_ipv6() -> None:
    pace = RefusalPace()
    with override_settings(INVALID_KEYS_PER_MINUTE=1):
        count(pace, 1, "2001:db8::1")
        assert pace.count("2001:db8::ffff:1") > 0
        assert pace.count("2001:db8:0:1::1") == 0


async def test_the_memory_for_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "MAX_NETWORKS", 3)
    pace = RefusalPace()
    with override_settings(INVALID_KEYS_PER_MINUTE=1):
        for number in (1, 2, 3, 1, 4):  # 2 was refused least recently
            pace.count(f"192.0.2.{number}")
        assert [*pace._windows] == ["192.0.2.3", "192.0.2.1", "192.0.2.4"]
        assert pace.count("192.0.2.1") > 0


async def test_a_line_a_minute_and_address_says_how_many(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pace_module, "SWEEP_SECONDS", 0)
    monkeypatch.setattr(pace_module, "MAX_LINES", 2)
    pace = RefusalPace()
    for number, times in enumerate((5, 1, 7, 2)):
        count(pace, times, f"192.0.2.{number}")
    clock.now += 60

    with caplog.at_level(logging.WARNING):
        await until(lambda: not pace._windows)
    words = "requests with a missing or invalid key"
    assert caplog.messages == [
        f"7 {words} from 192.0.2.2 within a minute",
        f"5 {words} from 192.0.2.0 within a minute",
        f"3 more {words} within a minute, from 2 other addresses",
    ]


async def test_a_refusal_below_the_pace_is_the_usual_one(clock: Clock) -> None:
    pace, error = RefusalPace(), InvalidKey()
    with override_settings(INVALID_KEYS_PER_MINUTE=1):
        assert pace.refuse(error, "192.0.2.1") is error
        slowed = pace.refuse(error, "192.0.2.1")
    assert isinstance(slowed, TooManyInvalidKeys)
    assert slowed.headers == {"Retry-After": "60", "Connection": "close", "X-Should-Retry": "false"}


async def test_a_refusal_holds_no_body() -> None:
    class Body(bytearray):
        pass

    held: list[weakref.ref[Body]] = []

    def receive() -> None:
        body = Body(b"x")
        held.append(weakref.ref(body))
        try:
            raise LookupError
        except LookupError:
            raise InvalidKey from None

    try:
        receive()
    except InvalidKey as fault:
        RefusalPace().refuse(fault, "192.0.2.1")
        assert held[0]() is None
