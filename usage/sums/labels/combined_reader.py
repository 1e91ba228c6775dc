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
from uuid import UUID

from django.db import connection

from usage.ids import first_id
from usage.sums.labels.label_groups import (
    COLUMNS,
    LabelsUnreadable,
    Only,
    Parameter,
    Query,
    condition,
    grouping,
    is_label,
)
from usage.sums.labels.label_tables import END_USER, ROW_SUMS, SUMS, TAG, added_up
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
    SELECT id, first, until FROM usage_labelperiod AS period
    WHERE first >= %s AND until <= %s AND is_summed AND NOT (has_others AND %s) AND {IS_RIGHT}
"""
_Range = tuple[date, date]  # the first day (UTC), and the day after the last one


def combined_sums(first: date, end: date, groups: Sequence[str], only: Only, sums: Sequence[str] = SUMS) -> Query:
    """Returns the SQL query that reads the sums of some days by `groups`, even by several labels (end user, tags).

    The arguments have the same meaning as those of `label_reader.grouped_sums`, and the query has the same columns.
    Call this function, and execute the query, in one snapshot of the database: the function looks up which days have
    stored sums.

    Raises:
        LabelsUnreadable: too many of the days have no sums, or the rows of such a day have been deleted.
    """
    periods, days_of_rows = _parts(first, end, only, by_day="day" in groups)
    queries = [_group_combinations(periods, groups, only, sums)] if periods else []
    if sum((until - start).days for start, until in days_of_rows) > MOST_DAYS_OF_ROWS:
        raise LabelsUnreadable(
            f"Two labels together can be read for {MOST_DAYS_OF_ROWS} days at most, where they have no sums."
        )
    if days_of_rows and (since := comparable_since()) and _midnight(days_of_rows[0][0]) < since:
        raise LabelsUnreadable("The rows of these calls have been deleted; only one label can be read.")
    queries += [_group_rows(*days, groups, only, sums) for days in days_of_rows]
    if len(queries) == 1:
        return queries[0]
    keys = [f"by_{number}" for number in range(len(groups))]
    union = " UNION ALL ".join(f"({sql})" for sql, _ in queries)
    added = [f"COALESCE(sum({name}), 0) AS {name}" for name in sums]
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


def _parts(first: date, end: date, only: Only, *, by_day: bool) -> tuple[list[int], list[_Range]]:
    """Divides the days from `first` until before `end` into periods with stored sums, and days to read call by call.

    Returns the ids of the periods (rows of `LabelPeriod`), which are as long as possible, and the ranges of the other
    days. If `by_day` is true, only periods of one day are used. If `only` asks for one end user, periods that count
    several end users together are not used.
    """
    with connection.cursor() as cursor:
        cursor.execute(_READABLE, [first, end, only.get(END_USER) is not None])
        found: list[tuple[int, date, date]] = cursor.fetchall()
    longest: dict[date, tuple[date, int]] = {}
    for number, start, until in found:
        if not by_day or until - start == DAY:
            longest[start] = max(longest.get(start, (until, number)), (until, number))
    periods, rest, day = list[int](), list[_Range](), first
    while day < end:
        if day in longest:
            day, number = longest[day]
            periods.append(number)
            continue
        start = rest.pop()[0] if rest and rest[-1][1] == day else day
        day += DAY
        rest.append((start, day))
    return periods, rest


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
