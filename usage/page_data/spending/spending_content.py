"""Reads the content of the page *Usage*: rows with their change from the period before, a chart, and links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from urllib.parse import urlencode

from django.http import QueryDict

from usage.database.snapshot import one_snapshot
from usage.page_data import formatting
from usage.page_data.dashboard.dashboard_charts import ChartSeries
from usage.page_data.filters import NO_NAME, in_address
from usage.page_data.spending.same_hours import SameHours, read_same_hours
from usage.page_data.spending.spending_choice import (
    DEFAULT_GROUPS,
    GROUP_LABELS,
    GROUPS_WITHOUT_TEAMS,
    SpendingChoice,
    read_choice,
)
from usage.sums.labels.comparing.compared_reader import (
    MOST_COSTLIEST,
    ComparedReport,
    ComparedSums,
    read_compared_report,
)
from usage.sums.labels.comparing.daily_costs import read_costliest, read_daily_costs
from usage.sums.labels.label_groups import GroupValue, LabelsUnreadable, is_label, is_of_any_date, labels_among
from usage.sums.labels.label_reader import DAY, shown_value
from usage.sums.labels.label_tables import OTHERS, TAG
from usage.sums.labels.tag_names import has_teams

MAX_ROWS = 100
MAX_CHART_DAYS = 92
NO_VALUE = "(no value)"  # of calls with a tag that has none
NEW = "new"  # instead of a change, if the period before has no dollars
NO_PRICE = "no price"  # instead of the dollars of the period before, for calls without a price in both periods
NOT_OVER = "not over"  # instead of a change, for a day that goes on
ChartData = dict[str, object]


@dataclass(frozen=True)
class SpendingCell:
    """A cell of the page *Usage* with the value of a group, such as the name of a team.

    `query` is the query string for a link to the page with only these calls; it is empty if no filter selects them.
    """

    text: str
    query: str = ""


@dataclass(frozen=True)
class SpendingRow:
    """One row of the page *Usage*: the sums of a group of calls, formatted.

    `calls_query` is the query string for the list of requests that selects the row's calls; empty if no filter can
    select them. `change` is the change from `before`, the dollars of the period before, to `compared`: those of the
    chosen days that are compared; empty if they read like `cost`. `share` is the row's share of all dollars, in
    percent.
    """

    cells: Sequence[SpendingCell]
    calls: int
    calls_query: str
    failed: str
    input_tokens: int
    output_tokens: int
    cost: str
    uncertain: Sequence[str]
    before: str
    change: str
    compared: str
    share: int


@dataclass(frozen=True)
class Spending:
    """The content of the page *Usage*: its rows and the data of its chart.

    * `others`: the sums of the groups beyond `MAX_ROWS`; None if there are no such groups.
    * `same_hours`: the cost until now and in the same hours before; None if the days are over or calls are filtered.
    * `fault`: the reason why there are no rows, or a remark on calls that the rows lack; usually empty.
    * `charts`: empty if no chart can be drawn.
    """

    rows: Sequence[SpendingRow]
    others: SpendingRow | None
    total: SpendingRow | None
    charts: ChartData
    same_hours: SameHours | None = None
    fault: str = ""


def group_label(name: str) -> str:
    """Returns the label of a group on the page *Usage*: "Key owner" for `owner`; for a tag, the tag's name."""
    return GROUP_LABELS.get(name, name.removeprefix(TAG))


def value_text(group: str, value: GroupValue) -> str:
    """Returns a group's value, such as a team, as text for pages and files; "(none)" for calls without a value.

    Models with any date end with "(any date)". Calls with a tag that has no value are "(no value)", since "(none)" are
    those without the tag.
    """
    if isinstance(value, str) and is_of_any_date(group, value):
        return in_address(value)
    return shown_value(group, value) or (NO_VALUE if value is not None and is_label(group) else NO_NAME)


def read_choice_or_default(query: QueryDict, now: datetime) -> SpendingChoice:
    """Parses the query parameters of the page *Usage*; if they name no groups, uses the default groups.

    These are team and model, or only model if no team has made calls in this month or the one before.
    """
    has_groups = bool(query.get("by") or query.get("then"))
    return read_choice(query, now, DEFAULT_GROUPS if has_groups or has_present_teams(now) else GROUPS_WITHOUT_TEAMS)


