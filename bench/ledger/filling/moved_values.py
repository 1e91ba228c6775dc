"""The values of a call, or of a sum, in a copy that is some weeks older: other times and other ids."""

from __future__ import annotations

from typing import Any

from django.db import models

# Texts that no two rows share end in three digits (hex); in a copy, in `w` and the number of the week.
UNIQUE_TEXTS = {"response_id", "upstream_request_id", "object_id"}
WEEK_MILLISECONDS = 7 * 24 * 3600 * 1000


def moved(field: models.Field[Any, Any], weeks: str) -> str:
    """Returns the SQL expression for a column's value in a copy; `weeks` is the one for the number of weeks.

    A UUIDv7 gets an earlier time: its first twelve digits are milliseconds.
    """
    column = str(field.column)
    if isinstance(field, models.DateTimeField):
        return f"{column} - {weeks} * interval '7 days'"
    if isinstance(field, models.DateField):
        return f"{column} - ({weeks})::int * 7"
    if isinstance(getattr(field, "target_field", field), models.UUIDField):
        milliseconds = f"('x' || left({column}::text, 8) || substr({column}::text, 10, 4))::bit(48)::bigint"
        time = f"lpad(to_hex({milliseconds} - {weeks} * {WEEK_MILLISECONDS}::bigint), 12, '0')"
        return f"({time} || substr({column}::text, 15))::uuid"
    if column in UNIQUE_TEXTS:
        return f"CASE WHEN {column} = '' THEN '' ELSE left({column}, -3) || 'w' || lpad(to_hex({weeks}), 2, '0') END"
    return column
