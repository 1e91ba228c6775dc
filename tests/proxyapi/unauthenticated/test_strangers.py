"""What a stranger sends costs no more than a header: on every route, with every method, whatever the body.

Over 300 lines, since the same rules are tried on every route, with the same counters of parsers, files and queries.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.http import multipartparser
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern
from pytest_django.fixtures import Settings

from chatproxy.asgi import application
from proxyapi import urls
from proxyapi.bodies import form_reader, json_members
from proxyapi.call import parsers
from proxyapi.call import request_body as receiving
from proxyapi.call.capacity import capacity
from proxyapi.call.request_body import MinimumSpeed
from proxyapi.dispatch.base_view import BodyUse, ProxyView
from proxyapi.keys.callers import Caller
from proxyapi.keys.keyring import keyring
from proxyapi.routes import ALL
from proxyapi.unauthenticated import key_search
from proxyapi.unauthenticated.body_memory import StrangerBudget
from tests.support.callers.asgi import Asgi
from tests.support.servers.gateway import SECURITY_KEY
from tests.support.servers.worker import worker_in_this_process

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
JSON = "application/json"
FORM = "multipart/form-data; boundary=b"
PIECE = b'[]," security_key": "cp-xxxx", --b\r\n' * 500
KIB = 1024
# A body is read in pieces, and the last one is only known to be too much when it is here.
MOST_TAKEN = 64 * KIB + len(PIECE)


def sample(pattern: URLPattern) -> str:
    """A path of this route."""
    route = str(pattern.pattern)
    if isinstance(pattern.pattern, RegexPattern):
        route = re.sub(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)", r"\1", route.strip("^$"))
    return f"/{route}"


def takes_whole_body(path: str) -> bool:
    callback: Any = next(pattern for pattern in urls.urlpatterns if sample(pattern) == path).callback
    view: type[ProxyView] = callback.view_class
    return view.body_use is BodyUse.WHOLE


API_PATHS = [sample(pattern) for pattern in urls.urlpatterns] + [f"/v1/{family}" for family in ALL]
DJANGO_PATHS = [
    "/admin/",
    "/admin/login/",
    "/admin/nowhere",
    "/my-usage/",
    "/my-usage/x",
    "/static/x",
    "/static",
    "/admin",
]
KEY_IN_BODY = [path for path in API_PATHS if not path.startswith("/v1/") and takes_whole_body(path)]


@pytest.fixture(autouse=True)
def _worker(tmp_path: Path) -> Iterator[None]:
    with worker_in_this_process(tmp_path):
        yield


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parsers that have run."""
    ran: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            ran.append(name)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    watch(json, "loads")
    watch(orjson, "loads")
    watch(parsers.JSONObjectParser, "parse")
    watch(parsers, "parse_object")
    watch(form_reader.FormReader, "feed")
    watch(multipartparser.MultiPartParser, "parse")
    watch(json_members, "read_members")
    return ran


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were digested, to see whether they are a key."""
    texts: list[str] = []
    find = keyring.find

    def look_up(text: str) -> Caller | None:
        texts.append(text)
        return find(text)

    monkeypatch.setattr(keyring, "find", look_up)
    return texts


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> StrangerBudget:
    budget = StrangerBudget(KIB * KIB)
    monkeypatch.setattr(receiving, "stranger_budget", budget)
    return budget


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks of a few milliseconds."""
    monkeypatch.setattr(receiving, "STRANGER_START_SPEED", MinimumSpeed(64 * KIB, 0.01))
    monkeypatch.setattr(receiving, "STRANGER_SPEED", MinimumSpeed(64 * KIB, 0.01))
    monkeypatch.setattr("chatproxy.page_protection.django_gate.BODY_SECONDS", 0.01)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", API_PATHS)
async def test_no_parser_runs_for_a_stranger(
    parsed: list[str], looked_up: list[str], budget: StrangerBudget, method: str, path: str
) -> None:
    """Nor does a query run: without pytest-django's mark it would fail."""
    for content_type in (JSON, FORM, "text/plain", ""):
        looked_up.clear()
        request = Asgi(method, path, headers={"content-type": content_type}, pieces=repeat(PIECE))

        assert await request.ask(application) in {200, 204, 401, 403, 404, 405, 413, 415, 503}
        assert parsed == []
        assert request.closes
        assert len(looked_up) <= 1 + key_search.MAX_PLACES
        assert budget.bytes_in_use == 0
        if path in KEY_IN_BODY and method == "POST":
            assert request.taken <= budget.limit
        elif path.startswith("/openai2/"):
            assert request.taken <= MOST_TAKEN
        else:
            assert request.taken == 0


