"""Ambiguous forms are refused on both APIs, for every key, and upstream never gets one whole; honest ones pass."""

from __future__ import annotations

import gzip
import uuid

import pytest

from tests.simulator.server import Simulator
from tests.support.callers.wire import WireAnswer, connect, head, in_chunks
from tests.support.inputs.ambiguous_forms import ALLOWED, AMBIGUOUS, END, FILE, SECRET, START, TYPE, named
from tests.support.inputs.client_forms import CLIENTS
from tests.support.servers.gateway import SECURITY_KEY, Gateway

PATHS = ("/v1/audio/transcriptions", "/openai/audio/transcriptions")


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return gateway.make_key(f"whispers {uuid.uuid4()}", "--model", "whisper-*")  # this may be made once more


def send(gateway: Gateway, path: str, key: str, body: bytes, *content_types: bytes, pieces: int = 1) -> WireAnswer:
    """The form, with its length or in chunks; a server that refuses it early may not read the rest."""
    types = [f"Content-Type: {value.decode('latin-1')}" for value in content_types]
    size = -(-len(body) // pieces)
    with connect(gateway) as wire:
        if pieces == 1:
            wire.send(head("POST", path, *types, length=len(body), key=key) + body)
        else:
            cut = [body[at : at + size] for at in range(0, len(body), size or 1)]
            wire.send(head("POST", path, *types, "Transfer-Encoding: chunked", key=key) + in_chunks(*cut))
        return wire.read_answer()


def whole_forms(simulator: Simulator) -> list[bytes]:
    """The bodies of the requests that upstream has received to their ends."""
    return [request.body for request in simulator.requests if request.outcome == "completed"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_form_is_refused(gateway: Gateway, simulator: Simulator, key: str, name: str, path: str) -> None:
    sent = AMBIGUOUS[name]
    for caller, pieces in ((SECURITY_KEY, 1), (key, 1), (key, 3)):
        answer = send(gateway, path, caller, sent.body, *sent.content_types, pieces=pieces)

        assert answer.status in {400, 415}, answer.body
        assert answer.error["type"] == "invalid_request_error"
        if answer.status == 400 and sent.body and sent.content_types:
            assert sent.words in answer.error["message"]
    assert whole_forms(simulator) == []


@pytest.mark.parametrize("name", [name for name, sent in CLIENTS.items() if b"filename" in sent.body])
def test_a_clients_form_passes(gateway: Gateway, simulator: Simulator, name: str) -> None:
    sent = CLIENTS[name]

    answer = send(gateway, PATHS[0], SECURITY_KEY, sent.body, sent.content_type)
    [passed] = simulator.requests
    assert passed.body == sent.body
    assert passed.header("content-type") == sent.content_type.decode()
    assert answer.status not in {403, 415, 500, 502, 503}
    assert "The form is not valid" not in str(answer.body)


@pytest.mark.parametrize("name", [name for name, sent in CLIENTS.items() if b'name="file"' in sent.body])
def test_a_clients_form_passes_on_the_simple_api(gateway: Gateway, simulator: Simulator, name: str) -> None:
    sent = CLIENTS[name]

    send(gateway, PATHS[1], SECURITY_KEY, sent.body, sent.content_type)
    [passed] = simulator.requests
    fields = [(name, value) for name, values in passed.form.items() for value in values]
    assert sorted(fields) == sorted(sent.fields)
    assert [file.data for file in passed.files] == [b"RIFF"]


@pytest.mark.parametrize("name", ["no end", "two models", "more behind its end"])
def test_an_encoded_form_is_read_as_it_would_be_without(gateway: Gateway, simulator: Simulator, name: str) -> None:
    """`tests/proxyapi/call/test_encoded_bodies.py` has the rest."""
    body = {"no end": FILE + ALLOWED, "two models": START + ALLOWED + END, "more behind its end": START + END + b"x"}[
        name
    ]
    packed, lines = gzip.compress(body), [f"Content-Type: {TYPE.decode()}", "Content-Encoding: gzip"]
    with connect(gateway) as wire:
        wire.send(head("POST", PATHS[0], *lines, length=len(packed)) + packed)
        answer = wire.read_answer()

    assert (answer.status, answer.error["code"]) == (400, "bad_request")
    assert [request for request in simulator.requests if request.outcome == "completed"] == []


def test_a_refused_form_has_a_row(gateway: Gateway, simulator: Simulator, key: str) -> None:
    with connect(gateway) as wire:
        body = FILE + ALLOWED + named(b"model", SECRET) + END
        wire.send(
            head(
                "POST",
                PATHS[0],
                f"Content-Type: {TYPE.decode()}",
                "X-Request-Id: refused-form",
                length=len(body),
                key=key,
            )
            + body
        )
        assert wire.read_answer().error["param"] == "model"

    [row] = gateway.rows("WHERE incoming_request_id = %s", ["refused-form"], at_least=1)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 400, "bad_request")
