"""Partitions the tables of calls and of their bodies by month, while calls are being written and read.

A table that has rows becomes the first partition of a new table, which takes over its name. No row is copied. The first
partition ends at a coming month. PostgreSQL knows from a CHECK constraint that all its rows are older, so it does not
read them while it holds the lock. The constraint is validated before, while others read and write.

* `_guard` adds the constraint, not validated yet. A row beyond the constraint (of a clock that is weeks ahead) would
  be refused, and the call be lost. So a trigger before it says that the table is locked: the writer then tries again
  until the migration is done.
* `_validate` reads the table. If a wrong clock has left rows beyond the constraint, nothing is validated, and the last
  step moves these rows to the default partition.
* `_swap` does the rest in one transaction.

If a server was killed in between, or did not get a lock in time, the next run goes on. Older code reads and writes the
new tables like the old ones, so nothing must be undone for a downgrade, except half way: docs/ledger.md has the
statements that remove the constraint and the trigger.
"""

import uuid
from datetime import UTC, timedelta

import django.db.models.deletion
from django.db import migrations, models, transaction

CALLS, BODIES = TABLES = ("usage_request", "usage_requestbody")
BEGIN = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 500"
MARGIN = timedelta(days=7)  # for the validation: the first partition ends so much later at least
FUNCTION = "usage_request_is_locked"
CREATE_FUNCTION = f"""
    CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'the table is being partitioned, which the next start of the newer chatproxy completes'
        USING ERRCODE = 'lock_not_available';
    END $$
"""
IS_PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)"
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname FROM pg_constraint
    WHERE conrelid = ANY(%s::regclass[]) AND conname ~ '_until_[0-9]{4}_[0-9]{2}$'
"""
FOREIGN_KEYS = "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'f'"
# Those that a partitioned table can have, too.
INDEXES = """
    SELECT format('ALTER INDEX %%I RENAME TO %%I', relname, relname || %s), pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = to_regclass(%s) AND indisvalid AND NOT indisunique ORDER BY relname
