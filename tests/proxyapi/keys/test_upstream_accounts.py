"""Whose account pays upstream: the gateway's, or one that the call brings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

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
from tests.support.servers.gateway import SECURITY_KEY, UPSTREAM_KEY, Gateway, run_gateway

OWN_HEADERS = ("Bearer sk-own", "proj_own", "org-own")


@pytest.fixture(scope="module")
def keyless(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A server without an upstream key, but with a project and an organization."""
    settings = {"OPENAI_API_KEY": "", "OPENAI_PROJECT_KEY": "proj_house", "OPENAI_ORGANIZATION": "org-house"}
    folder = tmp_path_factory.mktemp("keyless")
    with run_gateway(_simulator.base_url, gateway_database, folder, **settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def house(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server with a project and an organization, and with every variable that the SDK would read by itself."""
    settings = {
        "OPENAI_PROJECT_KEY": "proj_house",
        "OPENAI_ORGANIZATION": "org-house",
        "OPENAI_ORG_ID": "org-leaked",
        "OPENAI_PROJECT_ID": "proj_leaked",
        "OPENAI_ADMIN_KEY": "sk-admin-leaked",
        "OPENAI_WEBHOOK_SECRET": "whsec-leaked",
        "OPENAI_CUSTOM_HEADERS": "x-leaked: leaked",
        "OPENAI_API_TYPE": "azure",
        "OPENAI_API_VERSION": "leaked",
        "AZURE_OPENAI_ENDPOINT": "http://leaked.invalid",
        "OPENAI_LOG": "debug",
    }
    folder = tmp_path_factory.mktemp("house")
    with run_gateway(_simulator.base_url, gateway_database, folder, **settings) as gateway:
        yield gateway


@pytest.mark.parametrize("path", BODY_CALLS)
def test_a_body_can_bring_its_own_account(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = gateway.post(path, {**BODY_CALLS[path], **OWN})

    assert answer.status_code == 200, answer.text
    assert account(simulator) == OWN_HEADERS
    assert not any(value in sent_up(simulator) for value in OWN.values())
    assert gateway.row(answer)["outcome"] == "success"


def test_a_form_can_bring_its_own_account(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.http.post(TRANSCRIPTIONS, data={"security_key": SECURITY_KEY, **OWN}, files=SOUND)

    assert answer.status_code == 200
    assert account(simulator) == OWN_HEADERS
    assert not any(value in sent_up(simulator) for value in OWN.values())


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_query_can_bring_its_own_account(gateway: Gateway, simulator: Simulator, method: str, path: str) -> None:
    answer = call(gateway, method, path, params={"security_key": SECURITY_KEY, **OWN})

    assert answer.status_code == 200, answer.text
    assert account(simulator) == OWN_HEADERS
    assert simulator.last.query == ""
    assert not any(value in sent_up(simulator) for value in OWN.values())


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_empty_account_is_none(gateway: Gateway, simulator: Simulator, nothing: Any) -> None:
    assert gateway.post("/openai", {**CHAT, **dict.fromkeys(OWN, nothing)}).status_code == 200
    assert account(simulator) == (f"Bearer {UPSTREAM_KEY}", None, None)
    assert simulator.last.json == CHAT


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(
    "value",
    [5, True, [], ["x"], {}, "a b", "a\r\nx-evil: 1", "é", "\x7f", "\ud83d", "k" * 4097],
    ids=lambda value: repr(value)[:20],
)
def test_an_account_that_is_no_header_value_is_refused(
    gateway: Gateway, simulator: Simulator, name: str, value: Any
) -> None:
    content = json.dumps({"security_key": SECURITY_KEY, **CHAT, name: value})
    answer = gateway.http.post("/openai", content=content, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == name
    assert simulator.requests == []


def test_upstreams_refusal_of_a_callers_own_key_passes(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai", {**CHAT, "openai_api_key": "sk-invalid-own"})

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert gateway.row(answer)["outcome"] == "upstream_error"


def test_the_configured_account_goes_with_the_configured_key(house: Gateway, simulator: Simulator) -> None:
    assert house.post("/openai", CHAT).status_code == 200
    assert account(simulator) == (f"Bearer {UPSTREAM_KEY}", "proj_house", "org-house")


@pytest.mark.parametrize(
    ("own", "paid_by"),
    [
        ({"project": "proj_own"}, (f"Bearer {UPSTREAM_KEY}", "proj_own", "org-house")),
        ({"organization": "org-own"}, (f"Bearer {UPSTREAM_KEY}", "proj_house", "org-own")),
        ({"openai_api_key": "sk-own"}, ("Bearer sk-own", None, None)),
        ({"openai_api_key": "sk-own", "project": "proj_own"}, ("Bearer sk-own", "proj_own", None)),
        (OWN, OWN_HEADERS),
    ],
)
def test_the_configured_account_does_not_go_with_anothers_key(
    house: Gateway, simulator: Simulator, own: dict[str, str], paid_by: tuple[str | None, ...]
) -> None:
    assert house.post("/openai", {**CHAT, **own}).status_code == 200
    assert account(simulator) == paid_by


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_the_sdks_own_variables_leak_into_nothing(house: Gateway, simulator: Simulator, method: str, path: str) -> None:
    answer = call(house, method, path, params={"security_key": SECURITY_KEY, "openai_api_key": "sk-own"})

    assert answer.status_code == 200
    assert account(simulator) == ("Bearer sk-own", None, None)
    assert "leaked" not in str(simulator.last.headers)
    assert "leaked" not in answer.text


def test_the_sdks_own_log_says_nothing_of_a_call(house: Gateway, simulator: Simulator) -> None:
    messages = [{"role": "user", "content": "a very private question"}]
    house.row(house.post("/openai", {**CHAT, "messages": messages, **OWN}))

    assert "a very private question" not in house.log
    assert "sk-own" not in house.log


# --- no upstream key


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_without_an_upstream_key_a_call_is_told_so(
    keyless: Gateway, simulator: Simulator, method: str, path: str
) -> None:
    answer = call(keyless, method, path, headers={"authorization": f"Bearer {SECURITY_KEY}"})

    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "server_error"
    assert answer.json()["error"]["code"] == "upstream_key_missing"
    assert int(answer.headers["retry-after"]) > 0
    assert simulator.requests == []
    row = keyless.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 503, "upstream_key_missing")


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_without_an_upstream_key_a_call_can_bring_its_own(
    keyless: Gateway, simulator: Simulator, method: str, path: str
) -> None:
    answer = call(keyless, method, path, params={"security_key": SECURITY_KEY, "openai_api_key": "sk-own"})

    assert answer.status_code == 200
    assert account(simulator) == ("Bearer sk-own", None, None)


def test_without_an_upstream_key_the_key_is_still_checked_first(keyless: Gateway, simulator: Simulator) -> None:
    assert keyless.http.post("/openai", json={**CHAT, **OWN}).status_code == 403
    assert simulator.requests == []


def test_without_an_upstream_key_the_index_says_so(keyless: Gateway, simulator: Simulator) -> None:
    answer = keyless.http.get("/")

    assert answer.status_code == 200
    assert "not configured" in answer.text
