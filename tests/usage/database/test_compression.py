"""How PostgreSQL compresses texts: as was said, in the partitions that there are and in those to come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from tests.support.ledger.months import months
from usage.database.compression import compress_by
from usage.sums.totals_reader import next_month
from usage.upkeep.months import BODIES, make_months, month_of

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime.now(UTC)
LATER = next_month(next_month(NOW)) + timedelta(days=3)
COLUMNS = ("request_body", "response_body")
METHODS = "SELECT attcompression FROM pg_attribute WHERE attrelid IN (SELECT relid FROM pg_partition_tree(%s))"


@pytest.fixture(autouse=True)
def _usual_months() -> Iterator[None]:
    with months(month_of(NOW), next_month(NOW)):
        yield
        with connection.cursor() as cursor:
            cursor.execute("SELECT relid::regclass::text FROM pg_partition_tree(%s)", [BODIES])
            for (table,) in cursor.fetchall():
                for column in COLUMNS:
                    cursor.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION default")


def methods() -> list[str]:
    """Returns the method of each column of texts of bodies, in the table and in each of its partitions."""
    with connection.cursor() as cursor:
        cursor.execute(f"{METHODS} AND attname = ANY(%s)", [BODIES, list(COLUMNS)])
        return [method for (method,) in cursor.fetchall()]


def test_all_partitions_are_compressed_as_was_said() -> None:
    assert compress_by("pglz", BODIES, COLUMNS) == len(methods())
    assert set(methods()) == {"p"}
    assert compress_by("pglz", BODIES, COLUMNS) == 0
    before = len(methods())
    make_months(LATER)
    assert len(methods()) > before
    assert set(methods()) <= {"p", "l"}


def test_a_method_that_the_server_has_not_changes_nothing() -> None:
    before = methods()
    assert compress_by("zstd", BODIES, COLUMNS) == 0  # type: ignore[arg-type]  # no server has it
    assert methods() == before
