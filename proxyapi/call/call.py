"""One call, from its admission to its row in the ledger.

A `Call` has the `facts` about the call, upstream's `answer` as far as it was read, and the slots and reservations that
it holds (`request.resources`). `journal_rows` builds its rows. Invariants: `begin` comes before the call is sent
upstream; `end` writes the row exactly once, whoever calls it first.
"""

from __future__ import annotations

import time

from proxyapi.bodies import large_bodies
from proxyapi.cached_settings import call_settings
from proxyapi.call.call_facts import CallFacts
from proxyapi.call.call_request import CallRequest
from proxyapi.call.journal_rows import (
    begin_row,
    begin_with_tools,
    end_row,
    late_facts,
    limited_tokens,
    supposed_later,
    text_columns,
    usage_of,
)
from proxyapi.exceptions import ProxyError, StorageFull
from proxyapi.limits import limit_headers
from proxyapi.limits.output_limits import OUTPUT_LIMIT_HEADER
from proxyapi.limits.usage_estimates import supposed_tool_use, supposed_usage
from proxyapi.object_owners.owner_recording import CreatedObjects
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.passed_headers import location_down
from usage.answers.created_ids import CreatedIds
from usage.answers.errors import NO_ERROR
from usage.answers.reader import READ_MEMBERS, READ_MEMBERS_AND_IDS, AnswerReader, parse_body
from usage.answers.streamed_text import StreamedText
from usage.call_record import CallRecord
from usage.journal.full_disk import JournalFull
from usage.kept_bodies.redaction import has_secret, redact_answer, redact_exact
from usage.ledger import ledger
from usage.models import Outcome

# The event loop redacts at most so many bytes of each body. That takes a few milliseconds, whatever is in them.
MAX_REDACTED_AT_ONCE_BYTES = 64 * 1024
# Outcomes that say by themselves whether upstream has worked on the call.
STATED_OUTCOMES = {Outcome.SUCCESS, Outcome.UPSTREAM_ERROR, Outcome.REJECTED}


