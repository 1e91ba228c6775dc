"""The last statements of a transaction and its COMMIT are one round trip, and all of them or none take effect."""

from __future__ import annotations

import pytest
from django.db import DataError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from usage.database.last_statements import LastStatements
from usage.models import SummedName

pytestmark = pytest.mark.django_db(transaction=True)

INSERT = "INSERT INTO usage_summedname (dimension, value) VALUES (%s, %s)"


def names() -> list[str]:
    return sorted(SummedName.objects.values_list("value", flat=True))


def test_it_works() -> None:
    with CaptureQueriesContext(connection) as queries, transaction.atomic(), connection.cursor() as cursor:
        last = LastStatements(cursor)
        last.execute(INSERT, ["key", "50 % of 'it'"])
        last.execute(f"{INSERT} ON CONFLICT DO NOTHING", ["key", "other"])
        last.execute("DELETE FROM usage_summedname WHERE value = %(value)s", {"value": "other"})
        assert names() == []
        last.run()
        assert connection.connection.info.transaction_status.name == "IDLE"
    assert names() == ["50 % of 'it'"]
    assert [query["sql"].count("INSERT") for query in queries.captured_queries if "INSERT" in query["sql"]] == [2]


def insert(*values: str) -> None:
    """Inserts names in one transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        last = LastStatements(cursor)
        for value in values:
            last.execute(INSERT, ["key", value])
        last.run()


def test_a_nested_block_leaves_the_commit_to_the_outer_one() -> None:
    with transaction.atomic():
        insert("nested")
        assert names() == ["nested"]
        transaction.set_rollback(True)
    assert names() == []


@pytest.mark.parametrize(("setting", "left"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
def test_the_commit_waits_for_the_disk_whatever_the_administrator_has_set(setting: str, left: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute(INSERT, ["key", "on no disk yet"])
        cursor.execute("SELECT pg_current_wal_insert_lsn()")
        [(written,)] = cursor.fetchall()
        cursor.execute(f"SET synchronous_commit = {setting}")
    insert("on the disk")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", [written])
        assert cursor.fetchall() == [(True,)]
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchall() == [(setting,)]  # other transactions of the connection keep theirs
        cursor.execute("RESET synchronous_commit")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL synchronous_commit = {setting}")
        with transaction.atomic():
            LastStatements(cursor).run()
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchall() == [(left,)]


def test_of_statements_that_the_database_refuses_none_takes_effect() -> None:
    with pytest.raises(IntegrityError):
        insert("twice", "twice")
    insert("once")  # the connection is usable
    assert names() == ["once"]


def test_a_value_that_is_no_sql_is_an_error_of_django() -> None:
    with transaction.atomic(), connection.cursor() as cursor, pytest.raises(DataError):
        LastStatements(cursor).execute(INSERT, ["key", "a\0b"])
