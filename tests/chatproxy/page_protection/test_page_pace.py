"""Visitors who have not signed in get pages at a limited rate; those who have signed in, and calls, are not affected.

Over 300 lines, since all parts of the limit (rates, cookies, devices, parallel requests) need the same clock and pace.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from math import inf
from typing import Any, cast

import pytest
from asgiref.typing import HTTPScope
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import get_resolver
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.page_protection import page_pace as module
from chatproxy.page_protection.django_gate import DjangoGate
from chatproxy.page_protection.known_device import ADMIN_DEVICE, KEY_DEVICE, DeviceCookie
from chatproxy.page_protection.page_pace import (
    CLIENT_PARALLEL,
    CLIENT_RATE,
    COOKIE_SECONDS,
    LOGIN_COST,
    LOGIN_PATH,
    MAX_CLIENTS,
    MAX_WAIT_SECONDS,
    WORKER_PARALLEL,
    WORKER_RATE,
    PagePace,
    RememberSignedIn,
    Visitor,
    cookies_of,
    visitor_of,
)
from proxyapi.exceptions import TooManyPages
from proxyapi.keys.callers import Caller
from proxyapi.keys.keyring import KeyInForce
from proxyapi.pages import key_sessions
from proxyapi.unauthenticated.answer_pace import StrangerPace
from tests.support.callers.asgi import Asgi
from usage.metric_counters import counters


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> PagePace:
    """Replaces the worker's pace by a new one with a clock that tests move."""
    made = PagePace(clock)
    monkeypatch.setattr("chatproxy.page_protection.django_gate.page_pace", made)
    # What tests before have asked in the same second is forgotten.
    monkeypatch.setattr("chatproxy.page_protection.django_gate.stranger_pace", StrangerPace())
    monkeypatch.setattr(module, "page_pace", made)
    monkeypatch.setattr(module, "REFUSAL_SECONDS", 0.0)
    return made


def admitted(pace: PagePace, network: Callable[[int], str], cost: float = 1, *, is_known: bool = False) -> list[float]:
    """Reserves pages until one is refused; returns the seconds that each had to wait."""
    waits: list[float] = []
    for number in range(100_000):
        try:
            waits.append(pace.reserve(Visitor(network(number), is_known), cost))
        except TooManyPages:
            return waits
    raise AssertionError("it is never refused")


@pytest.mark.parametrize(
    ("network", "rate"),
    [(lambda _: "192.0.2.1", CLIENT_RATE), (lambda number: f"192.0.2.{number}", WORKER_RATE)],
    ids=["one network", "many networks"],
)
@pytest.mark.parametrize("cost", [1, LOGIN_COST])
def test_a_burst_passes_at_once_and_the_rest_waits_or_is_refused(
    pace: PagePace, clock: Clock, network: Callable[[int], str], rate: module.PageRate, cost: float
) -> None:
    waits = admitted(pace, network, cost)
    assert waits.count(0) == rate.burst // cost
    assert len(waits) == (rate.burst + MAX_WAIT_SECONDS * rate.per_second) // cost
    assert waits == sorted(waits)
    assert waits[-1] <= MAX_WAIT_SECONDS

    clock.now += LOGIN_COST / rate.per_second
    assert len(admitted(pace, network, cost)) == LOGIN_COST // cost


def test_one_network_leaves_room_for_others(pace: PagePace) -> None:
    taken = len(admitted(pace, lambda _: "192.0.2.1"))
    assert taken < WORKER_RATE.burst + MAX_WAIT_SECONDS * WORKER_RATE.per_second
    assert pace.reserve(Visitor("198.51.100.1"), 1) <= MAX_WAIT_SECONDS


def test_a_refusal_takes_no_turn(pace: PagePace, clock: Clock) -> None:
    admitted(pace, lambda _: "192.0.2.1")
    for _ in range(1000):
        with pytest.raises(TooManyPages):
            pace.reserve(Visitor("192.0.2.1"), 1)
    clock.now += 1 / CLIENT_RATE.per_second
    pace.reserve(Visitor("192.0.2.1"), 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([1, LOGIN_COST]), st.floats(0, 10)), max_size=200))
def test_no_window_has_more_than_rate_and_burst(steps: list[tuple[int, int, float]]) -> None:
    clock = Clock()
    pace, began, cost = PagePace(clock), clock.now, 0
    for network, price, pause in steps:
        clock.now += pause
        try:
            pace.reserve(Visitor(str(network)), price)
        except TooManyPages:
            continue
        cost += price
        assert cost <= WORKER_RATE.burst + (clock.now - began + MAX_WAIT_SECONDS) * WORKER_RATE.per_second + 1e-6


