"""Builds the rows that a call leaves in the journal, from the call's facts and its answer.

All texts in a row are redacted, and cut to the length of their column.

Over 300 lines, since the rows of a call's beginning, of its end and of polls share the rules of their columns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from proxyapi.bodies.billing_parameters import Fields, states_whole_bill
from proxyapi.bodies.labels import NO_LABELS, add_tags
from proxyapi.call.call_facts import CallFacts
from proxyapi.key_names import CONTROL_CHARACTERS
from proxyapi.limits.output_limits import by_plain_name
from proxyapi.limits.usage_estimates import (
    counts_of_streamed_text,
    counts_of_whole_stream,
    length_of_files,
    most_of_stream,
    most_usage,
    supposed_usage,
    usage_of_answer,
    usage_of_pictures,
    usage_without_answer,
    with_length,
    with_one_picture_model,
)
from usage.answers.audio_duration import TIMED_FORMATS, length_in_transcript
from usage.answers.created_ids import MAX_RECORDED_IDS, CreatedIds
from usage.answers.errors import NO_ERROR, parameter_name
from usage.answers.estimate_rules import at_least, tool_use_of
from usage.answers.reader import UNFINISHED_STATUSES, AnswerReader
from usage.answers.row_texts import column_text, id_columns, usage_columns
from usage.answers.tokens import whole_count
from usage.call_record import COUNTS, CallRecord, Counts, OtherUsage, SupposedUsage
from usage.ip_addresses import plain_address
from usage.journal_shipping.background_responses import supposed_by
from usage.kept_bodies.body_excerpts import Draft, body_draft, form_draft, text_size, text_size_of_parts
from usage.kept_bodies.redaction import redact
from usage.models import Outcome, PendingResponse, Request, UsageSource
from usage.money.spent_and_reserved import responses_are_polled

MAX_PARAMETER_LENGTH = 100  # characters of the name of a parameter in an error
MAX_LABEL_LENGTH = 200  # characters of an end user or a session
# Of a label in UTF-8: PostgreSQL's indexes take 2,704 bytes, and that of sums by label has names of key and team, too.
MAX_LABEL_BYTES = 400
MAX_TAGS, MAX_TAG_LENGTH = 16, 100  # of the request; its key may have others
MORE_TAGS = "(more tags)"  # in place of further tags of the request


def begin_row(facts: CallFacts) -> CallRecord:
    """Returns the fields of a call's ledger row that are known before the call is sent upstream."""
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
        "team": facts.team,
        "owner": facts.owner,
        **late_facts(facts),
    }


def begin_with_tools(begun: CallRecord, tool_use: SupposedUsage) -> CallRecord:
    """Returns a copy of a call's begin record with `tool_use`, the highest possible use of the call's hosted tools.

    A hosted tool is, for example, web search. Only for calls without reserved dollars: the begin record of other calls
    states their highest possible usage anyway.
    """
    # The copy counts only if the process dies before it has written the row of the call's end. That row is made from
    # `begun` itself: there the use that the answer states counts.
    asked = begun.get("other_usage") or {}
    used: OtherUsage = {**asked, **tool_use.get("other_usage", {})}
    searches: CallRecord = {"web_searches": tool_use["web_searches"]} if "web_searches" in tool_use else {}
    return {**begun, **searches, "other_usage": used}


def late_facts(facts: CallFacts) -> CallRecord:
    """Returns the fields of a call's ledger row that can change while the request's body arrives, as they are now.

    For example, the model of a form is known only when its field has arrived.
    """
    known: CallRecord = {
        "request_model": column_text(facts.model, 200, facts.secrets),
        "stream": facts.stream,
        "request_bytes": facts.request.incoming_body.size,
        "tags": list(facts.tags),
    }
    if facts.asked_usage is not None:
        known["other_usage"] = facts.asked_usage
    if facts.labels is not NO_LABELS:  # few calls have any
        known |= _label_columns(facts)
    return known


