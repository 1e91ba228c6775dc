"""Finds out, by two queries, whether Django's `migrate` has anything to do.

`migrate` itself loads all migrations and computes the models after each one. That would take a tenth of a second of CPU
at each start, mostly to find that nothing is to be done.
"""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules

from django.apps import apps
from django.contrib.auth import get_permission_codename
from django.db import connection

# One row for each permission: it has a content type, so the model has one, too.
PERMISSIONS = """
    SELECT app_label, model, codename FROM auth_permission JOIN django_content_type AS type ON type.id = content_type_id
"""


def has_all_migrations() -> bool:
    """Returns whether the database has all migrations of this code, and the permissions of all models.

    `migrate` creates the permissions last, so some may be missing if a server was killed before.

    Raises:
        django.db.Error: the database does not answer.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
        if cursor.fetchone() != (True,):
            return False
        cursor.execute("SELECT app, name FROM django_migrations")
        if not _migrations() <= {*cursor.fetchall()}:
            return False
        cursor.execute(PERMISSIONS)
        return _permissions() <= {*cursor.fetchall()}


def _migrations() -> set[tuple[str, str]]:
    """Returns the migrations of all installed apps, each as the app's label and the migration's name."""
    return {
        (app.label, module.name)
        for app in apps.get_app_configs()
        for module in iter_modules([str(Path(app.path) / "migrations")])
        if not module.ispkg and module.name[0] not in "_~"  # as Django has it
    }


def _permissions() -> set[tuple[str, str, str]]:
    """Returns the permissions of all models: the app's label, the model's name and the permission's name of each."""
    found = set()
    for model in apps.get_models():
        options = model._meta
        names = [get_permission_codename(action, options) for action in options.default_permissions]
        names += [name for name, _ in options.permissions]
        found |= {(options.app_label, str(options.model_name), name) for name in names}
    return found
