"""Marks on errors: somebody has looked into one (known), or says that it should not occur again (resolved)."""

from __future__ import annotations

import json
from typing import NamedTuple

from django.utils import timezone

from usage.kept_bodies.error_messages import GROUP_CHARACTERS
from usage.kept_bodies.excerpts import storable
from usage.models import ErrorState, KnownError, Outcome

OUTCOMES = dict(Outcome.choices)


class ErrorKind(NamedTuple):
    """What the failed calls of a group share: the outcome, the error code, and the group of the error's message.

    The group of messages is empty if the message says no more than the code (`usage.kept_bodies.error_messages`).
    """

    outcome: str
    error_code: str
    message: str

    def as_text(self) -> str:
        """Returns this kind of error as text for a form field; `read_kind` parses the text."""
        return json.dumps(self)


def read_kind(text: str) -> ErrorKind:
    """Parses the text of `ErrorKind.as_text` in a form field; returns the kind of error.

    Raises:
        ValueError: the text describes no kind of error.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(values, list) or [type(value) for value in values] != [str, str, str]:
        raise ValueError("a kind has three texts")
    kind = ErrorKind(*values)
    if kind.outcome not in OUTCOMES or len(kind.error_code) > 200 or len(kind.message) > GROUP_CHARACTERS:
        raise ValueError("there is no such kind")
    if kind != ErrorKind(*map(storable, kind)):
        raise ValueError("PostgreSQL does not store its characters")
    return kind


def mark(kind: ErrorKind, state: ErrorState, note: str, who: str) -> None:
    """Stores in the database that the person `who` takes a kind of error for known or resolved, with a remark.

    An earlier mark is replaced.
    """
    KnownError.objects.update_or_create(
        **kind._asdict(),
        status=0,
        model="",
        route="",
        defaults={"state": state, "note": note, "marked_by": who, "marked_at": timezone.now()},
    )


def unmark(kind: ErrorKind) -> None:
    """Deletes the mark of a kind of error from the database, also one of all messages of its code."""
    KnownError.objects.filter(outcome=kind.outcome, error_code=kind.error_code, message__in=(kind.message, "")).delete()
