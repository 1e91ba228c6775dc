"""The rows of the page *Usage* as a CSV file for spreadsheets: byte order mark, plain dates, exact dollars, a total.

The first column says what a line is: a `group`, the `others` beyond the most, or the `total` of all lines above it.
Each line has the values of all filters, since lines of several files are joined and filtered by these columns.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from io import StringIO

from usage.database.snapshot import one_snapshot
from usage.page_data.spending.spending_choice import SpendingChoice
from usage.page_data.spending.spending_content import read_report_of, value_text
from usage.sums.labels.comparing.compared_reader import COMPARED, ComparedSums
from usage.sums.labels.label_reader import DAY
from usage.sums.labels.label_tables import SUMS, TAG
from usage.sums.report_reader import MOST_GROUPS, NAMES
from usage.untrusted_text import csv_cell

BYTE_ORDER_MARK = "\ufeff"  # without it, Excel reads another encoding than UTF-8
ANY = "(any)"  # the value of a filter that calls with any value of a tag or end user pass
NAME_END = 40  # characters of a value in the name of a file


@one_snapshot()
def read_spending_csv(choice: SpendingChoice) -> str:
    """Reads the sums that a `SpendingChoice` asks for, and returns them as the text of a CSV file.

    * Lines: at most `MOST_GROUPS` groups in the order of the page, then all others together, if there are any, then the
      total.
    * Columns: the kind of line (`group`, `others` or `total`), the first and the last day, each filter and group, the
      sums, the cost of the period before, the cost of the days that are compared with it, and the last one of these
      days, empty if there are none. Sums are named as in `GET /usage`, with `_usd` after dollars.

    Raises:
        LabelsUnreadable: groups and filters have two labels (an end user and a tag, or two tags), which cannot be read
            together for these days.
    """
    report = read_report_of(choice, MOST_GROUPS)
    filters = {name: ANY if value is None else value_text(name, value) for name, value in choice.only.items()}
    columns = [*(name for name in filters if name not in choice.groups), *choice.groups]
    lines = StringIO()
    lines.write(BYTE_ORDER_MARK)
    writer = csv.writer(lines)
    writer.writerow(
        [
            "line",
            "first_day",
            "last_day",
            *map(csv_cell, columns),
            *map(_column, (*SUMS, *COMPARED)),
            "compared_last_day",
        ]
    )

    days = choice.first.isoformat(), choice.last.isoformat()
    comparison = choice.comparison
    compared_last = (comparison.shown[1].date() - DAY).isoformat() if comparison.is_possible else ""

    def write(kind: str, values: Mapping[str, str], row: ComparedSums) -> None:
        texts = {**filters, **values}
        cells = (csv_cell(texts.get(name, "")) for name in columns)
        writer.writerow([kind, *days, *cells, *_figures(row), compared_last])

    for row in report.rows:
        pairs = zip(choice.groups, row.sums.group, strict=True)
        write("group", {name: value_text(name, value) for name, value in pairs}, row)
    free = [name for name in choice.groups if name not in filters][:1]
    if report.others is not None:
        write("others", dict.fromkeys(free, "(others)"), report.others)
    write("total", dict.fromkeys(free, "Total"), report.total)
    return lines.getvalue()


def csv_file_name(choice: SpendingChoice) -> str:
    """Returns the name of the CSV file of the page *Usage*, made of the values of the filters and the days.

    Examples are `usage-apollo-2026-11.csv` and, for days that are no whole month, `usage-2026-11-03-to-2026-11-20.csv`.
    """
    first, end = choice.period
    is_month = first.day == 1 and end == (first + timedelta(days=31)).replace(day=1)
    days = f"{first:%Y-%m}" if is_month else f"{first}-to-{choice.last}"
    values = [_in_file_name(value) or _in_file_name(name.removeprefix(TAG)) for name, value in choice.only.items()]
    return "-".join(["usage", *filter(None, values), f"{days}.csv"])


def _in_file_name(text: str | None) -> str:
    """Returns a text as a part of a file name: all but ASCII letters, digits and points is replaced by dashes.

    The result has at most `NAME_END` characters, and no dash or point at its ends. It is empty for None.
    """
    return re.sub(r"[^A-Za-z0-9.]+", "-", text or "")[:NAME_END].strip("-.")


def _column(name: str) -> str:
    return f"{NAMES.get(name, name)}{'_usd' * ('cost' in name)}"


def _figures(row: ComparedSums) -> Sequence[str]:
    """Returns the numbers of one CSV line as texts: the sums, and the group's two costs that are compared.

    Dollars have all decimals, and no exponent. A number that is not known becomes an empty text.
    """
    _, *figures = row.sums
    return ["" if one is None else f"{one:.8f}" if isinstance(one, Decimal) else str(one)
            for one in (*figures, row.cost_before, None if row.cost_before is None else row.cost_compared)]  # fmt: skip
