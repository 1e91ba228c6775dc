"""The head of an answer, and the private store of Django's headers that it is read from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.call.call_request import CallRequest
from proxyapi.streams.response_head import PassedAnswer, head_of, set_passed_headers
from proxyapi.upstream.passed_headers import PASSED_DOWN, pass_down

NAMES = st.one_of(
    st.sampled_from(sorted(PASSED_DOWN)), st.sampled_from(["X-RateLimit-Reset-Tokens", "OpenAI-Version", "Set-Cookie"])
)
VALUES = st.text(st.characters(codec="latin-1"), max_size=40)


def head(response: HttpResponseBase, **facts: Any) -> list[tuple[bytes, bytes]]:
    request = SimpleNamespace(**{"request_id": "0193", "incoming_request_id": ""} | facts)
    message = head_of(cast(CallRequest, request), response)
    assert (message["type"], message["status"]) == ("http.response.start", response.status_code)
    return message["headers"]


def test_django_keeps_headers_by_their_names_in_lower_case() -> None:
    response = HttpResponse(headers={"Content-Type": "text/html", "X-Request-ID": "req_1"})
    response["Allow"] = "GET"

    assert response.headers._store == {
        "content-type": ("Content-Type", "text/html"),
        "x-request-id": ("X-Request-ID", "req_1"),
        "allow": ("Allow", "GET"),
    }


@given(st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_passed_headers_are_those_that_django_would_have(headers: list[tuple[str, str]]) -> None:
    passed = pass_down(headers)
    response = HttpResponse(b"{}")

    set_passed_headers(response, passed)

    assert dict(response.items()) == passed
    theirs = HttpResponse(b"{}", headers=passed)
    if "content-type" not in passed:
        del theirs["content-type"]
    assert head(response) == head(theirs)


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_a_passed_answer_is_as_django_would_make_it(body: bytes) -> None:
    headers = {"content-type": "application/json", "x-request-id": "req_1"}
    ours = PassedAnswer(429, headers, body)
    theirs = HttpResponse(body, status=429, headers=headers)

    assert vars(ours) | {"headers": None} == vars(theirs) | {"headers": None}
    assert dict(ours.items()) == headers
    assert (ours.content, ours.has_header("Content-Type"), ours["X-Request-ID"]) == (body, True, "req_1")


def test_a_passed_header_can_be_read_replaced_and_deleted() -> None:
    response = HttpResponse()
    set_passed_headers(response, {"link": "</v1/files>", "content-type": "application/json"})

    response["Content-Type"] = "text/plain"
    del response["Link"]

    assert dict(response.items()) == {"Content-Type": "text/plain"}


@pytest.mark.parametrize(
    ("headers", "facts", "expected"),
    [
        ({}, {}, {b"vary": b"origin", b"content-security-policy": b"sandbox; default-src 'none'"}),
        ({"Vary": "Cookie"}, {}, {b"vary": b"Cookie"}),
        ({"Content-Security-Policy": "default-src 'self'"}, {}, {b"content-security-policy": b"default-src 'self'"}),
        ({}, {"incoming_request_id": "theirs"}, {b"x-incoming-request-id": b"theirs", b"x-proxy-request-id": b"0193"}),
    ],
)
def test_each_head_has_what_every_answer_has_once(
    headers: dict[str, str], facts: dict[str, str], expected: dict[bytes, bytes]
) -> None:
    found = head(HttpResponse(headers=headers), **facts)

    assert len({name for name, _ in found}) == len(found)
    assert expected.items() <= dict(found).items()
