"""What a call is for, in its row: on every kind of route, with headers and with fields, cut and redacted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.simulator.server import Simulator
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}
RESPONSE = {"model": "gpt-4o-mini", "input": "hi"}
HEADERS = {"X-Proxy-End-User": "ada", "X-Proxy-Session": "talk 1", "X-Proxy-Tags": "project=x, night"}
FILE = {"file": ("a.mp3", b"sound", "audio/mpeg")}
JSON_CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/openai", CHAT),
    "chatgpt": ("/chatgpt", {"prompt": "hi"}),
    "openai2": ("/openai2", RESPONSE),
    "openai2 stream": ("/openai2", {**RESPONSE, "stream": True}),
    "embeddings": ("/embeddings", {"input": "hi"}),
    "v1 chat": ("/v1/chat/completions", CHAT),
    "v1 chat stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "v1 responses": ("/v1/responses", RESPONSE),
    "v1 responses stream": ("/v1/responses", {**RESPONSE, "stream": True}),
    "v1 embeddings": ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "hi"}),
}
FORMS = {"transcriptions": "/openai/audio/transcriptions", "v1 transcriptions": "/v1/audio/transcriptions"}
BEARER = {"Authorization": f"Bearer {SECURITY_KEY}"}


@pytest.fixture(scope="module")
def labelled(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A server that makes tags of two members of `metadata`."""
    folder = tmp_path_factory.mktemp("labelled")
    with run_gateway(_simulator.base_url, gateway_database, folder, METADATA_TAGS="feature,project") as gateway:
        yield gateway


def post(gateway: Gateway, path: str, body: dict[str, Any], **headers: str) -> httpx2.Response:
    return gateway.http.post(path, json=body, headers={**BEARER, **headers})


def labels(gateway: Gateway, answer: httpx2.Response) -> tuple[str, str, list[str]]:
    row = gateway.row(answer)
    return row["end_user"], row["session"], row["tags"]


@pytest.mark.parametrize("name", JSON_CALLS)
def test_every_endpoint_keeps_the_headers(labelled: Gateway, simulator: Simulator, name: str) -> None:
    path, body = JSON_CALLS[name]
    answer = post(labelled, path, body, **HEADERS)
    assert answer.status_code == 200, answer.text
    assert labels(labelled, answer) == ("ada", "talk 1", ["project=x", "night"])
    assert not [header for header, _ in simulator.last.headers if header.lower().startswith("x-proxy")]


@pytest.mark.parametrize("name", FORMS)
def test_a_form_keeps_them_and_its_fields(labelled: Gateway, simulator: Simulator, name: str) -> None:
    answer = labelled.http.post(FORMS[name], data={"model": "whisper-1"}, files=FILE, headers={**BEARER, **HEADERS})
    assert answer.status_code == 200, answer.text
    assert labels(labelled, answer) == ("ada", "talk 1", ["project=x", "night"])
    assert not [header for header, _ in simulator.last.headers if header.lower().startswith("x-proxy")]


def test_a_call_without_a_body_keeps_them(labelled: Gateway) -> None:
    answer = labelled.http.get("/v1/models", headers={**BEARER, **HEADERS})
    assert labels(labelled, answer) == ("ada", "talk 1", ["project=x", "night"])


@pytest.mark.parametrize("name", ["openai", "v1 chat", "v1 chat stream", "openai2", "v1 responses stream"])
def test_fields_of_openais_count_without_headers(labelled: Gateway, name: str) -> None:
    path, body = JSON_CALLS[name]
    metadata = {"session_id": "talk 2", "feature": "search", "other": "no tag"}
    answer = post(labelled, path, {**body, "safety_identifier": "eve", "metadata": metadata})
    assert answer.status_code == 200, answer.text
    assert labels(labelled, answer) == ("eve", "talk 2", ["feature=search"])


def test_a_refused_call_keeps_them(labelled: Gateway) -> None:
    answer = post(labelled, "/openai", {"model": "gpt-4o-mini"}, **HEADERS)
    assert answer.status_code == 400
    assert labels(labelled, answer) == ("ada", "talk 1", ["project=x", "night"])


def test_tags_of_the_key_come_first_and_stay(labelled: Gateway) -> None:
    text = labelled.make_key("tagged", "--tag", "project=own", "--tag", "blue", "--owner", "Ada")
    labelled.wait_until_known(text)
    answer = labelled.http.post("/openai", json=CHAT, headers={**HEADERS, "Authorization": f"Bearer {text}"})
    assert labelled.row(answer)["tags"] == ["project=own", "blue", "night"]
    assert labelled.row(answer)["owner"] == "Ada"


def test_what_is_long_is_cut_and_says_so(labelled: Gateway) -> None:
    tags = ",".join(["t" * 101, *(f"tag{number}" for number in range(20))])
    answer = post(labelled, "/openai", CHAT, **{"X-Proxy-End-User": "u" * 201, "X-Proxy-Tags": tags})
    assert answer.status_code == 200
    end_user, _, kept = labels(labelled, answer)
    assert end_user == "u" * 199 + "…"
    assert kept == ["t" * 99 + "…", *(f"tag{number}" for number in range(15)), "(more tags)"]


def test_what_has_many_bytes_is_cut_too(labelled: Gateway) -> None:
    """An index of the sums takes 2,704 bytes, with names of the key, the team and the owner."""
    answer = post(labelled, "/openai", {**CHAT, "safety_identifier": "\U0001f600" * 200})
    assert labels(labelled, answer)[0] == "\U0001f600" * 99 + "…"


def test_no_secret_and_no_control_character_is_kept(labelled: Gateway) -> None:
    answer = post(labelled, "/openai", {**CHAT, "user": "a\nb"}, **{"X-Proxy-Session": f"of {SECURITY_KEY}"})
    assert answer.status_code == 200, answer.text
    end_user, session, _ = labels(labelled, answer)
    assert end_user == "a\ufffdb"
    assert session.startswith("of ")
    assert SECURITY_KEY not in session


def test_a_chain_of_responses_is_a_session(labelled: Gateway) -> None:
    first = post(labelled, "/v1/responses", RESPONSE)
    begun = first.json()["id"]
    second = post(labelled, "/v1/responses", {**RESPONSE, "previous_response_id": begun})
    third = post(labelled, "/openai2", {**RESPONSE, "previous_response_id": second.json()["id"]})
    assert third.status_code == 200, third.text
    assert [labels(labelled, answer)[1] for answer in (third, second, first)] == [begun] * 3
