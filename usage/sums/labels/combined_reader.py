"""Reads sums of calls by two or more labels together, such as by end user and project.

They are read from the sums by all labels together (`usage.models.LabelCombination`), as far as the requested days have
such. The other days are added up from the rows of calls: those that have just ended or go on, and those of which hardly
two calls have the same labels.

A period's sums are read only if they have exactly the calls that the totals of its days have (`UsageTotal`), which are
written together with the rows. So nobody needs to change them when a call is added late: from then on, the rows are
read, until `usage.upkeep.label_sums.combining` has added the period up anew. Whoever replaces a row by another one
marks its day (`changed_days`), since the totals may stay the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from usage.ids import first_id
from usage.sums.labels.label_groups import (
    COLUMNS,
    LabelsUnreadable,
    Only,
    Parameter,
    Query,
    columns_of,
    condition,
    grouping,
    is_label,
)
from usage.sums.labels.label_tables import COST_LATER, END_USER, OTHERS, ROW_SUMS, SUMS, TAG, added_up
from usage.sums.pruned_calls import comparable_since
from usage.sums.summed_names import SUMMED_MODEL_SQL

DAY_SQL = "(started_at AT TIME ZONE 'UTC')::date"
TAGS_SQL = r"E'\n' || array_to_string(tags, E'\n') || E'\n'"  # a row's tags as one text, as `LabelCombination` has them
# How many days are added up from rows at most: those of a month that is cut, today, and yesterday.
MOST_DAYS_OF_ROWS = 33
DAY = timedelta(days=1)
LEEWAY = timedelta(minutes=5)  # a call's id and start are read from the clock one after the other
# The totals of the days of a period of `usage_labelperiod`.
TOTALS_OF_DAYS = f"""
    SELECT {", ".join(f"COALESCE(sum(days.{name}), 0)" for name in SUMS)} FROM usage_usagetotal AS days
    WHERE days.span = 'day' AND days.dimension = 'all' AND days.value = ''
      AND days.start >= period.first::timestamp AT TIME ZONE 'UTC'
      AND days.start < period.until::timestamp AT TIME ZONE 'UTC'
"""
# The condition that a period has all calls of its days, and no others.
IS_RIGHT = f"({', '.join(f'period.{name}' for name in SUMS)}) = ({TOTALS_OF_DAYS})"
_READABLE = f"""
    SELECT first, until, id FROM usage_labelperiod AS period
    WHERE first >= %s AND until <= %s AND is_summed AND NOT (has_others AND %s) AND {IS_RIGHT}
