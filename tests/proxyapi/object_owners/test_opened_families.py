"""Every family that a setting opens goes through the same checks: owners, lists, and who administers the account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from uuid import uuid4

import httpx2
import pytest

from proxyapi.object_owners.owner_recording import NOT_KEPT
from proxyapi.routes import FAMILIES, Family
from tests.support.callers.budgeted_keys import make_key
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream

OBJECTS = [family for family in FAMILIES if not family.is_administration and family.name != "models"]
ADMINISTRATION = [family for family in FAMILIES if family.is_administration]
numbers = count()


@pytest.fixture(scope="module")
def upstream() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def server(
    upstream: FixedUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("opened")
    with run_gateway(upstream.base_url, gateway_database, folder, V1_ROUTES="all") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def elsewhere(
    upstream: FixedUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Another host, with the same database."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with run_gateway(upstream.base_url, gateway_database, folder, V1_ROUTES="all") as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def _usual(upstream: FixedUpstream) -> None:
    upstream.reset()


def client(server: Gateway, key: str) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=60)


@pytest.fixture(scope="module")
def alice(server: Gateway) -> Iterator[httpx2.Client]:
    with client(server, make_key(server, f"opened alice {uuid4()}")) as http:
        yield http


@pytest.fixture(scope="module")
def bob(server: Gateway) -> Iterator[httpx2.Client]:
    with client(server, make_key(server, f"opened bob {uuid4()}")) as http:
        yield http


def make(http: httpx2.Client, upstream: FixedUpstream, path: str = "/v1/vector_stores") -> str:
    """An object that the caller has made, by the answer that upstream gave it."""
    object_id = f"obj_{next(numbers)}"
    upstream.body = json.dumps({"id": object_id}).encode()
    http.post(path, json={}).raise_for_status()
    upstream.reset()
    return object_id


def name_of(family: Family) -> str:
    return family.name


@pytest.mark.parametrize("family", OBJECTS, ids=name_of)
def test_another_keys_object_is_not_there_on_any_path_with_any_method(
    family: Family, alice: httpx2.Client, bob: httpx2.Client, upstream: FixedUpstream
) -> None:
    hers = make(alice, upstream)
    for path, methods in family.paths.items():
        if "{id}" not in path:
            continue
        written = "/v1" + path.replace("{id}", hers, 1).replace("{id}", "x_2")
        for method in methods:
            answer = bob.request(method, written)
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error"), written
            assert upstream.asked == []
        for method in methods:
            assert alice.request(method, written).status_code == 200, written
        assert [method for method, *_ in upstream.asked] == list(methods)
        upstream.reset()


@pytest.mark.parametrize("family", OBJECTS, ids=name_of)
def test_what_a_key_makes_is_its_own(
    family: Family, alice: httpx2.Client, bob: httpx2.Client, upstream: FixedUpstream
) -> None:
    for path, methods in family.paths.items():
        if "POST" not in methods or "{id}" in path or f"/v1{path}" in NOT_KEPT | {"/v1/chat/completions"}:
            continue
        hers = make(alice, upstream, f"/v1{path}")
        assert bob.get(f"/v1/files/{hers}").status_code == 404, path
        assert bob.post("/v1/responses", json={"model": "x", "conversation": hers}).status_code == 404
        assert upstream.asked == []
        assert alice.get(f"/v1/files/{hers}").status_code == 200
        upstream.reset()


@pytest.mark.parametrize("family", OBJECTS, ids=name_of)
def test_a_list_has_a_keys_own_objects_only(
    family: Family, alice: httpx2.Client, bob: httpx2.Client, upstream: FixedUpstream
) -> None:
    hers, his = make(alice, upstream), make(bob, upstream)
    whole = json.dumps({"object": "list", "data": [{"id": hers}, {"id": his}]})
    for path, methods in family.paths.items():
        if "GET" not in methods or "{id}" in path:
            continue
        upstream.body = whole.encode()
        shown = [item["id"] for item in bob.get(f"/v1{path}").json()["data"]]
        assert shown == ([hers, his] if family.is_catalogue else [his]), path


def test_the_kinds_of_webhook_events_are_the_same_for_all(bob: httpx2.Client, upstream: FixedUpstream) -> None:
    upstream.body = b'{"object": "list", "data": ["response.completed", "batch.failed"]}'

    assert bob.get("/v1/webhook_event_types").content == upstream.body


@pytest.mark.parametrize("family", ADMINISTRATION, ids=name_of)
def test_the_account_is_administered_by_the_built_in_key_only(
    family: Family, server: Gateway, bob: httpx2.Client, upstream: FixedUpstream
) -> None:
    upstream.body = b'{"object": "page", "data": [{"object": "bucket"}]}'
    with client(server, SECURITY_KEY) as default:
        for path, methods in family.paths.items():
            for method in methods:
                written = "/v1" + path.replace("{id}", "x_1")
                refused = bob.request(method, written)
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "route_not_allowed")
                assert "administers the upstream account" in refused.json()["error"]["message"]
                assert upstream.asked == []
                assert default.request(method, written).content == upstream.body
                upstream.asked.clear()


def test_a_key_with_an_account_of_its_own_administers_that(server: Gateway, upstream: FixedUpstream) -> None:
    key = server.make_key("opened administrator", "--upstream-key-file", "-", said="sk-admin-of-another-account")
    upstream.body = b'{"object": "page", "data": [{"object": "bucket"}]}'
    with client(server, key) as http:
        assert http.get("/v1/organization/costs").content == upstream.body

    assert upstream.asked[0][2]["authorization"] == "Bearer sk-admin-of-another-account"


# Where an answer names what it made.


def test_a_call_is_its_makers_by_the_location_of_its_answer(
    alice: httpx2.Client, bob: httpx2.Client, upstream: FixedUpstream
) -> None:
    upstream.content_type, upstream.body = "application/sdp", b"v=0\r\n"
    upstream.headers = {"Location": "/v1/realtime/calls/rtc_1"}
    answer = alice.post("/v1/realtime/calls", files={"sdp": (None, "v=0"), "session": (None, '{"model": "x"}')})
    assert (answer.status_code, answer.headers["location"]) == (200, "/v1/realtime/calls/rtc_1")
    upstream.reset()

    assert bob.post("/v1/realtime/calls/rtc_1/hangup").status_code == 404
    assert alice.post("/v1/realtime/calls/rtc_1/hangup").status_code == 200
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    ("path", "answer", "made"),
    [
        ("/v1/live/sessions", {"session": {"id": "sess_1"}, "transport": {}}, ["sess_1"]),
        ("/v1/realtime/client_secrets", {"value": "ek_1", "session": {"id": "sess_2"}}, ["sess_2"]),
        (
            "/v1/agents/sessions",
            {"id": "asess_1", "object": "agent.session", "environment": {"id": "env_1"}, "agent": {"id": "agent_1"}},
            ["asess_1", "env_1"],
        ),
    ],
)
def test_what_else_an_answer_names_is_its_makers(
    path: str, answer: dict[str, object], made: list[str], alice: httpx2.Client, bob: httpx2.Client,
    upstream: FixedUpstream,
) -> None:  # fmt: skip
    upstream.body = json.dumps(answer).encode()
    alice.post(path, json={}).raise_for_status()
    upstream.reset()

    for object_id in made:
        assert bob.get(f"/v1/files/{object_id}").status_code == 404
        assert alice.get(f"/v1/files/{object_id}").status_code == 200
    assert alice.get("/v1/files/agent_1").status_code == 404


def test_the_sessions_of_an_automation_are_its_makers_also_if_they_are_only_listed(
    alice: httpx2.Client, bob: httpx2.Client, upstream: FixedUpstream
) -> None:
    automation = make(alice, upstream)
    invocation = {"id": "ainv_1", "object": "agent.automation.invocation", "session_id": "asess_3"}
    upstream.body = json.dumps({"object": "list", "data": [invocation]}).encode()
    alice.get(f"/v1/agents/automations/{automation}/invocations").raise_for_status()
    upstream.reset()

    for path in ("/v1/agents/sessions/asess_3", f"/v1/agents/automations/{automation}/invocations/ainv_1"):
        assert (bob.get(path).status_code, alice.get(path).status_code) == (404, 200)


STORES = {"tool_resources": {"file_search": {"vector_store_ids": ["{}"]}}}
# Calls about an object of the caller's, whose answers repeat the id of another object, which another call has named.
REPEATING: dict[str, tuple[str, str, dict[str, object]]] = {
    "the stores of an assistant": ("POST", "/v1/assistants/{own}", {"object": "assistant", **STORES}),
    "the stores of a thread": ("POST", "/v1/threads/{own}", {"object": "thread", **STORES}),
    "the environment of a session": (
        "GET", "/v1/agents/sessions/{own}", {"object": "agent.session", "environment": {"id": "{}"}},
    ),
    "the environment of a session in a list": (
        "GET", "/v1/agents/sessions", {"object": "list", "data": [
            {"id": "{own}", "object": "agent.session", "environment": {"id": "{}"}}]},
    ),
    "the session of an automation": (
        "GET", "/v1/agents/automations/{own}/invocations/{own}",
        {"object": "agent.automation.invocation", "session_id": "{}"},
    ),
    "the container of a response": (
        "GET", "/v1/responses/{own}",
        {"object": "response", "output": [{"type": "code_interpreter_call", "container_id": "{}"}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("is_known", [True, False], ids=["made by another key", "not made through the gateway"])
@pytest.mark.parametrize("name", REPEATING)
def test_what_an_answer_repeats_does_not_become_the_callers(
    name: str, is_known: bool, server: Gateway, elsewhere: Gateway, alice: httpx2.Client, upstream: FixedUpstream
) -> None:
    """A shared object may be used and not changed, also by who has named it once, on a host that has not served it."""
    method, path, answer = REPEATING[name]
    shared = make(alice, upstream) if is_known else f"outside_{next(numbers)}"
    key = server.make_key(f"user of {shared}", "--shared-object", shared)
    elsewhere.wait_until_known(key)
    with client(elsewhere, key) as http:
        own = make(http, upstream)
        text = json.dumps({"id": own, **answer}).replace("{}", shared).replace("{own}", own)
        upstream.body = text.encode()
        for _ in range(2):
            answered = http.request(method, path.format(own=own))
            assert shared in answered.raise_for_status().text
        elsewhere.row(answered)
        upstream.reset()
        assert http.get(f"/v1/files/{shared}").status_code == 200
        assert http.delete(f"/v1/files/{shared}").status_code == 403
    with client(server, key) as http:
        assert http.delete(f"/v1/files/{shared}").status_code == 403
    assert (alice.delete(f"/v1/files/{shared}").status_code == 200) == is_known


def test_a_streamed_session_is_its_makers(alice: httpx2.Client, bob: httpx2.Client, upstream: FixedUpstream) -> None:
    environment = {"id": "env_2"}
    session = {"id": "asess_2", "object": "agent.session", "environment": environment, "metadata": {"x": "x" * 5000}}
    event = {"type": "agent.session.created", "event_id": "event_1", "session": session}
    upstream.content_type, upstream.body = "text/event-stream", b"data: " + json.dumps(event).encode() + b"\n\n"
    assert alice.post("/v1/agents/sessions", json={"stream": True}).content == upstream.body
    upstream.reset()

    for path in ("/v1/agents/sessions/asess_2/events", "/v1/agents/environments/env_2"):
        assert bob.get(path).status_code == 404
        assert alice.get(path).status_code == 200
    body = {"target": {"session_id": "asess_2"}}
    assert bob.post("/v1/agents/automations", json=body).status_code == 404
    assert alice.post("/v1/agents/automations", json=body).status_code == 200


def test_a_key_that_is_limited_to_models_starts_nothing_that_hides_them(
    server: Gateway, upstream: FixedUpstream
) -> None:
    with client(server, server.make_key("opened limited", "--model", "gpt-4o-*")) as http:
        for path in (
            "realtime/client_secrets", "live/sessions", "agents/sessions", "agents/automations", "chatkit/sessions",
        ):  # fmt: skip
            answer = http.post(f"/v1/{path}", json={"model": "gpt-4o-mini"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "route_not_allowed")
            assert f"/v1/{path}" in answer.json()["error"]["message"]
        assert http.post("/v1/completions", json={"model": "gpt-x", "prompt": "x"}).status_code == 403
        assert upstream.asked == []
        assert http.post("/v1/completions", json={"model": "gpt-4o-x", "prompt": "x"}).status_code == 200
        assert http.post("/v1/evals", json={"testing_criteria": [{"model": "gpt-x"}]}).status_code == 403
        assert http.post("/v1/evals", json={"testing_criteria": [{"model": "gpt-4o-x"}]}).status_code == 200
