"""Estimates a call's usage when upstream has not stated it, from the request and the arrived part of the answer.

`usage.answers.estimate_rules` has the rule. This module reads the facts for the rule from the request: the cost
ceiling, the output limit and the reasoning effort.

Over 300 lines, since all estimates start from the same upper bound of a call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

from proxyapi.bodies import large_bodies
from proxyapi.bodies.json_body import JSONBody
from proxyapi.bodies.json_members import Member
from proxyapi.exceptions import RouteNotAllowed
from proxyapi.limits.cost_ceiling import (
    FRAME_TOKENS,
    ceiling_of,
    output_ceiling,
)
from proxyapi.limits.output_limits import MOST_TOKENS, SUBAGENTS, count_answers, count_in, is_positive_integer
from proxyapi.limits.request_content import LEAST_BYTES_PER_TOKEN, Form, most_tokens
from proxyapi.routes import Route
from usage.answers.audio_duration import length_of_file
from usage.answers.estimate_rules import (
    REASONING_TOKENS,
    REASONING_TOKENS_PER_SECOND,
    SOUND_TOKENS_PER_SECOND,
    TRANSCRIPT_TOKENS_PER_SECOND,
    limited_to_time,
    own_name,
    reasoning_tokens,
    tokens_of_text,
)
from usage.answers.reader import parse_body
from usage.answers.row_texts import column_text
from usage.answers.streamed_text import StreamedText
from usage.answers.tool_use import MOST_MADE_TOKENS, MOST_PICTURE_TOKENS, distinct_qualities, tokens_of_picture
from usage.call_record import Counts, OtherUsage, SupposedUsage
from usage.ledger import ledger
from usage.money.billing import MaxUsage, dearest_picture_model

OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
READ_MEMBERS = {
    *OUTPUT_LIMITS, "n", "prompt", SUBAGENTS, "prediction",
    "reasoning", "reasoning_effort", "thinking",
}  # fmt: skip
MAX_OUTLINED_BYTES = 1024 * 1024  # an outline of more would hold up the event loop
EFFORT_OBJECTS = ("reasoning", "thinking")
# A request may ask for anything, and its caller may leave before upstream refuses it: no estimate shall be as absurd.
MOST_ANSWERS = 128  # as many choices as OpenAI allows (its reference, `n`); also for pictures
MOST_CALLS = 10  # of each hosted tool, of which nobody has seen any
MOST_INPUT_TOKENS = 2**21  # the longest context window of the listed models
MOST_SOUND_SECONDS = 86_400
THINKING = ("enabled", "adaptive")  # the values of `thinking.type` with which Claude reasons
SPEECH = "/v1/audio/speech"
BILLED_TOOLS = ("web_search", "file_search", "image_generation", "code_interpreter", "shell")  # beside tokens
# gpt-4o-mini-tts: $0.015 a minute at $12 a million tokens (developers.openai.com/api/docs/pricing, read 2026-11-28) are
# 21 tokens a second; slow speech has 11 characters a second.
SPEECH_TOKENS_PER_CHARACTER = 2
# Models of the price list that take a price by the minute (`openai.types.audio.transcription.UsageDuration`).
BILLED_BY_LENGTH = ("whisper-", "gpt-transcribe", "gpt-live-", "gpt-realtime-whisper", "gpt-realtime-translate")


def most_usage(method: str, route: Route | None, body: JSONBody | Form | None, text_size: int) -> MaxUsage | None:
    """Computes from a request the upper bound of the usage of a call for which no dollars are reserved.

    * Returns None if the call is free, or if the usage of this route is not counted.
    * A large JSON body is not read whole: its text counts as `text_size` bytes.
    * For speech, the tokens are estimated from the length of the text.
    * The input has at most `MOST_INPUT_TOKENS`, sound `MOST_SOUND_SECONDS`, and there are at most `MOST_ANSWERS`
      pictures of the Images API, and `MOST_CALLS` of each hosted tool.
    """
    if route is not None and route.name == SPEECH and isinstance(body, JSONBody):
        return _estimate_speech(body)
    added = 0
    # To search a large body would take long: only its plain members are read, and `tools` unless that is large, too.
    if isinstance(body, JSONBody) and body.size > large_bodies.LARGE_BYTES:
        members = [member for member in body.members if _is_soon_read(member)]
        body, added = JSONBody(b"", members), text_size // LEAST_BYTES_PER_TOKEN
    try:
        ceiling = ceiling_of(method, route, body, is_estimate=True)
    except RouteNotAllowed:
        return None
    if ceiling is None:
        return None
    return _within_bounds(replace(ceiling.max_usage, input_tokens=ceiling.max_usage.input_tokens + added))


def _within_bounds(most: MaxUsage) -> MaxUsage:
    """Returns a copy of `most`, the upper bound of a call's usage, lowered to what one call can have used at all."""
    if most.audio_seconds:
        return with_length(most, MOST_SOUND_SECONDS)
    return replace(
        most,
        input_tokens=min(most.input_tokens, MOST_INPUT_TOKENS),
        web_searches=min(most.web_searches, MOST_CALLS),
        file_searches=min(most.file_searches, MOST_CALLS),
        pictures=min(most.pictures, MOST_CALLS),
        images=min(most.images, MOST_ANSWERS),
        containers=most.containers[:MOST_CALLS],
    )


