"""Owns the texts of a call's row that callers or upstream have chosen: redacted, and as long as their columns.

It runs on the event loop for every call: what comes again and again is redacted once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson

from usage.answers.answer import Answer
from usage.bodies.kept_bodies import SLACK, margin_for
from usage.bodies.redaction import is_secret_name, redact, redact_each

LONGEST_KEPT = 1000  # characters of a text that is cached
LONGEST_USAGE = 16 * 1024  # bytes; the counts in a longer one are read, but it is not kept as it came
LONGEST_NAMES = 2000  # characters of the names in a usage object, as they are cached


def short(value: str, length: int, secrets: tuple[str, ...]) -> str:
    """At most `length` characters of a text, without secrets. Names of models and clients come again and again."""
    if not value:
        return ""
    if len(value) <= LONGEST_KEPT:
        return _kept_short(value, length, secrets)
    margin = margin_for(secrets)
    looked_at = length + margin + SLACK
    redacted = redact(value[:looked_at], secrets)
    if len(value) > looked_at:  # a secret may be half at the end of what was looked at
        length = min(length, max(0, len(redacted) - margin))
    return clip(redacted, length)


@lru_cache(maxsize=1024)
def _kept_short(value: str, length: int, secrets: tuple[str, ...]) -> str:
    return clip(redact(value, secrets), length)


def clip(value: str, length: int) -> str:
    """PostgreSQL's text takes no NUL and no lone surrogate; a column takes `length` characters."""
    return value.replace("\0", "").encode("utf-8", "replace").decode()[:length]


def stated_facts(answer: Answer, upstream_request_id: str, secrets: tuple[str, ...]) -> dict[str, Any]:
    """What upstream's answer says of itself in words of its own, for its row."""
    ids = [upstream_request_id, answer.response_id]
    if sum(map(len, ids)) > LONGEST_KEPT:
        ids = [short(one, 200, secrets) for one in ids]
    upstream_request_id, response_id = redact_each(ids, secrets)
    return {
        "upstream_request_id": clip(upstream_request_id, 200),
        "response_id": clip(response_id, 200),
        "service_tier": short(answer.service_tier, 50, secrets),
        "usage": _kept_usage(answer.usage, secrets),
    }


def _kept_usage(usage: dict[str, Any] | None, secrets: tuple[str, ...]) -> Any:
    """The usage without secrets, and without NUL, which would cost the whole row: PostgreSQL's JSON takes none.

    Usage that is nested too deep or too long is none, nor is one of which a number had to be redacted.
    """
    if usage is None or _names_are_plain(tuple(_names(usage)), secrets):
        return usage
    try:
        encoded = orjson.dumps(usage).replace(b"\\u0000", b"").decode()
        return orjson.loads(redact(encoded, secrets)) if len(encoded) <= LONGEST_USAGE else None
    except (orjson.JSONEncodeError, orjson.JSONDecodeError):
        return None


def _names(usage: dict[str, Any]) -> Iterator[str | None]:
    """The names of counts, and of objects with counts in them; None if something else is in there."""
    for name, value in usage.items():
        yield name
        if type(value) is dict:
            for inner, count in value.items():
                yield inner if type(count) is int or count is None else None
        elif type(value) not in {int, float}:
            yield None


@lru_cache(maxsize=256)
def _names_are_plain(names: tuple[str | None, ...], secrets: tuple[str, ...]) -> bool:
    """Whether there are only names, none of them a secret or the name of one; the same ones come again and again."""
    text = "\n".join(name for name in names if name is not None)
    is_short = None not in names and len(text) < LONGEST_NAMES and "\0" not in text
    return is_short and not is_secret_name(text) and redact(text, secrets) == text
