#!/usr/bin/env python
"""The command line of chatproxy: `python manage.py serve`, and Django's own commands."""

import gc
import os
import sys

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import InterfaceError, OperationalError

from chatproxy.version import VERSION

GC_YOUNG_THRESHOLD = 10_000  # as in a worker (`chatproxy.processes.lifespan`)


def main() -> None:
    """Runs a command. `--version`, also of a command, prints our version.

    A bad setting, or a database that cannot be reached, ends any command with one line, also Django's own commands.
    `--traceback` shows where a command met the database's error; of `ship`, which nobody runs by hand, the log has it.
    """
    if sys.argv[1:] == ["version"] or ["--version"] in (sys.argv[1:], sys.argv[2:]):
        sys.stdout.write(f"chatproxy {VERSION}\n")
        return
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproxy.settings")
    try:
        gc.disable()  # modules leave no garbage, and to look for it takes a fifth of the start
        settings.INSTALLED_APPS  # noqa: B018  (reading one setting loads, and so checks, them all)
        django.setup()
        # The command loads about as many modules again: the collector skips those that are loaded, and runs rarely.
        gc.freeze()
        gc.set_threshold(GC_YOUNG_THRESHOLD)
        gc.enable()
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"chatproxy: {error}")
    except _database_errors() as error:
        if "--traceback" in sys.argv or sys.argv[1:2] == ["ship"]:
            raise
        from chatproxy.postgres.database_refusals import describe_failure  # only if needed

        sys.exit(f"chatproxy: {describe_failure(error)}")


def _database_errors() -> tuple[type[Exception], ...]:
    """Returns the types of the database's errors with which a command may end."""
    import psycopg  # only if needed: it takes libpq, and `--version` must work without

    return OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError


if __name__ == "__main__":
    main()