def has_present_teams(now: datetime) -> bool:
    """Returns whether a team has made calls in this month or the one before."""
    return has_teams(now.date().replace(day=1) - DAY)


def read_report_of(choice: SpendingChoice, most: int) -> ComparedReport:
    """Reads the sums of calls for the page *Usage*, by group, with each group's dollars in the period before.

    `choice` says which calls and groups. At most `most` rows are returned; all further groups are added up in the
    result's `others`.

    Raises:
        LabelsUnreadable: the choice has two labels (an end user and a tag, or two tags), which cannot be read together
            for these days.
    """
    (_, compared_end), (before, before_end) = choice.comparison.shown, choice.comparison.before
    return read_compared_report(
        choice.period, (before.date(), before_end.date()), choice.groups, only=choice.only,
        order=choice.sort.removeprefix("-"), is_falling=choice.sort.startswith("-"), most=most,
        compared_end=compared_end.date(),
    )  # fmt: skip


@one_snapshot()
def read_spending(choice: SpendingChoice, now: datetime) -> Spending:
    """Reads the content of the page *Usage* from the database.

    If the groups and filters cannot be read together for these days (`LabelsUnreadable`), the result has only a
    `fault`.
    """
    try:
        report = read_report_of(choice, MAX_ROWS)
    except LabelsUnreadable as fault:
        return Spending((), None, None, {}, fault=str(fault))

    def make_row(cells: Sequence[SpendingCell], row: ComparedSums, calls_query: str = "") -> SpendingRow:
        return _row(cells, row, report.total.sums.cost, calls_query, not_compared=_not_compared(choice, row))

    return Spending(
        rows=[make_row(_cells(choice, row), row, _calls_query(choice, row)) for row in report.rows],
        others=make_row([SpendingCell(formatting.others(report.other_groups))], report.others)
        if report.others
        else None,
        total=make_row([SpendingCell("Total")], report.total, _calls_query(choice, None)),
        charts=_read_charts(choice, report),
        same_hours=read_same_hours(choice, now),
        fault=_lacking(report.lacks_since),
    )


def _lacking(since: date | None) -> str:
    """Returns the remark that the sums of the page *Usage* lack calls from the day `since` on; "" if that is None."""
    if since is None:
        return ""
    return (
        f"From {since} on, these sums lack calls that an older version has written."
        " To add those whose rows are kept, run manage.py ledger sum."
    )


def _not_compared(choice: SpendingChoice, row: ComparedSums) -> str:
    """Returns the text instead of a change, if `row` is of a day that is not over or has no day before it; else ""."""
    (first, _), (before, before_end) = choice.comparison.shown, choice.comparison.before
    days = [value for value in row.sums.group if isinstance(value, date)]
    if not days or days[0] < (first + (before_end - before)).date():
        return ""
    return NOT_OVER if days[0] >= choice.now.date() else formatting.UNKNOWN


def _row(
    cells: Sequence[SpendingCell], row: ComparedSums, whole: Decimal, calls_query: str, *, not_compared: str
) -> SpendingRow:
    """Makes a row of the page *Usage* from the sums of the row's calls.

    `whole` is the cost of all rows, of which the row shows its share. `calls_query` is the query string of the link to
    the row's calls. `not_compared` stands for the change if the row is not compared.
    """
    sums, before = row.sums, None if not_compared else row.cost_before
    lacks_prices = bool(sums.unpriced_calls) and sums.unpriced_calls >= sums.calls and not sums.cost
    uncertain = formatting.uncertain_parts(sums.cost, sums.estimated_cost, sums.provisional_cost)
    uncertain += [formatting.need_price(sums.unpriced_calls)] if sums.unpriced_calls else []
    change = not_compared or formatting.UNKNOWN
    if before is not None and not lacks_prices:
        change = formatting.change(float(row.cost_compared), float(before)) or (NEW if row.cost_compared else change)
    cost = formatting.dollars(None if lacks_prices else sums.cost)
    compared = formatting.dollars(row.cost_compared)
    return SpendingRow(
        cells=cells,
        calls=sums.calls,
        calls_query=calls_query if sums.calls else "",
        failed=formatting.share(sums.errors, sums.calls),
        input_tokens=sums.input_tokens,
        output_tokens=sums.output_tokens,
        cost=cost,
        uncertain=uncertain,
        before=NO_PRICE if lacks_prices and before == 0 else formatting.dollars(before),
        change=change,
        compared="" if not before or lacks_prices or compared == cost else compared,
        share=round(100 * sums.cost / whole) if whole else 0,
    )


