"""Redacts the texts of a call's row that the caller or upstream has chosen, and cuts them to fit their columns.

It runs on the event loop for every call, so the results for frequent texts are cached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import orjson

from usage.answers.reader import AnswerReader
from usage.call_record import CallRecord, OtherUsage
from usage.kept_bodies.body_excerpts import SLACK, margin_for, storable
from usage.kept_bodies.redaction import is_secret_name, redact, redact_each

MAX_CACHED_CHARACTERS = 1000  # a longer text is redacted anew each time
MAX_USAGE_BYTES = 16 * 1024  # the counts in a longer usage object are read, but the object is not stored
MAX_EXACT = 2**53  # a larger number in JSON is not the same for all readers
MAX_CACHED_NAMES = 2000  # characters of all names in a usage object together


def column_text(value: str, length: int, secrets: tuple[str, ...]) -> str:
    """Redacts secrets in a text, cuts it to the `length` characters of a database column, and returns the result.

    Characters that PostgreSQL cannot store become U+FFFD.
    """
    if not value:
        return ""
    if len(value) <= MAX_CACHED_CHARACTERS:
        return _cached_column_text(value, length, secrets)
    margin = margin_for(secrets)
    looked_at = length + margin + SLACK
    redacted = redact(value[:looked_at], secrets)
    if len(value) > looked_at:  # the cut may have gone through a secret at the end, which is then not recognised
        length = min(length, max(0, len(redacted) - margin))
    return storable_prefix(redacted, length)


@lru_cache(maxsize=1024)
def _cached_column_text(value: str, length: int, secrets: tuple[str, ...]) -> str:
    """Redacts the secrets in a short text, cuts the text to `length` characters, and returns the result.

    Results are cached, since names of models and clients are frequent.
    """
    return storable_prefix(redact(value, secrets), length)


def storable_prefix(value: str, length: int) -> str:
    """Returns the first `length` characters of a text; characters that PostgreSQL cannot store become U+FFFD."""
    return storable(value)[:length]


def id_columns(
    answer: AnswerReader, upstream_request_id: str, secrets: tuple[str, ...], *others: str
) -> tuple[CallRecord, list[str]]:
    """Redacts secrets in upstream's ids of the answer and of the request, and in the texts `others`.

    Returns a tuple: the columns `response_id` and `upstream_request_id` (cut to the columns' length), and a list of the
    redacted `others` (not cut).
    """
    # One pass over all texts is faster.
    ids = [upstream_request_id, answer.response_id]
    if sum(map(len, ids)) > MAX_CACHED_CHARACTERS:
        ids = [column_text(one, 200, secrets) for one in ids]
    upstream_request_id, response_id, *texts = redact_each([*ids, *others], secrets)
    upstream_request_id, response_id = storable_prefix(upstream_request_id, 200), storable_prefix(response_id, 200)
    return {"upstream_request_id": upstream_request_id, "response_id": response_id}, texts


def usage_columns(answer: AnswerReader, secrets: tuple[str, ...]) -> CallRecord:
    """Returns two or three columns of a call's row, as the answer states them: service tier, usage, and other usage.

    Secrets in them are redacted. `other_usage`, such as pictures, is left out if there is none.
    """
    columns: CallRecord = {
        "service_tier": column_text(answer.service_tier, 50, secrets),
        "usage": _kept_usage(answer.usage, secrets),
    }
    if other_usage := answer.other_usage:
        columns["other_usage"] = _kept_other_usage(other_usage, secrets)
    return columns


def _kept_other_usage(usage: OtherUsage, secrets: tuple[str, ...]) -> OtherUsage:
    """Redacts secrets in the names of models in `usage`, and cuts long names. Changes `usage` in place, and returns it.

    `usage` is the use that upstream bills in addition to tokens, such as pictures that a hosted tool has made.
    """
    if "image_model" in usage:
        usage["image_model"] = column_text(usage["image_model"], 200, secrets)
    for written in usage.get("svg", ()):
        written["model"] = column_text(str(written["model"]), 200, secrets)
    return usage


def _kept_usage(usage: dict[str, object] | None, secrets: tuple[str, ...]) -> dict[str, object] | None:
    """Returns upstream's usage object for the ledger, with secrets redacted; None if it is missing or cannot be stored.

    An object cannot be stored if it is too long, is nested too deeply, or has a secret where a number should be.
    """
    if usage is None or _are_plain_names(tuple(_names(usage)), secrets):
        return usage
    try:
        # PostgreSQL's JSON does not take NUL: the whole row would be lost.
        encoded = orjson.dumps(usage).replace(b"\\u0000", b"\\ufffd").decode()
        if len(encoded) > MAX_USAGE_BYTES:
            return None
        kept: dict[str, object] = orjson.loads(redact(encoded, secrets))
    except (orjson.JSONEncodeError, orjson.JSONDecodeError):
        return None
    return kept


def _names(usage: Mapping[str, object]) -> Iterator[str | None]:
    """Yields the names of the members of a usage object and of the objects directly in it, to check them for secrets.

    Yields None for a member whose value may be a secret, such as a string, or is a number too large to be stored.
    """
    for name, value in usage.items():
        yield name
        if type(value) is dict:
            for inner, count in value.items():
                yield inner if count is None or _is_storable(count) else None
        elif type(value) is not float and not _is_storable(value):
            yield None


def _is_storable(count: object) -> bool:
    """Returns whether `count` is a whole number of so few digits that the journal can store it."""
    return type(count) is int and -MAX_EXACT < count < MAX_EXACT


@lru_cache(maxsize=256)
def _are_plain_names(names: tuple[str | None, ...], secrets: tuple[str, ...]) -> bool:
    """Returns whether a usage object has no secrets and can be stored, judging by the names of its members.

    In `names`, None stands for a value that may be a secret or cannot be stored (`_names`). The result is False if
    there is a None, if a name may be or contain a secret, or, to be sure, if the names are very long. Results are
    cached.
    """
    text = "\n".join(name for name in names if name is not None)
    is_short = None not in names and len(text) < MAX_CACHED_NAMES and "\0" not in text
    return is_short and not is_secret_name(text) and redact(text, secrets) == text