def _label_columns(facts: CallFacts) -> CallRecord:
    """Returns the fields of a call's ledger row for the labels that its request states: end user, session, tags.

    If the request names an earlier response instead of a session, `previous_response_id` is added.
    """
    labels = facts.labels
    found: CallRecord = {
        "end_user": _cut_text(labels.end_user, MAX_LABEL_LENGTH, facts.secrets),
        "session": _cut_text(labels.session, MAX_LABEL_LENGTH, facts.secrets),
        "tags": list(facts.tags),
    }
    if labels.previous_response_id:
        found["previous_response_id"] = column_text(labels.previous_response_id, MAX_LABEL_LENGTH, facts.secrets)
    if labels.tags:
        own = [_cut_text(tag, MAX_TAG_LENGTH, facts.secrets) for tag in labels.tags[:MAX_TAGS]]
        found["tags"] = add_tags(facts.tags, [*own, MORE_TAGS] if len(labels.tags) > MAX_TAGS else own)
    return found


def _cut_text(value: str, length: int, secrets: tuple[str, ...]) -> str:
    """Cuts a label that the caller has sent (end user, session or tag) to `length` characters; redacts secrets in it.

    Where something was cut off, the result ends with `…`. It has at most `MAX_LABEL_BYTES` bytes. Control characters,
    and those that PostgreSQL cannot store, become U+FFFD.
    """
    if not value:
        return ""
    text = column_text(value, length, secrets)
    if len(value) > length == len(text):
        text = f"{text[:-1]}…"
    text = text if text.isprintable() else CONTROL_CHARACTERS.sub("\ufffd", text)
    if len(text) > MAX_LABEL_BYTES // 4 and len(stored := text.encode(errors="replace")) > MAX_LABEL_BYTES:
        text = stored[: MAX_LABEL_BYTES - len("…".encode())].decode(errors="ignore") + "…"
    return text


