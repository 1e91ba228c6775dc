"""A request body that is encoded goes up as it came, and policy decides as it would of the same body unencoded.

Over 300 lines, since every way to encode a body is compared with the same body unencoded.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest

from tests.support.callers.wire import WireAnswer, connect, head
from tests.support.inputs.ambiguous_forms import END, FILE, TYPE, named
from tests.support.inputs.encodings import ENCODINGS, two_readings
from tests.support.inputs.named_models import DOUBLED, HONEST, PLACES
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream

MIB = 1024 * 1024
LIMIT = 2 * MIB
ALLOWED_FIELD = named(b"model", b"gpt-4o-mini")
ALL = pytest.mark.parametrize("name", ENCODINGS)
JSON = "application/json"


@pytest.fixture(scope="module")
def upstream() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def server(
    upstream: FixedUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("encoded")
    caps = {name: str(LIMIT) for name in ("MAX_BODY_BYTES", "MAX_UPLOAD_BYTES", "MAX_FORM_BYTES")}
    with run_gateway(upstream.base_url, gateway_database, folder, V1_ROUTES="all", **caps) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def limited(server: Gateway) -> str:
    return server.make_key(f"encoded limited {uuid4()}", "--model", "gpt-4o-*", "--shared-object", "pmpt_1")


@pytest.fixture(autouse=True)
def _usual(upstream: FixedUpstream) -> None:
    upstream.reset()


def send(
    server: Gateway, path: str, body: bytes, encoding: str, *, key: str = SECURITY_KEY, kind: str = JSON,
    method: str = "POST",
) -> WireAnswer:  # fmt: skip
    lines = [f"Content-Type: {kind}", *([f"Content-Encoding: {encoding}"] if encoding else [])]
    with connect(server) as wire:
        wire.send(head(method, path, *lines, length=len(body), key=key) + body)
        return wire.read_answer()


def decision(answer: WireAnswer) -> tuple[int, Any]:
    if answer.status < 300:
        return answer.status, None
    return answer.status, {name: value for name, value in answer.error.items() if name != "request_id"}


def peak_memory(server: Gateway) -> int:
    """The most that the worker has had, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.worker_pids[-1]}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


CALL = b'{"model": "gpt-4o-mini",  "input": "what the caller says"}'


@ALL
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_it_goes_up_as_it_came_and_is_read(server: Gateway, upstream: FixedUpstream, name: str, method: str) -> None:
    encoding, pack = ENCODINGS[name]
    sent = pack(CALL)
    answer = send(server, "/v1/responses/resp_1", sent, encoding, method=method)

    assert answer.status == 200
    [(_, _, headers, body)] = upstream.asked
    assert (body, headers.get("content-encoding", "").strip()) == (sent, encoding.strip())
    row = server.row(answer.headers["x-proxy-request-id"])
    assert (row["request_model"], row["request_bytes"]) == ("gpt-4o-mini", len(sent))


@ALL
@pytest.mark.parametrize("path", ["/openai2", "/openai", "/embeddings"])
def test_the_simple_api_sends_what_it_makes_of_it(
    server: Gateway, upstream: FixedUpstream, name: str, path: str
) -> None:
    encoding, pack = ENCODINGS[name]
    messages = [{"role": "user", "content": "hi"}]
    call = {"model": "gpt-4o-mini", "input": "hi", "messages": messages, "timeout": 9000}
    answer = send(server, path, pack(json.dumps(call).encode()), encoding)

    assert answer.status == 200, answer.body
    [(_, _, headers, body)] = upstream.asked
    assert "content-encoding" not in headers
    assert json.loads(body) == {key: value for key, value in call.items() if key != "timeout"}