def _is_soon_read(member: Member) -> bool:
    if member.name == "tools":
        return member.end - member.start <= large_bodies.LARGE_BYTES
    return not isinstance(member.value, dict | list)


def with_length(most: MaxUsage, seconds: float) -> MaxUsage:
    """Returns a copy of `most`, the upper bound of a transcription's usage, lowered to audio of `seconds` seconds."""
    length = min(math.ceil(seconds), most.audio_seconds)
    tokens = math.floor((most.audio_seconds - length) * SOUND_TOKENS_PER_SECOND)
    output = math.ceil(length * TRANSCRIPT_TOKENS_PER_SECOND) + FRAME_TOKENS
    return replace(most, audio_seconds=length, input_tokens=most.input_tokens - tokens, output_tokens=output)


def length_of_files(files: Iterable[tuple[bytes, int]]) -> float | None:
    """Returns the total length of audio files in seconds; None without files, or if the length of one is unknown.

    `files` has the first bytes and the size in bytes of each file.
    """
    lengths = [length_of_file(head, size) for head, size in files]
    known = [length for length in lengths if length is not None]
    return sum(known) if known and len(known) == len(lengths) else None


def _estimate_speech(body: JSONBody) -> MaxUsage:
    """Estimates the tokens of a request to turn text into speech, from the length of the text."""
    # Upstream states this usage only in streams of events.
    characters = sum(len(text) for text in body.values("input") if isinstance(text, str))
    output = math.ceil(characters * SPEECH_TOKENS_PER_CHARACTER)
    return MaxUsage(tokens_of_text(characters), output, kinds=frozenset({"audio_output"}))


def with_one_picture_model(most: MaxUsage, secrets: tuple[str, ...]) -> MaxUsage:
    """Returns a copy of `most`, the upper bound of a call's usage, with only the most expensive of its image models.

    The model's name is shortened and cleared of `secrets`, since it may be stored in the ledger. Without image models,
    `most` itself is returned.
    """
    if not most.picture_models:
        return most
    # The name goes to the ledger if upstream does not state the usage.
    if len(most.picture_models) == 1:
        [name] = most.picture_models
    else:
        name = dearest_picture_model(most, datetime.now(UTC), ledger.custom_prices or ())
    return replace(most, picture_models=frozenset({column_text(name, 200, secrets)}))