def _cells(choice: SpendingChoice, row: ComparedSums) -> list[SpendingCell]:
    """Makes the cells of a row for the values of its groups; each has a link to the page *Usage* with only these calls.

    A cell has no link if no filter selects its calls: for calls without the label, and for values that are counted
    together (`OTHERS`).
    """
    cells = []
    for group, value in zip(choice.groups, row.sums.group, strict=True):
        query = ""
        if isinstance(value, date):
            query = choice.of_days(value, value + DAY).as_query()
        elif value is not None and value != OTHERS:
            query = choice.narrowed(group, value).as_query()
        cells.append(SpendingCell(value_text(group, value), query))
    return cells


def _calls_query(choice: SpendingChoice, row: ComparedSums | None) -> str:
    """Returns the query string of the link to the list of requests with the calls of `row`, or of all rows for None.

    The query string is empty if the filters of the list cannot select these calls: calls that lack a tag or have it
    without a value, calls with two given tags, and calls of several values that are added up in one row (`OTHERS`).
    """
    chosen: dict[str, GroupValue] = dict(choice.only)
    days, query = choice.days, dict[str, str]()
    if row is not None:
        chosen |= dict(zip(choice.groups, row.sums.group, strict=True))
    if isinstance(day := chosen.pop("day", None), date):
        start = datetime.combine(day, time(), days.start.tzinfo)
        query = {"from": f"{start:%Y-%m-%dT%H:%M}", "to": f"{start + timedelta(days=1):%Y-%m-%dT%H:%M}"}
    for name, value in chosen.items():
        if value == OTHERS:
            return ""
        if not name.startswith(TAG):
            query[name] = in_address(str(value or ""))
        elif "tag" in query or value == "" or (value is None and name not in choice.only):
            return ""
        else:
            query["tag"] = name.removeprefix(TAG) + ("" if value is None else f"={value}")
    return urlencode({**({} if "from" in query else days.as_query()), **query})


def _read_charts(choice: SpendingChoice, report: ComparedReport) -> ChartData:
    """Reads the data of the chart of the page *Usage*: dollars by day, with a line for each of the costliest values.

    These are values of the first group that is not the day, or keys if there is none. A last line adds up all other
    values. `report` has the sums that the page shows.

    Returns an empty map if the sums would take long to read: for more than `MAX_CHART_DAYS` days, or if this group and
    the filters have two labels (an end user and a tag, or two tags).
    """
    first, end = choice.period
    group = next((name for name in choice.groups if name != "day"), "key")
    if (end - first).days > MAX_CHART_DAYS or len(labels_among((group,), choice.only)) > 1:
        return {}
    days = [first + DAY * number for number in range((end - first).days)]
    is_complete = report.lacks_since is None
    costliest = report.costliest or read_costliest(
        (first, end), group, only=choice.only, most=MOST_COSTLIEST, is_complete=is_complete
    )
    lines = read_daily_costs(
        (first, end), group, costliest, only=choice.only, is_complete=is_complete, known=report.daily
    )
    series = [
        ChartSeries(
            name="others" if is_others else value_text(group, value),
            values=[round(float(costs.get(day, 0)), 8) for day in days],
        )
        for value, is_others, costs in lines
    ]
    *times, stop = (datetime.combine(day, time(), choice.days.start.tzinfo).isoformat() for day in (*days, end))
    return {
        "times": times, "step": DAY.total_seconds(), "start": times[0], "end": stop,
        "dollars": series, "group": group_label(group),
    }  # fmt: skip
