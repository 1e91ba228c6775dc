"""An automatic vacuum of a large table holds up neither the deletion of old months nor a migration."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import connection, transaction

from chatproxy.start import waiting_migrations
from tests.support.polling import wait_until
from usage.database import partitions as partitions_module
from usage.database.partitions import change_tables

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = "of_this_test"
# The vacuum reads one page in a tenth of a second: far longer than any test waits.
SLOW = "autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_cost_delay = 100"
OFTEN = "autovacuum_vacuum_insert_threshold = 1, autovacuum_vacuum_insert_scale_factor = 0"
HOLDS = "SELECT count(*) FROM pg_locks WHERE granted AND relation = to_regclass(%s) AND pid <> pg_backend_pid()"


def _execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _is_vacuumed() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(HOLDS, [TABLE])
        return bool(cursor.fetchone() == (1,))


@pytest.fixture
def _vacuumed() -> Iterator[None]:
    """A table that PostgreSQL vacuums by itself, for minutes, from before the test until its end."""
    _execute(
        f"CREATE TABLE {TABLE} WITH ({SLOW}, {OFTEN}) AS SELECT generate_series(1, 300000) AS number",
        "ALTER SYSTEM SET autovacuum_naptime = '1s'",
        "SELECT pg_reload_conf()",
    )
    try:
        wait_until(_is_vacuumed)
        yield
    finally:
        _execute(f"DROP TABLE IF EXISTS {TABLE}", "ALTER SYSTEM RESET autovacuum_naptime", "SELECT pg_reload_conf()")


def _drop() -> None:
    change_tables(lambda cursor: cursor.execute(f"DROP TABLE {TABLE}"))


def _migrate() -> None:
    def alter() -> None:
        with transaction.atomic():
            _execute(f"ALTER TABLE {TABLE} ADD COLUMN name text")

    waiting_migrations.apply(alter, notice=lambda: None)


@pytest.mark.usefixtures("_vacuumed")
@pytest.mark.parametrize("change", [_drop, _migrate])
def test_it_is_ended(change: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (partitions_module, waiting_migrations):
        monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    change()
