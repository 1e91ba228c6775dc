"""One call, from its admission to its row in the ledger.

Its parts: the `facts`, what is read of upstream's `answer`, and what the call holds (`request.held`); `record` makes
its rows. Invariants: `begin` comes before upstream hears of the call, and `end` writes exactly once, whoever calls it
first.
"""

from __future__ import annotations

import time

from django.conf import settings

from proxyapi.bodies import large_bodies
from proxyapi.call.call_request import CallRequest
from proxyapi.call.facts import CallFacts
from proxyapi.call.record import begin_row, body_columns, end_row, limited_tokens, usage_of
from proxyapi.exceptions import ProxyError, StorageFull
from proxyapi.limits import limit_headers
from proxyapi.limits.output_limits import OUTPUT_LIMIT_HEADER
from proxyapi.object_owners.new_objects import NewObjects
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.passed_headers import location_down
from usage.answers.reader import READ_MEMBERS, READ_MEMBERS_AND_IDS, AnswerReader, parse_body
from usage.answers.streamed_text import StreamedText
from usage.call_record import CallRecord
from usage.journal import writer
from usage.kept_bodies.redaction import redact_answer, redact_exact
from usage.ledger import ledger
from usage.models import Outcome

# The event loop redacts at most so many bytes of each body. That takes a few milliseconds, whatever is in them.
MAX_REDACTED_AT_ONCE_BYTES = 64 * 1024


