"""A start migrates whenever `migrate` has something to do, and only then."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from chatproxy.start import applied_migrations
from chatproxy.start.applied_migrations import has_all_migrations

pytestmark = pytest.mark.django_db


def test_nothing_is_left_after_migrate() -> None:
    assert has_all_migrations()


def test_the_migrations_are_those_that_django_finds() -> None:
    assert applied_migrations._migrations() == MigrationLoader(None).disk_migrations.keys()


def test_the_permissions_are_those_that_django_makes() -> None:
    made = Permission.objects.values_list("content_type__app_label", "content_type__model", "codename")
    assert applied_migrations._permissions() == {*made}


@pytest.mark.parametrize("app", ["auth", "proxyapi", "usage", "chatproxy"])
def test_a_missing_migration_is_left(app: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_migrations WHERE id = (SELECT max(id) FROM django_migrations WHERE app = %s)", [app]
        )
    assert not has_all_migrations()


def test_an_empty_database_has_all_of_them_left() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_migrations RENAME TO elsewhere")
    assert not has_all_migrations()


def test_migrations_of_newer_code_are_no_reason() -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('usage', '9999_later', now())")
    assert has_all_migrations()


def test_a_permission_that_was_not_made_is_left() -> None:
    Permission.objects.filter(codename="view_request").delete()
    assert not has_all_migrations()


def test_a_model_without_a_content_type_is_left() -> None:
    ContentType.objects.filter(app_label="chatproxy").delete()
    assert not has_all_migrations()
