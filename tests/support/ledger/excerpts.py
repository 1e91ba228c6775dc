"""Makes the excerpt of one body, and the columns of an answer, in the way in which the ledger makes them."""

from __future__ import annotations

from collections.abc import Sequence

from usage.answers.reader import AnswerReader
from usage.answers.row_texts import id_columns, usage_columns
from usage.call_record import CallRecord
from usage.kept_bodies.body_excerpts import body_draft
from usage.kept_bodies.redaction import redact_each


def body_excerpt(
    body: bytes, content_type: str, limit: int, secrets: Sequence[str] = (), *, size: int | None = None
) -> str:
    """Returns the excerpt of one body as the ledger stores it: redacted and cut. The arguments are `body_draft`'s."""
    draft = body_draft(body, content_type, limit, secrets, size=size)
    (redacted,) = redact_each([draft.text], secrets)
    return draft.excerpt(redacted, limit, secrets)


def answer_columns(answer: AnswerReader, upstream_request_id: str, secrets: tuple[str, ...]) -> CallRecord:
    """Returns the columns of a call's row that come from its answer: ids, service tier and usage.

    The arguments are those of `id_columns`.
    """
    columns, _ = id_columns(answer, upstream_request_id, secrets)
    return columns | usage_columns(answer, secrets)