def supposed_tool_use(
    method: str, route: Route | None, body: JSONBody | None, secrets: tuple[str, ...]
) -> SupposedUsage:
    """Computes the upper bound of the use of a request's hosted tools, such as web searches, apart from tokens.

    Returns fields of the call's ledger row: `web_searches`, and `other_usage` for all else, such as containers. The
    dict is empty if the request has no hosted tool that is billed. `secrets` are removed from the name of an image
    model.
    """
    tools = [tool for value in ([] if body is None else body.values("tools")) if isinstance(value, list)
             for tool in value if isinstance(tool, dict)]  # fmt: skip
    if not any(str(tool.get("type")).startswith(BILLED_TOOLS) for tool in tools):
        return {}
    most = most_usage(method, route, body, 0)
    if most is None:
        return {}
    most = with_one_picture_model(most, secrets)
    found: SupposedUsage = {"web_searches": most.web_searches} if most.web_searches else {}
    if (other := _other_usage(most)) is not None:
        found["other_usage"] = other
    return found


def supposed_usage(most: MaxUsage, model: str) -> SupposedUsage:
    """Converts `most`, the upper bound of a call's usage, to usage fields of the call's ledger row.

    The fields are chosen so that the row's price is the highest possible: all tokens count as the most expensive kind,
    such as audio.
    """
    # Image tokens have no count of their own: pricing assumes their dearest kind.
    usage = cast(SupposedUsage, _counts(most, model))
    if (answers := min(max(most.images, most.answers), MOST_ANSWERS)) > 1:
        usage["answers"] = answers
    if (other := _other_usage(most)) is not None:
        usage["other_usage"] = other
    return usage


def _other_usage(most: MaxUsage) -> OtherUsage | None:
    """Converts the use of hosted tools in `most`, the upper bound of a call's usage, to the ledger field `other_usage`.

    Web searches are not in this field. Returns None if the call has no such tools.
    """
    found: OtherUsage = {}
    if most.pictures:
        read, made = most.pictures * MOST_PICTURE_TOKENS, most.pictures * MOST_MADE_TOKENS
        found["image_tokens"] = {
            "input_tokens": read, "input_tokens_details": {"text_tokens": 0, "image_tokens": read},
            "output_tokens": made, "output_tokens_details": {"text_tokens": 0, "image_tokens": made},
        }  # fmt: skip
        found["image_tokens_estimated"] = True
        for model in most.picture_models:  # mostly one
            found["image_model"] = model
    if most.file_searches:
        found["file_searches"] = most.file_searches
    # Each counts once, at the least time for which upstream bills one (`usage.money.tool_fees`).
    if most.containers:
        found["containers"] = [*most.containers]
    if most.search_tool:
        found["search_tool"] = most.search_tool
    return found or None


def _counts(most: MaxUsage, model: str) -> Counts:
    """Converts `most`, the upper bound of a call's usage, to ledger fields for tokens, audio seconds and web searches.

    For a model billed by the length of audio, only the audio seconds are returned.
    """
    if most.audio_seconds and own_name(model).startswith(BILLED_BY_LENGTH):
        return {"audio_seconds": most.audio_seconds}
    counts: Counts = {"input_tokens": most.input_tokens, "output_tokens": most.output_tokens}
    if most.web_searches:
        counts["web_searches"] = most.web_searches
    if not any(kind.startswith("image") for kind in most.kinds):
        counts["audio_input_tokens"] = most.input_tokens if "audio_input" in most.kinds else 0
        counts["audio_output_tokens"] = most.output_tokens if "audio_output" in most.kinds else 0
    return counts


def usage_without_answer(most: MaxUsage, model: str, seconds: float) -> SupposedUsage:
    """Estimates the usage of a call whose answer did not come, or broke off before the gateway could read its text.

    Returns fields for the call's ledger row. The usage is the upper bound `most`, but with no more output tokens than
    upstream can make in `seconds`, the time that it had for the call. Several answers or pictures of one call (at most
    `MOST_ANSWERS`) are made at the same time.
    """
    return limited_to_time(supposed_usage(most, model), seconds)