def end_row(
    facts: CallFacts,
    answer: AnswerReader,
    begun: CallRecord | None,
    outcome: Outcome,
    status: int | None,
    usage: tuple[SupposedUsage, UsageSource],
) -> CallRecord:
    """Builds the ledger row of a call that has ended, without the columns that `text_columns` adds (bodies and ids).

    * `begun`: the call's row from `begin_row`; None if the call was never sent upstream.
    * `status`: the HTTP status that the caller saw; None if it saw none.
    * `usage`: the call's usage, and the usage's source (stated, estimated or unknown).
    """
    error = answer.error or NO_ERROR
    facts_of_answer = _answer_facts(answer, facts.secrets, usage)
    if facts.is_unbilled or answer.has_failed:
        facts_of_answer["unbilled"] = True
    if facts.asked_usage is not None:
        used: OtherUsage = {**(facts_of_answer.get("other_usage") or {}), **facts.asked_usage}
        if answer.usage is not None and not answer.is_background:
            used.pop("completion_window", None)  # the server has answered at once, and so at the usual price
        facts_of_answer["other_usage"] = used or None
    if facts.is_callers_timeout:
        facts_of_answer["is_callers_timeout"] = True
    if parameter := column_text(parameter_name(error.get("param")), MAX_PARAMETER_LENGTH, facts.secrets):
        facts_of_answer["error_param"] = parameter
    if begun is None:
        begun = begin_row(facts)
    elif facts.form is not None:  # of other requests all was known before the call was sent upstream
        begun = begun | late_facts(facts)
    return {
        **begun,
        "stream": facts.stream,  # upstream may answer with a stream that was not asked for
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


def poll_row(
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
    """Builds the ledger row of a poll, a request of the gateway's own, that found a background response at its end.

    * `response`: the polled response; the row has the response's key.
    * `maker`: the row of the call that created the response. The model, route, team, owner, end user, session and tags
      are copied from it.
    * `answer`: upstream's answer to the poll. It has `size` bytes, and took `seconds`.

    If the response was cancelled and states no usage, the usage is estimated, unless `maker` already has the estimate
    of a stream that broke off. If the response was too large to be read to its end, its hosted tools are estimated.
    """
    # A poll is no call of a key.
    usage = cast(SupposedUsage, answer.counts)
    source = UsageSource.EXACT if answer.usage is not None else UsageSource.UNKNOWN
    # A stream that is not in the background ends with its connection: what had come of it is estimated already.
    is_estimated = maker.usage_source == UsageSource.ESTIMATED and response.supposed is None
    if answer.usage is None and answer.response_status == "cancelled" and not is_estimated:  # it may be billed
        supposed = supposed_by(response, maker.started_at, maker.request_bytes, datetime.now(UTC))
        known = cast(Counts, {name: getattr(maker, name) for name in COUNTS})
        usage = at_least(at_least(supposed, known, maker.other_usage), answer.counts)
        source = UsageSource.ESTIMATED
    elif answer.lacks_tools and (tools := tool_use_of(response.supposed or SupposedUsage())):
        usage = _with_tools(usage, tools)
        source = UsageSource.ESTIMATED
    return {
        "incoming_request_id": str(response.request_id),
        **_answer_facts(answer, secrets, (usage, source)),
        **id_columns(answer, upstream_request_id, secrets)[0],
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
        "team": maker.team,
        "owner": maker.owner,
        "end_user": maker.end_user,
        "session": maker.session,
        "tags": [*maker.tags, "background"],
        "objects": [] if answer.created is None else _surely_new(answer.created)[:MAX_RECORDED_IDS],
        "objects_last": False,
    }


def _surely_new(created: CreatedIds) -> list[str]:
    """Returns the ids of the objects in a response that its call has surely created; the others may be older."""
    # A container may be another key's, or a shared one: only the call knows. Whoever asks for the response becomes
    # the owner of those that are new, and learns their ids only then.
    return [object_id for object_id in created.take_new() if object_id not in created.perhaps_older]


def _sound_seconds(facts: CallFacts) -> float | None:
    """Returns the length in seconds of the audio that the caller has sent; None if it is not known.

    The length is the one that upstream's answer states or, without one, that of the audio files in the request's form.
    """
    # Upstream's answer may state it; else it is read from the audio files.
    is_timed = TIMED_FORMATS.issuperset(map(str, _request_fields(facts).get("response_format", ())))
    stated = length_in_transcript(facts.response_body) if facts.response_is_whole and is_timed else None
    if stated is not None:
        return stated
    if facts.form is not None:
        return length_of_files((part.head, part.size) for part in facts.form.parts if part.file_name is not None)
    return None


def _request_fields(facts: CallFacts) -> Fields:
    """Returns the values of the members of a request's JSON body, or of the fields of its form, by OpenAI's names."""
    if facts.form is not None:
        return by_plain_name(facts.form.sizes().fields)
    return {} if facts.asked is None or facts.asked.json is None else by_plain_name(facts.asked.json.by_name)


def _answer_facts(
    answer: AnswerReader, secrets: tuple[str, ...], usage: tuple[SupposedUsage, UsageSource]
) -> CallRecord:
    """Returns the fields of a ledger row that come from upstream's answer: model, service tier and usage.

    `usage` has the usage to store, and its source (stated, estimated or unknown). If the answer states more use of
    hosted tools than this usage has, the answer's numbers are stored.
    """
    used, source = usage
    stated = usage_columns(answer, secrets)
    if "other_usage" in used and (seen := stated.get("other_usage")):
        # of hosted tools, the larger count: that in `usage`, or that which the answer states
        used = at_least(used, {}, seen)
    return {
        **stated,
        "response_model": column_text(answer.model, 200, secrets),
        **used,
        "usage_source": source,
    }


def usage_of(facts: CallFacts, answer: AnswerReader, *, may_be_billed: bool) -> tuple[SupposedUsage, UsageSource]:
    """Returns a call's usage, as fields of its ledger row, and the usage's source: stated, estimated or unknown.

    * Stated: upstream has stated the usage, and the answer does not contradict it. Or the request alone decides the
      price, as for speech billed by characters, and the whole answer has come.
    * Estimated: upstream has stated no usage, but the call may be billed (`may_be_billed`), or its stream has brought
      text. Or upstream has stated the usage of a stream of pictures that broke off: its missing pictures are estimated.
      Or it has stated the tokens of a response that could not be read to its end: its hosted tools are estimated.
    * Unknown: all other calls; without a stated usage, also a `GET`, a failed response, and a response that the gateway
      will ask upstream about later (poll).
    """
    answer.forget_false_usage()
    is_broken_off = may_be_billed and facts.upstream_ended_at is None
    if answer.usage is not None:
        # When a stream of pictures breaks off, the missing pictures are estimated from those that came.
        is_estimated = is_broken_off and answer.suppose_missing_pictures()
        if answer.lacks_tools and (tools := _supposed_tools(facts)):
            return _with_tools(answer.counts, tools), UsageSource.ESTIMATED
        return cast(SupposedUsage, answer.counts), UsageSource.ESTIMATED if is_estimated else UsageSource.EXACT
    route = None if facts.asked is None else facts.asked.route
    if may_be_billed and states_whole_bill(facts.asked_usage, route, facts.model):
        # Without the whole answer, nobody knows whether upstream has done what was asked, and bills it.
        return cast(SupposedUsage, answer.counts), UsageSource.ESTIMATED if is_broken_off else UsageSource.EXACT
    method = facts.request.method if facts.asked is None else facts.asked.method
    if answer.has_failed:
        # a response that has failed without a usage is not billed
        return cast(SupposedUsage, answer.counts), UsageSource.UNKNOWN  # only searches; it has stated no tokens
    if method == "GET":
        # the tokens of a response belong to the call that created it
        return {}, UsageSource.UNKNOWN
    has_text = answer.text is not None and answer.text.size > 0
    if (has_text or may_be_billed) and not is_counted_later(facts, answer):
        estimate = estimated_usage(facts, answer)
        if estimate is not None:
            # A response that goes on has stated no searches but those until now: what is supposed of them counts.
            is_unfinished = _is_unfinished(facts, answer)
            stated = Counts() if is_unfinished else answer.counts
            if (answer.lacks_end or answer.has_more_text) and (until_then := stated.get("output_tokens")):
                # It was stated before the stream brought more text, or broke off.
                stated = {**stated, "output_tokens": max(until_then, estimate.get("output_tokens") or 0)}
            if facts.most_usage is not None:
                return at_least(estimate, stated), UsageSource.ESTIMATED
            if answer.lacks_tools:
                return _with_tools({**estimate, **stated}, tool_use_of(estimate)), UsageSource.ESTIMATED
            if facts.response_is_whole and not is_unfinished:
                estimate.pop("other_usage", None)  # the whole answer shows which tools have worked
            return {**estimate, **stated}, UsageSource.ESTIMATED
    return cast(SupposedUsage, answer.counts), UsageSource.UNKNOWN


def _supposed_tools(facts: CallFacts) -> SupposedUsage:
    """Returns the highest possible use of the call's hosted tools, by its request; empty if it has no such tools."""
    return facts.tool_use if facts.most_usage is None else tool_use_of(supposed_usage(facts.most_usage, facts.model))


def _with_tools(stated: Mapping[str, object], tools: SupposedUsage) -> SupposedUsage:
    """Returns a copy of the counts that upstream has `stated`, with the use of hosted tools raised to the estimate.

    `tools` is the estimated use. A stated use that is higher stays.
    """
    counts = cast(SupposedUsage, stated)
    return {**counts, **at_least(tools, cast(Counts, counts))}


def is_counted_later(facts: CallFacts, answer: AnswerReader) -> bool:
    """Returns whether the gateway will ask upstream later (poll) for the usage of the call's unfinished response."""
    return _is_unfinished(facts, answer) and _may_be_polled(facts)


def _may_be_polled(facts: CallFacts) -> bool:
    return facts.is_pollable and responses_are_polled()


def _is_unfinished(facts: CallFacts, answer: AnswerReader) -> bool:
    """Returns whether upstream's answer has arrived whole, and its status says that the response is unfinished."""
    return facts.response_is_whole and answer.response_status in UNFINISHED_STATUSES


def goes_on(facts: CallFacts, answer: AnswerReader) -> bool:
    """Returns whether upstream may still be working on the call's background response after the call has ended.

    For a background response, the result is True if dollars are reserved for the call, or if the stream was cut before
    its last event. For any other response, it is False.
    """
    # Without its last event, a stream was left before its end. For a call with reserved dollars, the text that has come
    # is not enough to compute the cost without a stated usage: what was reserved counts.
    return answer.is_background and (facts.most_usage is not None or not answer.has_ended)


def supposed_later(
    facts: CallFacts, answer: AnswerReader, source: UsageSource, *, may_be_billed: bool
) -> SupposedUsage | None:
    """Estimates the usage of a call's background response, in case upstream never states it.

    Returns usage fields for the journal record; None if no estimate is needed, for example because the call's usage is
    exact. `source` says whether the usage known so far is exact, estimated or unknown (see `usage_of`).
    """
    if source == UsageSource.UNKNOWN and may_be_billed and is_counted_later(facts, answer):
        supposed = estimated_usage(facts, answer) or SupposedUsage()
    elif source == UsageSource.ESTIMATED and goes_on(facts, answer):
        # The stream was left, and its response goes on: it may be cancelled or deleted before it says its usage.
        supposed = whole_usage(facts, answer)
    else:
        return None
    if facts.is_of_named_account:
        supposed["is_of_named_account"] = True
    return supposed


def whole_usage(facts: CallFacts, answer: AnswerReader) -> SupposedUsage:
    """Estimates the usage of a background response that upstream finishes after its caller has left.

    Returns usage fields for the call's ledger row: the usage that the reserved dollars pay for or, if no dollars are
    reserved, the usage of the longest answer that the request allows.
    """
    model = answer.model or facts.model
    if facts.most_usage is not None:
        return supposed_usage(facts.most_usage, model)
    counts = counts_of_whole_stream(model, _request_text_size(facts), facts.request.decoded_body)
    return cast(SupposedUsage, {**counts, **facts.tool_use})


def estimated_usage(facts: CallFacts, answer: AnswerReader) -> SupposedUsage | None:
    """Estimates what a call has used (tokens, seconds of audio, images, hosted tools) if upstream has not stated it.

    Returns it as fields of the call's ledger row; None if the call is free, or if the gateway does not count the usage
    of its route. The rule is in `usage.answers.estimate_rules`.
    """
    asked, text, model = facts.asked, answer.text, answer.model or facts.model
    if asked is None or (facts.stream and asked.is_of_text):
        if text is not None and goes_on(facts, answer) and not _may_be_polled(facts):
            return whole_usage(facts, answer)
        whole_size = facts.response_size if facts.response_is_whole else 0
        size = whole_size if text is None else text.size
        shows_reasoning = text is not None and text.shows_reasoning
        body = facts.request.decoded_body
        if facts.most_usage is not None:
            return most_of_stream(facts.most_usage, model, text, whole_size, body, facts.upstream_seconds)
        request_size = _request_text_size(facts)
        counts = counts_of_streamed_text(model, request_size, size, body, shows_reasoning=shows_reasoning)
        return cast(SupposedUsage, counts)
    most = facts.most_usage
    if most is None:
        sent = asked.json if facts.form is None else facts.form.sizes()
        most = most_usage(asked.method, asked.route, sent, _request_text_size(facts))
        if most is None:
            return None
        most = with_one_picture_model(most, facts.secrets)
    if most.audio_seconds and (seconds := _sound_seconds(facts)) is not None:
        most = with_length(most, seconds)
    if text is None and answer.response_status in UNFINISHED_STATUSES:
        return supposed_usage(most, model)  # its output is still to come
    if most.images and (facts.response_is_whole or answer.has_ended):
        return usage_of_pictures(most, model, _request_fields(facts))
    if facts.response_is_whole or (text is not None and text.size):
        size = facts.response_size if text is None else text.size
        return usage_of_answer(most, model, size, _request_fields(facts))
    return usage_without_answer(most, model, facts.upstream_seconds)


def limited_tokens(facts: CallFacts, answer: AnswerReader, counts: Counts) -> int:
    """Returns the tokens of a call that count against its key's limits: input plus output; 0 for any method but POST.

    If upstream has stated a higher total, the total counts.
    """
    # A later GET of a stored response repeats the usage of the call that created the response.
    if facts.request.method != "POST":
        return 0
    # Some servers state only a total, and some leave reasoning out of the output.
    stated = whole_count((answer.usage or {}).get("total_tokens"))
    return max(stated, (counts.get("input_tokens") or 0) + (counts.get("output_tokens") or 0))


def text_columns(facts: CallFacts, answer: AnswerReader, limit: int) -> CallRecord:
    """Returns the text columns of a call's ledger row: upstream's ids, and excerpts of request and answer body.

    Secrets are removed. An excerpt has at most `limit` bytes, and is empty if `limit` is 0. For a streamed answer, the
    excerpt is the collected text.
    """
    secrets = facts.secrets
    if answer.text is not None:
        response, stream_text = Draft(), answer.text.text(limit)
    else:
        response = body_draft(facts.response_body, facts.response_type, limit, secrets, size=facts.response_size)
        stream_text = ""
    # The texts are searched for secrets together, since one search costs little more in a longer text; only the text of
    # a stream is searched by itself.
    request = _request_draft(facts, limit)
    columns, texts = id_columns(answer, facts.upstream_request_id, secrets, request.text, response.text)
    columns["request_body"] = request.excerpt(texts[0], limit, secrets)
    columns["response_body"] = stream_text or response.excerpt(texts[1], limit, secrets)
    return columns


def _request_draft(facts: CallFacts, limit: int) -> Draft:
    if facts.form is not None:
        return form_draft(facts.form.parts, limit, facts.secrets)
    return body_draft(facts.request.decoded_body, _request_type(facts), limit, facts.secrets)


def _request_text_size(facts: CallFacts) -> int:
    """Estimates how many bytes of a request's body are text, as the basis for the estimate of its input tokens."""
    if facts.form is not None:
        return text_size_of_parts(facts.form.parts)
    return text_size(facts.request.decoded_body, _request_type(facts))


def _request_type(facts: CallFacts) -> str:
    return str(facts.request.META.get("CONTENT_TYPE", ""))


def _timings(facts: CallFacts) -> CallRecord:
    """Returns the columns of a call's ledger row that say how long the call took, in milliseconds.

    `duration_ms` is the whole call as the caller saw it, `time_to_first_chunk_ms` the wait for the first bytes,
    `upstream_ms` upstream's part, `overhead_ms` the gateway's part. Unknown times are left out.
    """
    request, now = facts.request, time.perf_counter()
    # If the caller left, or got status 504, while the call went on, its time ends there; `upstream_ms` may then be
    # longer.
    seen_until = request.incoming_body.left_at or now
    timings: CallRecord = {"duration_ms": _milliseconds(seen_until - request.started)}
    if facts.first_chunk_at is not None:
        timings["time_to_first_chunk_ms"] = _milliseconds(facts.first_chunk_at - request.started)
    if facts.sent_upstream_at is not None:
        upstream_ended = facts.upstream_ended_at or now
        timings["upstream_ms"] = _milliseconds(upstream_ended - facts.sent_upstream_at)
        goes_up_as_it_arrives = request.received > facts.sent_upstream_at
        before = request.started if goes_up_as_it_arrives else request.received
        overhead = (facts.sent_upstream_at - before) + (now - upstream_ended)
        timings["overhead_ms"] = _milliseconds(overhead)
    return timings


def _milliseconds(seconds: float) -> float:
    """Converts seconds to milliseconds, rounded to the microsecond."""
    return round(seconds * 1_000_000) / 1000  # to round to digits behind the point takes ten times as long
