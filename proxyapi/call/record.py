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
    """Returns the fields of a call's ledger row that are written to the journal before the call goes upstream."""
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
    """Returns the fields of a call's ledger row that may become known only after the call has begun.

    A form, for example, may name its model in its last field.
    """
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
    """Returns the complete ledger row of a call that has ended, except the columns for the bodies.

    `begun` is what `begin_row` returned for the call, or None if the call was never sent upstream. `status` is the HTTP
    status that the caller saw; None if there was no answer.
    """
    error = answer.error or NO_ERROR
    facts_of_answer = _answer_facts(answer, facts.upstream_request_id, facts.secrets, usage)
    if facts.is_unbilled or answer.has_failed:
        facts_of_answer["unbilled"] = True
    if facts.asked_usage is not None:
        facts_of_answer["other_usage"] = {**(facts_of_answer.get("other_usage") or {}), **facts.asked_usage}
    return {
        **(begin_row(facts) if begun is None else begun | _late_facts(facts)),
        **facts_of_answer,
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
    """Returns the ledger row for a background response that has ended, with the usage that polling it has shown.

    Polling is no call of a key, so the row is filed under the key, model and route of the call that created the
    response, whose row is `maker`. The request to upstream took `seconds`, and the answer's body has `size` bytes.
    """
    counts, source = answer.counts, UsageSource.EXACT if answer.usage is not None else UsageSource.UNKNOWN
    is_estimated = maker.usage_source == UsageSource.ESTIMATED
    if answer.usage is None and answer.response_status == "cancelled" and not is_estimated:  # it may be billed
        counts, source = {**counts, **estimate_counts(maker.request_bytes, 0)}, UsageSource.ESTIMATED
    return {
        "incoming_request_id": str(response.request_id),
        **_answer_facts(answer, upstream_request_id, secrets, (counts, source)),
        "response_status": column_text(answer.response_status, 50, secrets),
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
    """Returns the fields of a ledger row that come from upstream's answer: ids, model, service tier and usage."""
    counts, source = usage
    return {
        **answer_columns(answer, upstream_request_id, secrets),
        "response_model": column_text(answer.model, 200, secrets),
        **counts,
        "usage_source": source,
    }


def usage_of(facts: CallFacts, answer: AnswerReader) -> tuple[Counts, UsageSource]:
    """Returns a call's token counts, and how they are known: as upstream reported them, or estimated.

    A stream without reported usage gets an estimate from the text that was relayed. A `GET` gets no estimate: the
    tokens of a response that is still being generated belong to the call that created it. A response that has failed
    without a usage gets none either, because it is not billed.
    """
    if answer.usage is not None:
        return answer.counts, UsageSource.EXACT
    if facts.asked_usage is not None and "characters" in facts.asked_usage:
        return answer.counts, UsageSource.EXACT
    if facts.request.method == "GET" or answer.has_failed:
        return {}, UsageSource.UNKNOWN
    if answer.text is not None and answer.text.size:
        counts = estimate_counts(_request_text_size(facts), answer.text.size)
        return {**answer.counts, **counts}, UsageSource.ESTIMATED
    return answer.counts, UsageSource.UNKNOWN


def limited_tokens(facts: CallFacts, counts: Counts) -> int:
    """Returns how many tokens a call counts against its key's token limit; 0 for a call that is not a POST.

    A later GET of a stored response repeats the usage of the call that created it, which must not be counted twice.
    """
    if facts.request.method != "POST":
        return 0
    return (counts.get("input_tokens") or 0) + (counts.get("output_tokens") or 0)


def body_columns(facts: CallFacts, answer: AnswerReader, limit: int) -> CallRecord:
    """Returns a ledger row's columns for the bodies of request and answer: at most `limit` bytes of each, redacted."""
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
    """Returns about how many bytes of text a request's body has, for an estimate of the call's input tokens."""
    if facts.form is not None:
        return text_size_of_parts(facts.form.parts)
    return text_size(facts.request.decoded_body, _request_type(facts))


def _request_type(facts: CallFacts) -> str:
    return str(facts.request.META.get("CONTENT_TYPE", ""))


def _timings(facts: CallFacts) -> CallRecord:
    """Returns the columns of a call's ledger row that state how long the call took, in milliseconds.

    `overhead_ms` is the time that the gateway has added to upstream's.
    """
    request, now = facts.request, time.perf_counter()
    timings: CallRecord = {"duration_ms": _milliseconds(now - request.started)}
    if facts.first_chunk_at is not None:
        timings["time_to_first_chunk_ms"] = _milliseconds(facts.first_chunk_at - request.started)
    if facts.sent_upstream_at is not None:
        upstream_ended = facts.upstream_ended_at or now
        timings["upstream_ms"] = _milliseconds(upstream_ended - facts.sent_upstream_at)
        before = request.received if facts.form is None else request.started  # a form goes upstream while it arrives
        overhead = (facts.sent_upstream_at - before) + (now - upstream_ended)
        timings["overhead_ms"] = _milliseconds(overhead)
    return timings


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
