"""The management API over HTTP: its tokens open it and nothing else, and a key that it makes can be used."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from chatproxy.asgi import application
from tests.support.callers.api_tokens import make_token_at
from tests.support.callers.asgi import Asgi
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway


@pytest.fixture(scope="module")
def text(gateway: Gateway) -> str:
    return make_token_at(gateway, "management api")


def ask(gateway: Gateway, text: str, method: str, path: str, **options: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {text}", **options.pop("headers", {})}
    return gateway.http.request(method, path, headers=headers, **options)


def test_it_works(gateway: Gateway, text: str) -> None:
    before = gateway.count()
    made = ask(gateway, text, "POST", "/api/keys", json={"name": "over/http ä", "requests_per_minute": 5})
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store")
    gateway.wait_until_known(made.json()["key"])
    path = "/api/keys/over%2Fhttp%20%C3%A4"
    shown = ask(gateway, text, "GET", path)
    assert (shown.status_code, shown.json()["requests_per_minute"]) == (200, 5)
    assert "key" not in shown.json()
    rotated = ask(gateway, text, "POST", f"{path}/rotate")
    gateway.wait_until_known(rotated.json()["key"])
    assert ask(gateway, text, "POST", f"{path}/revoke").json()["state"] == "revoked"
    gateway.wait_until_known(rotated.json()["key"], known=False)

    assert gateway.count("WHERE route LIKE '/api%'") == 0
    assert gateway.count() >= before


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
@pytest.mark.parametrize("key", ["wrong", SECURITY_KEY, ACCESS_TOKEN, "cpt-" + "a" * 43])
def test_no_other_key_opens_it(gateway: Gateway, key: str, method: str) -> None:
    path = "/api/keys/x" if method == "PATCH" else "/api/keys"
    answer = ask(gateway, key, method, path, params={"security_key": SECURITY_KEY, "access_token": ACCESS_TOKEN})

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_opens_nothing_else(gateway: Gateway, text: str) -> None:
    for path, status in (("/v1/models", 401), ("/usage", 403), ("/metrics", 403), ("/log", 403)):
        assert ask(gateway, text, "GET", path).status_code == status
    assert ask(gateway, text, "POST", "/openai", json={"timeout": "x"}).status_code == 403


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"content": b"{"}, 400, "bad_json"),
        ({"content": b"[]"}, 400, "bad_json"),
        ({"content": b'{"name": "x"}', "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ({"content": b'{"note": "' + b"a" * 70_000 + b'"}'}, 413, "body_too_large"),
        ({"content": b"{}"}, 400, "missing_required_parameter"),
    ],
)
def test_a_wrong_body_is_refused(gateway: Gateway, text: str, options: dict[str, Any], status: int, code: str) -> None:
    headers = {"content-type": "application/json", **options.pop("headers", {})}
    answer = ask(gateway, text, "POST", "/api/keys", headers=headers, **options)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_page_of_another_origin_gets_no_permission(gateway: Gateway, text: str) -> None:
    for method, more in (("GET", {}), ("OPTIONS", {"access-control-request-method": "GET"})):
        answer = ask(gateway, text, method, "/api/keys", headers={"origin": "https://evil.test", **more})
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("token", ["", "Bearer wrong", "Bearer cpt-" + "a" * 43, "Basic eDp5"])
async def test_a_stranger_gets_no_thread(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setattr("proxyapi.management.api_views.read_from_database", lambda _read: pytest.fail("asked"))

    assert await Asgi("GET", "/api/keys", headers={"authorization": token}).ask(application) == 401
