"""Shares between tests what each of them would prepare anew, though it is the same for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import httpx2
import pytest
from django.db import connection
from django.test import TransactionTestCase
from psycopg import sql
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import Redirect, StaticFile

# The tables of what Django makes for each model, and of the applied migrations.
KEPT_TABLES = {"auth_permission", "django_content_type", "django_migrations"}


@contextmanager
def share_setup() -> Iterator[None]:
    """Context manager in which HTTP clients share their TLS contexts, and Django's clients the list of static files.

    Reading the authorities that a TLS context trusts takes 35 ms of CPU, looking for static files 25 ms, and making the
    permissions of all models anew after a test that commits 100 ms; the database keeps them.
    """
    files: dict[str, StaticFile | Redirect] = {}
    find_files = WhiteNoiseMiddleware.add_files_from_finders

    def add_files(middleware: WhiteNoiseMiddleware) -> None:
        if not files:
            find_files(middleware)
            files.update(middleware.files)
        middleware.files.update(files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx2._transports.default.create_ssl_context", cache(httpx2.create_ssl_context))
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", add_files)
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: empty_tables())
        yield


def empty_tables() -> None:
    """Empties all tables but `KEPT_TABLES`, as `flush` does; only those with rows, since each takes its time."""
    names = set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - KEPT_TABLES
    has_rows = sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})")
    questions = [has_rows.format(sql.Literal(name), sql.Identifier(name)) for name in sorted(names)]
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(" UNION ALL ").join(questions))
        if full := [sql.Identifier(name) for (name,) in cursor.fetchall()]:
            cursor.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(full)))
