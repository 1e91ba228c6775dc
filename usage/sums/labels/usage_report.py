"""Makes the answer to `GET /usage`: parses the groups and filters in the query, and writes the sums as JSON or CSV.

Sums by team, owner, end user and tag are of whole days (`usage.sums.labels.label_reader`); all others are of hours
(`usage.sums.report_reader`).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from io import StringIO

from django.http import QueryDict

from usage.sums.labels.label_groups import COLUMNS, LabelsUnreadable, is_label
from usage.sums.labels.label_reader import GroupSums, read_label_report, shown_value, whole_days
from usage.sums.labels.label_tables import DOLLARS, END_USER, SUMS, TAG
from usage.sums.ranges import TimeRange, read_range
from usage.sums.report_reader import GROUPS, MOST_GROUPS, NAMES, read_report
from usage.untrusted_text import csv_cell

FILTERS = ("key", "model", "route", "outcome")
LABEL_FILTERS = ("team", "owner", END_USER)
FORMATS = ("json", "csv")
OTHERS = "(others)"  # in a CSV file, the line of all groups beyond `MOST_GROUPS`
NamedNumbers = dict[str, object]
FIELDS = [(name, NAMES.get(name, name), name in DOLLARS) for name in SUMS]  # the name in the answer; if it is dollars


@dataclass(frozen=True)
class UsageQuery:
    """The parsed query parameters of `GET /usage`: range of time, groups, filters, and format of the answer.

    `is_by_label` is true if team, owner, end user or a tag is among the groups and filters; this needs sums by label.
    """

    time_range: TimeRange
    groups: tuple[str, ...]
    only: Mapping[str, str | None]
    format: str
    is_by_label: bool


def read_query(query: QueryDict, now: datetime) -> UsageQuery:
    """Parses the query parameters of `GET /usage`.

    Raises:
        ValueError: one of the parameters is wrong; the message is for the caller.
    """
    groups = tuple(dict.fromkeys(name.strip() for name in query.get("group_by", "").split(",") if name.strip()))
    if unknown := [name for name in groups if name not in GROUPS and name not in COLUMNS and not is_label(name)]:
        known = ", ".join(dict.fromkeys((*GROUPS, *COLUMNS, END_USER, f"{TAG}NAME")))
        raise ValueError(f"{unknown[0][:40]!r} is no group; {known}, several with commas between.")
    only: dict[str, str | None] = {name: query.get(name) for name in (*FILTERS, *LABEL_FILTERS) if name in query}
    for tag in query.getlist("tag"):
        name, has_value, value = tag.partition("=")
        only[f"{TAG}{name}"] = value if has_value else None
    given = query.get("format", "json")
    if given not in FORMATS:
        raise ValueError(f"{given[:40]!r} is no format; json or csv.")
    names = {*groups, *only}
    is_by_label = not names <= {*GROUPS, *FILTERS}
    if is_by_label and (finer := names & {"hour", "outcome"}):
        raise ValueError(f"{min(finer)!r} does not go together with team, owner, end_user or a tag.")
    return UsageQuery(read_range(query, now), groups, only, given, is_by_label)


def read_usage(query: UsageQuery, key: str | None) -> NamedNumbers:
    """Reads the sums that a `UsageQuery` asks for, of one key or, if `key` is None, of all keys.

    Returns the answer to `GET /usage` as a dictionary of values for JSON.

    Raises:
        LabelsUnreadable: groups and filters have two labels, which cannot be read together for these days; or a query
            by team, owner or label, of one key, has another key as a filter.
        django.db.Error: the database cannot be read.
    """
    only = query.only if key is None else {**query.only, "key": key}
    if not query.is_by_label:
        stated = {name: value for name, value in query.only.items() if value is not None}
        return read_report(query.time_range, query.groups, key=key, only=stated)
    if only.get("key") != query.only.get("key", only.get("key")):
        raise LabelsUnreadable("A key sees its own usage only.")
    first, end = whole_days(query.time_range)
    report = read_label_report(first, end, query.groups, only=only, most=MOST_GROUPS, holder=key)
    start, stop = (datetime.combine(day, time(), UTC).isoformat() for day in (first, end))
    numbers: NamedNumbers = {"start": start, "end": stop, "total": _plain(report.total)}
    if report.is_part:
        numbers["incomplete"] = True
    if report.lacks_since is not None:
        numbers["lacks_calls_since"] = report.lacks_since.isoformat()
    if query.groups:
        rows = [{**_named(query.groups, row), **_plain(row)} for row in report.rows]
        numbers |= {"group_by": list(query.groups), "groups": rows}
        if report.others is not None:
            numbers["others"] = _plain(report.others)
    return numbers


def as_csv(numbers: Mapping[str, object]) -> str:
    """Converts the result of `read_usage` to a CSV file: a line for each group; without groups, one for all calls.

    In a report by team, owner or label, the groups beyond `MOST_GROUPS` are added up in a last line, `(others)`.
    """
    total, groups = numbers["total"], numbers.get("group_by", [])
    assert isinstance(total, dict) and isinstance(groups, list)  # noqa: S101, PT018  (as `read_usage` makes them)
    rows = numbers.get("groups", [total])
    assert isinstance(rows, list)  # noqa: S101  (likewise)
    if isinstance(others := numbers.get("others"), dict):
        rows = [*rows, {**dict.fromkeys(groups, ""), groups[0]: OTHERS, **others}]
    columns = [*groups, *total]
    lines = StringIO()
    writer = csv.writer(lines)
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return lines.getvalue()


def _cell(value: object) -> str:
    """Converts a value to the text of a CSV cell: dollars have no exponent, and no text acts as a formula."""
    return f"{value:.8f}".rstrip("0").rstrip(".") if isinstance(value, float) else csv_cell(value)


def _named(groups: Sequence[str], row: GroupSums) -> NamedNumbers:
    return {name: shown_value(name, value) for name, value in zip(groups, row.group, strict=True)}


def _plain(row: GroupSums) -> NamedNumbers:
    """Returns the sums of a group as a dictionary, with the names in the API's answer as keys; dollars are numbers."""
    plain: NamedNumbers = {}
    for name, shown, is_dollars in FIELDS:
        value = getattr(row, name)
        plain[shown] = float(value) if is_dollars else value
    return plain