def usage_of_answer(most: MaxUsage, model: str, size: int, request: Mapping[str, Sequence[object]]) -> SupposedUsage:
    """Estimates the usage of a call whose answer has arrived whole but states no usage.

    Returns fields for the call's ledger row: those of `most`, the upper bound of the usage. Only the output tokens may
    be fewer: they are estimated from `size`, the bytes of the answer or of its text, and from the reasoning effort.
    `request` maps the names of the request's members to lists of their values.
    """
    counts = supposed_usage(most, model)
    if (limit := counts.get("output_tokens")) is not None:
        said = tokens_of_text(size) + hidden_tokens(model, request, answers_in(request))
        counts["output_tokens"] = min(limit, said)
        if counts.get("audio_output_tokens"):
            counts["audio_output_tokens"] = counts["output_tokens"]
    return counts


def usage_of_pictures(most: MaxUsage, model: str, fields: Mapping[str, Sequence[object]]) -> SupposedUsage:
    """Estimates the usage of a call to the Images API whose answer has arrived whole, but states no usage.

    Returns fields for the call's ledger row: those of `most`, the upper bound of the usage. Only the output tokens may
    be fewer: as many as upstream bills for pictures of the requested quality and size. `fields` maps the names of the
    request's members to lists of their values.
    """
    # The answer's size says nothing: it may have links instead of pictures.
    counts = supposed_usage(most, model)
    # Upstream may take any of the values of a name that is given twice.
    qualities, sizes = distinct_qualities(fields.get("quality") or [""]), {*map(str, fields.get("size") or [""])}
    tokens = max(tokens_of_picture(model, quality, size) for quality in qualities for size in sizes)
    counts["output_tokens"] = min(most.output_tokens, most.images * tokens)
    return counts


def counts_of_streamed_text(model: str, request_size: int, size: int, body: bytes, *, shows_reasoning: bool) -> Counts:
    """Estimates the tokens of a call whose stream has not stated them, for example because it was cut.

    Returns the input and output tokens, by name.

    * `request_size`, `size`: the bytes of text in the request, and in the part of the answer that has arrived.
    * `body`: the request's body, which may limit the output.
    * `shows_reasoning`: true if the model's reasoning is in the part of the answer that has arrived.
    """
    request = _limits_in(body)
    hidden = hidden_tokens(model, request, answers_in(request), shows_reasoning=shows_reasoning)
    # What has come is no guess, and is counted in full.
    said = tokens_of_text(size)
    output = max(said, min(said + hidden, _most_output(model, request)))
    return {"input_tokens": min(tokens_of_text(request_size), MOST_INPUT_TOKENS), "output_tokens": output}


def counts_of_whole_stream(model: str, request_size: int, body: bytes) -> Counts:
    """Estimates the tokens of a call whose streamed response goes on upstream after the caller has left.

    Returns the input and output tokens, by name. The output is the maximum that the request allows. `request_size` is
    the number of bytes of text in the request, and `body` the request's whole body.
    """
    # Nobody reads how much text there will be.
    return {
        "input_tokens": min(tokens_of_text(request_size), MOST_INPUT_TOKENS),
        "output_tokens": _most_output(model, _limits_in(body)),
    }


def _most_output(model: str, request: Mapping[str, Sequence[object]]) -> int:
    """Returns the maximum number of output tokens of a request, for all its answers together.

    The maximum for one answer is the highest output limit in the request or, without one, the model's maximum.
    """
    limits = [limit for name in OUTPUT_LIMITS for limit in request.get(name, ()) if is_positive_integer(limit)]
    return min(max(limits, default=output_ceiling(model)), MOST_TOKENS) * answers_in(request)


def answers_in(request: Mapping[str, Sequence[object]]) -> int:
    """Returns how many answers a request asks for (`count_answers`), but at most `MOST_ANSWERS`."""
    return min(count_answers(request), MOST_ANSWERS)


