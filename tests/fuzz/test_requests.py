"""Requests made up of pieces that parsers disagree about: no fault of ours, no hang, and books that are right."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import requests
from tests.fuzz.campaign import assert_openai_error, books, examples, exchange
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import make_key
from tests.support.servers.gateway import SECURITY_KEY, Gateway

# A request that is not whole gets no answer: after so many seconds of silence we close our side.
SILENCE_SECONDS = 0.15
WHO = pytest.mark.parametrize("who", ["key holder", "stranger"])
DJANGO_FOLDERS = (b"/admin", b"/my-usage", b"/static")


@pytest.fixture(scope="module")
def ordinary_key(gateway: Gateway) -> str:
    """A key of the admin's: unlike the built-in one it sees its own objects only."""
    return make_key(gateway, f"fuzz {uuid4()}")


@WHO
def test_any_bytes_on_a_connection(gateway: Gateway, simulator: Simulator, who: str) -> None:
    with books(gateway, leaves_early=True) as kept:

        @examples(120)
        @given(request=requests.raw_request(SECURITY_KEY if who == "key holder" else None))
        def send(request: bytes) -> None:
            for answer in exchange(gateway, request, is_head=request.startswith(b"HEAD "), silence=SILENCE_SECONDS):
                kept.note(answer, has_key=who == "key holder")
                assert answer.status < 500, answer
                if not any(folder in request.partition(b"\n")[0] for folder in DJANGO_FOLDERS):
                    assert_openai_error(answer)

        send()


@WHO
@pytest.mark.parametrize("paths", [requests.JSON_PATHS, requests.V1_PATHS], ids=["simple", "v1"])
def test_any_json(gateway: Gateway, simulator: Simulator, paths: tuple[str, ...], who: str) -> None:
    key = SECURITY_KEY if who == "key holder" else "wrong"
    with books(gateway) as kept:

        @examples(100)
        @given(path=st.sampled_from(paths), query=requests.query, body=requests.json_body())
        def send(path: str, query: dict[str, str], body: bytes) -> None:
            target = f"{path}?{urlencode(query, errors='surrogatepass')}"
            (answer,) = exchange(gateway, whole("POST", target, key, body))
            kept.note(answer, has_key=who == "key holder")
            assert_openai_error(answer)
            if who == "stranger":
                assert answer.status >= 400

        send()


TARGETS = (
    *(
        ("GET", "/openai2/{}"),
        ("DELETE", "/openai2/{}"),
        ("POST", "/openai2/{}/cancel"),
        ("GET", "/openai2/{}/input_items"),
    ),
    *(("GET", "/v1/responses/{}"), ("DELETE", "/v1/responses/{}"), ("POST", "/v1/responses/{}/cancel")),
    *(("GET", "/v1/chat/completions/{}"), ("POST", "/v1/chat/completions/{}"), ("GET", "/v1/conversations/{}")),
    *(("GET", "/v1/conversations/{}/items/{}"), ("GET", "/v1/models/{}"), ("DELETE", "/v1/models/{}")),
)
ID_PIECES = (
    "resp_",
    "a",
    "/",
    "..",
    "%",
    "%2f",
    "%00",
    "\x00",
    "\ud800",
    ";",
    "?",
    "#",
    " ",
    "é",
    "\u202e",
    "x" * 300,
    "'",
    '"',
)
ids = st.lists(st.sampled_from(ID_PIECES), min_size=1, max_size=4).map("".join) | st.text(max_size=20)


@pytest.mark.parametrize("is_quoted", [True, False], ids=["quoted", "as it is"])
def test_any_id_in_a_path(gateway: Gateway, simulator: Simulator, ordinary_key: str, is_quoted: bool) -> None:
    with books(gateway) as kept:

        @examples(120)
        @given(target=st.sampled_from(TARGETS), made_up=ids)
        def send(target: tuple[str, str], made_up: str) -> None:
            method, path = target
            raw = made_up.encode("utf-8", "surrogatepass")
            text = quote(raw, safe="") if is_quoted else raw.translate(None, b" \r\n").decode("latin-1")
            request = whole(method, path.replace("{}", text), ordinary_key, b"{}" if method == "POST" else b"")
            for answer in exchange(gateway, request):
                kept.note(answer, has_key=True)
                assert_openai_error(answer)

        send()


@pytest.mark.parametrize("path", ["/v1/responses", "/openai2"])
@pytest.mark.parametrize("member", ["previous_response_id", "conversation"])
def test_any_id_in_a_body(gateway: Gateway, simulator: Simulator, ordinary_key: str, path: str, member: str) -> None:
    """An id that no upstream ever gave is not found, or is no id; it is never a fault."""
    with books(gateway) as kept:

        @examples(40)
        @given(made_up=ids | requests.value)
        def send(made_up: object) -> None:
            body = json.dumps({"model": "gpt-4o-mini", "input": "hi", member: made_up}).encode()
            (answer,) = exchange(gateway, whole("POST", path, ordinary_key, body))
            kept.note(answer, has_key=True)
            assert_openai_error(answer)

        send()


def whole(method: str, target: str, key: str, body: bytes) -> bytes:
    """A well-formed request, whatever its target and its body are."""
    head = f"{method} {target} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("latin-1") + body
