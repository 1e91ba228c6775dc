"""The page *Usage*, and its CSV: the cost of calls by any two of team, owner, tag, end user, key, model, route, day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from usage.admin_pages.access import admin_page, render_page
from usage.admin_pages.export import refusal
from usage.admin_pages.saved_views.views import views_context
from usage.page_data.exports import CONTENT_TYPES
from usage.page_data.spending.spending_choice import FILTERS, GROUP_LABELS, SpendingChoice
from usage.page_data.spending.spending_content import (
    MAX_CHART_DAYS,
    group_label,
    read_choice_or_default,
    read_spending,
)
from usage.page_data.spending.spending_csv import csv_file_name, read_spending_csv
from usage.sums.labels.label_groups import LabelsUnreadable
from usage.sums.labels.label_reader import DAY
from usage.sums.labels.label_tables import TAG
from usage.sums.labels.tag_names import read_tag_names
from usage.sums.ranges import LABELS

NUMBERS = {
    "calls": "Calls", "failed": "Failed", "input": "Input tokens", "output": "Output tokens", "cost": "Cost",
    "before": "Before", "change": "Change",
}  # fmt: skip
CHARTS = (("dollars", "Cost by day", "$", "bars"),)  # as those of the dashboard


class SpendingHead(NamedTuple):
    """The head of a column in the table of the page *Usage*.

    * `label`: the title of the column.
    * `query`: the query string of the link that sorts the rows by this column.
    * `order`: `ascending` or `descending` if the rows are sorted by this column now; otherwise empty.
    * `is_number`: whether the column has numbers.
    """

    label: str
    query: str
    order: str  # `ascending`, `descending` or empty
    is_number: bool


@admin_page
def show(request: HttpRequest) -> HttpResponseBase:
    """Answers with the page *Usage*, for the days, groups, filters and order in the query parameters."""
    now = datetime.now(UTC)
    choice = read_choice_or_default(request.GET, now)
    spending = read_spending(choice, now)
    tags = [value for name, value in choice.filter_fields if name == "tag"]
    return render_page(
        request,
        "admin/usage/spending.html",
        "Usage",
        choice=choice,
        spending=spending,
        faults=[*choice.faults, *filter(None, [spending.fault])],
        heads=list(_heads(choice)),
        groups=_group_names(choice),
        filters=[(name, GROUP_LABELS[name], dict(choice.filter_fields).get(name, "")) for name in FILTERS],
        tags=tags,
        charts=spending.charts,
        chart_list=CHARTS if spending.charts else (),
        zoom="days",  # a time that is dragged over in the chart is the page's `first` and `last`
        max_chart_days=MAX_CHART_DAYS,
        same_key=urlencode(choice.filter_fields),
        has_list=len(tags) <= 1,  # the list of requests takes one tag
        usage_of_days=_usage_of_days(choice),
        query=choice.as_query(),
        cleared=replace(choice, only={}).as_query(),
        months=[
            (name, LABELS[name], urlencode([("range", name), *choice.further_fields]))
            for name in ("this_week", "last_week", "this_month", "last_month")
        ],
        **views_context(request, "usage", choice.as_query()),
    )


@admin_page
def export(request: HttpRequest) -> HttpResponseBase:
    """Answers with the rows of the page *Usage* for the same query parameters, as a CSV file.

    If the parameters are invalid, or these rows cannot be read for these days, answers with status 400 and a sentence:
    a file with other rows than those asked for would go unnoticed.
    """
    choice = read_choice_or_default(request.GET, datetime.now(UTC))
    try:
        if choice.faults:
            raise LabelsUnreadable(" ".join(choice.faults))
        text = read_spending_csv(choice)
    except LabelsUnreadable as fault:
        return refusal([str(fault)])
    headers = {"Content-Disposition": f'attachment; filename="{csv_file_name(choice)}"', "Cache-Control": "no-store"}
    return HttpResponse(text, content_type=CONTENT_TYPES["csv"], headers=headers)


def _usage_of_days(choice: SpendingChoice) -> str:
    """Returns the query string of the links from the chart's days to the page *Usage* for a day; a script adds the day.

    It has the filters of this page, and its groups except for the day. It is empty if the page shows a single day only.
    """
    one = choice.of_days(choice.last, choice.last + DAY)
    return "" if choice.first == choice.last else urlencode(one.further_fields)


def _heads(choice: SpendingChoice) -> Iterator[SpendingHead]:
    now = "descending" if choice.sort.startswith("-") else "ascending"
    names = {f"by_{number}": group_label(name) for number, name in enumerate(choice.groups)}
    names |= NUMBERS
    if not choice.comparison.is_possible:
        names = {name: label for name, label in names.items() if name not in ("before", "change")}
    for name, label in names.items():
        order = now if choice.sort.removeprefix("-") == name else ""
        yield SpendingHead(label, choice.sorted_by(name).as_query(), order, name in NUMBERS)


def _group_names(choice: SpendingChoice) -> list[tuple[str, str]]:
    """Returns the groupings that the page *Usage* offers, as pairs of a name in URLs and a label."""
    tags = [f"{TAG}{name}" for name in read_tag_names(choice.first)]
    further = [name for name in choice.groups if name not in GROUP_LABELS and name not in tags]
    return [*GROUP_LABELS.items(), *((name, f"Tag: {group_label(name)}") for name in (*tags, *further))]
