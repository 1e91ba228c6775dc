"""An upstream that quotes our key back shows it to nobody: not in an error, not in a header, not in an event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import httpx2
import pytest

from tests.support.inputs.spellings import SPELLINGS, is_gone
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.quoting import Quoted, QuotingUpstream, quoting_upstream
from usage.kept_bodies.redaction import REDACTED

TEAM_KEY = "sk-proj-T3amKeyOfTheTeam_T3amKeyOfTheTeam-42"
KEYS_OWN = "upstream_key_of-one-key.0123456789"
CHAT: dict[str, object] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
RESPONSE: dict[str, object] = {"model": "gpt-4o", "input": "hi"}
PATHS: dict[str, dict[str, object]] = {
    "/openai": CHAT,
    "/v1/chat/completions": CHAT,
    "/openai2": RESPONSE,
    "/v1/responses": RESPONSE,
    "/chatgpt": {"prompt": "hi"},
    "/v1/embeddings": {"model": "m", "input": "hi"},
    "/v1/audio/speech": {"model": "m", "voice": "alloy", "input": "hi"},
}
EVENTS = {
    "chat": 'data: {"object":"chat.completion.chunk","choices":[]}\n\ndata: {"error":{"message":"bad key %s"}}\n\n',
    "text": 'data: {"error": "bad key %s"}\n\n',
    "named": 'event: error\ndata: {"type":"error","message":"bad key %s"}\n\n',
    "on two lines": 'event: error\ndata: {"type":"error",\ndata: "message":"bad key %s"}\n\n',
    "failed": 'data: {"type":"response.failed","response":{"id":"resp_1","error":{"message":"bad key %s"}}}\n\n',
    "escaped": 'data: {"\\u0065rror":{"message":"bad key %s"}}\n\n',
    "without an end": 'data: {"error":{"message":"bad key %s"}}',
    "no JSON": "event: error\ndata: bad key %s\n\n",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[QuotingUpstream]:
    with quoting_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def quoted(
    upstream: QuotingUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("quoted")
    with run_gateway(upstream.url, gateway_database, folder, OPENAI_API_KEY=TEAM_KEY) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def one_key(quoted: Gateway) -> str:
    return quoted.make_key(f"with-an-account {uuid4()}", "--upstream-key-file", "-", said=KEYS_OWN)


def call(gateway: Gateway, path: str, key: str = SECURITY_KEY, **more: object) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"}
    return gateway.http.post(path, json={**PATHS[path], **more}, headers=headers)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503, 307])
def test_no_error_shows_the_key(quoted: Gateway, upstream: QuotingUpstream, path: str, status: int) -> None:
    upstream.script = lambda key: Quoted(status, b'{"error": {"message": "Incorrect API key: %s.\xff"}}' % key.encode())

    answer = call(quoted, path)

    assert answer.status_code == status
    assert answer.content == b'{"error": {"message": "Incorrect API key: %s.\xff"}}' % REDACTED.encode()
    assert answer.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("content_type", ["application/json", "text/html; charset=utf-8", "application/octet-stream"])
def test_the_key_is_found_in_any_spelling(
    quoted: Gateway, upstream: QuotingUpstream, spelling: str, content_type: str
) -> None:
    written = SPELLINGS[spelling](TEAM_KEY)
    upstream.script = lambda key: Quoted(401, f"a {SPELLINGS[spelling](key)} b".encode(), content_type)

    answer = call(quoted, "/v1/chat/completions")

    assert REDACTED in answer.text
    assert is_gone(written, answer.text)
    assert answer.text.startswith("a ")
    assert answer.text.endswith(" b")


@pytest.mark.parametrize("path", ["/openai", "/v1/chat/completions"])
def test_a_keys_own_account_is_not_shown_to_who_has_the_key(
    quoted: Gateway, upstream: QuotingUpstream, one_key: str, path: str
) -> None:
    upstream.script = lambda key: Quoted(401, json.dumps({"error": f"{key} and {SECURITY_KEY}"}).encode())

    assert call(quoted, path, one_key).json() == {"error": f"{REDACTED} and {REDACTED}"}


def test_a_callers_own_account_is_not_shown(quoted: Gateway, upstream: QuotingUpstream) -> None:
    upstream.script = lambda key: Quoted(401, json.dumps({"error": key}).encode())

    assert call(quoted, "/openai", openai_api_key="key-of-the-caller-42").json() == {"error": REDACTED}


@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize("path", PATHS)
def test_no_header_shows_the_key(quoted: Gateway, upstream: QuotingUpstream, path: str, status: int) -> None:
    upstream.script = lambda key: Quoted(
        status, b"{}", headers={"x-request-id": f"req-{key}", "openai-version": "2020-10-01"}
    )

    answer = call(quoted, path)

    assert answer.headers["x-request-id"] == f"req-{REDACTED}"
    assert answer.headers["openai-version"] == "2020-10-01"
    assert quoted.row(answer)["upstream_request_id"] == f"req-{REDACTED}"


@pytest.mark.parametrize("events", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize("path", ["/openai2", "/v1/responses", "/v1/chat/completions"])
def test_no_event_shows_the_key(quoted: Gateway, upstream: QuotingUpstream, path: str, events: str) -> None:
    upstream.script = lambda key: Quoted(200, (events % key).encode(), "text/event-stream")

    answer = call(quoted, path, stream=True)

    assert answer.text.removesuffix("data: [DONE]\n\n").rstrip("\n") == (events % REDACTED).rstrip("\n")


def test_an_error_that_says_200_shows_no_key(quoted: Gateway, upstream: QuotingUpstream) -> None:
    upstream.script = lambda key: Quoted(200, json.dumps({"error": {"message": key}}).encode())

    assert call(quoted, "/openai").json() == {"error": {"message": REDACTED}}


@pytest.mark.parametrize("path", ["/openai", "/v1/chat/completions"])
def test_every_other_answer_passes_unchanged(quoted: Gateway, upstream: QuotingUpstream, path: str) -> None:
    body = b'{"choices": [{"message": {"content": "sk-abcdefghijklmnopqrst api_key=x \\ud800"}}], "n": 1e400}'
    upstream.script = lambda key: Quoted(200, body)
    assert call(quoted, path).content == body

    upstream.script = lambda key: Quoted(400, body)
    assert call(quoted, path).content == body


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_part_of_a_row_has_the_key(quoted: Gateway, upstream: QuotingUpstream, spelling: str) -> None:
    written = SPELLINGS[spelling](TEAM_KEY)
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "note": [written]}
    stated = {"id": written, "object": "chat.completion", "model": written, "service_tier": written, "usage": usage}
    body = json.dumps({**stated, "choices": [{"message": {"content": written}}]}).encode()
    upstream.script = lambda key: Quoted(200, body, headers={"x-request-id": written.replace("\n", "")})

    row = quoted.row(call(quoted, "/v1/chat/completions"))

    assert is_gone(written, json.dumps(row, default=str, ensure_ascii=False))
    assert is_gone(written, quoted.log)
    assert row["input_tokens"] == 1