class Call:
    """One call of the API: a request and upstream's answer. A call with a valid key gets one row in the ledger."""

    def __init__(self, request: CallRequest) -> None:
        self.request = request
        self.facts = CallFacts.of(request)
        self.answer = AnswerReader()
        self.created_objects = CreatedObjects()
        self._expected_objects: CreatedIds | None = None
        self.has_ended = False
        self.timed_out: ProxyError | None = None  # the caller's time is over, and it has got this error
        self._begun: CallRecord | None = None  # the row that `begin` has written
        self._texts: CallRecord | None = None  # the row's ids and bodies, if `keep_bodies` has made them

    def begin(self) -> None:
        """Writes to the journal on disk that the call begins; to be used before the call is sent upstream.

        From then on, the ledger gets a row for the call even if this process dies. A call with reserved dollars that
        asks for no stream now continues upstream even if its caller hangs up.

        Raises:
            StorageFull: the disk has no room for the record, so the call must not be sent upstream.
        """
        self.facts.sent_upstream_at = time.perf_counter()
        self._begun = begin_row(self.facts)
        if (asked := self.facts.asked) is not None and self.facts.most_usage is None:
            self.facts.tool_use = supposed_tool_use(asked.method, asked.route, asked.json, self.facts.secrets)
        self._write_begin(self._begun)
        if self.facts.most_usage is not None:
            self.request.incoming_body.call_goes_on = not self.facts.stream

    def begin_reserved(self) -> None:
        """Writes the call's begin record again, for dollars that were reserved after the first record was written.

        Does nothing if no dollars are reserved, if there is no first record, or if the call has ended. From then on, a
        call that asks for no stream continues upstream even if its caller hangs up. Raises `StorageFull`.
        """
        # For a form, which is read while it goes upstream: its price is known only after `begin`.
        if self._begun is not None and self.facts.most_usage is not None and not self.has_ended:
            self._write_begin(self._begun | late_facts(self.facts))
            self.request.incoming_body.call_goes_on = not self.facts.stream

    def _write_begin(self, row: CallRecord) -> None:
        """Writes the begin record `row` to the journal, with the call's reserved dollars and highest possible usage.

        If no dollars are reserved, only the highest possible use of hosted tools (such as web search) is added. Raises
        `StorageFull` if the disk has no room.
        """
        # If the process is killed, the usage is estimated from this limit, and the reservation is given back.
        if self.facts.most_usage is not None:
            row = {**row, "supposed": supposed_usage(self.facts.most_usage, self.facts.model)}
        elif self.facts.tool_use:
            row = begin_with_tools(row, self.facts.tool_use)
        try:
            ledger.begin(self.request.request_id, row | self.request.resources.reserved())
        except JournalFull:
            raise StorageFull from None

    def expect_objects(self, objects: CreatedIds | None) -> None:
        """Sets which objects, such as files, the call may create; their ids are then read from a successful answer."""
        self._expected_objects = self.answer.created = objects

    def read_head(self, answer: UpstreamAnswer) -> None:
        """Stores the request id and the Content-Type of upstream's answer for the ledger row.

        If the header `Location` names an object that the call has created, records the call's key as the object's
        owner. An answer with a status of 300 or more is not searched for ids of new objects.
        """
        # Called again for a second answer, when upstream has refused a field that the gateway had added: the last head
        # counts.
        self.facts.was_refused = answer.status >= 300
        created = self.answer.created = None if self.facts.was_refused else self._expected_objects
        if created is not None and created.is_in_location:
            created.read_location(answer.passed_headers().get("location", ""))
            self._claim_stored_object()
        self.facts.upstream_request_id = answer.request_id
        self.facts.response_type = answer.content_type

    def expect_stream(self) -> None:
        """Prepares to collect a streamed answer's text; frees the parsed request if it asks for text only."""
        self.facts.stream = True
        if self.facts.asked is not None and self.facts.asked.is_of_text and self.facts.form is None:
            self.facts.asked = None  # a stream may take minutes, and the request's members take memory
        limit = call_settings().LOG_BODY_BYTES if self.facts.log_bodies != "none" else 0
        self.answer.text = StreamedText(limit, self.facts.secrets)

    async def read_answer(self, body: bytes) -> None:
        """Reads usage, error and ids of new objects from the whole body of an answer, and stores the body.

        Records the call's key as the new objects' owner. A large body is read to its end even if the caller hangs up
        meanwhile.
        """
        self.facts.keep_body(body)
        wanted = READ_MEMBERS if self.answer.created is None else READ_MEMBERS_AND_IDS
        # A large body is parsed to its end even if the caller leaves meanwhile: its usage counts.
        await large_bodies.run_to_the_end(len(body), parse_body, body, wanted, then=self._read_parsed)

    def _read_parsed(self, answer: dict[str, object]) -> None:
        self.answer.read_whole(answer, self.facts.response_size)
        self._claim_stored_object()

    def read_plain(self, body: bytes) -> None:
        """Stores a JSON answer that is wrongly labelled as a stream; reads its usage and the ids of new objects."""
        self.answer.text = None
        self.facts.keep_body(body)
        self._read_parsed(parse_body(body))

    def read_events(self, events: bytes) -> None:
        """Reads usage, text and ids of new objects from events of a streamed answer, before the caller gets them.

        Records the call's key as the new objects' owner.
        """
        self.answer.read_events(events)
        if self.answer.created is not None:
            self._claim_stored_object()

    def _claim_stored_object(self) -> None:
        """Records the call's key as the owner of the objects that the call has just created upstream."""
        # Before the caller gets the ids, who may use them at once.
        created = self.answer.created
        if created is not None and created.new:
            self.created_objects.record(created, self.facts.key_name)

    def fail(self, error: ProxyError, *, status: int | None) -> None:
        """Ends the call with an error of the gateway: stores the error for the ledger row, then calls `end`.

        `status` is the HTTP status that the caller saw, or None.
        """
        stated = self.answer.error
        self.answer.error = error.facts
        self.facts.is_unbilled, self.facts.is_callers_timeout = error.is_unbilled, error.is_of_caller
        is_ours_alone = error.outcome == Outcome.REJECTED or error.is_unbilled  # upstream has done nothing
        self.end(error.outcome, status, may_be_billed=stated is None and not is_ours_alone)

    def end(self, outcome: Outcome, status: int | None, *, may_be_billed: bool | None = None) -> None:
        """Ends the call: writes its ledger row to the journal, settles its reserved dollars, and counts its tokens.

        Does nothing if the call has ended already, or had no valid key. `status` is the HTTP status that the caller
        saw, or None. `may_be_billed` says whether upstream may have worked on the call; by default, it is true unless
        upstream has stated an error.
        """
        facts = self.facts
        if self.has_ended or not facts.key_name:
            return
        self.has_ended = True
        may_be_billed = self.answer.error is None if may_be_billed is None else may_be_billed
        may_be_billed = may_be_billed and self._has_reached_upstream()
        outcome, status = self._as_the_caller_saw_it(outcome, status)
        if not may_be_billed and outcome not in STATED_OUTCOMES:
            facts.is_unbilled = True  # upstream has not got all of it, or has refused it after its caller had left
        counts, source = usage_of(facts, self.answer, may_be_billed=may_be_billed)
        row = end_row(facts, self.answer, self._begun, outcome, facts.early_status or status, (counts, source))
        if (supposed := supposed_later(facts, self.answer, source, may_be_billed=may_be_billed)) is not None:
            row["supposed"] = supposed
        row |= self.created_objects.columns()
        if facts.log_bodies == "all" or (facts.log_bodies == "errors" and outcome != Outcome.SUCCESS):
            row |= self._texts or self._text_columns(min(call_settings().LOG_BODY_BYTES, MAX_REDACTED_AT_ONCE_BYTES))
        else:
            row |= self._text_columns(0)
        row |= self.request.resources.settle_reservation(row)
        ledger.end(self.request.request_id, row)
        self.request.resources.count_tokens(limited_tokens(facts, self.answer, counts))
        facts.asked = None
        self.request.incoming_body.call_goes_on = False

    def _has_reached_upstream(self) -> bool:
        """Returns whether upstream may have got the whole request, and has not refused it with an error status."""
        if self._begun is None or self.facts.was_refused:
            return False
        return self.facts.form is None or self.facts.form.complete

    def _as_the_caller_saw_it(self, outcome: Outcome, status: int | None) -> tuple[Outcome, int | None]:
        """Returns the outcome and the HTTP status for the ledger row, as the caller saw them.

        These are `outcome` and `status`, unless the call went on without its caller: after an answer with status 504,
        those of this error; after a hang-up, `client_cancelled` and None. The error for the row is then changed, too.
        """
        body, stated = self.request.incoming_body, self.answer.error
        if self.timed_out is not None:
            error, self.facts.is_callers_timeout = self.timed_out, True
            self.answer.error = error.facts
            return error.outcome, error.status_code
        if not body.call_goes_on or body.left_at is None:
            return outcome, status
        after = round((body.left_at - self.request.started) * 1000)
        left = f"The caller left after {after:,} ms; the call went on upstream for its usage."
        error_facts = NO_ERROR if stated is None else stated
        self.answer.error = {**error_facts, "message": f"{left} {error_facts['message']}".strip()}
        return Outcome.CLIENT_CANCELLED, None

    async def keep_bodies(self) -> None:
        """Cuts and redacts large bodies for the ledger row in a thread, before `end` needs them; skips small bodies."""
        limit = call_settings().LOG_BODY_BYTES
        answered = self.facts.response_size if self.answer.text is None else self.answer.text.size
        size = max(len(self.request.decoded_body), answered)
        if size <= MAX_REDACTED_AT_ONCE_BYTES:  # as nearly always
            return
        if limit > MAX_REDACTED_AT_ONCE_BYTES:
            size = max(size, large_bodies.LARGE_BYTES + 1)
        has_row = self.facts.key_name and not self.has_ended
        if has_row and limit and size > large_bodies.LARGE_BYTES and self.facts.log_bodies != "none":
            await large_bodies.run_to_the_end(size, self._text_columns, limit, then=self._take_texts)

    def _text_columns(self, limit: int) -> CallRecord:
        return text_columns(self.facts, self.answer, limit)

    def _take_texts(self, texts: CallRecord) -> None:
        self._texts = texts

    async def wait_until_recorded(self) -> None:
        """Waits until all objects in the ended call's answer have owners, its tokens are counted, its row is written.

        With `JOURNAL_SYNC=always`, the row is on disk then. Only afterwards may the last byte of the answer be sent.
        """
        await self.created_objects.record_perhaps_older(self.facts.key_name)
        await ledger.wait_until_durable()
        await self.request.resources.wait_until_settled()

    def headers_down(self, answer: UpstreamAnswer) -> dict[str, str]:
        """Returns the headers for the caller: those of upstream that may pass, without secrets, and the gateway's own.

        * `Location` names the gateway instead of upstream, or is left out (`location_down`).
        * The rate limit headers state what the key has left, if that is less than upstream states or if upstream states
          none.
        * `OUTPUT_LIMIT_HEADER` states the limit of output tokens that the gateway has added, if it has added one.
        """
        facts, passed = self.facts, answer.passed_headers()
        if "location" in passed:
            location = location_down(
                passed.pop("location"),
                base_url=call_settings().OPENAI_BASE_URL,
                root_path=self.request.root_path,
                method=self.request.method or "",
                status=answer.status,
            )
            passed |= {} if location is None else {"location": location}
        if answer.status >= 300 or has_secret(facts.secrets, "\n".join(passed.values())):
            passed = {name: redact_exact(value, facts.secrets) for name, value in passed.items()}
        if facts.output_limit is not None:
            passed[OUTPUT_LIMIT_HEADER] = str(facts.output_limit.tokens)
        ticket = self.request.resources.ticket
        return passed if ticket is None else limit_headers.tightened(passed, ticket.limit_states)

    def redacted(self, body: bytes) -> bytes:
        """Removes secrets from the body of an error answer: upstream may quote the API key with which it was called."""
        return redact_answer(body, self.facts.secrets)
