"""An answer that no strict JSON parser reads still has an owner, a row and counts, on both APIs; its bytes pass."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import httpx2
import psycopg
import pytest

from proxyapi.simple_api.chat_bodies import chatgpt_answer
from tests.support.callers.budgeted_keys import make_key
from tests.support.inputs.odd_json import ODD
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.quoting import Quoted, QuotingUpstream, quoting_upstream

RESPONSE = (
    b'{"id": "%s", "object": "response", "status": "completed", "model": "gpt-4o", %s'
    b'"usage": {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}}'
)
CALL = {"model": "gpt-4o", "input": "hi"}
STRANGE = {
    **{name: odd.replace(b'"id": "chatcmpl-0", "id": "chatcmpl-1", ', b'"status": "x", ') for name, odd in ODD.items()},
    "large": b'"output": [{"type": "image_generation_call", "result": "%s"}], ' % (b"QUJD" * 200_000),
}
del STRANGE["escaped names"]  # it has an id of its own
MAX_KEPT = 1_000_000


@pytest.fixture(scope="module")
def upstream() -> Iterator[QuotingUpstream]:
    with quoting_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def odd(
    upstream: QuotingUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("odd-answers")
    with run_gateway(upstream.url, gateway_database, folder, LOG_BODY_BYTES=str(MAX_KEPT)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def maker(odd: Gateway) -> str:
    return make_key(odd, f"maker-of-odd-answers {uuid4()}")


@pytest.fixture(scope="module")
def other(odd: Gateway) -> str:
    return make_key(odd, f"other-than-the-maker {uuid4()}")


def ask(gateway: Gateway, method: str, path: str, key: str) -> httpx2.Response:
    options = {"json": CALL} if method == "POST" else {}
    return gateway.http.request(method, path, headers={"authorization": f"Bearer {key}"}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/v1/responses", "/openai2"])
@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_it_belongs_to_its_maker_and_is_counted(
    odd: Gateway, upstream: QuotingUpstream, maker: str, other: str, path: str, strange: bytes
) -> None:
    made = f"resp_{path.strip('/').replace('/', '')}{list(STRANGE.values()).index(strange)}"
    body = RESPONSE % (made.encode(), strange)
    upstream.script = lambda key: Quoted(200, body)

    answer = ask(odd, "POST", path, maker)

    assert answer.content == body
    assert ask(odd, "GET", f"{path}/{made}", maker).content == body
    assert ask(odd, "GET", f"{path}/{made}", other).status_code == 404
    row = odd.row(answer)
    assert (row["response_id"], row["input_tokens"], row["output_tokens"]) == (made, 7, 5)
    assert (row["response_model"], row["usage_source"]) == ("gpt-4o", "exact")


def test_a_long_body_is_kept_as_long_as_the_setting_says(odd: Gateway, upstream: QuotingUpstream) -> None:
    """It is redacted beside the event loop, and whole."""
    text = "The words of a long answer. " * 20_000
    upstream.script = lambda key: Quoted(200, b'{"a": "%s %s"}' % (text.encode(), key.encode()))

    answer = ask(odd, "POST", "/v1/responses", SECURITY_KEY)

    odd.row(answer)
    with psycopg.connect(odd.variables["DATABASE_URL"]) as connection:
        query = "SELECT response_body FROM usage_requestbody WHERE request_id = %s"
        [(kept,)] = connection.execute(query, [answer.headers["x-proxy-request-id"]]).fetchall()
    assert kept == f'{{"a": "{text} [redacted]"}}'


def test_a_completion_of_very_many_values_is_not_rewritten() -> None:
    message = b'{"choices": [{"message": {"role": "assistant", "content": "hi"}}], "more": [%s[]]}'

    assert b'"text": "hi"' in chatgpt_answer(message % (b"[]," * 1000))
    assert chatgpt_answer(message % (b"[]," * 600_000)) == message % (b"[]," * 600_000)
