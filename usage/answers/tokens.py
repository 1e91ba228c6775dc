"""Reads the counts in upstream's usage object, and names them like the ledger's columns.

The object has several shapes (OpenAI's API reference, the SDK's types): chat completions and embeddings state
`prompt_tokens` and `completion_tokens`; Responses, images and transcriptions state `input_tokens` and `output_tokens`;
whisper-1 states `{"type": "duration", "seconds": 12.3}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeGuard

from usage.call_record import Counts, TokenCount

# No call has used so much. The columns of the sums are PostgreSQL's bigint, which holds nine billion such counts.
MAX_COUNT = 10**9
# The objects of an answer whose usage may state no output tokens: embeddings have none, and a legacy completion can
# repeat its prompt only.
WITHOUT_OUTPUT_TOKENS = {"list", "text_completion"}
# The members of a chat's message, and of a legacy completion's choice, that have the output of a model.
_OUTPUT_OF_CHOICE = (
    "content", "tool_calls", "function_call", "refusal", "audio", "reasoning_content", "reasoning", "text",
)  # fmt: skip


def is_count(value: object) -> TypeGuard[int | float]:
    """Returns whether `value`, from upstream's answer, is a count: a number that is at least 0 and below `MAX_COUNT`.

    `true` and `false` are no numbers.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MAX_COUNT


def read_counts(usage: Mapping[str, object]) -> Counts:
    """Returns the counts in upstream's usage object, as a map from the ledger's columns, such as `input_tokens`.

    Token counts are rounded up to whole numbers; `audio_seconds` is in seconds. A stated 0 is included. What
    is missing, or no count (`is_count`), is left out.
    """
    into, out = input_details(usage), output_details(usage)
    counts: Counts = {}
    stated: dict[TokenCount, object] = {
        "input_tokens": _first(usage, "prompt_tokens", "input_tokens"),
        "output_tokens": _first(usage, "completion_tokens", "output_tokens"),
        "cached_tokens": into.get("cached_tokens"),
        "cache_write_tokens": into.get("cache_write_tokens"),
        "reasoning_tokens": out.get("reasoning_tokens"),
        "audio_input_tokens": into.get("audio_tokens"),
        "audio_output_tokens": out.get("audio_tokens"),
    }
    for column, count in stated.items():
        if count is None:
            continue
        if type(count) is int and 0 <= count < MAX_COUNT:  # as nearly all are
            counts[column] = count
        elif is_count(count):
            counts[column] = math.ceil(count)
    seconds = usage.get("seconds")
    if usage.get("type") == "duration" and is_count(seconds):
        counts["audio_seconds"] = seconds
    return counts


def states_usage(usage: Mapping[str, object], counts: Counts) -> bool:
    """Returns whether a usage object states how much was used. Some servers send an empty object, or one of only nulls.

    True if the object has any count (`counts` are those that were read from it), or a total of tokens above 0.
    """
    return bool(counts) or whole_count(usage.get("total_tokens")) > 0


def lacks_counts(usage: Mapping[str, object], counts: Counts, *, needs_output: bool) -> bool:
    """Returns whether a usage object lacks the number of input tokens or, if `needs_output` is true, of output tokens.

    A 0 counts as missing, because servers that do not count state zeros. Nothing is missing if the object states a
    length of audio, or a total above the sum of both numbers: the bill can be computed from that. `counts` are the
    counts that were read from the object.
    """
    into, out = counts.get("input_tokens") or 0, counts.get("output_tokens") or 0
    if counts.get("audio_seconds") or whole_count(usage.get("total_tokens")) > into + out:
        return False
    return not into or (needs_output and not out)


def shows_output(answer: Mapping[str, object]) -> bool:
    """Returns whether a whole answer has output of a model: text, a call of a tool, a picture or an embedding."""
    text = answer.get("text")  # of a transcript; that of a response is an object with settings
    if answer.get("output") or answer.get("data") or (text and isinstance(text, str)):
        return True
    choices = answer.get("choices")
    choices = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    messages = [message for choice in choices if isinstance(message := choice.get("message", choice), dict)]
    return any(message.get(name) for message in messages for name in _OUTPUT_OF_CHOICE)


def is_interim_chunk(event: Mapping[str, object]) -> bool:
    """Returns whether an event is a chunk of a chat in which no choice has finished, so that more text may follow.

    If such a chunk has a usage, it covers only the answer until then.
    """
    choices = event.get("choices")
    choices = choices if isinstance(choices, list) else []
    return bool(choices) and not any(isinstance(one, dict) and one.get("finish_reason") for one in choices)


def sum_of(first: Mapping[str, object], second: Mapping[str, object], levels: int = 3) -> dict[str, object]:
    """Returns the sum of two usage objects: counts of the same name are added, also in nested objects.

    Other values that have the same name in both objects, such as strings, are taken from `second`, and so is what is
    nested deeper than `levels`.
    """
    found: dict[str, object] = {**first, **second}
    for name in first.keys() & second.keys():
        one, other = first[name], second[name]
        if is_count(one) and is_count(other):
            found[name] = one + other
        elif levels and isinstance(one, dict) and isinstance(other, dict):
            found[name] = sum_of(one, other, levels - 1)
    return found


def whole_count(value: object) -> int:
    """Returns a count from upstream, rounded up to a whole number; 0 if `value` is no count (`is_count`)."""
    return math.ceil(value) if is_count(value) else 0


def input_details(usage: Mapping[str, object]) -> Mapping[str, object]:
    """Returns the object in upstream's usage that splits the input tokens into kinds, such as cached tokens.

    Returns an empty dict if there is no such object.
    """
    return _first_object(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")


def output_details(usage: Mapping[str, object]) -> Mapping[str, object]:
    """Returns the object in upstream's usage that splits the output tokens into kinds, such as reasoning tokens.

    Returns an empty dict if there is no such object.
    """
    return _first_object(usage, "completion_tokens_details", "output_tokens_details", "output_token_details")


def _first_object(usage: Mapping[str, object], *names: str) -> Mapping[str, object]:
    """Returns the first JSON object among the members `names` of a usage object; an empty dict if there is none."""
    for name in names:
        if isinstance(details := usage.get(name), dict):
            return details
    return {}


def _first(usage: Mapping[str, object], *names: str) -> object:
    """Returns the first value other than null among the members `names` of a usage object; None if there is none."""
    for name in names:
        if (count := usage.get(name)) is not None:
            return count
    return None
