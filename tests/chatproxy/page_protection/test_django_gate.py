"""The gate in front of Django: a request that passes has a known Host and a small body; no disk is used."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.conf import settings

from chatproxy.asgi import application
from chatproxy.page_protection import django_gate
from chatproxy.page_protection.django_gate import MAX_PAGE_BODY_BYTES, DjangoGate
from proxyapi.unauthenticated.body_memory import stranger_budget
from tests.chaos.lab import Postgres
from tests.simulator.server import Simulator
from tests.support.callers.asgi import Asgi
from tests.support.callers.wire import connect
from tests.support.servers.gateway import Gateway, run_gateway

PAGES = ["/admin", "/admin/", "/admin/login/", "/admin/nowhere", "/my-usage", "/my-usage/", "/my-usage/sign-in/"]
STATIC = ["/static/", "/static/x", "/static/admin/js/cancel.js"]
METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "POST"]
FORM = {"content-type": "application/x-www-form-urlencoded"}
PIECE = bytes(16 * 1024)


class Pages:
    """An application in Django's place, which answers with the body that it has received."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert not message["more_body"]
        self.bodies.append(message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", [*PAGES, *STATIC])
async def test_a_body_without_end_is_cut(path: str, method: str) -> None:
    pages: Any = Pages()
    request = Asgi(method, path, headers=FORM, pieces=repeat(PIECE))
    status = await request.ask(DjangoGate(pages))

    assert request.closes
    if method == "POST" and path in PAGES:
        assert status == 413
        assert request.taken == MAX_PAGE_BODY_BYTES + len(PIECE)
    else:
        assert status == (405 if path in STATIC and method not in {"GET", "HEAD", "OPTIONS"} else 200)
        assert request.taken == 0
        assert pages.bodies == [b""] * (status == 200)
    assert stranger_budget.bytes_in_use == 0


@pytest.mark.parametrize("path", PAGES)
async def test_a_body_that_is_announced_too_large_is_not_received(path: str) -> None:
    headers = {**FORM, "transfer-encoding": "", "content-length": str(MAX_PAGE_BODY_BYTES + 1)}
    request = Asgi("POST", path, headers=headers, pieces=repeat(PIECE))

    assert await request.ask(application) == 413
    assert request.taken == 0
    assert request.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("pieces", [[], [b"a"], [b"a", b"b", PIECE]], ids=len)
async def test_a_body_that_does_not_come_is_408(
    monkeypatch: pytest.MonkeyPatch, path: str, pieces: list[bytes]
) -> None:
    monkeypatch.setattr(django_gate, "BODY_SECONDS", 0.01)
    request = Asgi("POST", path, headers=FORM, pieces=pieces, then="silence")

    assert await request.ask(application) == 408
    assert request.closes
    assert stranger_budget.bytes_in_use == 0


async def test_a_caller_that_leaves_gets_nothing() -> None:
    request = Asgi("POST", "/admin/login/", headers=FORM, pieces=[PIECE], then="departure")

    assert await request.ask(application) == 0
    assert stranger_budget.bytes_in_use == 0


@pytest.mark.parametrize("host", ["evil.example", "localhost@evil.example", "localhost,evil", "local host", "[::1"])
@pytest.mark.parametrize("path", PAGES)
async def test_an_unknown_host_is_refused_before_its_body(path: str, host: str) -> None:
    request = Asgi("POST", path, headers={**FORM, "host": host}, pieces=repeat(PIECE))

    assert await request.ask(application) == 400
    assert request.taken == 0
    assert request.closes


@pytest.mark.parametrize("host", ["localhost", "localhost:3002", "127.0.0.1", "[::1]:80", ""])
async def test_a_known_host_is_taken(host: str) -> None:
    """Without a Host header, the address of the connection counts, as it does for Django."""
    assert await Asgi("POST", "/admin/", headers={**FORM, "host": host}).ask(DjangoGate(Pages())) == 200  # type: ignore[arg-type]  # no Django behind it


@pytest.mark.parametrize("size", [0, 1, MAX_PAGE_BODY_BYTES])
async def test_what_fits_reaches_django_whole(size: int) -> None:
    body = bytes(size)
    request = Asgi("POST", "/admin/x/", headers=FORM, pieces=[body[at : at + 999] for at in range(0, size, 999)])

    assert await request.ask(DjangoGate(Pages())) == 200  # type: ignore[arg-type]  # no Django behind it
    assert request.answer == body
    assert not request.closes


# --- over sockets


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def pages(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory, temporary: Path
) -> Iterator[Gateway]:
    """Starts a server whose temporary files are in a folder of the test."""
    folder = tmp_path_factory.mktemp("pages")
    with run_gateway(_simulator.base_url, gateway_database, folder, TMPDIR=str(temporary)) as gateway:
        yield gateway


def chunked(method: str, path: str, host: str = "localhost") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Transfer-Encoding: chunked"]
    return "\r\n".join([*lines, "Content-Type: application/x-www-form-urlencoded", "", ""]).encode()


@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("POST", "/admin/login/", "localhost", b"413"),
        ("POST", "/admin/login/", "evil.example", b"400"),
        ("POST", "/my-usage/", "localhost", b"413"),
        ("POST", "/static/x", "evil.example", b"405"),
        ("GET", "/static/admin/js/cancel.js", "localhost", b"200"),
        ("GET", "/admin/login/", "localhost", b"200"),
        ("PUT", "/admin/login/", "localhost", b"403"),
    ],
)
def test_no_disk_is_filled(pages: Gateway, temporary: Path, method: str, path: str, host: str, status: bytes) -> None:
    before = sorted(temporary.rglob("*"))
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with connect(pages) as wire:
        wire.send(chunked(method, path, host))
        with pytest.raises(ConnectionError):
            wire.send(chunk * 1600)  # 100 MiB
        assert wire.read_to_end().startswith(b"HTTP/1.1 " + status)

    assert sorted(temporary.rglob("*")) == before
    assert pages.http.get("/healthz").status_code == 200


def test_a_list_action_on_as_many_rows_as_django_takes_fits() -> None:
    most = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
    rows = [("_selected_action", str(uuid4())) for _ in range(most - 4)]
    others = [("action", "delete_selected"), ("select_across", "1"), ("index", "0"), ("csrfmiddlewaretoken", "x" * 64)]

    assert len(urlencode([*others, *rows])) <= MAX_PAGE_BODY_BYTES


def test_an_admin_can_save_a_form_with_every_permission(outage: tuple[Gateway, Postgres]) -> None:
    pages, _ = outage
    browser = pages.sign_in()
    form = {
        "csrfmiddlewaretoken": browser.cookies["chatproxy_csrf"],
        "name": "all",
        "permissions": [*map(str, range(1, 50))],
    }
    answer = browser.post("/admin/auth/group/add/", data=form, headers={"referer": pages.url})

    assert answer.status_code == 200
    assert answer.url.path == "/admin/auth/group/"