"""  # the last parameter says that one end user is asked for: periods that count several together do not tell


class _DaySpan(NamedTuple):
    """Some days whose sums are read together.

    * `first` and `until`: the first day (UTC), and the day after the last one.
    * `period`: the id of the period with their sums (`LabelPeriod`); None if the rows of their calls are read.
    """

    first: date
    until: date
    period: int | None = None


class _Piece(NamedTuple):
    """Days of a report; their dollars also count for `COST_LATER` if `is_later` is true.

    If `subtracted_from` is the id of a period, they count for nothing else, since the sums of the period have them.
    """

    parts: list[_DaySpan]
    is_later: bool = False
    subtracted_from: int | None = None


def combined_sums(
    first: date, end: date, groups: Sequence[str], only: Only, sums: Sequence[str] = SUMS, later: date | None = None
) -> Query:
    """Returns the SQL query that reads the sums of some days by `groups`, even by several labels (end user, tags).

    The arguments have the same meaning as those of `label_reader.grouped_sums`, and the query has the same columns.
    `later` must be after `first`, and before `end`.
    Call this function, and execute the query, in one snapshot of the database: the function looks up which days have
    stored sums.

    Raises:
        LabelsUnreadable: too many of the days have no sums, or the rows of such a day have been deleted.
    """
    with connection.cursor() as cursor:
        cursor.execute(_READABLE, [first, end, only.get(END_USER) is not None])
        periods = [_DaySpan(*row) for row in cursor.fetchall()]
    if "day" in groups:
        periods = [period for period in periods if period.until - period.first == DAY]
    read = partial(_parts, periods)
    parts = read(first, end)
    if later is None:
        pieces = [_Piece(parts)]
    elif cut := [part.period for part in parts if part.period is not None and part.first < later < part.until]:
        pieces = [_Piece(parts), _Piece(read(later, end), is_later=True, subtracted_from=cut[0])]
    else:
        pieces = [_Piece(read(first, later)), _Piece(read(later, end), is_later=True)]
    days_of_rows = [part for piece in pieces for part in piece.parts if part.period is None]
    if sum((part.until - part.first).days for part in days_of_rows) > MOST_DAYS_OF_ROWS:
        raise LabelsUnreadable(
            f"Two labels together can be read for {MOST_DAYS_OF_ROWS} days at most, where they have no sums."
        )
    if days_of_rows and (since := comparable_since()) and _midnight(days_of_rows[0].first) < since:
        raise LabelsUnreadable("The rows of these calls have been deleted; only one label can be read.")
    queries = [query for piece in pieces for query in _queries(piece, groups, only, sums, has_later=later is not None)]
    if len(queries) == 1:
        return queries[0]
    keys = columns_of(groups)
    union = " UNION ALL ".join(f"({sql})" for sql, _ in queries)
    added = added_up(sums if later is None else (*sums, COST_LATER))
    sql = f"SELECT {', '.join((*keys, *added))} FROM ({union}) AS parts{grouping(keys)}"
    return sql, [value for _, values in queries for value in values]


def ids_of_days(first: date, end: date) -> tuple[UUID, UUID]:
    """Returns two request ids between which the ids of all calls from the day `first` until before `end` (UTC) lie.

    The second id is excluded. Some calls just before and after these days lie between the two ids as well.
    """
    return first_id(_midnight(first) - LEEWAY), first_id(_midnight(end) + LEEWAY)


def tag_value_sql(tags: str) -> str:
    """Returns an SQL expression for the value of one tag of a call; `_tag_texts` yields its parameters.

    `tags` is the SQL of the text with all tags of the call (`TAGS_SQL`). The parameters name the tag. The value is null
    for a call without the tag, and empty for a tag without a value. If the call has the tag twice, the first one
    counts.
    """
    bare, valued = f"strpos({tags}, %s)", f"strpos({tags}, %s)"
    return (
        f"CASE WHEN {bare} > 0 AND {bare} < COALESCE(NULLIF({valued}, 0), 2147483647) THEN ''"
        rf" WHEN {valued} > 0 THEN split_part(substr({tags}, {valued} + %s), E'\n', 1) END"
    )


def _parts(periods: Iterable[_DaySpan], first: date, end: date) -> list[_DaySpan]:
    """Divides the days from `first` until before `end` into some of the `periods`, and days to read call by call.

    The used periods, which have stored sums, are as long as possible.
    """
    longest: dict[date, _DaySpan] = {}
    for part in periods:
        if part.until <= end:
            longest[part.first] = max(longest.get(part.first, part), part)
    parts, day = list[_DaySpan](), first
    while day < end:
        if day in longest:
            parts.append(longest[day])
        elif parts and parts[-1].period is None:
            parts[-1] = parts[-1]._replace(until=day + DAY)
        else:
            parts.append(_DaySpan(day, day + DAY))
        day = parts[-1].until
    return parts


def _queries(piece: _Piece, groups: Sequence[str], only: Only, sums: Sequence[str], *, has_later: bool) -> list[Query]:
    """Returns the SQL queries that add up the calls of a piece by `groups`; with a column `COST_LATER` if wanted."""
    periods = [part.period for part in piece.parts if part.period is not None]
    queries = [_group_combinations(periods, groups, only, sums)] if periods else []
    queries += [_group_rows(part.first, part.until, groups, only, sums) for part in piece.parts if part.period is None]
    if not has_later:
        return queries
    columns = columns_of(groups)
    named: list[Parameter] = []
    if piece.subtracted_from is not None and END_USER in groups:
        # An end user without sums of its own in the period is among its `OTHERS`, whatever the sums of its days name.
        number = groups.index(END_USER)
        known = "SELECT end_user FROM usage_labelcombination WHERE period_id = %s"
        columns[number] = f"CASE WHEN by_{number} NOT IN ({known}) THEN '{OTHERS}' ELSE by_{number} END AS by_{number}"
        named = [piece.subtracted_from]
    columns += [name if piece.subtracted_from is None else f"NULL AS {name}" for name in sums]
    columns.append(f"{'cost' if piece.is_later else 0}::numeric AS {COST_LATER}")
    return [(f"SELECT {', '.join(columns)} FROM ({sql}) AS part", [*named, *values]) for sql, values in queries]


def _group_combinations(periods: Sequence[int], groups: Sequence[str], only: Only, sums: Sequence[str]) -> Query:
    """Returns the SQL query that adds up, by `groups`, the rows of `LabelCombination`: sums by all labels at once.

    `periods` are the ids of the days and months to read (rows of `LabelPeriod`). `only` has the filters: a map from
    groups to the values that calls must have.
    """
    columns = {**COLUMNS, "day": "first"}
    # Where nothing is grouped by day, PostgreSQL leaves the join out, since it is a left one.
    source = """
        (SELECT one.*, first FROM usage_labelcombination AS one
         LEFT JOIN (SELECT id, first FROM usage_labelperiod) AS period ON period.id = period_id) AS combined
        WHERE period_id = ANY(%s)
    """
    return _grouped(source, [list(periods)], (columns, "tags"), groups, only, added_up(sums))


def _group_rows(first: date, end: date, groups: Sequence[str], only: Only, sums: Sequence[str]) -> Query:
    """Returns the SQL query that adds up the rows of calls by `groups`, for days that have no stored sums.

    The days are those from `first` until before `end`. `only` has the filters, a map from groups to values, and `sums`
    the names of the sums to compute.
    """
    columns = {**COLUMNS, "model": SUMMED_MODEL_SQL, "day": DAY_SQL}
    source = "usage_request WHERE request_id >= %s AND request_id < %s AND started_at >= %s AND started_at < %s"
    bounds: list[Parameter] = [*ids_of_days(first, end), _midnight(first), _midnight(end)]
    return _grouped(
        source, bounds, (columns, f"({TAGS_SQL})"), groups, only, [f"{ROW_SUMS[name]} AS {name}" for name in sums]
    )


def _grouped(
    source: str,
    bounds: list[Parameter],
    names: tuple[dict[str, str], str],
    groups: Sequence[str],
    only: Only,
    added: Iterable[str],
) -> Query:
    """Returns the SQL query, with its parameters, that adds up the rows of a table by `groups`.

    * `source`: the SQL of the table, which ends with a WHERE clause.
    * `bounds`: the values of the parameters in `source`.
    * `names`: a pair: a map from groups to the SQL of their columns, and the SQL of the text with all tags of a call.
    * `only`: the filters: a map from groups to the values that calls must have.
    * `added`: the SQL of each sum to compute.
    """

    def column(name: str) -> Query:
        if name == END_USER:
            return "NULLIF(end_user, '')", []
        if is_label(name):
            # No tag has a name with "=" in it: what stands behind that is the value.
            return ("NULL::text", []) if "=" in name else (tag_value_sql(names[1]), list(_tag_texts(name)))
        return names[0][name], []

    columns = [column(name) for name in groups]
    conditions = [_condition(*column(name), name, value) for name, value in only.items()]
    keys = [f"{sql} AS by_{number}" for number, (sql, _) in enumerate(columns)]
    sql = f"""
        SELECT {", ".join((*keys, *added))} FROM {source}{"".join(f" AND {condition}" for condition, _ in conditions)}
        {grouping(str(number + 1) for number in range(len(keys)))}
    """
    values = [value for _, parameters in columns for value in parameters]
    return sql, [*values, *bounds, *(value for _, parameters in conditions for value in parameters)]


def _condition(sql: str, values: list[Parameter], name: str, value: str | None) -> Query:
    if value is None:
        return f"{sql} IS NOT NULL", values
    # For an end user there is an index.
    if name == END_USER:
        return "end_user <> '' AND end_user = %s", [value]
    restriction, parameters = condition(name, sql, value)
    return restriction, [*values, *parameters]


def _tag_texts(label: str) -> Iterator[Parameter]:
    """Yields the parameters of the SQL expression that `tag_value_sql` returns, for the tag `label`.

    `label` is the name of the tag after a prefix, such as `tag:project`.
    """
    bare, valued = (f"\n{label.removeprefix(TAG)}{end}" for end in ("\n", "="))
    yield from (bare, bare, valued, valued, valued, len(valued))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
