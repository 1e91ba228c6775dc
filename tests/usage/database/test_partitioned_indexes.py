"""An index of a partitioned table is made partition by partition, and goes on where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from django.contrib.postgres.indexes import HashIndex
from django.db import connection, models
from django.db.migrations.loader import MigrationLoader

from usage.database.concurrent_indexes import AddIndex

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = "usage_request"
INDEXES = {
    "a tree": models.Index(fields=["service_tier", "request_id"], name="usage_request_tested"),
    "a hash, of some rows": HashIndex(
        fields=["user_agent"], name="usage_request_tested", condition=~models.Q(user_agent="")
    ),
    "an expression": models.Index(models.F("cost") + 1, name="usage_request_tested"),
}
# Whether the index is valid, how many parts it has, and how many of them are.
FOUND = """
    SELECT indisvalid,
        (SELECT count(*) FROM pg_inherits WHERE inhparent = indexrelid),
        (SELECT count(*) FROM pg_inherits JOIN pg_index AS part ON part.indexrelid = inhrelid
         WHERE inhparent = whole.indexrelid AND part.indisvalid)
    FROM pg_index AS whole WHERE indexrelid = to_regclass('usage_request_tested')
"""
PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'usage_request'::regclass"


def execute(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text)


def query(text: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(text)
        return list(cursor.fetchall())


def run(operation: AddIndex, *, back: bool = False) -> None:
    before = MigrationLoader(connection).project_state()
    after = before.clone()
    operation.state_forwards("usage", after)
    with connection.schema_editor(atomic=False) as editor:
        if back:
            operation.database_backwards("usage", editor, after, before)
        else:
            operation.database_forwards("usage", editor, before, after)


@pytest.fixture(params=INDEXES)
def operation(request: pytest.FixtureRequest) -> Iterator[AddIndex]:
    yield AddIndex(model_name="request", index=INDEXES[request.param])
    execute("DROP INDEX IF EXISTS usage_request_tested")


def test_it_works_there_and_back(operation: AddIndex) -> None:
    run(operation)
    [(parts,)] = query(PARTITIONS)
    assert parts >= 3
    assert query(FOUND) == [(True, parts, parts)]
    run(operation)  # again: there is nothing to do
    run(operation, back=True)
    assert query(FOUND) == []


class Killed(Exception):
    """Error of the test: the migration ends before this statement."""


def test_it_goes_on_after_a_kill_at_any_statement(operation: AddIndex) -> None:
    [(parts,)] = query(PARTITIONS)
    for last in count():
        done = count()

        def kill(go_on: Callable[..., Any], *arguments: Any, last: int = last, done: Iterator[int] = done) -> Any:
            if next(done) >= last:
                raise Killed
            return go_on(*arguments)

        try:
            with connection.execute_wrapper(kill):
                run(operation)
        except Killed:
            continue
        break
    assert query(FOUND) == [(True, parts, parts)]


def test_a_part_that_was_left_invalid_is_made_anew(operation: AddIndex) -> None:
    run(operation)
    [(part,)] = query("SELECT relname FROM pg_class WHERE relname LIKE 'usage_request_tested_2%' ORDER BY 1 LIMIT 1")
    run(operation, back=True)
    execute(f"CREATE INDEX {part} ON {part.replace('_tested', '')} (status)")
    execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{part}'::regclass")  # noqa: S608  (our own name)
    [(parts,)] = query(PARTITIONS)
    run(operation)
    assert query(FOUND) == [(True, parts, parts)]
