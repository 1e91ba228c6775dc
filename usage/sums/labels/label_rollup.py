"""Adds up a batch of calls' rows by label. `usage.sums.totals_rollup` writes the result with the other sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Any

import orjson

from usage.call_record import SummedRow
from usage.models import Outcome
from usage.sums.labels.label_tables import END_USER, KEYS, SPANS, SUMS, TAG
from usage.sums.sum_tables import COST_PARTS
from usage.sums.summed_names import summed_model

DayGroup = tuple[str, date, str, str, str, str, str, str]  # label, day, value, and `GROUP_COLUMNS`
Figures = list[Any]  # numbers, in the order of `SUMS`


@dataclass
class LabelRollup:
    """The sums of one batch of calls' rows by label (end user or tag) and day, for the table `LabelTotal`."""

    days: dict[DayGroup, Figures] = field(default_factory=lambda: defaultdict(lambda: [0] * len(SUMS)))

    def add(self, row: SummedRow, sign: int) -> None:
        figures = _figures(row, sign)
        day = row["started_at"].astimezone(UTC).date()
        columns = (row["key_name"], row["team"], row["owner"], summed_model(row), row["route"])
        for label, value in labels_of(row):
            _add(self.days[label, day, value, *columns], figures)

    def as_json(self) -> str:
        """Returns the sums of this batch of calls, as the text of a JSON array; "" if there are none.

        The array is the parameter of the SQL statement `ADD_LABELS`, which adds the sums to the table `LabelTotal`.
        Each object has the sums of one group (label, its value, key, team, owner, model and route) in one day or one
        month (UTC). Each call counts in its day and in its month.
        """
        groups: dict[tuple[object, ...], Figures] = defaultdict(lambda: [0] * len(SUMS))
        for (label, day, *rest), figures in self.days.items():
            for span in SPANS:
                _add(groups[span, label, day if span == "day" else day.replace(day=1), *rest], figures)
        rows = [dict(zip((*KEYS, *SUMS), (*group, *figures), strict=True)) for group, figures in groups.items()]
        return orjson.dumps(rows, default=str).decode() if rows else ""  # `str` is for dollars


def labels_of(row: SummedRow) -> Iterator[tuple[str, str]]:
    """Yields the pairs of label and value under which the tables of sums count a call.

    The first pair is two empty texts, which stand for all calls. Then come the end user and the tags; of several tags
    with the same name, only the first.
    """
    yield "", ""
    if row["end_user"]:
        yield END_USER, row["end_user"]
    named: dict[str, str] = {}
    for tag in row["tags"]:
        name, _, value = tag.partition("=")
        named.setdefault(name, value)
    for name, value in named.items():
        yield f"{TAG}{name}", value


def _figures(row: SummedRow, sign: int) -> Figures:
    """Returns the numbers that a call's row adds to the sums, in the order of the columns `SUMS`.

    Each is multiplied by `sign`, which is -1 for a row to subtract. A poll (the gateway's own request for a background
    response) does not count as a call, but its cost and usage do.
    """
    is_call = not row["by_gateway"]
    cost = row["cost"] or 0
    parts = [cost if row["cost_kind"] == kind else 0 for kind in COST_PARTS.values()]
    counts = (
        int(is_call), int(is_call and row["outcome"] != Outcome.SUCCESS), int(row["needs_price"]),
        row["input_tokens"] or 0, row["cached_tokens"] or 0, row["output_tokens"] or 0, cost, *parts,
    )  # fmt: skip
    return [sign * count for count in counts]


def _add(figures: Figures, others: Figures) -> None:
    for number, other in enumerate(others):
        if other:
            figures[number] += other
