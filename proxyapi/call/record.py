"""Owns one call's life: what is known of it, from admission to its row in the ledger.

Invariants: `begin` comes before upstream hears of the call; `end` writes exactly once, whoever
calls it first; nothing goes into it that has not been redacted and cut.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from proxyapi.bodies import large_bodies
from proxyapi.call.call_request import CallRequest
from proxyapi.call.uploads import FormUpload
from proxyapi.exceptions import ProxyError, StorageFull
from proxyapi.keys.keyring import Caller
from proxyapi.limits import limit_headers
from proxyapi.limits.budgets import Reservation
from proxyapi.limits.limiter import Ticket
from proxyapi.object_owners.new_objects import NewObjects
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.credentials import Credentials
from proxyapi.upstream.passed_headers import location_down
from usage.addresses import plain_address
from usage.answers.errors import NO_ERROR
from usage.answers.reader import READ_MEMBERS, READ_MEMBERS_AND_IDS, AnswerReader, parse_body
from usage.answers.row_texts import answer_columns, column_text
from usage.answers.streamed_text import StreamedText
from usage.answers.tokens import estimate_counts
from usage.journal import writer
from usage.kept_bodies.excerpts import body_excerpt, form_excerpt, text_size, text_size_of_parts
from usage.kept_bodies.redaction import redact, redact_answer, redact_exact
from usage.ledger import ledger
from usage.models import Outcome, UsageSource

# Of a body, this much is redacted on the event loop: a few milliseconds, whatever it says.
MOST_KEPT_AT_ONCE = 64 * 1024


class Call:
    """One call; without a `key_name` it was not let in and has no row. Times are `time.perf_counter()` seconds."""

    def __init__(self, request: CallRequest) -> None:
        self.request = request
        self.key_name = ""
        self.tags: tuple[str, ...] = ()
        self.log_bodies: str = settings.LOG_BODIES
        self.model = ""
        self.stream = False
        self.secrets = configured_secrets()
        self.new_objects = NewObjects()
        self.form: FormUpload | None = None  # the body, if it passes in pieces
        self.response_body = b""  # or its start
        self.response_size = 0
        self.response_type = ""
        self.pollable = False  # whether we may ask upstream about it later: not with a key that is the caller's own
        self.answer = AnswerReader()
        self.upstream_request_id = ""
        self.response_bytes = 0
        self.sent_upstream_at: float | None = None
        self.upstream_ended_at: float | None = None
        self.first_chunk_at: float | None = None
        self.reservation: Reservation | None = None  # of its key's budgets
        self.ended = False
        self.early_status: int | None = None  # of a head that was sent before upstream's
        self._begun: dict[str, Any] | None = None  # what the journal knows of it since `begin`
        self._kept_bodies: dict[str, str] | None = None  # if they were made beside the event loop

    @property
    def ticket(self) -> Ticket | None:
        """What the limits of its key have counted; None if the key has no limits."""
        return self.request.ticket

    def identify(self, caller: Caller) -> None:
        """The key is good: it says what the row is called, and what is kept of the bodies."""
        self.key_name, self.tags = caller.name, caller.tags
        self.log_bodies = settings.LOG_BODIES if caller.log_bodies == "inherit" else caller.log_bodies
        if caller.upstream_key:
            self.secrets = (*self.secrets, caller.upstream_key)

    def begin(self) -> None:
        """Admits the call: from here on it will have a row, whatever happens.

        Raises:
            StorageFull: that cannot be promised.
        """
        self.sent_upstream_at = time.perf_counter()
        self._begun = self._facts()
        try:
            ledger.begin(self.request.request_id, self._begun)
        except writer.StorageFull:
            raise StorageFull from None

    def use_account(self, credentials: Credentials) -> None:
        """Whose account pays: its key must be in no row, and decides whether we may ask again later."""
        if credentials.api_key not in self.secrets:
            self.secrets = (*self.secrets, credentials.api_key)
        self.pollable = credentials.api_key == settings.OPENAI_API_KEY

    def read_head(self, answer: UpstreamAnswer) -> None:
        """Upstream's head is here."""
        if answer.status >= 300:
            self.answer.created = None
        elif (objects := self.answer.created) is not None and objects.is_in_location:
            objects.read_location(answer.passed_headers().get("location", ""))
            self._claim_stored_object()
        self.upstream_request_id = answer.request_id
        self.response_type = answer.content_type

    def expect_stream(self) -> None:
        """The answer is a stream of events: its text is put together as they pass."""
        self.stream = True
        limit = settings.LOG_BODY_BYTES if self.log_bodies != "none" else 0
        self.answer.text = StreamedText(limit, self.secrets)

    async def read_answer(self, body: bytes) -> None:
        """The answer is this body. Its usage becomes known even if the caller leaves meanwhile."""
        self.response_body, self.response_size = body, len(body)
        wanted = READ_MEMBERS if self.answer.created is None else READ_MEMBERS_AND_IDS
        await large_bodies.run_to_the_end(len(body), parse_body, body, wanted, then=self._read_parsed)

    def _read_parsed(self, answer: dict[str, Any]) -> None:
        self.answer.read_whole(answer)
        self._claim_stored_object()

    def read_plain(self, body: bytes) -> None:
        """The answer was no stream of events, but this JSON."""
        self.answer.text = None
        self.response_body, self.response_size = body, len(body)
        self._read_parsed(parse_body(body))

    def read_events(self, events: bytes) -> None:
        """These events of the answer are about to leave."""
        self.answer.read_events(events)
        self._claim_stored_object()

    def _claim_stored_object(self) -> None:
        """What is made is its key's before anybody hears of it."""
        objects = self.answer.created
        if objects is not None and objects.new:
            self.new_objects.record(objects, self.key_name)

    def keep_start(self, chunk: bytes) -> None:
        """More of an answer that is not read: enough to keep of it what the ledger keeps."""
        self.response_size += len(chunk)
        if len(self.response_body) <= settings.LOG_BODY_BYTES:
            self.response_body += chunk

    def upstream_ended(self) -> None:
        """Upstream has said all it has to say."""
        self.upstream_ended_at = time.perf_counter()

    def count_sent(self, size: int) -> None:
        """`size` bytes of the answer are on their way to the caller."""
        if self.first_chunk_at is None:
            self.first_chunk_at = time.perf_counter()
        self.response_bytes += size

    def fail(self, error: ProxyError, *, status: int | None) -> None:
        """Ends the call with an error of ours; `status` is what the caller saw."""
        self.answer.error = {"type": error.type, "code": error.code, "message": error.words}
        self.end(error.outcome, status)

    def end(self, outcome: Outcome, status: int | None) -> None:
        """Writes the row, unless no valid key let the call in. Only the first call of this method counts."""
        if self.ended or not self.key_name:
            return
        self.ended = True
        row = self._row(outcome, self.early_status or status) | self.new_objects.columns(self.answer.created)
        if self.log_bodies == "all" or (self.log_bodies == "errors" and outcome != Outcome.SUCCESS):
            row |= self._kept_bodies or self._bodies(min(settings.LOG_BODY_BYTES, MOST_KEPT_AT_ONCE))
        ledger.end(self.request.request_id, row)
        if self.reservation is not None:
            self.reservation.settle(row)
            ledger.ship_soon()
        if self.ticket is not None:
            self.ticket.settle(self._tokens(row))

    async def keep_bodies(self) -> None:
        """Makes what is kept of large bodies beside the event loop, shortly before the call ends."""
        limit = settings.LOG_BODY_BYTES
        if limit > MOST_KEPT_AT_ONCE and self.log_bodies != "none":
            size = max(len(self.request.decoded_body), self.response_size, limit)
            await large_bodies.run_to_the_end(size, self._bodies, limit, then=self._take_bodies)

    def _take_bodies(self, bodies: dict[str, str]) -> None:
        self._kept_bodies = bodies

    async def wait_until_recorded(self) -> None:
        """Waits, once the call has ended, until the last byte may leave: its row is safe, its key's counters know."""
        await ledger.durable()
        if self.ticket is not None:
            await self.ticket.settled()

    def headers_down(self, answer: UpstreamAnswer) -> dict[str, str]:
        """Upstream's headers that the caller may see, without our secrets; of two limits, the tighter one."""
        passed = answer.passed_headers()
        if "location" in passed:
            location = location_down(
                passed.pop("location"),
                base_url=settings.OPENAI_BASE_URL,
                root_path=self.request.root_path,
                method=self.request.method or "",
                status=answer.status,
            )
            passed |= {} if location is None else {"location": location}
        if answer.status >= 300 or _is_in(self.secrets, "\n".join(passed.values())):
            passed = {name: redact_exact(value, self.secrets) for name, value in passed.items()}
        return passed if self.ticket is None else limit_headers.tightened(passed, self.ticket.standings)

    def redacted(self, body: bytes) -> bytes:
        """An error of upstream's as its caller may see it: upstream may quote the key that it was called with."""
        return redact_answer(body, self.secrets)

    def _tokens(self, row: dict[str, Any]) -> int:
        """What the call costs of the key's tokens. A later look at a response repeats its usage, and costs none."""
        return int(row.get("input_tokens", 0) + row.get("output_tokens", 0)) if self.request.method == "POST" else 0

    def _facts(self) -> dict[str, Any]:
        """What is known before upstream answers."""
        request = self.request
        return {
            "incoming_request_id": redact(request.incoming_request_id, self.secrets),
            "key_name": self.key_name,
            "method": request.method,
            "route": self.request.route,
            "started_at": datetime.fromtimestamp(request.arrived_at, UTC),
            "client_address": plain_address(request.META.get("REMOTE_ADDR", "")),
            "user_agent": column_text(request.META.get("HTTP_USER_AGENT", ""), 300, self.secrets),
            "tags": list(self.tags),
            **self._learned(),
        }

    def _learned(self) -> dict[str, Any]:
        """What may become known only while the call is on its way."""
        return {
            "request_model": column_text(self.model, 200, self.secrets),
            "stream": self.stream,
            "request_bytes": self.request.incoming_body.size,
        }

    def _row(self, outcome: Outcome, status: int | None) -> dict[str, Any]:
        answer = self.answer
        error = answer.error or NO_ERROR
        counts, source = self._usage()
        return {
            **(self._facts() if self._begun is None else self._begun | self._learned()),
            **answer_columns(answer, self.upstream_request_id, self.secrets),
            "response_status": column_text(answer.response_status, 50, self.secrets),
            "pollable": self.pollable,
            "response_model": column_text(answer.model, 200, self.secrets),
            "status": status,
            "outcome": outcome,
            "error_type": column_text(error["type"], 200, self.secrets),
            "error_code": column_text(error["code"], 200, self.secrets),
            "error_message": column_text(error["message"], 2000, self.secrets),
            **self._timings(),
            "response_bytes": self.response_bytes,
            **counts,
            "usage_source": source,
        }

    def _usage(self) -> tuple[dict[str, int | float], UsageSource]:
        """Upstream's counts; for a stream that ended without any, an estimate from what was relayed.

        A `GET` of an answer that goes on has consumed nothing: what it reads is counted where it is made.
        """
        answer = self.answer
        if answer.usage is not None:
            return answer.counts, UsageSource.EXACT
        if self.request.method == "GET":
            return {}, UsageSource.UNKNOWN
        if answer.text is not None and answer.text.size:
            counts = estimate_counts(self._asked_size(), answer.text.size)
            return {**answer.counts, **counts}, UsageSource.ESTIMATED
        return answer.counts, UsageSource.UNKNOWN

    def _bodies(self, limit: int) -> dict[str, str]:
        if self.answer.text is not None:
            answer = self.answer.text.text(limit)
        else:
            answer = body_excerpt(self.response_body, self.response_type, limit, self.secrets, size=self.response_size)
        return {"request_body": self._asked(limit, self.secrets), "response_body": answer}

    def _asked(self, limit: int, secrets: tuple[str, ...]) -> str:
        if self.form is not None:
            return form_excerpt(self.form.parts, limit, secrets)
        return body_excerpt(self.request.decoded_body, str(self.request.META.get("CONTENT_TYPE", "")), limit, secrets)

    def _asked_size(self) -> int:
        """Returns about how many bytes of text the request has, for an estimate of its input tokens."""
        if self.form is not None:
            return text_size_of_parts(self.form.parts)
        return text_size(self.request.decoded_body, str(self.request.META.get("CONTENT_TYPE", "")))

    def _timings(self) -> dict[str, float | None]:
        now = time.perf_counter()
        timings: dict[str, float | None] = {"duration_ms": _ms(now - self.request.started)}
        if self.first_chunk_at is not None:
            timings["time_to_first_chunk_ms"] = _ms(self.first_chunk_at - self.request.started)
        if self.sent_upstream_at is not None:
            upstream_ended = self.upstream_ended_at or now
            timings["upstream_ms"] = _ms(upstream_ended - self.sent_upstream_at)
            before = self.request.received if self.form is None else self.request.started  # a form goes as it comes
            ours = (self.sent_upstream_at - before) + (now - upstream_ended)
            timings["overhead_ms"] = _ms(ours)
        return timings


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def configured_secrets() -> tuple[str, ...]:
    """The configured secrets: they must be in no row, and in no error that a caller sees."""
    return tuple(filter(None, (settings.SECURITY_KEY, settings.ACCESS_TOKEN, settings.OPENAI_API_KEY)))


def _is_in(secrets: tuple[str, ...], text: str) -> bool:
    for secret in secrets:  # noqa: SIM110  (half the time of `any`, for every call)
        if secret in text:
            return True
    return False
