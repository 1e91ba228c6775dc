"""Whose key lets a call in, and that nothing of it goes where it should not."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.simulator.server import Simulator
from tests.support.calls.account_calls import (
    BODY_CALLS,
    CALLS,
    CHAT,
    OWN,
    SOUND,
    TRANSCRIPTIONS,
    account,
    call,
    sent_up,
)
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, UPSTREAM_KEY, Gateway

# --- the key that lets a call in


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.http.post("/openai", json={"security_key": SECURITY_KEY, **CHAT})

    assert answer.status_code == 200
    assert account(simulator) == (f"Bearer {UPSTREAM_KEY}", None, None)
    assert SECURITY_KEY not in sent_up(simulator)
    assert gateway.row(answer)["key_name"] == "default"


@pytest.mark.parametrize("place", ["query", "bearer", "scheme-in-capitals", "header"])
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_the_key_is_taken_wherever_it_is(
    gateway: Gateway, simulator: Simulator, method: str, path: str, place: str
) -> None:
    places: dict[str, dict[str, Any]] = {
        "query": {"params": {"security_key": SECURITY_KEY}},
        "bearer": {"headers": {"authorization": f"Bearer {SECURITY_KEY}"}},
        "scheme-in-capitals": {"headers": {"authorization": f"BEARER {SECURITY_KEY}"}},
        "header": {"headers": {"x-security-key": SECURITY_KEY}},
    }
    answer = call(gateway, method, path, **places[place])

    assert answer.status_code == 200, answer.text
    assert account(simulator) == (f"Bearer {UPSTREAM_KEY}", None, None)
    assert SECURITY_KEY not in sent_up(simulator)
    assert gateway.row(answer)["outcome"] == "success"


@pytest.mark.parametrize("path", BODY_CALLS)
def test_the_key_is_taken_from_the_body(gateway: Gateway, simulator: Simulator, path: str) -> None:
    assert gateway.post(path, BODY_CALLS[path]).status_code == 200
    assert SECURITY_KEY not in sent_up(simulator)


def test_the_key_is_taken_from_the_form(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.http.post(TRANSCRIPTIONS, data={"security_key": SECURITY_KEY}, files=SOUND)

    assert answer.status_code == 200
    assert SECURITY_KEY not in sent_up(simulator)


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_without_a_key_nothing_reaches_upstream(gateway: Gateway, simulator: Simulator, method: str, path: str) -> None:
    answer = call(gateway, method, path)

    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/json"
    request_id = answer.headers["x-proxy-request-id"]
    assert answer.json() == {
        "error": {
            "message": "Missing or invalid key.",
            "type": "authentication_error",
            "param": None,
            "code": "invalid_key",
            "request_id": request_id,
        }
    }
    assert simulator.requests == []


NEAR_MISSES: list[Any] = [
    "wrong", "", " ", SECURITY_KEY[:-1], SECURITY_KEY + "x", SECURITY_KEY.upper(), f" {SECURITY_KEY}",
    f"{SECURITY_KEY}\n", f"{SECURITY_KEY}\0", "é✓", "\ud83d", "x" * 100_000, None, 5, 0, True, False, 1.5, [],
    [SECURITY_KEY], {}, {"security_key": SECURITY_KEY},
]  # fmt: skip


@pytest.mark.parametrize("given", NEAR_MISSES, ids=lambda given: repr(given)[:30])
def test_every_wrong_key_gets_the_same_answer(gateway: Gateway, simulator: Simulator, given: Any) -> None:
    missing = gateway.http.post("/openai", json=CHAT)
    headers = {"content-type": "application/json"}
    answer = gateway.http.post("/openai", content=json.dumps({"security_key": given, **CHAT}), headers=headers)

    assert answer.status_code == missing.status_code == 403
    assert without_request_id(answer) == without_request_id(missing)
    assert set(answer.headers) == set(missing.headers)
    assert simulator.requests == []


def without_request_id(answer: Any) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert error.pop("request_id") == answer.headers["x-proxy-request-id"]
    return error


@pytest.mark.parametrize(
    "options",
    [
        {"params": {"security_key": "wrong"}},
        {"params": {"security_key": ""}},
        {"params": {"access_token": SECURITY_KEY}},
        {"params": {"access_token": ACCESS_TOKEN}},
        {"headers": {"authorization": "Bearer wrong"}},
        {"headers": {"authorization": "Bearer"}},
        {"headers": {"authorization": f"Bearer {ACCESS_TOKEN}"}},
        {"headers": {"authorization": f"Basic {SECURITY_KEY}"}},
        {"headers": {"authorization": SECURITY_KEY}},
        {"headers": {"authorization": f"Bearer {UPSTREAM_KEY}"}},
        {"headers": {"x-security-key": "wrong"}},
        {"headers": {"x-security-key": "é".encode()}},
        {"headers": {"cookie": f"security_key={SECURITY_KEY}"}},
        {"data": {"security_key": "wrong"}},
        {"data": {"security_key": "wrong"}, "params": {"security_key": SECURITY_KEY}},
    ],
    ids=str,
)
def test_a_wrong_key_is_wrong_everywhere(gateway: Gateway, simulator: Simulator, options: dict[str, Any]) -> None:
    answer = call(gateway, "POST", TRANSCRIPTIONS, **options)

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "invalid_key"
    assert simulator.requests == []


def test_a_file_is_no_key(gateway: Gateway, simulator: Simulator) -> None:
    files = {**SOUND, "security_key": ("key.txt", SECURITY_KEY.encode(), "text/plain")}

    assert gateway.http.post(TRANSCRIPTIONS, files=files).status_code == 403
    assert simulator.requests == []


def test_a_wrong_key_is_a_typed_error_of_the_sdk(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk().with_options(api_key="wrong") as client, pytest.raises(openai.PermissionDeniedError) as refused:
        client.embeddings.create(model="text-embedding-3-small", input="hi")
    assert refused.value.code == "invalid_key"
    assert refused.value.type == "authentication_error"
    assert simulator.requests == []


def test_a_call_that_was_not_let_in_has_no_row(gateway: Gateway, simulator: Simulator) -> None:
    refused = gateway.http.post("/openai", json=CHAT)
    gateway.row(gateway.post("/openai", CHAT))  # rows are written in order

    assert gateway.rows("WHERE request_id = %s", [refused.headers["x-proxy-request-id"]]) == []


def test_no_key_of_a_query_or_a_header_is_in_the_log(gateway: Gateway, simulator: Simulator) -> None:
    own = {"security_key": SECURITY_KEY, **OWN}
    assert gateway.http.get("/openai2/resp_abc123", params=own).status_code == 200
    assert gateway.http.get("/openai2/resp_abc123", params={"security_key": "wrong-query-key"}).status_code == 403
    assert gateway.http.get("/nowhere", params=own).status_code == 404
    gateway.row(gateway.post("/openai", {**CHAT, **OWN}))

    for secret in (SECURITY_KEY, "wrong-query-key", UPSTREAM_KEY, *OWN.values()):
        assert secret not in gateway.log


# --- what a caller's own headers may not do


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_callers_cookie_and_authorization_stay_here(
    gateway: Gateway, simulator: Simulator, method: str, path: str
) -> None:
    headers = {
        "authorization": f"Bearer {SECURITY_KEY}",
        "cookie": "sessionid=secret-session",
        "openai-organization": "org-header",
        "openai-project": "proj_header",
        "x-forwarded-host": "evil.example",
        "openai-beta": "secret-beta",
    }
    answer = call(gateway, method, path, headers=headers)

    assert answer.status_code == 200
    assert account(simulator) == (f"Bearer {UPSTREAM_KEY}", None, None)
    assert simulator.last.header("cookie") is None
    assert not any(word in sent_up(simulator) for word in ("secret-session", "evil.example", SECURITY_KEY))


@pytest.mark.parametrize("name", ["base_url", "openai_base_url", "host", "api_base"])
def test_a_caller_cannot_name_another_upstream(gateway: Gateway, simulator: Simulator, name: str) -> None:
    body = {**CHAT, name: "http://127.0.0.1:9/v1"}
    headers = {"x-openai-base-url": "http://127.0.0.1:9/v1", "host": "api.openai.example"}
    gateway.post("/openai", body, headers=headers)

    assert simulator.last.json == body  # it is nothing to us
    assert simulator.last.header("host") == simulator.base_url.split("/")[2]
