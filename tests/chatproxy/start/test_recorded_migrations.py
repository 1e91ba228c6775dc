"""A migration and its record are there together or not at all, so that a killed server holds up no other."""

from __future__ import annotations

from typing import ClassVar

import pytest
from django.core.management.commands import migrate as migrate_command
from django.db import connection, migrations
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.db.utils import ProgrammingError

from chatproxy.start import waiting_migrations
from chatproxy.start.waiting_migrations import OneTransactionExecutor

TABLE = "made_by_a_migration_of_a_test"


class Killed(Exception):
    pass


class Unrecorded(migrations.Migration):
    operations: ClassVar[list[Operation]] = [
        migrations.RunSQL(f"CREATE TABLE {TABLE} ()"),
        # As a foreign key does: Django then writes the record after the end of the migration's own transaction.
        migrations.RunPython(lambda _, editor: editor.deferred_sql.append("SELECT 1")),
    ]


def made() -> bool:
    return TABLE in connection.introspection.table_names()


@pytest.mark.django_db(transaction=True)
def test_what_is_not_recorded_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    migration = Unrecorded("0001_test", "nobodys")

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(MigrationRecorder, "record_applied", killed)
    with pytest.raises(Killed):
        OneTransactionExecutor(connection).apply_migration(ProjectState(), migration)
    assert not made()


def test_the_start_migrates_with_it() -> None:
    assert vars(migrate_command)["MigrationExecutor"] is OneTransactionExecutor


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("failures", "ends_well"), [(1, True), (2, False)])
def test_what_another_server_has_just_made_is_looked_at_once_more(
    monkeypatch: pytest.MonkeyPatch, failures: int, ends_well: bool
) -> None:
    calls = []

    def migrate(*_: object, **__: object) -> None:
        calls.append(1)
        if len(calls) <= failures:
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE usage_request ()")  # which is there

    monkeypatch.setattr(waiting_migrations, "call_command", migrate)
    if ends_well:
        waiting_migrations.migrate(lambda: None)
    else:
        with pytest.raises(ProgrammingError, match="already exists"):
            waiting_migrations.migrate(lambda: None)
    assert len(calls) == 2