"""
PRIMARY_KEY = """
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = to_regclass(%s) AND contype = 'p'
"""
GRANTS = """
    SELECT format(
        'GRANT %%s ON %%I TO %%s%%s', privilege_type, relname,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    FROM pg_class, aclexplode(relacl) WHERE oid = to_regclass(%s) AND grantee <> relowner
"""


def partition(apps, schema_editor):
    database = schema_editor.connection
    with database.cursor() as cursor:
        cursor.execute(IS_PARTITIONED, [CALLS])
        if cursor.fetchone()[0]:
            return
        cursor.execute("SELECT clock_timestamp()")
        [now] = cursor.fetchone()
        end = _next_month(now)
        if end < now + MARGIN:
            end = _next_month(end)
        with transaction.atomic(using=database.alias):
            _guard(cursor, end)
        _validate(database.alias, cursor, end)
        with transaction.atomic(using=database.alias):
            _swap(cursor, now, end)


def _guard(cursor, end):
    """Makes the tables of calls and bodies accept only rows of calls before `end`; other writers have to try again."""
    cursor.execute(BEGIN)
    cursor.execute(CONSTRAINTS, [list(TABLES)])
    found = set(cursor.fetchall())
    if found == {(table, _until(table, end)) for table in TABLES}:  # an earlier run has done it
        return
    cursor.execute(f"LOCK TABLE {CALLS}, {BODIES} IN ACCESS EXCLUSIVE MODE")
    for table, name in found:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for table in TABLES:
        cursor.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT {_until(table, end)}"
            f" CHECK (request_id < '{_first_id(end)}') NOT VALID"
        )
    cursor.execute(CREATE_FUNCTION)
    cursor.execute(
        f"CREATE OR REPLACE TRIGGER {FUNCTION} BEFORE INSERT OR UPDATE ON {CALLS} FOR EACH ROW"
        f" WHEN (NEW.request_id >= '{_first_id(end)}') EXECUTE FUNCTION {FUNCTION}()"
    )


def _validate(alias, cursor, end):
    """Validates the constraint that both tables (calls and bodies) have only rows of calls before `end`.

    Does nothing to a table that has later rows.
    """
    for table in TABLES:
        with transaction.atomic(using=alias):
            cursor.execute(BEGIN)
            cursor.execute(f"SELECT EXISTS (SELECT FROM {table} WHERE request_id >= %s)", [_first_id(end)])
            if not cursor.fetchone()[0]:
                cursor.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {_until(table, end)}")


def _swap(cursor, now, end):
    """Replaces the tables of calls and of bodies by partitioned tables; each old table becomes the first partition."""
    cursor.execute(BEGIN)
    for table in reversed(TABLES):  # a body refers to its call
        cursor.execute(f"CREATE TABLE {table}_default (LIKE {table} INCLUDING ALL)")
        cursor.execute(f"ALTER TABLE {table}_default DROP CONSTRAINT {_until(table, end)}")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {table} WHERE request_id >= %s RETURNING *)"
            f" INSERT INTO {table}_default SELECT * FROM moved",
            [_first_id(end)],
        )
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for table in TABLES:
        cursor.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {_until(table, end)}")  # at once, if it was
    cursor.execute(f"LOCK TABLE {CALLS}, {BODIES} IN ACCESS EXCLUSIVE MODE")
    cursor.execute(FOREIGN_KEYS, [BODIES])
    for (name,) in cursor.fetchall():
        cursor.execute(f"ALTER TABLE {BODIES} DROP CONSTRAINT {name}")
    cursor.execute(f"DROP TRIGGER {FUNCTION} ON {CALLS}")
    cursor.execute(f"DROP FUNCTION {FUNCTION}()")
    cursor.execute(f"SELECT EXISTS (SELECT FROM {CALLS}) OR EXISTS (SELECT FROM {BODIES})")
    has_rows = cursor.fetchone()[0]
    for table in TABLES:
        if has_rows:
            _become_partition(cursor, table, _until(table, end), None, end, _until(table, end))
            _create_month(cursor, table, end)
        else:
            this, coming = _month_of(now), _next_month(now)
            _become_partition(cursor, table, _month(table, this), this, coming, _until(table, end))
            _create_month(cursor, table, coming)
        cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {table}_default DEFAULT")


def _become_partition(cursor, table, name, start, end, constraint):
    """Renames a table to `name`, and makes it a partition, from `start` to `end`, of a new table with the old name.

    `constraint` is a constraint that all rows are of calls before `end`, so that PostgreSQL need not check the rows. It
    is removed at the end.
    """
    cursor.execute(GRANTS, [table])
    grants = [grant for (grant,) in cursor.fetchall()]
    suffix = name.removeprefix(table)
    cursor.execute(INDEXES, [suffix, table])
    indexes = cursor.fetchall()
    cursor.execute(PRIMARY_KEY, [table])
    [(key, definition)] = cursor.fetchall()
    for rename in (f"ALTER INDEX {key} RENAME TO {key}{suffix}", *(rename for rename, _ in indexes)):
        cursor.execute(rename)
    cursor.execute(f"ALTER TABLE {table} RENAME TO {name}")
    cursor.execute(
        f"CREATE TABLE {table} (LIKE {name} INCLUDING ALL EXCLUDING INDEXES) PARTITION BY RANGE (request_id)"
    )
    cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {key} {definition}")
    for statement in (*(create for _, create in indexes), *grants):
        cursor.execute(statement)
    from_ = "MINVALUE" if start is None else f"'{_first_id(start)}'"
    cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from_}) TO ('{_first_id(end)}')")
    cursor.execute(f"ALTER TABLE {name} DROP CONSTRAINT {constraint}")


def _create_month(cursor, table, start):
    cursor.execute(
        f"CREATE TABLE {_month(table, start)} PARTITION OF {table}"
        f" FOR VALUES FROM ('{_first_id(start)}') TO ('{_first_id(_next_month(start))}')"
    )


def _month(table, start):
    return f"{table}_{start:%Y_%m}"


def _until(table, end):
    """Returns the name of a table's first partition; before, the constraint on the table's rows has this name."""
    return f"{table}_until_{end:%Y_%m}"


def _month_of(moment):
    """Returns the beginning of the month (UTC) in which a time lies."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next_month(moment):
    return _month_of(_month_of(moment) + timedelta(days=31))


def _first_id(moment):
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('usage', '0023_valid_from_label'),
    ]

    operations = [
        migrations.RunPython(partition, migrations.RunPython.noop),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    model_name='requestbody',
                    name='request',
                    field=models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='body', serialize=False, to='usage.request'),
                ),
            ],
        ),
    ]
