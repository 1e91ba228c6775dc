"""The rows of the page *Usage* as a CSV file for spreadsheets: byte order mark, plain dates, exact dollars, a total."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from decimal import Decimal
from io import StringIO

from usage.database.snapshot import one_snapshot
from usage.page_data.spending.spending_choice import SpendingChoice
from usage.page_data.spending.spending_content import group_label, read_report_of, value_text
from usage.sums.labels.compared_reader import ComparedSums
from usage.sums.labels.label_tables import SUMS
from usage.sums.report_reader import MOST_GROUPS, NAMES
from usage.untrusted_text import csv_cell

BYTE_ORDER_MARK = "\ufeff"  # without it, Excel reads another encoding than UTF-8


@one_snapshot()
def read_spending_csv(choice: SpendingChoice) -> str:
    """Reads the sums of a `SpendingChoice`; returns a CSV file: a line for each group, the others, the total.

    There are at most `MOST_GROUPS` lines of groups, in the order of the page. The first two columns are the first and
    the last day (inclusive).

    Raises:
        LabelsUnreadable: there are two labels, and the range is too long for that, or some of its rows are deleted.
    """
    report = read_report_of(choice, MOST_GROUPS)
    rest = [""] * (len(choice.groups) - 1)
    lines = StringIO()
    lines.write(BYTE_ORDER_MARK)
    writer = csv.writer(lines)
    names = [csv_cell(group_label(name)) for name in choice.groups]
    writer.writerow(["first_day", "last_day", *names, *(NAMES.get(name, name) for name in SUMS), "cost_before"])
    days = [choice.first.isoformat(), choice.last.isoformat()]
    for row in report.rows:
        texts = [csv_cell(value_text(*one)) for one in zip(choice.groups, row.sums.group, strict=True)]
        writer.writerow([*days, *texts, *_figures(row)])
    if report.others is not None:
        writer.writerow([*days, "(others)", *rest, *_figures(report.others)])
    writer.writerow([*days, "Total", *rest, *_figures(report.total)])
    return lines.getvalue()


def _figures(row: ComparedSums) -> Sequence[str]:
    """Returns the numbers of one line of the CSV file as texts; dollars have all decimals, and no exponent."""
    figures = [*(getattr(row.sums, name) for name in SUMS), row.cost_before]
    return ["" if one is None else f"{one:f}" if isinstance(one, Decimal) else str(one) for one in figures]