def hidden_tokens(
    model: str, request: Mapping[str, Sequence[object]], answers: int, *, shows_reasoning: bool = False
) -> int:
    """Estimates the output tokens that upstream bills besides the text of a request's answers.

    These are the hidden reasoning of each of the `answers` (none if `shows_reasoning`: then it is in their text), and
    the text of the request's `prediction`, of which upstream bills the part that it has rejected (OpenAI's reference,
    `rejected_prediction_tokens`). `request` maps the names of the request's members to lists of their values.
    """
    reasoned = 0 if shows_reasoning else answers * reasoning_tokens(model, effort_in(request))
    predicted = sum(len(str(given)) for given in request.get("prediction", ()) if given is not None)
    return reasoned + tokens_of_text(predicted)


def _limits_in(body: bytes) -> Mapping[str, Sequence[object]]:
    """Returns the members of a request's JSON body, as a dict from a member's name to a list with its value.

    Of a large body, only the members that may limit the output are returned; of a body above `MAX_OUTLINED_BYTES`,
    none.
    """
    parsed = parse_body(body, READ_MEMBERS) if len(body) <= MAX_OUTLINED_BYTES else {}
    return {name: [value] for name, value in parsed.items()}


def most_of_stream(
    most: MaxUsage, model: str, text: StreamedText | None, whole_size: int, body: bytes, seconds: float
) -> SupposedUsage:
    """Computes the upper bound of the usage of a call whose answer has stated none, such as a cut stream.

    Returns usage fields of the call's ledger row.

    * `most`: the upper bound for a whole answer.
    * `text`: the text of the stream that has arrived; None if the answer was no stream.
    * `whole_size`: the answer's size in bytes if it was no stream.
    * `body`: the request's body.
    * `seconds`: the time that upstream had.
    """
    counts = supposed_usage(most, model)
    request = _limits_in(body)
    if not most.kinds.isdisjoint(("audio_output", "image_output")):
        # as much as a model can make in this time: how much was made is not known
        return usage_without_answer(most, model, seconds)
    made = tokens_of_text(whole_size) if text is None else text.measure(most_tokens)
    # Hosted tools count as in `most`: they may have begun after the last event. A model with hidden reasoning may have
    # reasoned all the time, for each of its answers.
    shows_reasoning, answers = text is not None and text.shows_reasoning, count_answers(request)
    made += hidden_tokens(model, request, answers, shows_reasoning=shows_reasoning)
    if not shows_reasoning and reasoning_tokens(model, effort_in(request)):
        made = max(made, answers * math.ceil(seconds * REASONING_TOKENS_PER_SECOND))
    counts["output_tokens"] = min(most.output_tokens, made)
    return counts


def effort_in(request: Mapping[str, Sequence[object]]) -> object:
    """Returns the highest reasoning effort that a request for a chat completion or a response states.

    `request` maps the names of the request's members to lists of their values. The effort may be in several members,
    whose names are those of OpenAI, Anthropic and OpenRouter. A budget of reasoning tokens is converted to the lowest
    effort with as many tokens, and a request for reasoning without an effort to `medium`. If the request states
    nothing, the result is None; if it states no known effort, the last value that it states.
    """
    objects = [value for name in EFFORT_OBJECTS for value in request.get(name, ()) if isinstance(value, dict)]
    stated = [*request.get("reasoning_effort", ()), *(value.get("effort") for value in objects)]
    given = [value for value in stated if value is not None]
    for value in objects:
        if tokens := max(count_in(value.get("budget_tokens")), count_in(value.get("max_tokens"))):
            given.append(next((effort for effort, most in REASONING_TOKENS.items() if most >= tokens), "max"))
        elif value.get("enabled") is True or value.get("type") in THINKING:
            given.append("medium")
    known = [value for value in given if isinstance(value, str) and value in REASONING_TOKENS]
    # upstream decides which of them counts
    return max(known, key=lambda effort: REASONING_TOKENS[effort]) if known else (given or [None])[-1]
