"""The SQL that puts the sums of a period beside the dollars of the period before, group by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, timedelta
from functools import partial
from typing import NamedTuple

from usage.sums.labels.label_groups import (
    UNDATED_SQL,
    LabelsUnreadable,
    Only,
    Parameter,
    Query,
    columns_of,
    grouping,
    labels_among,
)
from usage.sums.labels.label_reader import added_rows, rows_of_sums
from usage.sums.labels.label_tables import COST_BEFORE, COST_LATER, SUMS
from usage.sums.labels.span_ranges import next_month
from usage.sums.labels.sum_rows import days_between, has_grand_totals

ANY_DATE_IN_SQL = r"E'\x03'"  # stands for `ANY_DATE` in the results of queries
Days = tuple[date, date]  # the first day (UTC), and the day after the last one


class Compared(NamedTuple):
    """The SQL of the sums that a report compares, to put into a WITH clause.

    * `tables`: the tables of the clause. The one named `compared` has a row for each group: its values (`columns_of`),
      its sums (`SUMS`), the column `cost_before` with its dollars in the period before, and the column `cost_compared`
      with those of its dollars to compare with `cost_before`: usually without the dollars of today.
    * `values`: the values of the parameters in `tables`.
    * `every`: the name of the table to add up for the sums of all groups together; usually it has few rows.
    * `has_past`: false if the dollars of the period before cannot be read; `cost_before` is 0 then.
    """

    tables: str
    values: list[Parameter]
    every: str
    has_past: bool


def days_to_read(before: Days, groups: Sequence[str]) -> tuple[Days, date | None]:
    """Returns which days to read for the dollars of the days `before`, and the day from which on to subtract dollars.

    Usually these are the days `before`, and None, since nothing is to be subtracted. A month has far fewer sums than
    its days. So if most of the last month is among the days `before`, the whole month is read, and what its later days
    have cost is subtracted.
    """
    start, end = before[1].replace(day=1), next_month(before[1])
    if "day" in groups or start < before[0] or 2 * (end - before[1]) > before[1] - start:
        return before, None
    return (before[0], end), before[1]


def compared_sums(
    days: Days,
    before: Days,
    compared_end: date,
    groups: Sequence[str],
    only: Only,
    are_complete: tuple[bool, bool],
    *,
    has_lines: bool,
) -> Compared:
    """Returns the SQL of each group's sums on `days` and dollars on `before`, as tables of a WITH clause.

    Those of `days` until before `compared_end` are compared with the days `before`. `are_complete` says for each of the
    two periods whether the sums by label include all calls. If `has_lines` is true, names of a model that differ only
    in their date share a row: its value is the name without a date, and `ANY_DATE_IN_SQL`.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for the days `days`.
    """
    add = partial(_both_periods, days, before, compared_end, only=only, are_complete=are_complete)
    labels = labels_among(groups, only)
    label = labels[0] if len(labels) == 1 and labels[0] not in only else ""
    others = [name for name in groups if name != label]
    (sql, values), figures, has_past = add(others)
    has_lines = has_lines and "model" in groups
    tables = _lines(sql, others, figures) if has_lines else f"every AS MATERIALIZED ({sql})"
    rows = "every"
    if label:
        # The sums of calls without the label are the difference of those of all calls and of those with it. They are
        # computed for both periods at once, which takes less time than to compute them for each period.
        (labelled, labelled_values), *_ = add(groups, lines="lines" if has_lines else "")
        values = [*values, *labelled_values]
        tables = f"{tables}, labelled AS MATERIALIZED ({labelled})"
        without_values = None
        if has_grand_totals(others, only):
            (without_values, total_values), *_ = add(others, only={**only, label: None})
            values = [*values, *total_values]
        tables = f"{tables}, rest AS MATERIALIZED ({_rest(groups, label, figures, without_values)})"
        rows = "(SELECT * FROM labelled UNION ALL SELECT * FROM rest)"
    cost = partial(_cost_compared, days, compared_end)
    tables = f"""{tables},
        compared AS NOT MATERIALIZED (SELECT *, {cost(groups)} AS cost_compared FROM {rows} AS one),
        added AS (SELECT *, {cost(others)} AS cost_compared FROM every)
    """
    return Compared(tables, values, "added", has_past=has_past)


def _rest(groups: Sequence[str], label: str, figures: Sequence[str], without_values: str | None) -> str:
    """Returns the SQL query for the sums of calls without `label`: those of the table `every` less those with it.

    The latter are the rows of the query `without_values`, by the other groups, if it is given; else they are added up
    from the table `labelled`. `groups` are those of the table `labelled`; `every` has all of them but the label.
    """
    others = columns_of([name for name in groups if name != label])
    numbers = iter(others)
    keys = ["NULL" if name == label else next(numbers) for name in groups]
    if without_values is None:
        known = [column for name, column in zip(groups, columns_of(groups), strict=True) if name != label]
        less = [f"-COALESCE(sum({name}) FILTER (WHERE {name} <> 0), 0)" for name in figures]
        subtracted = f"SELECT {', '.join((*known, *less))} FROM labelled{grouping(known)}"
    else:
        less = [f"-{name}" for name in figures]
        subtracted = f"SELECT {', '.join((*others, *less))} FROM ({without_values}) AS total"
    return f"""
        SELECT {", ".join((*keys, *(f"sum({name}) AS {name}" for name in figures)))} FROM (
            SELECT {", ".join((*others, *figures))} FROM every UNION ALL {subtracted}
        ) AS one{grouping(others)}
    """


def _lines(sql: str, groups: Sequence[str], figures: Sequence[str]) -> str:
    """Returns the SQL of a table `every`, for a WITH clause: the rows of a query, with one for all dates of a model.

    `sql` is the query for sums (`figures`) by `groups`. Only the rows of models with several names are added up. The
    table `lines` has their `name`, and the `line` that the models of one line share.
    """
    columns = columns_of(groups)
    model = columns[groups.index("model")]
    keys = ["line" if column == model else column for column in columns]
    added = [f"COALESCE(sum({name}) FILTER (WHERE {name} <> 0), 0)" for name in figures]
    undated = UNDATED_SQL.format("name")
    return f"""
        exact AS MATERIALIZED ({sql}),
        lines AS MATERIALIZED (
            SELECT name, line FROM (
                SELECT name, {undated} || {ANY_DATE_IN_SQL} AS line, count(*) OVER (PARTITION BY {undated}) AS names
                FROM (SELECT DISTINCT {model} AS name FROM exact) AS model
            ) AS known WHERE names > 1
        ),
        every AS MATERIALIZED (
            SELECT * FROM exact WHERE {model} NOT IN (SELECT name FROM lines)
            UNION ALL
            SELECT {", ".join((*keys, *added))} FROM exact JOIN lines ON name = {model} GROUP BY {", ".join(keys)}
        )
    """


def _cost_compared(days: Days, compared_end: date, groups: Sequence[str]) -> str:
    """Returns the SQL expression for the dollars of a row that are compared: those of days before `compared_end`."""
    if "day" in groups:
        return f"CASE WHEN by_{groups.index('day')} < DATE '{compared_end}' THEN cost ELSE 0 END"
    if compared_end <= days[0]:
        return "0::numeric"
    return f"cost - {COST_LATER}" if compared_end < days[1] else "cost"


def _both_periods(
    days: Days,
    before: Days,
    compared_end: date,
    groups: Sequence[str],
    *,
    only: Only,
    are_complete: tuple[bool, bool],
    lines: str = "",
) -> tuple[Query, Sequence[str], bool]:
    """Returns the SQL query for each group's sums on `days` and dollars on `before`, and whether it reads the latter.

    The dollars are the column `COST_BEFORE`. If they cannot be read, they are 0, and the last result is False. The
    second result has the names of all columns but those of `groups`. If `lines` is given, it is the name of the table
    that `_lines` makes, and models share rows as it says. If one of `groups` is the only label, calls without it are
    left out.

    Raises:
        LabelsUnreadable: as in `compared_sums`.
    """
    here, there = (partial(rows_of_sums, only=only, is_complete=one) for one in are_complete)
    shift = (days[0] - before[0]).days  # a day is compared with the day of the same number
    has_past = before[0] < before[1]
    if "day" in groups and len(groups) > 1 and len(labels_among(groups, only)) < 2:
        others = [name for name in groups if name != "day"]
        present = here(*days, others, day="days.day")
        past = there(*before, others, sums=("cost",), day=f"(days.day - {shift})")
        every_day = days_between(days[0], max(days[1], before[1] + timedelta(days=shift)))
        return _day_by_day(present, past, groups, every_day), (*SUMS, COST_BEFORE), has_past
    later = compared_end if days[0] < compared_end < days[1] and "day" not in groups else None
    sums = SUMS if later is None else (*SUMS, COST_LATER)
    sql, values = here(*days, groups, later=later)
    columns = columns_of(groups)
    sql = f"SELECT {', '.join((*columns, *sums))}, NULL::numeric AS {COST_BEFORE} FROM ({sql}) AS present"
    earlier, cost = _read_past(there, before, groups) if has_past else (None, "")
    if earlier is not None:
        shifted = (
            f"{column} + {shift}" if name == "day" else column for name, column in zip(groups, columns, strict=True)
        )
        nulls = ("NULL" for _ in sums)
        sql = f"{sql} UNION ALL SELECT {', '.join((*shifted, *nulls, cost))} FROM ({earlier[0]}) AS past"
        values = [*values, *earlier[1]]
    if lines:
        model = columns[groups.index("model")]
        named = [f"COALESCE(line, {model}) AS {model}" if column == model else column for column in columns]
        named += (*sums, COST_BEFORE)
        sql = f"SELECT {', '.join(named)} FROM ({sql}) AS periods LEFT JOIN {lines} ON name = {model}"
    # To add up the rows of both periods at once takes less time than to add up each, and to join the results.
    sums = (*sums, COST_BEFORE)
    return added_rows((sql, values), groups, sums), sums, earlier is not None


def _read_past(there: Callable[..., Query], before: Days, groups: Sequence[str]) -> tuple[Query | None, str]:
    """Returns the SQL query for each group's dollars on the days `before`, and the SQL expression for these dollars.

    `there` is `rows_of_sums` with its further arguments. If the dollars cannot be read, the query is None.
    """
    # Two labels can be read call by call, but for few days only: perhaps not for the rest of the month, too.
    for days, excess in dict.fromkeys((days_to_read(before, groups), (before, None))):
        with suppress(LabelsUnreadable):
            past = there(*days, groups, sums=("cost",), later=excess)
            return past, "cost" if excess is None else f"COALESCE(cost, 0) - COALESCE({COST_LATER}, 0)"
    return None, ""  # rows of the period before have been deleted; those of the present one have not


def _day_by_day(present: Query, past: Query, groups: Sequence[str], every_day: Sequence[date]) -> Query:
    """Returns the SQL query for the sums and the column `COST_BEFORE` of each group and day in `every_day`.

    `groups` include the day. The queries `present` and `past`, made by `rows_of_sums`, are those of one day: they refer
    to it as `days.day`, and have the other groups. They run once for each day: their rows then come in the order of
    the primary key, and are added up and joined without sorting.
    """
    others = [name for name in groups if name != "day"]
    columns = columns_of(others)
    keys = [f"COALESCE(present.{column}, past.{column}) AS {column}" for column in columns]
    added = [f"COALESCE(present.{name}, 0) AS {name}" for name in SUMS]
    # In SQL, null does not equal null: for calls without a label, which have null, a text is compared in its place.
    same = [f"COALESCE(present.{column}, E'\\x02') = COALESCE(past.{column}, E'\\x02')" for column in columns]
    (now, now_values), (then, then_values) = added_rows(present, others, SUMS), added_rows(past, others, ("cost",))
    joined = f"""
        SELECT {", ".join((*keys, *added))}, COALESCE(past.cost, 0) AS {COST_BEFORE}
        FROM ({now}) AS present FULL JOIN ({then}) AS past ON {" AND ".join(same)}
    """
    numbers = iter(columns)
    names = ["days.day" if name == "day" else f"one.{next(numbers)}" for name in groups]
    sql = f"""
        SELECT {", ".join((*(f"{name} AS by_{number}" for number, name in enumerate(names)), *SUMS))}, {COST_BEFORE}
        FROM unnest(%s::date[]) AS days (day) CROSS JOIN LATERAL ({joined}) AS one
    """
    return sql, [[*every_day], *now_values, *then_values]
