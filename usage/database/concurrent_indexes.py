"""Makes indexes in migrations while calls are being written to their tables.

PostgreSQL leaves an index whose creation was interrupted behind, invalid, under its name: such a one is dropped and
made anew. A valid one is kept, so a migration that failed half way can be run again.
"""

from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState

INVALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"


class AddIndex(AddIndexConcurrently):
    """Operation of a migration that adds an index to a table while calls are being written to the table.

    The migration must have `atomic = False`. The operation waits until the transactions that are already writing to the
    table have ended, but new ones may write meanwhile. If a run that failed has left an invalid index, that index is
    replaced.
    """

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(INVALID, [self.index.name])
            found = cursor.fetchone()
        if found and found[0]:
            return
        if found:
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(self.index.name)}")
        super().database_forwards(app_label, schema_editor, from_state, to_state)