def test_the_networks_that_are_counted_are_bounded(pace: PagePace, clock: Clock) -> None:
    for number in range(MAX_CLIENTS + 100):
        clock.now += 1
        pace.reserve(Visitor(str(number)), 1)
    assert len(pace._clients_until) == MAX_CLIENTS


# Over every address


def addresses(prefix: str = "", patterns: Any = None) -> list[str]:
    """Returns every path of the admin and of "My usage", with a value for each argument."""
    found: list[str] = []
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$")
        if hasattr(pattern, "url_patterns"):
            found += addresses(route, pattern.url_patterns)
        else:
            found.append("/" + re.sub(r"<[^>]*>|\(\?P<[^)]*\)", "1", route))
    return [one for one in found if one.startswith(("/admin/", "/my-usage/"))]


async def nothing(*_: Any) -> None:
    raise AssertionError("it went on")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_every_page_has_the_pace(pace: PagePace, method: str) -> None:
    assert len(addresses()) > 50
    admitted(pace, lambda _: "192.0.2.1")
    refusals = dict(counters.values).get(("refused", "too_many_pages"), 0)
    for path in addresses():
        request = Asgi(method, path, headers={"cookie": "chatproxy_session=" + "a" * 32, "transfer-encoding": ""})
        gate: Any = DjangoGate(nothing)  # type: ignore[arg-type]  # no Django behind it
        assert await request.ask(gate) == 429, path
        assert int(request.headers["retry-after"]) > 0
        assert b"not signed in" in request.answer
    assert counters.values["refused", "too_many_pages"] == refusals + len(addresses())


async def test_a_login_costs_more(pace: PagePace) -> None:
    for path, method, cost in ((LOGIN_PATH, "POST", LOGIN_COST), (LOGIN_PATH, "GET", 1), ("/admin/", "POST", 1)):
        before = pace._worker_until
        async with pace.turn(Visitor("192.0.2.7"), method, path):
            pass
        assert pace._worker_until - max(before, 1000.0) == pytest.approx(cost / WORKER_RATE.per_second)


async def test_static_files_have_none(pace: PagePace) -> None:
    admitted(pace, lambda _: "192.0.2.1")
    passed: list[str] = []

    async def application(scope: Any, _: Any, send: Any) -> None:
        passed.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    gate: Any = DjangoGate(application)  # type: ignore[arg-type]  # no Django behind it
    assert await Asgi("GET", "/static/x", headers={"transfer-encoding": ""}).ask(gate) == 200
    assert passed == ["/static/x"]