@pytest.mark.parametrize("content_length", ["65537", str(50 * KIB * KIB)])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_small_body_that_is_announced_large_is_413_at_once(method: str, content_length: str) -> None:
    headers = {"content-type": JSON, "content-length": content_length, "transfer-encoding": ""}
    request = Asgi(method, "/openai2/resp_1", headers=headers, pieces=repeat(PIECE))

    assert await request.ask(application) == 413
    assert request.taken == 0


@pytest.mark.parametrize("body", ["{", '{"security_key": "wrong"', "[" * 1000, "--b"])
@pytest.mark.parametrize(("path", "content_type"), [("/openai", JSON), ("/openai/audio/transcriptions", FORM)])
async def test_a_stranger_learns_nothing_about_his_body(
    parsed: list[str], path: str, content_type: str, body: str
) -> None:
    request = Asgi("POST", path, headers={"content-type": content_type}, pieces=[body.encode()])

    assert await request.ask(application) == 403
    assert parsed == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", FORM])
async def test_what_a_foreign_page_can_send_is_neither_read_nor_searched(
    looked_up: list[str], content_type: str
) -> None:
    """`fetch` with `no-cors` may send these content types, and no other."""
    request = Asgi("POST", "/openai", headers={"content-type": content_type, "origin": "https://foreign.example"})
    request_body = Asgi("POST", "/openai", headers={"content-type": content_type}, pieces=repeat(b"cp-" * 1000))

    assert await request.ask(application) == await request_body.ask(application) == 415
    assert request_body.taken == 0
    assert looked_up == []


async def test_a_body_full_of_what_looks_like_keys_is_digested_a_few_times(looked_up: list[str]) -> None:
    flood = b'{"security_key":"wrong","x":"' + b"cp-aaaacp-aaaa" * 5000 + b'","security_key":"cp-a"' * 5000
    request = Asgi("POST", "/openai", headers={"content-type": JSON}, pieces=[flood])

    assert await request.ask(application) == 403
    assert len(looked_up) == key_search.MAX_PLACES


# The cap and the clock, on every path


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("pieces", [[], [b"{"], [b" " * 40 * KIB] * 2], ids=["nothing", "a-byte", "80-KiB"])
@pytest.mark.parametrize("path", [*API_PATHS, *DJANGO_PATHS])
async def test_a_body_that_stops_is_cut_at_its_clock(path: str, pieces: list[bytes]) -> None:
    for method in METHODS if path in API_PATHS else ["POST"]:
        request = Asgi(method, path, headers={"content-type": JSON}, pieces=pieces, then="silence")

        assert await request.ask(application) in {200, 204, 401, 403, 404, 405, 408, 413, 415, 503}
        assert request.closes


@pytest.mark.parametrize("end", ["end", "departure", "silence", "key", "drain", "cap"])
async def test_every_end_gives_the_bytes_back(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    budget: StrangerBudget,
    end: str,
) -> None:
    if end in {"silence", "drain"}:
        request.getfixturevalue("hurried")
    held: list[int] = []

    def body() -> Iterator[bytes]:
        yield b'{"x": "' + b"x" * 70 * KIB
        held.append(budget.bytes_in_use)
        if end == "drain":
            monkeypatch.setattr(capacity, "draining", True)
        if end == "key":
            yield f'", "security_key": "{SECURITY_KEY}"}}'.encode()
        if end == "cap":
            yield from repeat(bytes(64 * KIB))

    settings.MAX_BODY_BYTES = 200 * KIB
    then = {"key": "end", "end": "end", "departure": "departure"}.get(end, "silence")
    call = Asgi("POST", "/openai", headers={"content-type": JSON}, pieces=body(), then=then)

    expected = {"end": 403, "departure": 0, "silence": 408, "key": 400, "drain": 503, "cap": 413}
    assert await call.ask(application) == expected[end]
    assert held == [70 * KIB + 7]
    assert budget.bytes_in_use == 0


async def test_a_body_that_comes_byte_by_byte_costs_no_more_than_its_size() -> None:
    call = Asgi("POST", "/openai", headers={"content-type": JSON}, pieces=repeat(b" ", 64 * KIB))

    assert await call.ask(application) == 403


# Who shows a key


SMALL_CALL = b'{"x": "x"'  # 400, once the caller is let in


def keyed() -> bytes:
    return SMALL_CALL + f', "security_key" :\n "{SECURITY_KEY}"'.encode()


