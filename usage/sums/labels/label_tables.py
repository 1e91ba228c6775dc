"""The columns of the table of sums by label, and the SQL that finds the row in which a call is counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from usage.sums.sum_tables import COST_PARTS, NEEDS_PRICE_SQL

END_USER, TAG = "end_user", "tag:"  # the labels; that of a tag ends with its name
# Values that no caller can send, since control characters are replaced in what they send.
OTHERS = "\x01others"  # the calls of all values that have no sums of their own
CLOSED = f"{TAG}\x01closed"  # a label without calls: further names of tags get no sums in this period
# Restricted to those that pages show, since the table has a row for each end user of a day.
SUMS = (
    "calls", "errors", "unpriced_calls", "input_tokens", "cached_tokens", "output_tokens", "cost", *COST_PARTS,
)  # fmt: skip
COST_LATER = "cost_later"  # a column of some queries: the dollars of the days that are not compared with earlier ones
COST_BEFORE = "cost_before"  # a column of some queries: the dollars of the period before
DOLLARS = {"cost", *COST_PARTS, COST_LATER, COST_BEFORE}
MOSTLY_ZERO = {"errors", "unpriced_calls", "cached_tokens", *COST_PARTS, COST_LATER, COST_BEFORE}
# What the rows of a group of calls add up to, in SQL. A request of the gateway's own is no call, but has a cost.
_IS_CALL = "WHERE NOT by_gateway"
ROW_SUMS = {
    "calls": f"count(*) FILTER ({_IS_CALL})",
    "errors": f"count(*) FILTER ({_IS_CALL} AND outcome <> 'success')",
    "unpriced_calls": f"count(*) FILTER (WHERE {NEEDS_PRICE_SQL})",
    **{name: f"COALESCE(sum({name}), 0)" for name in ("input_tokens", "cached_tokens", "output_tokens", "cost")},
    **{part: f"COALESCE(sum(cost) FILTER (WHERE cost_kind = '{kind}'), 0)" for part, kind in COST_PARTS.items()},
}
# The value of a `tag`, which is empty if it has none.
VALUE_OF_TAG = "CASE WHEN strpos(tag, '=') > 0 THEN substr(tag, strpos(tag, '=') + 1) ELSE '' END"
LabelSpan = Literal["day", "month"]
SPANS: tuple[LabelSpan, ...] = ("day", "month")
GROUP_COLUMNS = ("key_name", "team", "owner", "model", "route")
KEYS = ("span", "label", "start", "value", *GROUP_COLUMNS)
NAMES = ", ".join((*KEYS, *SUMS))
TABLE = "usage_labeltotal"
GRAND_TOTALS = "usage_labelgrandtotal"  # the sums of all values of a label; triggers of `TABLE` write them
ADDED = ", ".join(f"{name} = {TABLE}.{name} + EXCLUDED.{name}" for name in SUMS)
CONFLICT = f"ON CONFLICT ({', '.join(KEYS)}) DO UPDATE SET {ADDED}"


def added_up(sums: Iterable[str]) -> list[str]:
    """Returns, for each column in `sums`, the SQL expression that adds it up, as a column of the same name.

    In columns that are mostly 0, zeros are skipped, which is faster. Calls and tokens are added as `float8`, which is
    exact for integers up to 2**53: PostgreSQL makes a `numeric` of each sum of `bigint`, which takes longer.
    """
    return [_added_up(name) for name in sums]


def _added_up(name: str) -> str:
    number = name if name in DOLLARS else f"{name}::float8"
    nonzero = f" FILTER (WHERE {name} <> 0)" if name in MOSTLY_ZERO else ""
    return f"COALESCE(sum({number}){nonzero}, 0) AS {name}"


def typed(expression: str, name: str) -> str:
    """Returns the SQL `expression` of a sum, cast to the column's type: `numeric` for dollars, else `bigint`.

    `name` is the column's name. Without the cast, a sum of integers is a `numeric` or a `float8`.
    """
    return f"({expression})::{'numeric' if name in DOLLARS else 'bigint'}"


def counted_groups(source: str) -> str:
    """Returns the SQL query for the rows to add to the table of sums by label, in the order of `KEYS`.

    `source` is a query for the new sums; it has the columns `KEYS` and `SUMS`, as the result does. Usually each new
    value or tag gets rows of its own. It gets none in a day or month for which the table has one of these rows:

    * a row with the value `OTHERS`: new values of the same label are counted as `OTHERS`.
    * a row with the label `CLOSED`: new tags are left out.
    """
    period = f"FROM {TABLE} AS known WHERE known.span = source.span AND known.start = source.start"
    of_label = f"{period} AND known.label = source.label"
    value = f"""
        CASE WHEN label = '' OR EXISTS (SELECT {of_label} AND known.value = source.value)
                  OR NOT EXISTS (SELECT {of_label} AND known.value = '{OTHERS}')
             THEN value ELSE '{OTHERS}' END
    """
    has_sums = f"""
        label NOT LIKE '{TAG}%%' OR EXISTS (SELECT {of_label})
        OR NOT EXISTS (SELECT {period} AND known.label = '{CLOSED}')
    """
    keys = ", ".join(KEYS)
    return f"""
        SELECT {keys}, {", ".join(f"sum({name}) AS {name}" for name in SUMS)}
        FROM (SELECT span, label, start, {value} AS value, {", ".join((*GROUP_COLUMNS, *SUMS))}
              FROM ({source}) AS source WHERE {has_sums}) AS counted
        GROUP BY {keys} ORDER BY {keys}
    """


# Its parameter is a JSON array with one object for each group, of `KEYS` and `SUMS`.
ADD_LABELS = f"""
    INSERT INTO {TABLE} ({NAMES})
    {counted_groups(f"SELECT {NAMES} FROM jsonb_populate_recordset(NULL::{TABLE}, %s::jsonb)")}
    {CONFLICT}
"""
