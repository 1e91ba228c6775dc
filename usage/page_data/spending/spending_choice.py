"""The choice in the URL of the page *Usage*: days, one or two groups, filters and the order of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from urllib.parse import urlencode

from django.http import QueryDict

from usage.models import Span
from usage.page_data.comparison import Comparison, read_comparison
from usage.page_data.filters import MAX_TEXT, in_address, model_in, name_in
from usage.sums.labels.comparing.compared_reader import ORDERS
from usage.sums.labels.label_groups import COLUMNS, is_label
from usage.sums.labels.label_reader import DAY, whole_days
from usage.sums.labels.label_tables import END_USER, TAG
from usage.sums.ranges import CUSTOM, LONGEST, NAMED, TimeRange, read_moment, read_range
from usage.sums.totals_reader import floor

# What rows can be grouped by, with the names on pages; besides, any tag (`tag:` and its name).
GROUP_LABELS = {
    "team": "Team", "owner": "Key owner", END_USER: "End user", "key": "Key", "model": "Model", "route": "Route",
    "day": "Day",
}  # fmt: skip
DEFAULT_GROUPS = ("team", "model")
GROUPS_WITHOUT_TEAMS = ("model",)  # the default while no team has made calls
DEFAULT_SORT = "-cost"
FILTERS = tuple(name for name in GROUP_LABELS if name != "day")
FOLLOWING = ("model", "key", "route", "day")  # the first that is free is the group when another one has become a filter


@dataclass(frozen=True)
class SpendingChoice:
    """The choice that a person has made on the page *Usage*: days, groups, filters and the order of rows.

    * `days`: the days, from midnight to midnight (UTC).
    * `now`: the present time (UTC).
    * `groups`: one or two groups: names in `GROUP_LABELS`, or `tag:` and the name of a tag.
    * `only`: the filters: a map from a group to the value that calls must have; None stands for any value of a tag.
    * `sort`: one of `ORDERS`, or `by_0` or `by_1` for the value of the first or second group; with a minus sign before
      it, the greatest comes first.
    * `faults`: a sentence for each part of the URL that could not be read.
    """

    days: TimeRange
    now: datetime
    groups: tuple[str, ...] = DEFAULT_GROUPS
    only: Mapping[str, str | None] = field(default_factory=dict)
    sort: str = DEFAULT_SORT
    faults: tuple[str, ...] = ()

    @property
    def first(self) -> date:
        """The first day (UTC) that the page *Usage* shows."""
        return self.days.start.date()

    @property
    def last(self) -> date:
        """The last day (UTC) that the page *Usage* shows."""
        return self.days.end.date() - DAY

    @property
    def period(self) -> tuple[date, date]:
        """The first day that the page *Usage* shows, and the day after the last one (UTC)."""
        return whole_days(self.days)

    @cached_property
    def comparison(self) -> Comparison:
        """The chosen days that are compared, which are over, and the days before with which they are compared."""
        return read_comparison(self.days, self.now, Span.DAY)

    @property
    def has_ended(self) -> bool:
        """True if the last day that the page *Usage* shows is over."""
        return self.last < self.now.date()

    @property
    def month(self) -> str:
        """The month that the page *Usage* shows, such as `2026-11`; empty if it does not show exactly one month."""
        is_month = self.days.name in ("this_month", "last_month") or len(self.days.name) == len("2026-11")
        return f"{self.first:%Y-%m}" if is_month and self.days.name != CUSTOM else ""

    def as_query(self) -> str:
        """Encodes this choice (days, groups, filters, order of rows) as a URL query string; `read_choice` parses it."""
        return urlencode([*self.days_fields, *self.further_fields])

    @property
    def days_fields(self) -> list[tuple[str, str]]:
        """The query parameters for the days on the page *Usage*, as pairs of name and value.

        The only one is `range` if the days have a name, such as `2026-11`. Otherwise there are two: `first` and `last`.
        """
        if self.days.name != CUSTOM:
            return [("range", self.days.name)]
        return [("first", self.first.isoformat()), ("last", self.last.isoformat())]

    @property
    def further_fields(self) -> list[tuple[str, str]]:
        """The query parameters for groups, filters and order, as pairs of name and value; not those for the days.

        The order is left out if it is the default.
        """
        fields = [*zip(("by", "then"), self.groups, strict=False), *self.filter_fields]
        return fields if self.sort == _default_sort(self.groups) else [*fields, ("sort", self.sort)]

    @property
    def filter_fields(self) -> list[tuple[str, str]]:
        """The query parameters for the filters, as pairs of name and value; those for tags are all named `tag`."""
        return [
            ("tag", name.removeprefix(TAG) + ("" if value is None else f"={value}"))
            if name.startswith(TAG)
            else (name, in_address(value or ""))
            for name, value in self.only.items()
        ]

    def narrowed(self, group: str, value: str) -> SpendingChoice:
        """Returns a copy of this choice that selects only calls with `value` as their `group`, such as one model.

        The copy is no longer grouped by `group`. If that was the only group, the first of model, key, route and day
        that has no filter replaces it. The rows of the copy have the default order.
        """
        only = {**self.only, group: value}
        groups = tuple(name for name in self.groups if name != group)
        free = (name for name in FOLLOWING if name not in only and name != group)
        groups = groups or (next(free),)
        return replace(self, only=only, groups=groups, sort=_default_sort(groups))

    def of_days(self, first: date, end: date) -> SpendingChoice:
        """Returns a copy of this choice for the days from `first` until before `end`, not grouped by day.

        If the day was the only group, the first two of model, key and route that have no filter replace it; if all
        three have a filter, team and model (`DEFAULT_GROUPS`) do. The rows of the copy have the default order.
        """
        free = tuple(name for name in FOLLOWING if name not in self.only and name != "day")[:2]
        groups = tuple(name for name in self.groups if name != "day") or free or DEFAULT_GROUPS
        return replace(self, days=_range_of(CUSTOM, first, end), groups=groups, sort=_default_sort(groups))

    def sorted_by(self, name: str) -> SpendingChoice:
        """Returns a copy of this choice with the same rows, sorted by the column `name`.

        A column with the values of a group (`by_0`, `by_1`) is sorted upward, a column of numbers from the greatest on.
        If this choice is sorted in this way already, the copy has the reverse order.
        """
        first, second = (name, f"-{name}") if name.startswith("by_") else (f"-{name}", name)
        return replace(self, sort=second if self.sort == first else first)


def read_choice(query: QueryDict, now: datetime, default_groups: tuple[str, ...] = DEFAULT_GROUPS) -> SpendingChoice:
    """Parses the query parameters of the page *Usage*: days, groups, filters and order of rows.

    Days, groups and an order that cannot be read get their defaults; a filter that cannot be used is left out. `faults`
    gets a sentence about each. If the parameters name no groups, the groups are `default_groups`.
    """
    faults: list[str] = []
    try:
        days = _read_days(query, now)
    except ValueError as fault:
        faults.append(str(fault))
        days = _read_days({}, now)
    groups = tuple(dict.fromkeys(name for key in ("by", "then") if (name := _text(query.get(key, "")))))
    if unknown := [name for name in groups if name not in COLUMNS and not is_label(name)]:
        faults.append(f"{unknown[0][:40]!r} is nothing to group by.")
        groups = ()
    groups = groups or default_groups
    sort = query.get("sort", "")
    if sort.removeprefix("-") not in (*ORDERS, *(f"by_{number}" for number in range(len(groups)))):
        if sort:
            faults.append(f"{sort[:40]!r} is no column to sort by.")
        sort = _default_sort(groups)
    return SpendingChoice(days, now, groups, _read_filters(query, faults), sort, tuple(faults))


def _read_days(query: Mapping[str, str], now: datetime) -> TimeRange:
    """Returns the whole days (UTC) that the query parameters of the page *Usage* select.

    * `first` and `last`: these days, and all between them. Without `last`, the last day is today; without `first`, only
      the last day is selected.
    * `range`, if both are missing: a month, a day, or a name such as `this_month`, the default.

    Raises:
        ValueError: there are no such days; the message is for the reader of the page.
    """
    if not (query.get("first") or query.get("last")):
        named = read_range({"range": query.get("range") or "this_month"}, now)
        first, end = whole_days(named)
        return _range_of(CUSTOM if named.name in NAMED else named.name, first, end)
    last = floor(read_moment(query.get("last", ""), now), Span.DAY)
    start = floor(read_moment(query.get("first", ""), last), Span.DAY)
    if start > last or last - start > LONGEST:
        raise ValueError("The first day comes before the last one, and there are fewer than ten years between them.")
    first, end = start.date(), last.date() + DAY
    tomorrow = now.date() + DAY
    if first.day == end.day == 1 and end - first <= timedelta(days=31) and first < tomorrow:
        return _range_of(f"{first:%Y-%m}", first, min(end, tomorrow))  # as the present month ends in `read_range`
    # Only the days that have begun are compared with earlier ones or, if none has begun, a single day.
    passed = max(tomorrow - first, DAY) if end > tomorrow else None
    return _range_of(CUSTOM, first, end, passed)


def _range_of(name: str, first: date, end: date, passed: timedelta | None = None) -> TimeRange:
    start, stop = (datetime.combine(day, time(), UTC) for day in (first, end))
    return TimeRange(name, start, stop, passed=passed)


def _read_filters(query: QueryDict, faults: list[str]) -> dict[str, str | None]:
    """Returns the filters in the query parameters: a map from the name of a group to the value that calls must have.

    A tag's value is None if calls may have any value of this tag. There is no filter for calls without an end user: if
    a query asks for it, a sentence is added to `faults`.
    """
    only: dict[str, str | None] = {}
    for name in FILTERS:
        text = query.get(name, "")
        value = model_in(text) if name == "model" else name_in(text)
        if value == "" and name == END_USER:
            faults.append("Calls without an end user cannot be chosen here. Group by end user to see their sum.")
        elif value is not None:
            only[name] = value
    for tag in filter(None, map(_text, query.getlist("tag"))):
        name, has_value, value = tag.partition("=")
        only[f"{TAG}{name}"] = value if has_value else None
    return {name: value for name, value in only.items() if name != TAG}


def _default_sort(groups: tuple[str, ...]) -> str:
    return "by_0" if groups[0] == "day" else DEFAULT_SORT


def _text(text: str) -> str:
    return text.replace("\0", "").strip()[:MAX_TEXT]
