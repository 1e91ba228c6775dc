"""The SQL that puts the sums of a period beside the dollars of the period before, group by group."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from usage.sums.labels.label_groups import UNDATED_SQL, LabelsUnreadable, Only, Query, labels_among
from usage.sums.labels.label_reader import grouped_sums
from usage.sums.labels.label_tables import SUMS
from usage.sums.labels.sum_rows import days_between

ANY_DATE_IN_SQL = r"E'\x03'"  # stands for `ANY_DATE` in the results of queries
Days = tuple[date, date]  # the first day (UTC), and the day after the last one


def columns_of(groups: Sequence[str]) -> list[str]:
    """Returns the names of the columns with the values of `groups` in a query for sums: `by_0`, `by_1` and so on."""
    return [f"by_{number}" for number in range(len(groups))]


def compared_sums(
    days: Days, before: Days, compared_end: date, groups: Sequence[str], only: Only, are_complete: tuple[bool, bool]
) -> tuple[Query, bool]:
    """Returns the SQL query for each group's sums on `days` and dollars on `before`, and whether it reads the latter.

    The dollars are the column `cost_before`; the column `cost_compared` has those of `days` until before
    `compared_end`. If the former cannot be read, they are 0, and the second result is False. `are_complete` says for
    each of the two periods whether the sums by label include all calls.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for the days `days`.
    """
    is_complete, is_complete_before = are_complete
    shift = (days[0] - before[0]).days
    has_past = before[0] < before[1]
    if "day" in groups and len(groups) > 1 and len(labels_among(groups, only)) < 2:
        # Day by day, few rows are grouped and joined at once, in the order of the primary key.
        others = [name for name in groups if name != "day"]
        present = grouped_sums(*days, others, only, is_complete=is_complete, day="days.day")
        earlier = grouped_sums(
            *before, others, only, ("cost",), is_complete=is_complete_before, day=f"(days.day - {shift})"
        )
        every_day = days_between(days[0], max(days[1], before[1] + timedelta(days=shift)))
        joined = _day_by_day(_joined(present, earlier, others, shift), groups, every_day)
        return _until(joined, groups, compared_end), has_past
    present = grouped_sums(*days, groups, only, is_complete=is_complete)
    past: Query | None
    try:
        past = grouped_sums(*before, groups, only, ("cost",), is_complete=is_complete_before) if has_past else None
    except LabelsUnreadable:  # rows of the period before have been deleted; those of this one have not
        past = None
    joined = _alone(present, groups) if past is None else _joined(present, past, groups, shift)
    if "day" in groups or compared_end == days[1]:
        return _until(joined, groups, compared_end), past is not None
    later = grouped_sums(compared_end, days[1], groups, only, ("cost",), is_complete=is_complete)
    return _less(joined, later, groups), past is not None


def with_lines_of_models(compared: Query, groups: Sequence[str]) -> Query:
    """Returns the SQL query that adds up the rows of `compared` whose models differ only in the date of their names.

    A model with several names, such as `gpt-4o` and `gpt-4o-2024-08-06`, becomes one value: the name without a date,
    and `ANY_DATE_IN_SQL`. `groups` include the model.
    """
    columns = columns_of(groups)
    model = columns[groups.index("model")]
    undated = UNDATED_SQL.format(model)
    names = f"min({model}) OVER same <> max({model}) OVER same"
    line = f"CASE WHEN {names} THEN {undated} || {ANY_DATE_IN_SQL} ELSE {model} END AS line"
    keys = ["line" if column == model else column for column in columns]
    sums = [f"sum({name}) AS {name}" for name in (*SUMS, "cost_before", "cost_compared")]
    selected = [f"{key} AS {column}" for key, column in zip(keys, columns, strict=True)]
    sql = f"""
        SELECT {", ".join((*selected, *sums))}
        FROM (SELECT *, {line} FROM ({compared[0]}) AS exact WINDOW same AS (PARTITION BY {undated})) AS lines
        GROUP BY {", ".join(keys)}
    """
    return sql, compared[1]


def _alone(present: Query, groups: Sequence[str]) -> Query:
    """Returns the SQL query for the sums of the query `present`, in which nothing has cost anything before."""
    columns = ", ".join((*columns_of(groups), *SUMS))
    return f"SELECT {columns}, 0::numeric AS cost_before FROM ({present[0]}) AS present", present[1]


def _until(joined: Query, groups: Sequence[str], compared_end: date) -> Query:
    """Returns the SQL query that adds the column `cost_compared` to `joined`: the dollars of rows that are compared.

    By day, these are the rows of days before `compared_end`, otherwise all.
    """
    if "day" not in groups:
        return f"SELECT *, cost AS cost_compared FROM ({joined[0]}) AS joined", joined[1]
    compared = f"CASE WHEN by_{groups.index('day')} < %s THEN cost ELSE 0 END AS cost_compared"
    return f"SELECT *, {compared} FROM ({joined[0]}) AS joined", [compared_end, *joined[1]]


def _less(joined: Query, later: Query, groups: Sequence[str]) -> Query:
    """Returns the SQL query that adds the column `cost_compared` to `joined`: its dollars without those of `later`.

    `later` has the dollars of each group on the days that are not compared.
    """
    columns = columns_of(groups)
    sql = f"""
        SELECT joined.*, joined.cost - COALESCE(later.cost, 0) AS cost_compared
        FROM ({joined[0]}) AS joined LEFT JOIN ({later[0]}) AS later
            ON {" AND ".join(_same(column, "joined", "later") for column in columns)}
    """
    return sql, [*joined[1], *later[1]]


def _day_by_day(joined: Query, groups: Sequence[str], every_day: list[date]) -> Query:
    """Returns the SQL query that runs the query `joined` once for each day in `every_day`, with the day in each row.

    `joined` refers to the day as `days.day`. `groups` are the groups of the result: those of `joined`, and the day.
    """
    numbers = iter(range(len(groups)))
    columns = ["days.day" if name == "day" else f"one.by_{next(numbers)}" for name in groups]
    keys = [f"{column} AS by_{number}" for number, column in enumerate(columns)]
    sql = f"""
        SELECT {", ".join((*keys, *SUMS))}, cost_before
        FROM unnest(%s::date[]) AS days (day) CROSS JOIN LATERAL ({joined[0]}) AS one
    """
    return sql, [every_day, *joined[1]]


def _joined(present: Query, past: Query, groups: Sequence[str], shift: int) -> Query:
    """Returns the SQL query that joins the sums of the present period with the dollars of the past one, group by group.

    `shift` is the number of days from the first day of the past period to that of the present one.
    """
    # A day is compared with that of the same number; calls without a label have null, which is equal to nothing.
    columns = columns_of(groups)
    pairs = [
        (f"present.{column}", f"past.{column} + {shift}", f"present.{column} = past.{column} + {shift}")
        if name == "day"
        else (f"present.{column}", f"past.{column}", _same(column, "present", "past"))
        for name, column in zip(groups, columns, strict=True)
    ]
    keys = [f"COALESCE({one}, {other}) AS {column}" for (one, other, _), column in zip(pairs, columns, strict=True)]
    sums = [f"COALESCE(present.{name}, 0) AS {name}" for name in SUMS]
    sql = f"""
        SELECT {", ".join((*keys, *sums))}, COALESCE(past.cost, 0) AS cost_before
        FROM ({present[0]}) AS present FULL JOIN ({past[0]}) AS past
            ON {" AND ".join(condition for _, _, condition in pairs)}
    """
    return sql, [*present[1], *past[1]]


def _same(column: str, *tables: str) -> str:
    """Returns the SQL condition of a join: `column` has the same value in both `tables`, or is null in both."""
    return " = ".join(f"COALESCE({table}.{column}, E'\\x02')" for table in tables)
