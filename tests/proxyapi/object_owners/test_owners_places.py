"""Another key's object is not there in any place of the table, however it is written, on both APIs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from proxyapi.object_owners.object_places import REFERENCES, PlainString
from tests.simulator.server import Simulator
from tests.support.callers.owners import CALL, CHAT, JSON, alice, assert_not_there, bob, default, server, upload

__all__ = ("alice", "bob", "default", "server")  # fixtures


def body_with(name: str, object_id: str) -> dict[str, Any]:
    return {name: object_id if REFERENCES[name].text is PlainString.REFERENCE else {"id": object_id}}


def spellings(name: str, hers: str, own: str) -> Iterator[str]:
    value, escaped = json.dumps(body_with(name, hers)[name]), f"\\u{ord(name[0]):04x}{name[1:]}"
    yield f'{{"model":"gpt-4o-mini","{name}":{value}}}'
    yield f'{{"model":"gpt-4o-mini","{name.title()}":{value}}}'
    yield f'{{"model":"gpt-4o-mini","{escaped}":{value}}}'
    yield f'{{"model":"gpt-4o-mini","tools":[{{"type":"x","deep":{{"{name}":{value}}}}}]}}'
    yield f'{{"model":"gpt-4o-mini","{name}":{value},"{name}":null}}'
    yield f'{{"model":"gpt-4o-mini","{name}":{{"id":"{hers}","id":"{own}"}}}}'
    yield f'{{"model":"gpt-4o-mini","tools":[{{"x":{{"{name}":{value}}},"x":1}}]}}'


@pytest.mark.parametrize("name", REFERENCES)
def test_another_keys_object_is_not_there_in_any_place_on_v1(
    name: str, simulator: Simulator, alice: httpx2.Client, bob: httpx2.Client, default: httpx2.Client
) -> None:
    hers, his = upload(alice), upload(bob)
    paths = ("/v1/responses", "/v1/chat/completions", "/v1/conversations", "/v1/responses/input_tokens", "/v1/threads")
    for path, body in zip(paths * 2, spellings(name, hers, his), strict=False):
        heard = len(simulator.requests)
        answer = bob.post(path, content=body, headers=JSON)
        assert_not_there(answer, simulator, heard)
        assert answer.json()["error"]["message"] == REFERENCES[name].words.format(hers)
    for http, own in ((alice, hers), (bob, his), (default, hers)):
        heard = len(simulator.requests)
        http.post("/v1/responses", json={**CALL, **body_with(name, own)})
        assert len(simulator.requests) == heard + 1


@pytest.mark.parametrize("path", ["/openai2", "/openai2/input_tokens", "/openai2/compact", "/openai", "/embeddings"])
def test_another_keys_object_is_not_there_in_any_place_on_the_simple_api(
    path: str, simulator: Simulator, alice: httpx2.Client, bob: httpx2.Client, default: httpx2.Client
) -> None:
    hers, his = upload(alice), upload(bob)
    for name in REFERENCES:
        if name == "image" and path == "/openai":
            continue  # there it is a field of ours, with a picture in it
        base = {**CALL, "messages": CHAT["messages"], "store": True}
        for body in (body_with(name, hers), {"tools": [{"type": "x", "deep": body_with(name, hers)}]}):
            heard = len(simulator.requests)
            assert_not_there(bob.post(path, json={**base, **body}), simulator, heard)
        for http, own in ((alice, hers), (bob, his), (default, hers)):
            heard = len(simulator.requests)
            http.post(path, json={**base, **body_with(name, own)})
            assert len(simulator.requests) == heard + 1, name


@pytest.mark.parametrize("path", ["/v1/responses", "/openai2"])
def test_nothing_hides_in_a_large_body(
    path: str, simulator: Simulator, alice: httpx2.Client, bob: httpx2.Client
) -> None:
    """Large bodies are read by another reader, and the simple API copies their members as they are written."""
    hers, filling = upload(alice), json.dumps("x" * 400_000)
    for hidden in (
        f'"tools":[{{"x":{{"file_id":"{hers}"}},"x":1}}]',
        f'"tools":[{{"file_id":"{hers}","file_id":"mine"}}]',
        f'"conversation":{{"id":"{hers}","id":"mine"}}',
        f'"input":[{{"id":"{hers}","id":null,"role":"user","content":"hi"}}]',
    ):
        heard = len(simulator.requests)
        body = f'{{"model":"gpt-4o-mini","input":"hi","instructions":{filling},{hidden}}}'
        answer = bob.post(path, content=body, headers=JSON)
        assert_not_there(answer, simulator, heard)


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/v1/responses/a%00b", {404}), ("/v1/responses/%ED%A0%80", {404}), ("/v1/responses/a%0Ab", {404}),
        ("/v1/responses/%7F", {404}), (f"/v1/responses/{'x' * 600}", {404}), ("/v1/files/%C2%85", {404}),
        ("/v1/responses/%FF", {404}), ("/v1/files/a%2Fb", {404}), (f"/openai2/{'x' * 600}", {404}),
    ],
)  # fmt: skip
def test_what_can_be_no_id_is_not_there(
    path: str, statuses: set[int], simulator: Simulator, bob: httpx2.Client
) -> None:
    heard = len(simulator.requests)
    for method in ("GET", "DELETE", "POST"):
        assert bob.request(method, path).status_code in statuses | ({405} if "openai2" in path else set())
    assert len(simulator.requests) == heard


@pytest.mark.parametrize("bad", ['"\\u0000"', '"\\ud800"', '"a\\u0000b"', '"\\n"', f'"{"x" * 600}"', '["\\ud800"]'])
@pytest.mark.parametrize("path", ["/v1/responses", "/openai2", "/v1/conversations"])
def test_what_can_be_no_id_in_a_body_is_400(bad: str, path: str, simulator: Simulator, bob: httpx2.Client) -> None:
    heard = len(simulator.requests)
    for name in ("previous_response_id", "conversation"):
        body = f'{{"model":"gpt-4o-mini","input":"hi","{name}":{bad}}}'
        answer = bob.post(path, content=body, headers=JSON)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
    assert len(simulator.requests) == heard


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/embeddings/emb_1", 404), ("DELETE", "/v1/images/img_1", 404), ("GET", "/v1/audio/new/x", 404),
        ("POST", "/v1/audio/new/x", 404), ("GET", "/v1/audio/new", 404), ("POST", "/v1/threads/x/new/y", 404),
    ],
)  # fmt: skip
def test_a_path_that_is_not_in_the_reference_names_nobody_elses_object(
    method: str, path: str, status: int, simulator: Simulator, bob: httpx2.Client, alice: httpx2.Client
) -> None:
    heard = len(simulator.requests)
    assert bob.request(method, path).status_code == status
    hers = upload(alice)
    assert bob.request(method, f"{path}/{hers}").status_code == 404
    assert bob.post(f"/v1/images/{hers}").status_code == 404
    assert len(simulator.requests) == heard + 1
