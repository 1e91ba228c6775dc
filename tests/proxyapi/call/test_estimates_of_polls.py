"""The estimate of a background response that was cancelled before it said its usage, in the row of a poll."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxyapi.call.call_facts import CallFacts
from proxyapi.call.journal_rows import goes_on, poll_row
from usage.answers.created_ids import CreatedIds
from usage.answers.reader import AnswerReader
from usage.call_record import CallRecord
from usage.models import PendingResponse, Request
from usage.money.billing import MaxUsage

SUPPOSED = {"input_tokens": 100, "output_tokens": 50_000, "other_usage": {"file_searches": 10}}
LEFT = {"usage_source": "estimated", "input_tokens": 90, "output_tokens": 7000}


def polled(supposed: dict[str, Any] | None, maker: dict[str, Any], ago: int, **stated: Any) -> CallRecord:
    """The row of a poll that finds the response cancelled, which was made some seconds ago, and noted a second ago."""
    answer, now = AnswerReader(), datetime.now(UTC)
    body = {"id": "resp_1", "object": "response", "status": "cancelled", "usage": None, "output": [], **stated}
    answer.created = CreatedIds(is_creating=False, lasts=False)
    answer.read_body(json.dumps(body).encode())
    response = PendingResponse(
        response_id="resp_1", key_name="a", supposed=supposed, created_at=now - timedelta(seconds=1)
    )
    call = Request(route="/v1/responses", request_bytes=400, started_at=now - timedelta(seconds=ago), **maker)
    return poll_row(
        response, call, answer, upstream_request_id="", secrets=(), started_at=now, seconds=0.1, size=len(body)
    )


@pytest.mark.parametrize(
    ("supposed", "maker", "ago", "source", "output"),
    [
        (SUPPOSED, {"usage_source": "unknown"}, 100, "estimated", 50_000),
        (SUPPOSED, {"usage_source": "unknown"}, 20, "estimated", 20_000),
        (SUPPOSED, LEFT, 100, "estimated", 50_000),  # a stream that was left, and went on until it was cancelled
        (SUPPOSED, LEFT, 20, "estimated", 20_000),
        (SUPPOSED, LEFT, 1, "estimated", 7000),  # what has come is no guess
        (None, LEFT, 100, "unknown", None),  # it ended with its connection: the row that left it has its estimate
        (None, {"usage_source": "unknown"}, 100, "estimated", 0),  # written by code of before
    ],
)
def test_it_counts_what_upstream_may_have_made(
    supposed: dict[str, Any] | None, maker: dict[str, Any], ago: int, source: str, output: int | None
) -> None:
    row = polled(supposed, maker, ago)
    made = row.get("output_tokens")
    assert row["usage_source"] == source
    assert made == output or (output is not None and made is not None and output < made < output + 10_000)
    if supposed is not None:
        assert row["other_usage"] == {"file_searches": 10}


def test_hosted_tools_count_what_the_response_says_at_least() -> None:
    found = [{"type": "file_search_call", "id": f"fs_{number}", "status": "completed"} for number in range(12)]
    row = polled(SUPPOSED, {"usage_source": "unknown"}, 5, output=found)
    assert row["other_usage"] == {"file_searches": 12}


def test_a_stated_usage_is_exact() -> None:
    row = polled(SUPPOSED, LEFT, 5, usage={"input_tokens": 3, "output_tokens": 4})
    assert (row["usage_source"], row["output_tokens"], row.get("other_usage")) == ("exact", 4, None)


def test_a_poll_makes_no_key_the_owner_of_a_container_that_may_be_shared() -> None:
    """Whether the request has named the container, only its call knows."""
    output = [{"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_shared", "status": "completed"}]
    assert polled(SUPPOSED, LEFT, 5, output=output)["objects"] == ["ci_1"]


CREATED = {"type": "response.created", "response": {"id": "resp_1", "object": "response", "background": True}}
DELTA = {"type": "response.output_text.delta", "delta": "Two lines."}


@pytest.mark.parametrize(
    ("last", "is_reserved", "goes"),
    [
        (DELTA, False, True),
        (DELTA, True, True),
        ({"type": "response.completed", "response": {"status": "completed", "usage": None}}, False, False),
        ({"type": "response.completed", "response": {"status": "completed", "usage": None}}, True, True),
        ({"type": "error", "message": "Oh"}, False, False),
    ],
)
def test_a_stream_whose_end_has_come_goes_on_for_nobody(last: dict[str, Any], is_reserved: bool, goes: bool) -> None:
    """Without a budget its text is all that counts; with one, all that was reserved."""
    answer, facts = AnswerReader(), CallFacts.__new__(CallFacts)
    facts.most_usage = MaxUsage() if is_reserved else None
    for event in (CREATED, DELTA, last):
        answer.read_events(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert goes_on(facts, answer) == goes
