"""Reads the facts for the ledger from upstream's answer, whole or streamed: `AnswerReader`.

It reads a copy of the bytes, and never raises an error. Whole answers and events are read by the same rules.

Over 300 lines, since these rules change the same few facts.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Collection, Mapping
from typing import cast

import orjson

from usage.answers import event_stream
from usage.answers.created_ids import CREATION_EVENTS, DERIVED_IDS, CreatedIds
from usage.answers.errors import (
    ErrorFacts,
    error_in_body,
    error_in_event,
    error_in_object,
    error_without_object,
    is_error_event,
    is_error_value,
    names_error,
)
from usage.answers.event_kinds import (
    FINAL_TYPES,
    LARGE_BYTES,
    PICTURE_TYPES,
    TEXT_DELTAS,
    TYPES_WITH_END,
    ends_response,
    is_text_chunk,
    is_text_delta,
    may_matter,
)
from usage.answers.json_outline import PartialOutline, read_end, read_outline
from usage.answers.streamed_text import StreamedText
from usage.answers.tokens import (
    WITHOUT_OUTPUT_TOKENS,
    is_interim_chunk,
    lacks_counts,
    read_counts,
    shows_output,
    states_usage,
    sum_of,
)
from usage.answers.tool_use import ToolUse
from usage.call_record import Counts, OtherUsage

# Statuses of a response that upstream is still making; the usage that it states meanwhile is not its final usage.
UNFINISHED_STATUSES = {"queued", "in_progress"}

# A larger body is not parsed as a whole: only the members named below are read.
MAX_PARSED_BYTES = 256 * 1024
READ_MEMBERS = {
    "id", "object", "model", "service_tier", "status", "usage", "output", "error", "tools", "tool_usage", "svg_usage",
}  # fmt: skip
READ_MEMBERS_AND_IDS = READ_MEMBERS | {path[0] for paths in DERIVED_IDS.values() for path in paths}

_OBJECT = re.compile(rb'(?:\xef\xbb\xbf)?\s*+\{\s*+["}]')
_BEGINNING_OF_OBJECT = re.compile(rb"(?:\xef(?:\xbb(?:\xbf)?)?)?\s*+(?:\{\s*+)?")


class AnswerReader:
    """Reader of upstream's answer to one call, for the ledger: finds ids, model, service tier, usage and error.

    To be set before reading:

    * `states_usage`: False if a usage in the answer is not that of this call, and must be ignored.
    * `must_end`: True if a stream that ends without any event counts as cut off.
    * `text`: if not None, collects the text of every event.
    * `created`: if not None, collects the ids of created objects.
    * `expected_pictures`: the number of pictures that the call requests from the Images API. The last one ends a
      stream.

    Read from the answer:

    * `has_ended`: True once the event that ends this kind of stream has come.
    * `tools`: the use of hosted tools until now.
    * `lacks_tools`: True if a response had too many values to be read to its end, so it may have used more tools.
    * `is_background`: True if upstream continues the response even if the caller leaves.
    """

    def __init__(self) -> None:
        self.model = ""
        self.response_id = ""
        self.service_tier = ""
        self.response_status = ""
        self.is_background = False
        self.states_usage = True
        self.usage: dict[str, object] | None = None
        self.counts: Counts = {}
        self.tools: ToolUse | None = None
        self.lacks_tools = False
        self.error: ErrorFacts | None = None
        self.has_ended = False
        self.has_done_marker = False  # `[DONE]` has been read
        self.must_end = False
        self.has_output = False  # it has brought texts, calls of tools, pictures, sound or embeddings
        self.text: StreamedText | None = None
        self.created: CreatedIds | None = None
        self.expected_pictures = 1
        self._pictures = 0
        self._picture_usage: dict[str, object] | None = None  # of the picture that has come last
        self._has_interim_usage = False  # `usage` is of a chunk in the middle of a chat: more text may follow it
        self._progress_at_usage = -1  # `text.progress` when a usage was stated last; -1 while none was
        self._has_no_output_tokens = False  # by the answer's kind (`WITHOUT_OUTPUT_TOKENS`)
        self._events = 0
        self._has_last_event = False  # a stream with events like those that were read must have a last event
        self._has_last_type = False  # … and that last event must have a type: `[DONE]` alone does not end the stream
        self._has_only_text: Callable[[bytes, bytes], bool] | None = None  # as `_find_text_test` returned it last

    def read_body(self, body: bytes) -> None:
        """Reads ids, model, usage and error for the ledger from an answer's body; ignores a body that is not JSON."""
        self.read_whole(parse_body(body), len(body))

    def read_whole(self, answer: Mapping[str, object], size: int) -> None:
        """Reads ids, model, usage and error for the ledger from a whole answer that `parse_body` has parsed.

        A usage that does not fit the answer is dropped (`forget_false_usage`). `size` is the length of the answer's
        body in bytes.
        """
        self.read(answer)
        self.lacks_tools = isinstance(answer, PartialOutline) and _text(answer, "object") == "response"
        self.has_output = size > MAX_PARSED_BYTES or shows_output(answer)
        self.forget_false_usage()
        if self.created is not None:
            self.created.read(answer)

    def read_error(self, body: bytes, status: int) -> None:
        """Reads the error from the whole body of an answer with an error status, and stores it in `error`."""
        self.error = error_in_body(body, status)

    @property
    def other_usage(self) -> OtherUsage:
        """The billed usage that upstream's usage object does not state, such as web searches; may be empty."""
        return OtherUsage() if self.tools is None else self.tools.other_usage()

    @property
    def has_failed(self) -> bool:
        """True if the answer is a response that has failed, and has no usage object. Upstream does not bill it."""
        return self.response_status == "failed" and self.usage is None

    def forget_false_usage(self) -> None:
        """Sets `usage` to None if the usage object that upstream has stated cannot cover the whole answer.

        This is so in three cases: text came after the object; the object came in the middle of a stream that was cut
        off; or the answer has output, but the object lacks token counts that such an answer must have.

        Counts above zero that were read from the object stay in `counts`, for use in an estimate. The usage of a failed
        response is kept if it states tokens: without it, the response would count as not billed.
        """
        states_tokens = self.counts.get("input_tokens") or self.counts.get("output_tokens")
        if self.usage is None or (self.response_status == "failed" and states_tokens):
            return
        has_output = self.has_output or self._pictures > 0 or (self.text is not None and self.text.size > 0)
        if (
            self.has_more_text
            or (self._has_interim_usage and self.lacks_end)
            or (has_output and lacks_counts(self.usage, self.counts, needs_output=not self._has_no_output_tokens))
        ):
            self.usage = None
            # Searches are not stated in a usage: that there were none is known from the answer itself.
            known = {name: count for name, count in self.counts.items() if count or name == "web_searches"}
            self.counts = cast(Counts, known)

    @property
    def has_more_text(self) -> bool:
        """True if text has come after the latest usage in the stream, so that this usage does not count all text."""
        # Servers that state the usage until then in each chunk (vLLM and SGLang with `continuous_usage_stats`) do so to
        # the last chunk. So a usage behind which text came is that of a moment, whoever has stated it.
        return self.text is not None and 0 <= self._progress_at_usage < self.text.progress

    @property
    def has_events(self) -> bool:
        """True once at least one event of the streamed answer has been read."""
        return self._events > 0

    @property
    def lacks_end(self) -> bool:
        """True if the stream must still send its last event. If it ends without this event, it counts as cut off."""
        if self.has_ended or self._pictures or not (self._has_last_event or (self.must_end and not self.has_events)):
            return False
        return self.text is None or not self.text.has_finished_choices

    def read_events(self, events: bytes) -> None:
        """Reads ids, model, usage, error and text for the ledger from the bytes of whole server-sent events."""
        for name, data in event_stream.read(events):
            if self._has_only_text is not None and self.text is not None and self._has_only_text(name, data):
                self.text.feed_later(data)
            else:
                self._read_event(name, data)
                self._has_only_text = self._find_text_test()

    def _find_text_test(self) -> Callable[[bytes, bytes], bool] | None:
        """Returns a function that tells, from an event's name and data, whether the event has only text.

        Events with only text need not be parsed at once: several are parsed together. None is returned if each event
        must be parsed when it comes.
        """
        if self.text is None or self.text.choice_error is not None or not (self.model and self._has_last_event):
            return None
        if self._has_last_type:
            return is_text_delta
        return is_text_chunk if self.created is None else None

    def _read_event(self, name: bytes, data: bytes) -> None:
        """Reads ids, model, usage, error and text for the ledger from one event of a stream."""
        self._events += 1
        if data[-1:] != b"}" and data.strip() == event_stream.DONE:
            self.has_done_marker = True
            self.has_ended = self.has_ended or not self._has_last_type
            return
        if len(data) > LARGE_BYTES and self._events > 1 and name != b"error" and not may_matter(data):
            return
        event = event_stream.parse(data) or error_without_object(data)
        has_type = "type" in event
        if name and not has_type and event:
            event["type"] = name.decode("utf-8", "replace")  # some servers state the type only as the event's name
        if self.text is not None:
            self.text.feed(event)
        kind, inner, error = event.get("type"), None, event.get("error")
        if isinstance(kind, str):
            if kind in TEXT_DELTAS and self.model and self._has_last_event:
                return  # an event of this type has nothing but text
            inner = event.get("response")
        elif (
            self.model and self._has_last_event and self.created is None and not name
            and event.get("choices") and event.get("usage") is None and error is None
            and (self.text is None or self.text.choice_error is None)
        ):  # fmt: skip
            return  # a chunk of a chat of which all but its text is known
        # without a type in its data, an event may be the new object itself, such as a thread
        if self.created is not None and (inner is not None or not has_type or kind in CREATION_EVENTS):
            self.created.read_event(event)
        if isinstance(kind, str) and kind in PICTURE_TYPES:
            self._read_picture(event)
        elif not self.model or inner is not None or event.get("usage") is not None or error is not None:
            self.read(inner if isinstance(inner, dict) else event)
            if event.get("usage") is not None:
                self._has_interim_usage = is_interim_chunk(event)
        elif self.tools is not None and isinstance(kind, str):
            self.tools.read_event(kind, event)  # in case that the stream is cut
            self.counts["web_searches"] = self.tools.searches
        if not self._has_last_event:
            self._has_last_type = isinstance(kind, str) and kind.startswith(TYPES_WITH_END)
            self._has_last_event = self._has_last_type or isinstance(event.get("choices"), list)
        if isinstance(kind, str) and (kind in FINAL_TYPES or ends_response(kind, inner)):
            self._end(kind)
        if (
            (error and is_error_value(error)) or name == b"error"
            or (name and not event and names_error(name))
            or (not event.get("choices") and is_error_event(event))
        ):  # fmt: skip
            self._read_error_event(event, data)
        elif self.text is not None and self.text.choice_error is not None:
            self._read_error_event(self.text.choice_error, data)

    def _read_picture(self, event: Mapping[str, object]) -> None:
        """Reads the usage from an event that completes a picture, and adds it to the usage of the earlier pictures."""
        before = self.usage
        self.usage = None
        self.read(event)
        self._picture_usage = self.usage or self._picture_usage
        if before is not None and self.usage is not None:
            self._add_usage(before)
        self.usage = self.usage or before
        self._pictures += 1
        self.has_ended = self.has_ended or self._pictures >= self.expected_pictures

    def suppose_missing_pictures(self) -> bool:
        """Adds an estimated usage for each requested picture that has not come; returns whether any was added.

        A missing picture is estimated to have the same usage as the last picture that came. If none came, nothing is
        added.
        """
        missing = self.expected_pictures - self._pictures if self._pictures else 0
        if missing <= 0 or self._picture_usage is None:
            return False
        for _ in range(missing):
            self._add_usage(self._picture_usage)
        self._pictures = self.expected_pictures
        return True

    def _add_usage(self, more: dict[str, object]) -> None:
        """Adds the counts in the usage object `more` to the counts that have been read from this answer before."""
        self.usage = more if self.usage is None else sum_of(more, self.usage)
        self.counts.update(read_counts(self.usage))

    def _end(self, kind: str) -> None:
        """Records that an event has ended the stream; `kind` is the event's type.

        If a failed response states no error, the error becomes `response_failed`.
        """
        self.has_ended = True
        self.has_output = self.has_output or kind == "speech.audio.done"
        if kind == "response.failed" and self.error is None:
            self.error = {"type": "", "code": "response_failed", "message": ""}

    def _read_error_event(self, event: Mapping[str, object], data: bytes) -> None:
        """Records that an error event has ended the stream; stores its error if none is stored yet.

        Adds the error's message to `text`, the collected text of the answer.
        """
        self.has_ended = True
        facts = error_in_event(event, data)
        if self.error is None or not any(self.error.values()):
            self.error = facts
        if self.text is not None:
            self.text.add_error(facts["message"])

    def read(self, answer: Mapping[str, object]) -> None:
        """Reads model, service tier, response id and status, usage, tool use and error for the ledger from an answer.

        Missing facts keep their earlier value. The usage of a response that upstream is still making is ignored.
        """
        self.model = _text(answer, "model") or self.model
        self.service_tier = _text(answer, "service_tier") or self.service_tier
        if _text(answer, "object") in {"chat.completion", "chat.completion.chunk", "response", "conversation"}:
            self.response_id = _text(answer, "id") or self.response_id
            self.response_status = _text(answer, "status") or self.response_status
            self.is_background = self.is_background or answer.get("background") is True
        elif _text(answer, "object") in WITHOUT_OUTPUT_TOKENS:
            self._has_no_output_tokens = True
        usage = answer.get("usage")
        is_final = self.states_usage and _text(answer, "status") not in UNFINISHED_STATUSES
        if (
            is_final and isinstance(usage, dict) and states_usage(usage, counts := read_counts(usage))
            and (self.usage is None or any(counts.values()))  # zeros that follow take back nothing
        ):  # fmt: skip
            self.usage = usage
            self.counts.update(counts)
            self._progress_at_usage = 0 if self.text is None else self.text.progress
        if isinstance(answer.get("output"), list):
            self.tools = ToolUse.of_response(answer)
            self.counts["web_searches"] = self.tools.searches
        elif svg := answer.get("svg_usage"):
            self.tools = self.tools or ToolUse()
            self.tools.read_svg(svg)
        if answer.get("error") or answer.get("object") == "error":
            self.error = error_in_object(answer) or self.error


