"""The number of rows in a table of many is an estimate, which is right also of a table that was never analysed."""

from __future__ import annotations

import pytest
from django.db import connection

from usage.database import partitions
from usage.database.partitions import RowCount, count_rows

pytestmark = pytest.mark.django_db
TABLES = {
    "table": "CREATE TABLE counted (id int, text text)",
    "partitions": """
        CREATE TABLE counted (id int, text text) PARTITION BY RANGE (id);
        CREATE TABLE counted_1 PARTITION OF counted FOR VALUES FROM (0) TO (300);
        CREATE TABLE counted_2 PARTITION OF counted FOR VALUES FROM (300) TO (1000)
    """,
}


@pytest.fixture(autouse=True)
def _few_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "MOST_COUNTED", 500)


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_that_was_never_analysed_is_estimated_well(kind: str) -> None:
    """PostgreSQL guesses that its texts have 32 bytes; these have 600."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES[kind])
        cursor.execute("ALTER TABLE counted ALTER text SET STORAGE PLAIN" if kind == "table" else "SELECT 1")
        cursor.execute("INSERT INTO counted SELECT n, repeat('x', 600) FROM generate_series(0, 999) AS n")
        assert count_rows(cursor, "counted") == RowCount(1000, is_estimate=True)


def test_few_rows_are_counted() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE counted AS SELECT n FROM generate_series(1, 500) AS n")
        assert count_rows(cursor, "counted") == RowCount(500)
