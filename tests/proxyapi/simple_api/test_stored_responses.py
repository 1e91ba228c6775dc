"""Responses that upstream keeps: retrieved, listed, cancelled and deleted, and ids that are none."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseItemList

from tests.simulator.server import Simulator
from tests.support.calls.simple_responses import EXAMPLE, KEY, ask_unchanged, create
from tests.support.servers.gateway import SECURITY_KEY, Gateway


def test_a_response_can_be_retrieved(gateway: Gateway, simulator: Simulator) -> None:
    made = create(gateway)
    answer = gateway.get(f"/openai2/{made}")

    assert answer.status_code == 200
    assert answer.json()["id"] == made
    assert simulator.last.method == "GET"
    assert simulator.last.path == f"/v1/responses/{made}"
    assert simulator.last.query == ""
    assert simulator.last.body == b""
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["method"]) == ("success", 200, "GET")
    assert row["route"] == "/openai2/{id}"
    assert row["response_id"] == made


def test_the_sdk_retrieves_lists_cancels_and_deletes(gateway: Gateway, simulator: Simulator) -> None:
    made = create(gateway, background=True)
    with gateway.sdk() as client:
        assert client.get(f"/openai2/{made}", cast_to=Response).id == made
        items = client.get(f"/openai2/{made}/input_items", cast_to=ResponseItemList)
        assert [item.type for item in items.data] == ["message"]
        assert client.post(f"/openai2/{made}/cancel", cast_to=Response).status == "cancelled"
        client.delete(f"/openai2/{made}", cast_to=object)
        with pytest.raises(openai.NotFoundError, match="not found"):
            client.get(f"/openai2/{made}", cast_to=Response)


@pytest.mark.parametrize(
    "query",
    [
        [("include[]", "file_search_call.results")],
        [("include[]", "reasoning.encrypted_content"), ("include[]", "message.output_text.logprobs")],
        [("include", "reasoning.encrypted_content")],
        [("include_obfuscation", "false")],
        [("unknown", "a b&c=d/é+%")],
        [("empty", "")],
    ],
    ids=str,
)
def test_a_query_goes_up_without_our_fields(
    gateway: Gateway, simulator: Simulator, query: list[tuple[str, str]]
) -> None:
    ours = [("security_key", SECURITY_KEY), ("openai_api_key", "sk-own"), ("project", "proj_1")]
    more = [("organization", "org-1"), ("timeout", "5000"), ("access_token", "none")]
    answer = gateway.http.get(f"/openai2/{EXAMPLE}", params=[*ours, *query, *more])

    assert answer.status_code == 200
    assert list(gateway.http.build_request("GET", f"/?{simulator.last.query}").url.params.multi_items()) == query


def test_an_include_that_upstream_does_not_know_is_its_to_judge(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.get(f"/openai2/{EXAMPLE}", **{"include[]": "nonsense"})

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_value"


def test_a_response_can_be_deleted(gateway: Gateway, simulator: Simulator) -> None:
    made = create(gateway)
    answer = gateway.http.delete(f"/openai2/{made}", params=KEY)

    assert answer.status_code == 200
    assert answer.json() == {"id": made, "object": "response", "deleted": True}
    assert simulator.last.method == "DELETE"
    assert simulator.last.path == f"/v1/responses/{made}"
    assert (simulator.last.query, simulator.last.body) == ("", b"")
    row = gateway.row(answer)
    assert (row["outcome"], row["method"], row["route"]) == ("success", "DELETE", "/openai2/{id}")
    assert gateway.get(f"/openai2/{made}").status_code == 404


@pytest.mark.parametrize("place", ["body", "query", "bearer", "empty-body"])
def test_a_response_can_be_cancelled(gateway: Gateway, simulator: Simulator, place: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "body": {"json": KEY},
        "query": {"params": KEY},
        "bearer": {"headers": {"authorization": f"Bearer {SECURITY_KEY}"}},
        "empty-body": {"params": KEY, "content": b"", "headers": {"content-type": "application/json"}},
    }
    answer = gateway.http.post(f"/openai2/{EXAMPLE}/cancel", **options[place])

    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert simulator.last.method == "POST"
    assert simulator.last.path == f"/v1/responses/{EXAMPLE}/cancel"
    assert simulator.last.query == ""
    assert SECURITY_KEY.encode() not in simulator.last.body
    row = gateway.row(answer)
    assert (row["outcome"], row["method"], row["route"]) == ("success", "POST", "/openai2/{id}/cancel")


def test_upstream_refuses_to_cancel_what_did_not_run_in_the_background(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post(f"/openai2/{create(gateway)}/cancel", {})

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Cannot cancel a synchronous response."


def test_the_input_items_are_paged(gateway: Gateway, simulator: Simulator) -> None:
    texts = [{"role": "user", "content": f"number {number}"} for number in range(5)]
    path = f"/openai2/{create(gateway, input=texts)}/input_items"
    everything = gateway.get(path, order="asc").json()
    ids = [item["id"] for item in everything["data"]]
    assert len(ids) == 5
    assert everything["has_more"] is False

    answer = gateway.get(path, after=ids[1], limit="2", order="asc")

    assert answer.status_code == 200
    assert [item["id"] for item in answer.json()["data"]] == ids[2:4]
    assert answer.json()["has_more"] is True
    assert simulator.last.method == "GET"
    assert simulator.last.path == f"/v1{path.replace('openai2', 'responses')}"
    assert simulator.last.query == f"after={ids[1]}&limit=2&order=asc"
    assert gateway.row(answer)["route"] == "/openai2/{id}/input_items"
    assert [item["id"] for item in gateway.get(path, limit="2").json()["data"]] == ids[:2:-1]


def test_the_input_items_take_include(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.get(f"/openai2/{EXAMPLE}/input_items", **{"include[]": "message.input_image.image_url"})

    assert answer.status_code == 200
    assert answer.json()["data"][0]["content"] == [{"type": "input_text", "text": "Tell me a story."}]
    assert simulator.last.query == "include%5B%5D=message.input_image.image_url"


@pytest.mark.parametrize(
    ("method", "suffix"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]
)
def test_a_response_that_upstream_does_not_have_is_its_404(
    gateway: Gateway, simulator: Simulator, method: str, suffix: str
) -> None:
    answer = gateway.http.request(method, f"/openai2/resp_gone{suffix}", params=KEY)

    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Response with id 'resp_gone' not found."
    assert len(simulator.requests) == 1
    assert gateway.row(answer)["outcome"] == "upstream_error"


@pytest.mark.parametrize(
    ("method", "suffix"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]
)
@pytest.mark.parametrize(
    "strange",
    [
        "..", ".", "%2e%2e", "a%2Fb", "..%2F..%2Fmodels", "%2e%2e%2fmodels", "a%3Fb", "a%23b", "a%20b", "a%0A", "%0Aa",
        "a%0D%0Ab", "a%00", "%C3%A9", "a;b", "a:b", "a@b", "a\\b", "x" * 257, "x" * 5000,
    ],
)  # fmt: skip
def test_an_id_that_is_none_never_reaches_upstream(
    gateway: Gateway, simulator: Simulator, method: str, suffix: str, strange: str
) -> None:
    status, content_type, body = ask_unchanged(
        gateway, method, f"/openai2/{strange}{suffix}?security_key={SECURITY_KEY}"
    )

    assert (status, content_type) == (404, "application/json")
    assert json.loads(body)["error"]["code"] == "not_found"
    assert simulator.requests == []


@pytest.mark.parametrize("name", ["resp_a-b_C9", "x", "x" * 256])
def test_an_id_may_be_anything_that_openai_makes(gateway: Gateway, simulator: Simulator, name: str) -> None:
    gateway.get(f"/openai2/{name}")

    assert simulator.last.path == f"/v1/responses/{name}"


@pytest.mark.parametrize("path", [f"/openai2/{EXAMPLE}", f"/openai2/{EXAMPLE}/input_items"])
def test_head_asks_upstream_with_get(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = gateway.http.head(path, params=KEY)

    assert answer.status_code == 200
    assert answer.content == b""
    assert [request.method for request in simulator.requests] == ["GET"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/openai2", {"POST"}),
        ("GET", "/openai2/resp_1/cancel", {"POST"}),
        ("DELETE", "/openai2/resp_1/input_items", {"GET"}),
        ("POST", "/openai2/resp_1", {"GET", "DELETE"}),
    ],
)
def test_another_method_is_refused(
    gateway: Gateway, simulator: Simulator, method: str, path: str, allowed: set[str]
) -> None:
    answer = gateway.http.request(method, path, params=KEY)

    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert set(answer.headers["allow"].split(", ")) - {"HEAD", "OPTIONS"} == allowed
    assert simulator.requests == []