async def test_a_wait_is_waited(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    pace = PagePace(clock, sleep)
    for _ in range(int(CLIENT_RATE.burst) + 1):
        async with pace.turn(Visitor("192.0.2.1"), "GET", "/admin/"):
            pass
    assert slept == [pytest.approx(1 / CLIENT_RATE.per_second)]

    slept.clear()
    monkeypatch.setattr(module, "REFUSAL_SECONDS", 600.0)
    admitted(pace, lambda _: "192.0.2.1")
    with pytest.raises(TooManyPages):
        async with pace.turn(Visitor("192.0.2.1"), "GET", "/admin/"):
            pass
    assert slept == [600.0]


# Whoever has signed in


@pytest.mark.django_db
def test_a_login_is_remembered(pace: PagePace, clock: Clock, client: Client) -> None:
    user = get_user_model().objects.create_superuser("ada", password="a long password")
    session = {"cookie": b"chatproxy_session=made-up"}
    client.cookies["chatproxy_session"] = "made-up"
    client.get("/admin/")
    assert not has_good_cookie(pace, session["cookie"])

    client.force_login(user)
    cookie = f"a=b; chatproxy_session={client.cookies['chatproxy_session'].value}".encode()
    assert not has_good_cookie(pace, cookie)
    assert client.get("/admin/").status_code == 200
    assert has_good_cookie(pace, cookie)
    assert not has_good_cookie(pace, cookie + b"x")
    assert not has_good_cookie(pace, cookie.replace(b"chatproxy_session", b"other"))
    clock.now += COOKIE_SECONDS
    assert not has_good_cookie(pace, cookie)


def has_good_cookie(pace: PagePace, cookie: bytes) -> bool:
    return pace.has_good_cookie(cookies_of(scope_with(cookie)))


def scope_with(*cookies: bytes) -> HTTPScope:
    headers = [(b"host", b"localhost"), *((b"cookie", cookie) for cookie in cookies)]
    return cast(HTTPScope, {"headers": headers})


@pytest.mark.parametrize("header", [b"%b=a", b"x=1; %b=a", b"x=1;%b=a;y=2", b"%b=a ; x"])
def test_a_cookie_is_found_among_others(pace: PagePace, header: bytes) -> None:
    pace.remember_cookie("a")
    assert has_good_cookie(pace, header % b"chatproxy_session")
    assert cookies_of(scope_with(b"x=1", header % b"chatproxy_session")) == {"chatproxy_session": "a"}


@pytest.mark.parametrize(
    "cookie",
    [
        b"",
        b"chatproxy_session",
        b"chatproxy_session=",
        b"=",
        b";;",
        b"\xff=\xfe",
        b'chatproxy_session="',
        b"a" * 100_000,
        b"[]=1",
    ],
)
def test_an_odd_cookie_is_none(pace: PagePace, cookie: bytes) -> None:
    pace.remember_cookie("something")
    assert not has_good_cookie(pace, cookie)


def test_the_cookies_that_are_remembered_are_bounded(pace: PagePace) -> None:
    for number in range(module.MAX_COOKIES + 10):
        pace.remember_cookie(str(number))
        pace.remember_holder(str(number), "mine")
    assert len(pace._good_until) == len(pace._holders) == 10


# The holder of a key, and a device on which somebody has signed in before


def test_the_holder_of_a_key_is_a_client_of_its_own(
    pace: PagePace, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = KeyInForce(Caller("mine"), inf)
    monkeypatch.setattr(key_sessions, "find_signed_in", lambda _: entry)
    cookies = [f"{key_sessions.COOKIE}=cookie-{number}".encode() for number in range(2)]
    for cookie in cookies:
        RememberSignedIn(lambda _: HttpResponse())(
            RequestFactory(headers={"cookie": cookie.decode()}).get("/my-usage/")
        )
    visitors = {
        visitor_of(cookies_of(scope_with(cookie)), "192.0.2.1")
        for cookie in (*cookies, device_cookie(KEY_DEVICE, "mine"))
    }

    assert visitors == {Visitor("key mine", is_known=True)}
    assert not has_good_cookie(pace, cookies[0])
    clock.now += COOKIE_SECONDS
    assert visitor_of(cookies_of(scope_with(cookies[0])), "192.0.2.1") == Visitor("192.0.2.1")


def device_cookie(cookie: DeviceCookie = ADMIN_DEVICE, owner: str = "1") -> bytes:
    response = HttpResponse()
    cookie.write(response, owner, "secret")
    return f"{cookie.name}={response.cookies[cookie.name].value}".encode()


@pytest.mark.parametrize("cookie", [ADMIN_DEVICE, KEY_DEVICE], ids=["admin", "my usage"])
def test_a_known_device_is_a_client_of_its_own(cookie: DeviceCookie) -> None:
    known = device_cookie(cookie)
    visitor = visitor_of(cookies_of(scope_with(known)), "192.0.2.1")
    assert visitor.is_known
    assert visitor == visitor_of(cookies_of(scope_with(b"a=b; " + known)), "198.51.100.1")
    # All devices of a key are one client, since its holder may sign in as often as they like.
    again = visitor_of(cookies_of(scope_with(device_cookie(cookie))), "192.0.2.1")
    assert (visitor == again) is (cookie is KEY_DEVICE)
    for forged in (known[:-1], known + b"x", known.replace(b"=", b"=x", 1), b"", known.partition(b"=")[0] + b"="):
        assert visitor_of(cookies_of(scope_with(forged)), "::ffff:192.0.2.1") == Visitor("192.0.2.1")


@pytest.mark.parametrize("cost", [1, LOGIN_COST])
def test_a_flood_of_strangers_keeps_no_known_device_away(pace: PagePace, cost: float) -> None:
    admitted(pace, lambda number: f"198.51.100.{number % 250}")
    waits = admitted(pace, lambda _: "device 1", cost, is_known=True)
    assert waits.count(0) == CLIENT_RATE.burst // cost
    assert len(waits) == (CLIENT_RATE.burst + MAX_WAIT_SECONDS * CLIENT_RATE.per_second) // cost
    with pytest.raises(TooManyPages):
        pace.reserve(Visitor("203.0.113.1"), 1)  # nor does a device make room for strangers


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_known_device_passes_a_flood_at_every_address(
    pace: PagePace, clock: Clock, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    admitted(pace, lambda number: f"192.0.2.{number % 250}")
    monkeypatch.setattr(
        "chatproxy.page_protection.django_gate.stranger_pace", None
    )  # nor is it slowed down by that of the API
    known = device_cookie().decode()
    for path in addresses():
        clock.now += LOGIN_COST / CLIENT_RATE.per_second
        admitted(pace, lambda number: f"192.0.2.{number % 250}")
        request = Asgi(method, path, headers={"cookie": known, "transfer-encoding": ""})
        assert await request.ask(DjangoGate(Page())) == 200, path  # type: ignore[arg-type]  # no Django behind it


# Requests that run at the same time


class Page:
    """An application in the place of Django's; a request runs until `may_end`."""

    def __init__(self, *, is_slow: bool = False) -> None:
        self.running = 0
        self.may_end = asyncio.Event()
        if not is_slow:
            self.may_end.set()

    async def __call__(self, _: Any, __: Any, send: Any) -> None:
        self.running += 1
        await self.may_end.wait()
        self.running -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_few_run_at_the_same_time_for_the_holder_of_a_key(pace: PagePace) -> None:
    page = Page(is_slow=True)
    gate: Any = DjangoGate(page)  # type: ignore[arg-type]  # no Django behind it
    asked = []
    for number in range(9):
        pace.remember_holder(f"cookie-{number}", "mine")
        headers = {"transfer-encoding": "", "cookie": f"{key_sessions.COOKIE}=cookie-{number}"}
        asked.append(asyncio.create_task(Asgi("GET", "/my-usage/", headers=headers).ask(gate)))
    await settle()
    assert page.running == CLIENT_PARALLEL
    page.may_end.set()
    assert set(await asyncio.gather(*asked)) == {200}


@pytest.mark.usefixtures("pace")
@pytest.mark.parametrize(
    ("client", "most"),
    [(lambda _: "192.0.2.1", CLIENT_PARALLEL), (lambda number: f"192.0.2.{number}", WORKER_PARALLEL)],
    ids=["one client", "many clients"],
)
async def test_few_run_at_the_same_time(client: Callable[[int], str], most: int) -> None:
    page = Page(is_slow=True)
    gate: Any = DjangoGate(page)  # type: ignore[arg-type]  # no Django behind it
    requests = [Asgi("GET", "/admin/", headers={"transfer-encoding": ""}, client=client(number)) for number in range(9)]
    asked = [asyncio.create_task(request.ask(gate)) for request in requests]
    await settle()
    assert page.running == most
    known = Asgi("GET", "/admin/", headers={"transfer-encoding": "", "cookie": device_cookie().decode()})
    asked.append(asyncio.create_task(known.ask(gate)))
    await settle()
    assert page.running == most + 1
    page.may_end.set()
    assert set(await asyncio.gather(*asked)) == {200}


@pytest.mark.usefixtures("pace")
async def test_whoever_waits_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 0.05)
    page = Page(is_slow=True)
    gate: Any = DjangoGate(page)  # type: ignore[arg-type]  # no Django behind it
    requests = [Asgi("GET", "/admin/", headers={"transfer-encoding": ""}) for _ in range(CLIENT_PARALLEL + 3)]
    asked = [asyncio.create_task(request.ask(gate)) for request in requests]
    statuses = {await one for one in asked[CLIENT_PARALLEL:]}
    assert statuses == {429}
    assert requests[-1].headers["retry-after"] == "1"
    page.may_end.set()
    assert [await one for one in asked[:CLIENT_PARALLEL]] == [200] * CLIENT_PARALLEL
    assert await Asgi("GET", "/admin/", headers={"transfer-encoding": ""}).ask(gate) == 200  # each place is free again


@pytest.mark.usefixtures("pace")
async def test_a_client_that_reads_slowly_keeps_nobody_away() -> None:
    """A page that is made counts as running no longer, however slowly the client takes it."""
    gate: Any = DjangoGate(Page())  # type: ignore[arg-type]  # no Django behind it
    starts: list[int] = []

    async def take_nothing(message: Any) -> None:
        starts.append(message["status"])
        await asyncio.Event().wait()

    requests = [Asgi("GET", "/admin/", headers={"transfer-encoding": ""}) for _ in range(WORKER_PARALLEL + 4)]
    asked = [asyncio.create_task(gate(request.scope, request._receive, take_nothing)) for request in requests]
    await settle()
    assert starts == [200] * len(requests)
    for one in asked:
        one.cancel()
    await asyncio.wait(asked)
