"""The groups and filters by which sums of calls by label can be read: columns of the sums, and labels.

A group or filter is one of `COLUMNS`, or a label: `end_user`, or `tag:` followed by the name of a tag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from usage.prices.price_lookup import DATE
from usage.sums.labels.label_tables import END_USER, TAG

# The columns by which sums can be grouped, by the name of the group. The others are labels.
COLUMNS = {"team": "team", "owner": "owner", "key": "key_name", "model": "model", "route": "route", "day": "start"}

VALUE = "value"  # the column for the value of a label
# Ends the undated name of a model in a value of the group or filter `model`: all names of the model, whatever their
# date. No name has this character, which PostgreSQL cannot store.
ANY_DATE = "\0"
# The SQL of the name of a model without a date at its end; `undated_name` in Python.
UNDATED_SQL = f"regexp_replace({{}}, '{DATE.pattern}', '')"

GroupValue = str | date | None
Parameter = str | date | datetime | int | UUID | list[int] | list[str] | list[date] | list[datetime]
Query = tuple[str, list[Parameter]]  # SQL, and the values of its parameters
Only = Mapping[str, str | None]  # by the name of a column or label: the value of its calls; None: any value of a label


class LabelsUnreadable(ValueError):
    """Error: sums cannot be read with the wanted groups and filters, for example with two labels for too many days.

    A label is the end user or a tag. The message is for the person or client that asked for the sums.
    """


def is_label(name: str) -> bool:
    """Returns whether the name of a group is that of a label: `end_user`, or `tag:` followed by the name of a tag."""
    return name == END_USER or (name.startswith(TAG) and len(name) > len(TAG))


def column_of(name: str) -> str:
    """Returns the name of the column with the values of the group or filter `name`; for a label, this is `value`."""
    return COLUMNS.get(name, VALUE)


def columns_of(groups: Sequence[str]) -> list[str]:
    """Returns the names of the columns with the values of `groups` in a query for sums: `by_0`, `by_1` and so on."""
    return [f"by_{number}" for number in range(len(groups))]


def is_of_any_date(name: str, value: GroupValue) -> bool:
    """Returns whether `value`, of the group or filter `name`, stands for a model with any date."""
    return name == "model" and isinstance(value, str) and value.endswith(ANY_DATE)


def condition(name: str, column: str, value: str) -> Query:
    """Returns the SQL condition that `column`, which has the values of the group `name`, has the value `value`."""
    if is_of_any_date(name, value):
        return f"{UNDATED_SQL.format(column)} = %s", [value.removesuffix(ANY_DATE)]
    return f"{column} = %s", [value]


def labels_among(groups: Iterable[str], only: Only) -> list[str]:
    """Returns the labels that `groups` and `only` (the filters) name, sorted, each once.

    A label is `end_user`, or `tag:` and the name of a tag. With two or more labels, a report must be read from the sums
    by all labels together (`combined_reader`).
    """
    return sorted({name for name in (*groups, *only) if is_label(name)})


def grouping(columns: Iterable[str]) -> str:
    """Returns the SQL clause `GROUP BY …` for `columns`, or an empty text if there are none.

    A column is an SQL expression, or the number of its place in the SELECT list.
    """
    names = ", ".join(columns)
    return f" GROUP BY {names}" if names else ""
