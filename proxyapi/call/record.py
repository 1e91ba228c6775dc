"""The rows that a call leaves in the journal, made of its facts and of what was read of its answer.

Nothing goes into a row that has not been redacted and cut to the length of its column.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from proxyapi.call.facts import CallFacts
from usage.addresses import plain_address
from usage.answers.created_ids import MAX_RECORDED_IDS
from usage.answers.errors import NO_ERROR
from usage.answers.reader import AnswerReader
from usage.answers.row_texts import answer_columns, column_text
from usage.answers.tokens import estimate_counts
from usage.call_record import CallRecord, Counts
from usage.kept_bodies.excerpts import body_excerpt, form_excerpt, text_size, text_size_of_parts
from usage.kept_bodies.redaction import redact
from usage.models import Outcome, PendingResponse, Request, UsageSource


def begin_row(facts: CallFacts) -> CallRecord:
    """Returns the fields of the record that is written before a call goes upstream."""
    request = facts.request
    added: CallRecord = {} if facts.output_limit is None else {"output_limit": facts.output_limit.tokens}
    return {
        **added,
        "incoming_request_id": redact(request.incoming_request_id, facts.secrets),
        "key_name": facts.key_name,
        "method": request.method,
        "route": request.route,
        "started_at": datetime.fromtimestamp(request.arrived_at, UTC),
        "client_address": plain_address(request.META.get("REMOTE_ADDR", "")),
        "user_agent": column_text(request.META.get("HTTP_USER_AGENT", ""), 300, facts.secrets),
        "tags": list(facts.tags),
        **_late_facts(facts),
    }


def _late_facts(facts: CallFacts) -> CallRecord:
    """Returns what may become known only while the call is under way: a form says it in its last field."""
    return {
        "request_model": column_text(facts.model, 200, facts.secrets),
        "stream": facts.stream,
        "request_bytes": facts.request.incoming_body.size,
    }


def end_row(
    facts: CallFacts,
    answer: AnswerReader,
    begun: CallRecord | None,
    outcome: Outcome,
    status: int | None,
    usage: tuple[Counts, UsageSource],
) -> CallRecord:
    """Returns the row of a call that has ended, without its bodies.

    `begun` is its `begin_row`, None if upstream has not heard of the call; `status` is the one that the caller saw.
    """
    error = answer.error or NO_ERROR
    return {
        **(begin_row(facts) if begun is None else begun | _late_facts(facts)),
        **_answer_facts(answer, facts.upstream_request_id, facts.secrets, usage),
        "response_status": column_text(answer.response_status, 50, facts.secrets),
        "pollable": facts.is_pollable,
        "status": status,
        "outcome": outcome,
        "error_type": column_text(error["type"], 200, facts.secrets),
        "error_code": column_text(error["code"], 200, facts.secrets),
        "error_message": column_text(error["message"], 2000, facts.secrets),
        **_timings(facts),
        "response_bytes": facts.response_bytes,
    }


def look_row(
    response: PendingResponse,
    maker: Request,
    answer: AnswerReader,
    *,
    upstream_request_id: str,
    secrets: tuple[str, ...],
    started_at: datetime,
    seconds: float,
    size: int,
) -> CallRecord:
    """Returns the row of a look at a background response that has ended.

    The look itself is no call of a key: the row is filed under the key, model and route of `maker`, the call that has
    made the response. It took `seconds`, and upstream's answer has `size` bytes.
    """
    source = UsageSource.EXACT if answer.usage is not None else UsageSource.UNKNOWN
    return {
        "incoming_request_id": str(response.request_id),
        **_answer_facts(answer, upstream_request_id, secrets, (answer.counts, source)),
        "response_id": response.response_id,
        "key_name": response.key_name,
        "method": "GET",
        "route": maker.route,
        "request_model": maker.request_model,
        "status": 200,
        "outcome": Outcome.SUCCESS,
        "started_at": started_at,
        "duration_ms": _milliseconds(seconds),
        "response_bytes": size,
        "tags": [*maker.tags, "background"],
        "objects": answer.created.take_new()[:MAX_RECORDED_IDS] if answer.created is not None else [],
        "objects_last": False,
    }


def _answer_facts(
    answer: AnswerReader, upstream_request_id: str, secrets: tuple[str, ...], usage: tuple[Counts, UsageSource]
) -> CallRecord:
    """Returns the fields that the answer states: ids, model, service tier and usage."""
    counts, source = usage
    return {
        **answer_columns(answer, upstream_request_id, secrets),
        "response_model": column_text(answer.model, 200, secrets),
        **counts,
        "usage_source": source,
    }


def usage_of(facts: CallFacts, answer: AnswerReader) -> tuple[Counts, UsageSource]:
    """Returns the tokens that upstream reported; for a stream without usage, an estimate from the relayed text.

    A `GET` of a response that is still being generated gets none: its tokens belong to the call that created it.
    """
    if answer.usage is not None:
        return answer.counts, UsageSource.EXACT
    if facts.request.method == "GET":
        return {}, UsageSource.UNKNOWN
    if answer.text is not None and answer.text.size:
        counts = estimate_counts(_request_text_size(facts), answer.text.size)
        return {**answer.counts, **counts}, UsageSource.ESTIMATED
    return answer.counts, UsageSource.UNKNOWN


def limited_tokens(facts: CallFacts, counts: Counts) -> int:
    """Returns how many of its key's tokens a call has used. A later look at a response repeats its usage: none."""
    if facts.request.method != "POST":
        return 0
    return (counts.get("input_tokens") or 0) + (counts.get("output_tokens") or 0)


def body_columns(facts: CallFacts, answer: AnswerReader, limit: int) -> CallRecord:
    """Returns what the ledger keeps of both bodies: at most `limit` bytes of each, redacted."""
    if answer.text is not None:
        response = answer.text.text(limit)
    else:
        response = body_excerpt(
            facts.response_body, facts.response_type, limit, facts.secrets, size=facts.response_size
        )
    return {"request_body": _request_excerpt(facts, limit), "response_body": response}


def _request_excerpt(facts: CallFacts, limit: int) -> str:
    if facts.form is not None:
        return form_excerpt(facts.form.parts, limit, facts.secrets)
    return body_excerpt(facts.request.decoded_body, _request_type(facts), limit, facts.secrets)


def _request_text_size(facts: CallFacts) -> int:
    """Returns about how many bytes of text the request has, for an estimate of its input tokens."""
    if facts.form is not None:
        return text_size_of_parts(facts.form.parts)
    return text_size(facts.request.decoded_body, _request_type(facts))


def _request_type(facts: CallFacts) -> str:
    return str(facts.request.META.get("CONTENT_TYPE", ""))


def _timings(facts: CallFacts) -> CallRecord:
    """Returns the call's durations in milliseconds. `overhead_ms` is what the gateway has added to upstream's time."""
    request, now = facts.request, time.perf_counter()
    timings: CallRecord = {"duration_ms": _milliseconds(now - request.started)}
    if facts.first_chunk_at is not None:
        timings["time_to_first_chunk_ms"] = _milliseconds(facts.first_chunk_at - request.started)
    if facts.sent_upstream_at is not None:
        upstream_ended = facts.upstream_ended_at or now
        timings["upstream_ms"] = _milliseconds(upstream_ended - facts.sent_upstream_at)
        before = request.received if facts.form is None else request.started  # a form goes up while it arrives
        overhead = (facts.sent_upstream_at - before) + (now - upstream_ended)
        timings["overhead_ms"] = _milliseconds(overhead)
    return timings


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
