"""A ledger is safe from crashes once it is filled; one whose filling was broken off is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from bench.ledger.filling.bulk_loading import refuse_unfinished, take_indexes_off, without_safety
from chatproxy.postgres.bundled import BundledPostgres
from tests.support.servers.clusters import give_cluster


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[BundledPostgres]:
    postgres = give_cluster(tmp_path)
    postgres.start()
    yield postgres
    postgres.stop()
    postgres.delete()


def ask(postgres: BundledPostgres, query: LiteralString) -> object:
    with psycopg.connect(postgres.url) as database:
        row = database.execute(query).fetchone()
        return row and row[0]


def test_it_works(postgres: BundledPostgres) -> None:
    with without_safety(postgres):
        assert ask(postgres, "SHOW fsync") == "off"

    assert ask(postgres, "SHOW fsync") == "on"
    refuse_unfinished(postgres.url)


def test_a_filling_that_was_broken_off_is_refused(postgres: BundledPostgres) -> None:
    with pytest.raises(ZeroDivisionError), without_safety(postgres):
        raise ZeroDivisionError

    with pytest.raises(SystemExit, match="broken off"):
        refuse_unfinished(postgres.url)


def test_indexes_and_the_primary_key_come_back_as_they_were(postgres: BundledPostgres) -> None:
    query = (
        "SELECT array_agg(pg_get_indexdef(indexrelid) || indisprimary ORDER BY indexrelid::regclass::text)"
        " FROM pg_index WHERE indrelid = 'usage_storedobject'::regclass"
    )
    before = ask(postgres, query)
    with psycopg.connect(postgres.url, autocommit=True) as database:
        cursor: Any = database.cursor()  # Django's would need a database of the settings
        statements = take_indexes_off(cursor, "usage_storedobject")
        assert ask(postgres, query) is None
        for statement in statements:
            cursor.execute(statement)

    assert ask(postgres, query) == before