PLAIN = {
    **{f"place: {name}": (place.path, place.body) for name, place in PLACES.items()},
    **{f"doubled: {name}": (place.path, place.body) for name, place in DOUBLED.items()},
    **{f"honest: {name}": (place.path, place.body) for name, place in HONEST.items()},
    "another key's object": ("/v1/responses", '{"model":"gpt-4o-mini","previous_response_id":"resp_other"}'),
    "no id": ("/v1/responses", '{"model":"gpt-4o-mini","conversation":"\\u0000"}'),
    "no JSON": ("/v1/responses", "{"),
    "a list": ("/v1/responses", "[]"),
    "too deep": ("/v1/responses", '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "too many values": ("/v1/responses", '{"a":[' + "[]," * 450_000 + "1]}"),
    "over the cap": ("/v1/responses", json.dumps({"model": "gpt-4o-mini", "input": "x" * LIMIT})),
    "closed": ("/v1/nowhere", "{}"),
    "simple, no model": ("/openai2", '{"input": "hi"}'),
    "simple, a stream": ("/openai", '{"model": "gpt-4o-mini", "messages": [{}], "stream": true}'),
    "simple, another model": ("/openai2", '{"model": "gpt-x", "input": "hi"}'),
    "simple, another key": ("/openai2", '{"model": "gpt-4o-mini", "input": "hi", "security_key": "wrong"}'),
}


@ALL
def test_policy_decides_the_same(server: Gateway, upstream: FixedUpstream, limited: str, name: str) -> None:
    encoding, pack = ENCODINGS[name]
    for what, (path, text) in PLAIN.items():
        body = text.encode()
        if what.startswith("place") and name not in {"gzip", "deflate without its wrapper"}:
            continue  # these are many
        if name == "gzip of many members" and len(body) > 5000:
            continue  # so many members are refused
        plain = send(server, path, body, "", key=limited)
        heard = len(upstream.asked)
        encoded = send(server, path, pack(body), encoding, key=limited)
        difference = "The request body, decoded," if plain.status == 413 and encoding not in {"", "identity"} else ""
        words = decision(plain)
        if difference and words[1]["message"].startswith("The request body is larger"):
            words[1]["message"] = words[1]["message"].replace("The request body", difference)
        if what == "over the cap" and len(pack(body)) > LIMIT:
            words = decision(plain)
        assert decision(encoded) == words, what
        assert len(upstream.asked) == 2 * heard, what
        upstream.reset()


@ALL
def test_a_budget_counts_what_is_decoded(server: Gateway, upstream: FixedUpstream, name: str) -> None:
    encoding, pack = ENCODINGS[name]
    key = server.make_key(f"encoded budget {list(ENCODINGS).index(name)}", "--budget-day", "0.01")
    body = json.dumps({"model": "gpt-4o", "input": "x" * 200_000, "max_output_tokens": 1}).encode()
    if name == "gzip of many members":
        body = gzip.compress(body[:100], mtime=0) + gzip.compress(body[100:])
        answer = send(server, "/v1/responses", body, "gzip", key=key)
    else:
        answer = send(server, "/v1/responses", pack(body), encoding, key=key)

    assert (answer.status, answer.error["code"]) == (429, "budget_exceeded")
    assert upstream.asked == []


@ALL
def test_usage_is_asked_for_in_a_body_that_is_not_encoded(server: Gateway, upstream: FixedUpstream, name: str) -> None:
    """What the gateway has changed it sends unencoded; if upstream refuses the addition, it gets the caller's bytes."""
    encoding, pack = ENCODINGS[name]
    sent = pack(b'{"model": "gpt-4o-mini", "messages": [], "stream": true}')
    upstream.content_type = "text/event-stream"
    upstream.body = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\ndata: [DONE]\n\n'
    answer = send(server, "/v1/chat/completions", sent, encoding)

    assert (answer.status, answer.body) == (200, b"data: [DONE]\n\n")
    [(_, _, headers, body)] = upstream.asked
    assert json.loads(body)["stream_options"] == {"include_usage": True}
    assert headers.get("content-encoding", "identity").lower() == "identity"
    assert headers["content-length"] == str(len(body))
    assert server.row(answer.headers["x-proxy-request-id"])["input_tokens"] == 3

    upstream.reset()
    upstream.status, upstream.body = 400, b'{"error": {"message": "unknown field stream_options"}}'
    assert send(server, "/v1/chat/completions", sent, encoding).status == 400
    _, (_, _, headers, body) = upstream.asked
    assert (body, headers.get("content-encoding", "").strip()) == (sent, encoding.strip())


def test_the_ledger_keeps_what_was_said(server: Gateway, gateway_database: str) -> None:
    answer = send(server, "/v1/responses", gzip.compress(CALL, mtime=0), "gzip")
    request_id = answer.headers["x-proxy-request-id"]
    server.row(request_id)

    with psycopg.connect(gateway_database) as connection:
        query = "SELECT request_body FROM usage_requestbody WHERE request_id = %s"
        [(kept,)] = connection.execute(query, [request_id]).fetchall()
    assert "what the caller says" in kept


# What is refused.


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br", "gzip, gzip", "identity, gzip", "nonsense"])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/files", "/openai2", "/openai", "/openai/audio/transcriptions"])
def test_another_encoding_is_415_before_its_body_comes(
    server: Gateway, upstream: FixedUpstream, path: str, encoding: str
) -> None:
    kind = TYPE.decode() if path in {"/v1/files", "/openai/audio/transcriptions"} else JSON
    lines = [f"Content-Type: {kind}", f"Content-Encoding: {encoding}", "Expect: 100-continue"]
    with connect(server) as wire:
        wire.send(head("POST", path, *lines, length=MIB))
        answer = wire.read_answer()

    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    assert "gzip or deflate" in answer.error["message"]
    assert f"'{encoding}'" in answer.error["message"]
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert upstream.asked == []


BAD = {
    "not encoded": ("gzip", CALL),
    "torn": ("gzip", gzip.compress(CALL, mtime=0)[:-3]),
    "half": ("gzip", gzip.compress(CALL, mtime=0)[:20]),
    "garbage behind": ("gzip", gzip.compress(CALL, mtime=0) + b"garbage"),
    "zeros behind": ("gzip", gzip.compress(CALL, mtime=0) + bytes(512)),
    "a wrong sum": ("deflate", zlib.compress(CALL)[:-4] + b"abcd"),
    "another encoding": ("gzip", zlib.compress(CALL)),
    "two readings": ("deflate", two_readings(CALL, b'{"model": "gpt-x"}')),
    "noise": ("gzip", bytes(range(256))),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", ["/v1/responses", "/openai2"])
def test_what_cannot_be_decoded_is_400(server: Gateway, upstream: FixedUpstream, path: str, name: str) -> None:
    encoding, body = BAD[name]
    answer = send(server, path, body, encoding)

    assert (answer.status, answer.error["code"], answer.error["type"]) == (400, "bad_encoding", "invalid_request_error")
    assert f"not valid {encoding}" in answer.error["message"]
    assert upstream.asked == []
    if path.startswith("/v1/"):
        assert server.row(answer.headers["x-proxy-request-id"])["outcome"] == "rejected"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("path", ["/v1/responses", "/openai2", "/openai/audio/transcriptions", "/v1/files"])
def test_a_bomb_is_413_and_takes_no_memory(server: Gateway, upstream: FixedUpstream, path: str, encoding: str) -> None:
    is_form = path in {"/v1/files", "/openai/audio/transcriptions"}
    content = FILE[:-2] + bytes(300 * MIB) if is_form else b'{"input": "' + b"x" * (300 * MIB)
    body = (gzip.compress if encoding == "gzip" else zlib.compress)(content, 1)
    before = peak_memory(server)
    answer = send(server, path, body, encoding, kind=TYPE.decode() if is_form else JSON)

    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert "MAX_" in answer.error["message"]
    assert peak_memory(server) - before < 64 * MIB
    assert upstream.asked == []


@pytest.mark.parametrize("where", ["nowhere", "in its body"])
def test_nothing_is_decoded_for_a_stranger(server: Gateway, upstream: FixedUpstream, where: str) -> None:
    call = {"model": "x", "input": "hi", **({"security_key": SECURITY_KEY} if where == "in its body" else {})}
    body = gzip.compress(json.dumps(call).encode())
    for path in ("/openai2", "/openai"):
        answer = server.http.post(path, content=body, headers={"content-encoding": "gzip", "content-type": JSON})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
        assert "must have its key in a header" in answer.json()["error"]["message"]
    headers = {"content-encoding": "gzip", "content-type": JSON, "authorization": "Bearer wrong"}
    assert server.http.post("/v1/responses", content=body, headers=headers).status_code == 401
    assert upstream.asked == []


# Forms.


def form(*fields: bytes) -> bytes:
    return FILE + b"".join(fields) + END


@ALL
def test_a_form_goes_up_as_it_came_and_is_read(server: Gateway, upstream: FixedUpstream, name: str) -> None:
    encoding, pack = ENCODINGS[name]
    sent = pack(form(ALLOWED_FIELD))
    answer = send(server, "/v1/audio/transcriptions", sent, encoding, kind=TYPE.decode())
    if name == "gzip of many members":
        assert (answer.status, answer.error["code"]) == (400, "bad_request")
        return

    assert answer.status == 200, answer.body
    [(_, _, headers, body)] = upstream.asked
    assert (body, headers.get("content-encoding", "").strip()) == (sent, encoding.strip())
    assert server.row(answer.headers["x-proxy-request-id"])["request_model"] == "gpt-4o-mini"


FORMS = {
    "another model": form(named(b"model", b"gpt-x")),
    "no model": form(),
    "two models": form(ALLOWED_FIELD, ALLOWED_FIELD),
    "another key's object": form(ALLOWED_FIELD, named(b"file_id", b"file_other")),
    "no end": FILE + ALLOWED_FIELD,
    "more behind its end": form(ALLOWED_FIELD) + b"more",
    "a large file": FILE[:-2] + b"x" * LIMIT + b"\r\n" + END,
}


@ALL
@pytest.mark.parametrize("what", FORMS)
def test_policy_decides_the_same_of_a_form(
    server: Gateway, upstream: FixedUpstream, limited: str, name: str, what: str
) -> None:
    encoding, pack = ENCODINGS[name]
    if name == "gzip of many members":
        return
    path, kind, body = "/v1/audio/transcriptions", TYPE.decode(), FORMS[what]
    plain = send(server, path, body, "", key=limited, kind=kind)
    encoded = send(server, path, pack(body), encoding, key=limited, kind=kind)

    assert plain.status >= 400
    assert (encoded.status, encoded.error["code"]) == (plain.status, plain.error["code"])
    assert upstream.asked == []


@pytest.mark.parametrize("pieces", [1, 7, 100])
def test_a_form_that_comes_in_pieces(server: Gateway, upstream: FixedUpstream, pieces: int) -> None:
    text = FILE[:-2] + bytes(range(256)) * 2000 + b"\r\n" + ALLOWED_FIELD + END
    sent = gzip.compress(text, mtime=0)
    size = -(-len(sent) // pieces)
    headers = {"content-type": TYPE.decode(), "content-encoding": "gzip", "authorization": f"Bearer {SECURITY_KEY}"}
    content = (sent[at : at + size] for at in range(0, len(sent), size))
    with httpx2.Client(base_url=server.url, timeout=60) as http:
        answer = http.post(
            "/v1/audio/transcriptions", content=content, headers={**headers, "content-length": str(len(sent))}
        )

    assert answer.status_code == 200, answer.text
    assert upstream.asked[0][3] == sent