class Call:
    """One request of a client to the API, with what upstream answers and with the ledger row that records both.

    A request without a valid key has no row in the ledger.
    """

    def __init__(self, request: CallRequest) -> None:
        self.request = request
        self.facts = CallFacts.of(request)
        self.answer = AnswerReader()
        self.new_objects = NewObjects()
        self.has_ended = False
        self._begun: CallRecord | None = None  # the row that `begin` has written
        self._bodies: CallRecord | None = None  # excerpts of the bodies, if `keep_bodies` has made them

    def begin(self) -> None:
        """Writes the beginning of the call to the journal, before the call is sent upstream.

        From then on the ledger is sure to have a row for the call, even if this process dies.

        Raises:
            StorageFull: the disk has no room for the row, so the call must not be sent upstream.
        """
        self.facts.sent_upstream_at = time.perf_counter()
        self._begun = begin_row(self.facts)
        try:
            ledger.begin(self.request.request_id, self._begun)
        except writer.JournalFull:
            raise StorageFull from None

    def read_head(self, answer: UpstreamAnswer) -> None:
        """Reads upstream's request id and the Content-Type from the head of upstream's answer, for the ledger.

        Also records the object that the answer's `Location` header names, if the call creates one that way. The body of
        an answer with an error or a redirect is not searched for new objects.
        """
        if answer.status >= 300:
            self.answer.created = None
        elif (created := self.answer.created) is not None and created.is_in_location:
            created.read_location(answer.passed_headers().get("location", ""))
            self._claim_stored_object()
        self.facts.upstream_request_id = answer.request_id
        self.facts.response_type = answer.content_type

    def expect_stream(self) -> None:
        """Prepares the call for an answer that is a stream of events, whose text is collected while the events pass."""
        self.facts.stream = True
        limit = settings.LOG_BODY_BYTES if self.facts.log_bodies != "none" else 0
        self.answer.text = StreamedText(limit, self.facts.secrets)

    async def read_answer(self, body: bytes) -> None:
        """Reads usage, text and the ids of new objects from the body of an answer that has been received whole.

        A large body is parsed in a thread, and to its end even if the caller leaves meanwhile, so that its usage is
        counted.
        """
        self.facts.keep_body(body)
        wanted = READ_MEMBERS if self.answer.created is None else READ_MEMBERS_AND_IDS
        await large_bodies.run_to_the_end(len(body), parse_body, body, wanted, then=self._read_parsed)

    def _read_parsed(self, answer: dict[str, object]) -> None:
        self.answer.read_whole(answer)
        self._claim_stored_object()

    def read_plain(self, body: bytes) -> None:
        """Reads usage and the ids of new objects from a JSON answer that upstream has labelled as a stream of events.

        Such an answer has been received whole before it is passed on.
        """
        self.answer.text = None
        self.facts.keep_body(body)
        self._read_parsed(parse_body(body))

    def read_events(self, events: bytes) -> None:
        """Reads usage, text and ids of new objects from events of a streamed answer.

        The events are sent to the caller afterwards.
        """
        self.answer.read_events(events)
        self._claim_stored_object()

    def _claim_stored_object(self) -> None:
        """Records the call's key as the owner of the objects that the call has created.

        This comes before the ids of the objects are sent to the caller, who may use them at once.
        """
        created = self.answer.created
        if created is not None and created.new:
            self.new_objects.record(created, self.facts.key_name)

    def fail(self, error: ProxyError, *, status: int | None) -> None:
        """Ends the call unsuccessfully: puts a gateway error into its ledger row, and then does what `end` does.

        `status` is the HTTP status that the caller saw.
        """
        self.answer.error = {"type": error.type, "code": error.code, "message": error.words}
        self.facts.is_unbilled = error.is_unbilled
        self.end(error.outcome, status)

    def end(self, outcome: Outcome, status: int | None) -> None:
        """Ends the call: writes its ledger row to the journal, and settles its key's limits and budget reservation.

        Only the first call of this method has an effect, and only if the request had a valid key. `status` is the HTTP
        status that the caller saw; None if there was no answer.
        """
        facts = self.facts
        if self.has_ended or not facts.key_name:
            return
        self.has_ended = True
        counts, source = usage_of(facts, self.answer)
        row = end_row(facts, self.answer, self._begun, outcome, facts.early_status or status, (counts, source))
        row |= self.new_objects.columns(self.answer.created)
        if facts.log_bodies == "all" or (facts.log_bodies == "errors" and outcome != Outcome.SUCCESS):
            row |= self._bodies or self._body_columns(min(settings.LOG_BODY_BYTES, MAX_REDACTED_AT_ONCE_BYTES))
        ledger.end(self.request.request_id, row)
        self.request.held.settle(row, limited_tokens(facts, counts))

    async def keep_bodies(self) -> None:
        """Makes the excerpts of the bodies of request and answer that the call's ledger row will have.

        This is done shortly before the call ends, in a thread if a body is large, and only where excerpts may be longer
        than `MAX_REDACTED_AT_ONCE_BYTES`; `end` itself makes shorter ones.
        """
        limit = settings.LOG_BODY_BYTES
        if limit > MAX_REDACTED_AT_ONCE_BYTES and self.facts.log_bodies != "none":
            size = max(len(self.request.decoded_body), self.facts.response_size, limit)
            await large_bodies.run_to_the_end(size, self._body_columns, limit, then=self._take_bodies)

    def _body_columns(self, limit: int) -> CallRecord:
        return body_columns(self.facts, self.answer, limit)

    def _take_bodies(self, bodies: CallRecord) -> None:
        self._bodies = bodies

    async def wait_until_recorded(self) -> None:
        """Waits, after `end`, until the call's ledger row is on disk and the limits of its key have counted its end.

        The last byte of the answer may be sent only then.
        """
        await ledger.durable()
        await self.request.held.settled()

    def headers_down(self, answer: UpstreamAnswer) -> dict[str, str]:
        """Returns the headers of upstream's answer as the caller gets them, without secrets.

        A `Location` at upstream becomes one at the gateway. Where both upstream and the caller's key have a rate limit,
        the headers state the limit of which less is left.
        """
        facts, passed = self.facts, answer.passed_headers()
        if "location" in passed:
            location = location_down(
                passed.pop("location"),
                base_url=settings.OPENAI_BASE_URL,
                root_path=self.request.root_path,
                method=self.request.method or "",
                status=answer.status,
            )
            passed |= {} if location is None else {"location": location}
        if answer.status >= 300 or _is_in(facts.secrets, "\n".join(passed.values())):
            passed = {name: redact_exact(value, facts.secrets) for name, value in passed.items()}
        if facts.output_limit is not None:
            passed[OUTPUT_LIMIT_HEADER] = str(facts.output_limit.tokens)
        ticket = self.request.held.ticket
        return passed if ticket is None else limit_headers.tightened(passed, ticket.limit_states)

    def redacted(self, body: bytes) -> bytes:
        """Returns the body of an error answer without secrets, because upstream may quote the API key that it got."""
        return redact_answer(body, self.facts.secrets)


def _is_in(secrets: tuple[str, ...], text: str) -> bool:
    for secret in secrets:  # noqa: SIM110  (takes half the time of `any`, and every call does this)
        if secret in text:
            return True
    return False
