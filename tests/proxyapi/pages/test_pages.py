"""The pages that need no key: the front page, health checks, the description of the API."""

from __future__ import annotations

import pytest
from django.conf import settings

from tests.simulator.server import Simulator
from tests.support.callers.wire import connect, head
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, UPSTREAM_KEY, Gateway
from tests.support.servers.readiness import wait_until_ok

TOKEN = {"access_token": ACCESS_TOKEN}
GUARDED = ["/log", "/log_errors", "/debug/runtime", "/health", "/health2"]
OPEN = ["/", "/healthz", "/readyz"]
SECRETS = [UPSTREAM_KEY, SECURITY_KEY, ACCESS_TOKEN]


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.http.get("/")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!doctype html>")
    assert settings.VERSION in answer.text
    assert 'href="/admin/"' in answer.text
    assert 'href="/docs"' in answer.text
    assert "configured" in answer.text
    assert "not configured" not in answer.text
    assert simulator.requests == []


def test_the_index_has_no_counts(gateway: Gateway, simulator: Simulator) -> None:
    before = gateway.http.get("/").text
    gateway.row(gateway.post("/chatgpt", {"prompt": "hi"}))

    assert gateway.http.get("/").text == before


def test_healthz_says_that_the_process_is_up(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.http.get("/healthz")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"status": "ok", "version": settings.VERSION}
    assert simulator.requests == []


def test_readyz_says_that_calls_may_come(gateway: Gateway, simulator: Simulator) -> None:
    answer = wait_until_ok(gateway)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["keys"] == "loaded"
    assert answer.json()["draining"] is False
    assert answer.json()["database"] == "ok"
    assert simulator.requests == []


def test_a_web_page_elsewhere_reads_the_status_of_readyz_only(gateway: Gateway, simulator: Simulator) -> None:
    wait_until_ok(gateway)
    answer = gateway.http.get("/readyz", headers={"origin": "https://elsewhere.example"})

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("page", OPEN)
def test_an_open_page_has_no_secret_and_no_limit(gateway: Gateway, page: str) -> None:
    for _ in range(3):
        answer = gateway.http.get(page)
        assert answer.status_code == 200
        assert not any(secret in answer.text for secret in SECRETS)


@pytest.mark.parametrize("page", OPEN)
def test_head_is_get_without_the_body(gateway: Gateway, page: str) -> None:
    answer, whole = gateway.http.head(page), gateway.http.get(page)

    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-length"] == str(len(whole.content))
    assert answer.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("page", [*OPEN, *GUARDED])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_page_is_only_to_be_read(gateway: Gateway, simulator: Simulator, page: str, method: str) -> None:
    answer = gateway.http.request(method, page, params=TOKEN)

    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert "GET" in answer.headers["allow"]
    assert simulator.requests == []


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/nowhere", "/openai3", "/log/more", "/favicon.ico", "/v2/models", "/a%0Ab", "//nowhere"]
)
def test_an_unknown_endpoint_is_404(gateway: Gateway, simulator: Simulator, method: str, path: str) -> None:
    answer = gateway.http.request(method, f"{gateway.url}{path}", params={"security_key": SECURITY_KEY})

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert SECURITY_KEY not in answer.text
    assert simulator.requests == []


def test_the_api_is_documented(gateway: Gateway) -> None:
    page, description = gateway.http.get("/docs"), gateway.http.get("/openapi.json")
    assert '<a href="/">chatproxy</a> <a href="/my-usage/">My usage</a>' in page.text

    assert (page.status_code, description.status_code) == (200, 200)
    assert page.headers["content-type"].startswith("text/html")
    assert description.json()["openapi"].startswith("3.1")
    assert {"/openai", "/openai2/{response_id}", "/embeddings"} <= set(description.json()["paths"])


@pytest.mark.parametrize("path", ["/healthz", "/openai", "/"])
def test_a_head_request_is_answered_on_a_connection_that_goes_on(gateway: Gateway, path: str) -> None:
    with connect(gateway) as wire:
        wire.send(head("HEAD", path))
        assert wire.read_head().status in {200, 405}
        wire.send(head("GET", "/healthz"))
        assert wire.read_answer().status == 200
