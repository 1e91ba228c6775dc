"""Creates indexes in migrations while calls are being written to the tables.

If the creation of an index is interrupted, PostgreSQL leaves an invalid index of this name: it is dropped, and the
index is created again. A valid index is kept, so a migration that failed half way can be run again.

The index of a partitioned table cannot be created concurrently as a whole. It is created without the indexes of the
partitions, and counts as invalid. Then an index is created concurrently on each partition, and attached to the table's
index. With the last one, the table's index becomes valid.
"""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState
from django.db.models import Model

IS_PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)"
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
# The partitions of a table that have no part of one of the table's indexes yet.
LACKING = """
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = to_regclass(%s) AND NOT EXISTS (
        SELECT FROM pg_index JOIN pg_inherits AS part ON part.inhrelid = indexrelid
        WHERE indrelid = pg_class.oid AND part.inhparent = to_regclass(%s))
    ORDER BY relname
"""


class AddIndex(AddIndexConcurrently):
    """Operation of a migration that adds an index to a table without blocking those who write to the table.

    The migration must have `atomic = False`. The operation waits until the transactions that are writing to the table
    when it begins have ended. It can be run again after a failure: a valid index is kept, an invalid one is made anew,
    and a partitioned table gets the index on those partitions that lack it.
    """

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        if _fetch(schema_editor, IS_PARTITIONED, model._meta.db_table) == [True]:
            self._ensure_not_in_transaction(schema_editor)
            self._add_to_partitions(schema_editor, model)
        elif _needs_making(schema_editor, self.index.name):
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Removes the index, when the migration is reversed.

        The index of a partitioned table can only be removed under a lock, for which the table's readers and writers
        wait. All other indexes are removed without such a lock.
        """
        model = from_state.apps.get_model(app_label, self.model_name)
        if _fetch(schema_editor, IS_PARTITIONED, model._meta.db_table) == [True]:
            schema_editor.remove_index(model, self.index)
        else:
            super().database_backwards(app_label, schema_editor, from_state, to_state)

    def _add_to_partitions(self, schema_editor: BaseDatabaseSchemaEditor, model: type[Model]) -> None:
        """Adds the index to a partitioned table, partition by partition; skips partitions that have it already."""
        quote, table, name = schema_editor.quote_name, model._meta.db_table, self.index.name
        if not _fetch(schema_editor, IS_VALID, name):
            schema_editor.execute(self._create_sql(schema_editor, model, f"ONLY {quote(table)}", name))
        for partition in _fetch(schema_editor, LACKING, table, name):
            of_partition = f"{name}{partition.removeprefix(table)}"
            if _needs_making(schema_editor, of_partition):
                schema_editor.execute(
                    self._create_sql(schema_editor, model, quote(partition), of_partition, concurrently=True)
                )
            schema_editor.execute(f"ALTER INDEX {quote(name)} ATTACH PARTITION {quote(of_partition)}")

    def _create_sql(
        self,
        schema_editor: BaseDatabaseSchemaEditor,
        model: type[Model],
        table: str,
        name: str,
        *,
        concurrently: bool = False,
    ) -> str:
        """Returns the SQL that creates the index under the name `name` on `table`, such as a partition.

        `table` is put into the SQL as it is, so it must be quoted already if necessary. With `concurrently`, the table
        can be written to while the index is created.
        """
        statement = self.index.create_sql(model, schema_editor, concurrently=concurrently)
        return statement.template % {**statement.parts, "table": table, "name": schema_editor.quote_name(name)}


def _needs_making(schema_editor: BaseDatabaseSchemaEditor, index: str) -> bool:
    """Drops the index named `index` if an interrupted run has left it invalid; returns whether it must be created."""
    found = _fetch(schema_editor, IS_VALID, index)
    if found == [False]:
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(index)}")
    return found != [True]


def _fetch(schema_editor: BaseDatabaseSchemaEditor, query: str, *names: str) -> list[Any]:
    """Executes a query whose result has one column; returns the values in this column, one for each row.

    `names` are the parameters of the query.
    """
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(query, names)
        return [value for (value,) in cursor.fetchall()]