def begins_object(start: bytes) -> bool | None:
    """Returns whether `start`, the first bytes of a body, begins a JSON object; None if more bytes are needed."""
    if _OBJECT.match(start):
        return True
    return None if _BEGINNING_OF_OBJECT.fullmatch(start) else False


def parse_body(body: bytes, wanted: Collection[str] = READ_MEMBERS_AND_IDS) -> dict[str, object]:
    """Returns the JSON object in the whole body of an answer; an empty dict if the body is no object.

    * If the body is over `MAX_PARSED_BYTES`, the result has only the members in `wanted`, without their large values.
    * If the JSON is invalid, the result has the members in front of the fault, without large values.
    """
    if body[:1] != b"{":
        body = body.removeprefix(codecs.BOM_UTF8).lstrip()
    if body[:1] != b"{":
        return {}
    if len(body) > MAX_PARSED_BYTES:
        found = read_outline(body, wanted)
        if "usage" in wanted and "usage" not in found:  # `logprobs` of thousands of tokens are too many values
            found |= {name: value for name, value in read_end(body, "usage").items() if name in wanted}
        return found
    try:
        parsed: dict[str, object] = orjson.loads(body)
    except orjson.JSONDecodeError:
        return read_outline(body)
    return parsed


def _text(answer: Mapping[str, object], name: str) -> str:
    """Returns the value of the member `name` of an answer if it is a string, else an empty text."""
    found = answer.get(name)
    return found if isinstance(found, str) else ""
