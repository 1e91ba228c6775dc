"""Other servers with OpenAI's API: the SDK gets through the gateway what it gets directly, and the row is right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import psycopg
import pytest

from tests.simulator.wire.oddities import SCRIPTS, TIMINGS, USAGE, odd_upstream
from tests.support.servers.gateway import PATIENCE, Gateway, run_gateway

MESSAGES: Any = [{"role": "user", "content": "hi"}]
ANSWERS = sorted(name for name, script in SCRIPTS.items() if name.endswith("/answer"))
# What the row says of each answer that is no success: a part of its words, and its type and code.
ERRORS = {
    "llama.cpp/error-line": ("Compute error.", "server_error", "500"),
    "llama.cpp/error-data": ("Compute error.", "server_error", "500"),
    "llama.cpp/refusal": ("available context size", "exceed_context_size_error", "400"),
    "vllm/error": ("boom in the engine", "BadRequestError", "400"),
    "ollama/cut": ("ended before its end", "upstream_error", "truncated"),
    "ollama/refusal": ("not found", "not_found_error", ""),
    "azure/filtered": ("was filtered", "", "content_filter"),
    "azure/busy": ("exceeded the limit", "", "429"),
    "litellm/error": ("litellm.APIError: lost", "None", "500"),
    "proxy/text-error": ("the backend is gone", "", ""),
    "proxy/named-error": ("the backend is gone", "", ""),
}
WITHOUT_WORDS = {"vllm/refusal"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with odd_upstream() as url:
        yield url


@pytest.fixture(scope="module")
def odd(upstream: str, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with run_gateway(upstream, gateway_database, tmp_path_factory.mktemp("odd")) as gateway:
        yield gateway


def seen(client: openai.OpenAI, model: str, **options: Any) -> tuple[list[dict[str, Any]], str, int | None, str]:
    """The chunks of a stream, the error that ended it with its status, and the gateway's id of the call."""
    chunks: list[dict[str, Any]] = []
    request_id = ""
    try:
        raw = client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES, stream=True, **options)
        request_id = raw.headers.get("x-proxy-request-id", "")
        chunks.extend(one.model_dump(exclude_unset=True) for one in raw.parse())
    except openai.APIStatusError as error:
        return chunks, error.message, error.status_code, error.response.headers.get("x-proxy-request-id", "")
    except openai.APIError as error:
        return chunks, error.message, None, request_id
    except ValueError:  # the SDK's own, about an error that is no JSON
        return chunks, "no JSON", None, request_id
    return chunks, "", None, request_id


def directly(upstream: str, model: str, **options: Any) -> tuple[list[dict[str, Any]], str, int | None, str]:
    with openai.OpenAI(base_url=upstream, api_key="k", max_retries=0, timeout=PATIENCE) as client:
        return seen(client, model, **options)


def without_timings(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chunks as a caller reads an answer: what llama.cpp moves into its chunk of usage is looked at by itself."""
    bare = [{name: value for name, value in chunk.items() if name != "timings"} for chunk in chunks]
    silent = [{"index": 0, "delta": {}, "finish_reason": None}]
    return [chunk for chunk in bare if chunk["choices"] != silent]


@pytest.mark.parametrize("model", SCRIPTS)
def test_the_sdk_gets_what_it_gets_directly(odd: Gateway, upstream: str, model: str) -> None:
    chunks, error, status, _ = directly(upstream, model)
    seen_chunks, seen_error, seen_status, _ = seen(odd.sdk("/v1"), model)

    assert without_timings(seen_chunks) == without_timings(chunks)
    assert [one["timings"] for one in seen_chunks if "timings" in one] == [
        one["timings"] for one in chunks if "timings" in one
    ]
    if model == "ollama/cut":  # nobody told the caller before
        assert "ended before its end" in seen_error
    else:
        assert (seen_error, seen_status) == (error, status)
    assert all(one["choices"] or "prompt_filter_results" in one for one in seen_chunks)


@pytest.mark.parametrize("model", SCRIPTS)
def test_who_asks_for_usage_gets_all_of_it(odd: Gateway, upstream: str, model: str) -> None:
    if model == "ollama/cut":
        return  # as above
    asked: Any = {"stream_options": {"include_usage": True}}

    assert seen(odd.sdk("/v1"), model, **asked)[:3] == directly(upstream, model, **asked)[:3]


def kept_text(gateway: Gateway, request_id: str) -> str:
    query = "SELECT response_body FROM usage_requestbody WHERE request_id = %s"
    with psycopg.connect(gateway.variables["DATABASE_URL"]) as connection:
        ((text,),) = connection.execute(query, [request_id]).fetchall()
    return str(text)


@pytest.mark.parametrize("model", SCRIPTS)
def test_the_row_is_right(odd: Gateway, model: str) -> None:
    *_, status, request_id = seen(odd.sdk("/v1"), model)
    row = odd.row(request_id)

    assert row["status"] == (status or 200)
    assert row["stream"] is True
    if model in WITHOUT_WORDS:
        assert row["outcome"] == "upstream_error"
    elif model in ERRORS:
        words, kind, code = ERRORS[model]
        assert words in row["error_message"]
        assert (row["outcome"], row["error_type"], row["error_code"]) == ("upstream_error", kind, code)
        assert row["usage_source"] == ("unknown" if status else "estimated")
    else:
        assert (row["outcome"], row["error_message"]) == ("success", "")
        assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("exact", 11, 3)
        assert kept_text(odd, request_id) == "Héllo there"


def test_the_scripts_are_what_they_say() -> None:
    assert len(ANSWERS) == 5
    assert ERRORS.keys() | WITHOUT_WORDS < SCRIPTS.keys()
    assert str(USAGE["total_tokens"]) in "".join(SCRIPTS["ollama/answer"].events(True))
    assert str(TIMINGS["predicted_ms"]) in "".join(SCRIPTS["llama.cpp/answer"].events(False))