@pytest.mark.parametrize("size", [0, 100 * KIB])
@pytest.mark.parametrize(
    "where", [lambda rest: keyed() + rest + b"}", lambda rest: SMALL_CALL + rest + keyed()[len(SMALL_CALL) :] + b"}"]
)
async def test_a_key_in_the_body_lets_its_sender_in(where: Callable[[bytes], bytes], size: int) -> None:
    body = where(b', "x": "' + b"x" * size + b'"')
    pieces = [body[start : start + 10_000] for start in range(0, len(body), 10_000)]
    request = Asgi("POST", "/openai", headers={"content-type": JSON}, pieces=pieces)

    assert await request.ask(application) == 400
    assert json.loads(request.answer)["error"]["param"] == "model"


@pytest.mark.parametrize("place", ["body", "query", "authorization", "x-security-key", "nowhere"])
async def test_a_connection_is_known_by_a_key_wherever_it_is(place: str) -> None:
    headers = {"content-type": JSON, "authorization": f"Bearer {SECURITY_KEY}", "x-security-key": SECURITY_KEY}
    path = f"/openai?security_key={SECURITY_KEY}" if place == "query" else "/openai"
    body = (keyed() if place == "body" else SMALL_CALL) + b"}"
    given = {name: value for name, value in headers.items() if name in {"content-type", place}}
    request = Asgi("POST", path, headers=given, pieces=[body])

    assert await request.ask(application) == (403 if place == "nowhere" else 400)
    assert request.is_known is (place != "nowhere")


async def test_a_call_with_two_keys_takes_one_place(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.MAX_PARALLEL_REQUESTS = 1
    monkeypatch.setattr(keyring, "find", lambda text: Caller(text) if text else None)
    headers = {"content-type": JSON, "x-security-key": "one"}

    assert await Asgi("POST", "/openai", headers=headers, pieces=[b'{"security_key":"two"}']).ask(application) == 400


async def test_a_fault_in_the_body_is_named_to_who_shows_a_key(parsed: list[str]) -> None:
    request = Asgi("POST", "/openai", headers={"content-type": JSON}, pieces=[keyed() + b"}}"])

    assert await request.ask(application) == 400
    assert json.loads(request.answer)["error"]["code"] == "bad_json"


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": {"security_key": SECURITY_KEY}},
        {"prompt": [{"security_key": SECURITY_KEY}], "security_key": "wrong"},
        {"security_key": {"security_key": SECURITY_KEY}},
    ],
)
async def test_a_key_elsewhere_in_the_body_lets_nobody_in(body: dict[str, Any]) -> None:
    request = Asgi("POST", "/openai", headers={"content-type": JSON}, pieces=[json.dumps(body).encode()])

    assert await request.ask(application) == 403


async def test_an_over_full_budget_keeps_out_who_shows_no_key(budget: StrangerBudget) -> None:
    big = [b'{"x": "' + b"x" * 100 * KIB, b"x" * 100 * KIB]
    late = [*big, f'", "security_key": "{SECURITY_KEY}"}}'.encode()]
    early = [keyed() + b"," + big[0][1:], big[1], b'"}']
    json_type = {"content-type": JSON}
    with budget.share("192.0.2.1") as share:
        share.add(budget.limit)
        refused = Asgi("POST", "/openai", headers=json_type, pieces=late)
        assert await refused.ask(application) == 503
        error = json.loads(refused.answer)["error"]
        assert error["code"] == "overloaded"
        assert "header" in error["message"]
        assert refused.headers["retry-after"]

        in_header = {**json_type, "authorization": f"Bearer {SECURITY_KEY}"}
        assert await Asgi("POST", "/openai", headers=in_header, pieces=late).ask(application) == 400
        assert await Asgi("POST", "/openai", headers=json_type, pieces=early).ask(application) == 400
        small = Asgi("POST", "/openai", headers=json_type, pieces=[SMALL_CALL, keyed()[len(SMALL_CALL) :] + b"}"])
        assert await small.ask(application) == 400
        elsewhere = Asgi("POST", "/openai", headers=json_type, pieces=late, client="198.51.100.1")
        assert await elsewhere.ask(application) == 400
    assert budget.bytes_in_use == 0


async def test_a_form_whose_file_comes_before_the_key_is_taken() -> None:
    """As the curl of the original's README sends it."""
    form = io.BytesIO()
    form.write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n' + bytes(100 * KIB))
    form.write(b'\r\n--b\r\nContent-Disposition: form-data; name="timeout"\r\n\r\nx')
    form.write(b'\r\n--b\r\nContent-Disposition: form-data; name="security_key"\r\n\r\n')
    form.write(f"{SECURITY_KEY}\r\n--b--\r\n".encode())
    form.seek(0)
    pieces = iter(lambda: form.read(1000), b"")
    request = Asgi("POST", "/openai/audio/transcriptions", headers={"content-type": FORM}, pieces=pieces)

    assert await request.ask(application) == 503
    assert json.loads(request.answer)["error"]["code"] == "upstream_key_missing"
