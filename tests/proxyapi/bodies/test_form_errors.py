"""Forms that cannot be taken: what the caller is told."""

from __future__ import annotations

import json

import pytest

from tests.simulator.server import Simulator
from tests.support.callers.wire import connect, head
from tests.support.calls.refusals import BEARER, CALL, FILE, PART, assert_refused
from tests.support.servers.gateway import Gateway


def form_body(*lines: bytes) -> bytes:
    return b"\r\n".join(lines)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param("multipart/form-data", PART + b"\r\n--b--\r\n", id="no-boundary"),
        pytest.param("multipart/form-data; boundary=", PART + b"\r\n--b--\r\n", id="empty-boundary"),
        pytest.param("multipart/form-data; boundary=b", b"\x00\xff garbage" * 50, id="garbage"),
        pytest.param("multipart/form-data; boundary=b", PART, id="cut-off-in-the-file"),
        pytest.param("multipart/form-data; boundary=b", PART + b"\r\n--b\r\n", id="cut-off-after-the-file"),
        pytest.param("multipart/form-data; boundary=b", PART[:60], id="cut-off-in-a-part-head"),
        pytest.param("multipart/form-data; boundary=other", PART + b"\r\n--b--\r\n", id="another-boundary"),
    ],
)
def test_a_bad_form_is_400(gateway: Gateway, simulator: Simulator, content_type: str, body: bytes) -> None:
    answer = gateway.http.post(
        "/openai/audio/transcriptions", content=body, headers={**BEARER, "content-type": content_type}
    )

    assert_refused(answer, 400, "invalid_request_error", "bad_request")
    assert simulator.requests == []


def test_a_form_without_a_file_is_400(gateway: Gateway) -> None:
    answer = gateway.http.post("/openai/audio/transcriptions", headers=BEARER, files={"model": (None, "whisper-1")})

    assert_refused(answer, 400, "invalid_request_error", "missing_required_parameter", "file")


@pytest.mark.parametrize("name", ["model", "stream"])
def test_a_file_in_the_place_of_a_field_is_400(gateway: Gateway, name: str) -> None:
    files = {"file": FILE, name: ("field.txt", b"whisper-1", "text/plain")}
    answer = gateway.http.post("/openai/audio/transcriptions", headers=BEARER, files=files)

    assert_refused(answer, 400, "invalid_request_error", "invalid_type", name)


def test_a_form_of_2000_fields_is_400(gateway: Gateway) -> None:
    fields = {f"field{number}": (None, "x") for number in range(2000)}
    answer = gateway.http.post("/openai/audio/transcriptions", headers=BEARER, files={**fields, "file": FILE})

    assert_refused(answer, 400, "invalid_request_error", "bad_request")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json"])
def test_another_content_type_is_415(gateway: Gateway, content_type: str) -> None:
    answer = gateway.http.post("/openai", content=json.dumps(CALL), headers={**BEARER, "content-type": content_type})

    assert_refused(answer, 415, "invalid_request_error", "unsupported_media_type")


def test_json_where_a_form_is_wanted_is_415(gateway: Gateway) -> None:
    answer = gateway.post("/openai/audio/transcriptions", {"model": "whisper-1"})

    assert_refused(answer, 415, "invalid_request_error", "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=\xe9", "application/json;" * 30, "x"])
def test_an_odd_content_type_is_an_error_of_ours(gateway: Gateway, content_type: str) -> None:
    with connect(gateway) as wire:
        wire.send(head("POST", "/nothing", f"Content-Type: {content_type}", length=2) + b"{}")

        assert_refused(wire.read_answer(), 404, "invalid_request_error", "not_found")
