"""What a response has used of hosted tools that has too many values to be read to its end."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from proxyapi.bodies.json_body import JSONBody
from proxyapi.call.call_facts import CallFacts
from proxyapi.call.journal_rows import poll_row, usage_of
from proxyapi.keys.credentials import Credentials
from proxyapi.limits.usage_estimates import most_usage, supposed_tool_use
from proxyapi.routes import find_route
from proxyapi.upstream.request import UpstreamRequest
from usage.answers.reader import AnswerReader
from usage.models import PendingResponse, Request, UsageSource


def many_values(usage: dict[str, int] | None, before: int = 3) -> bytes:
    """A response with more values (`logprobs`) than are read; searches of the web stand before and after them."""
    token = {"token": " the", "logprob": -0.01, "bytes": [32, 116]}
    text = {"type": "output_text", "text": "…", "logprobs": [{**token, "top_logprobs": [token] * 20}] * 4000}
    searches = [{"type": "web_search_call", "status": "completed", "action": {"type": "search"}}] * before
    output = [*searches, {"type": "message", "content": [text]}, *searches]
    response = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "output": output}
    return json.dumps({**response, "tools": [{"type": "web_search"}], "usage": usage}).encode()


@pytest.mark.parametrize("is_reserved", [False, True], ids=["without a budget", "with a budget"])
@pytest.mark.parametrize("stated", [{"input_tokens": 30, "output_tokens": 4000}, None], ids=["tokens", "no usage"])
def test_tools_of_an_answer_that_is_not_read_to_its_end_are_estimated(
    stated: dict[str, int] | None, is_reserved: bool
) -> None:
    sent = {"model": "gpt-5", "input": "hi", "max_tool_calls": 8, "tools": [
        {"type": "web_search"}, {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}},
    ]}  # fmt: skip
    raw = json.dumps(sent).encode()
    body, route = JSONBody.parse(raw), find_route("/responses")
    request: Any = SimpleNamespace(method="POST", decoded_body=raw, META={"CONTENT_TYPE": "application/json"})
    facts = CallFacts(request, "none", (), model="gpt-5")
    facts.asked = UpstreamRequest("POST", "/responses", Credentials("sk-x"), deadline=0.0, content=raw, json=body)
    tools = supposed_tool_use("POST", route, body, ())
    if is_reserved:
        facts.most_usage = most_usage("POST", route, body, len(raw))
    else:
        facts.tool_use = tools
    answer, whole = AnswerReader(), many_values(stated)
    facts.keep_body(whole)
    answer.read_body(whole)
    usage, source = usage_of(facts, answer, may_be_billed=True)
    assert source == UsageSource.ESTIMATED
    assert usage["web_searches"] == 8
    assert usage["other_usage"]["containers"] == ["4g"]
    if stated is not None:
        assert (usage["input_tokens"], usage["output_tokens"]) == (30, 4000)


def test_tokens_of_an_answer_without_tools_that_is_not_read_to_its_end_are_exact() -> None:
    request: Any = SimpleNamespace(method="POST", decoded_body=b"{}", META={"CONTENT_TYPE": "application/json"})
    facts, answer = CallFacts(request, "none", (), model="gpt-5"), AnswerReader()
    answer.read_body(many_values({"input_tokens": 30, "output_tokens": 4000}, before=0))
    assert usage_of(facts, answer, may_be_billed=True)[1] == UsageSource.EXACT


def test_a_poll_of_such_a_response_counts_the_supposed_tools() -> None:
    now, answer = datetime.now(UTC), AnswerReader()
    answer.read_body(many_values({"input_tokens": 30, "output_tokens": 4000}))
    supposed = {"input_tokens": 9, "output_tokens": 9, "web_searches": 8, "other_usage": {"file_searches": 2}}
    response = PendingResponse(response_id="resp_1", key_name="a", supposed=supposed, created_at=now)
    maker = Request(route="/v1/responses", request_bytes=400, started_at=now)
    row = poll_row(response, maker, answer, upstream_request_id="", secrets=(), started_at=now, seconds=0.1, size=9)
    assert row["usage_source"] == UsageSource.ESTIMATED
    assert row["web_searches"] == 8
    assert row["other_usage"] == {"file_searches": 2}
    assert (row["input_tokens"], row["output_tokens"]) == (30, 4000)
