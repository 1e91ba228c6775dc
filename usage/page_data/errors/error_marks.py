"""Marks on errors: somebody has looked into one (known), or says that it should not occur again (resolved)."""

from __future__ import annotations

import json
from typing import NamedTuple

from django.utils import timezone

from usage.kept_bodies.body_excerpts import storable
from usage.kept_bodies.error_messages import GROUP_CHARACTERS
from usage.models import ErrorState, KnownError, Outcome

OUTCOMES = dict(Outcome.choices)
# In the column `message` of a mark: it is of the errors without a group of messages, and of these alone. A mark with an
# empty `message` is of all errors with its code, since earlier releases made only such marks.
NO_MESSAGE = "-"


class ErrorKind(NamedTuple):
    """A kind of error: the outcome, the error code and the group of error messages that failed calls have in common.

    `message` is the group of messages that differ only in ids and names, as a hash. It is empty if the code says
    enough.
    """

    outcome: str
    error_code: str
    message: str

    def as_text(self) -> str:
        """Returns this kind of error as the value of an HTML form field; `read_kind` parses the value."""
        return json.dumps(self)


def read_kind(text: str) -> ErrorKind:
    """Parses the value of an HTML form field that `ErrorKind.as_text` has made; returns the kind of error.

    Raises:
        ValueError: the value describes no kind of error.
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
    """Stores in the database that the person `who` has marked a kind of error as `state`, with the remark `note`.

    `state` is known or resolved. An earlier mark of the same kind is replaced. A mark that covers all errors with the
    same outcome and code, whatever their message, stays.
    """
    KnownError.objects.update_or_create(
        outcome=kind.outcome,
        error_code=kind.error_code,
        message=kind.message or NO_MESSAGE,
        status=0,
        model="",
        route="",
        defaults={"state": state, "note": note, "marked_by": who, "marked_at": timezone.now()},
    )


def unmark(kind: ErrorKind) -> None:
    """Deletes the mark of a kind of error from the database.

    Also deletes a mark that covers all errors of the same outcome and error code.
    """
    messages = (kind.message or NO_MESSAGE, "")
    KnownError.objects.filter(outcome=kind.outcome, error_code=kind.error_code, message__in=messages).delete()
