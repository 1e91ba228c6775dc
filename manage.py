#!/usr/bin/env python
"""The command line of chatproxy: `python manage.py serve`, and Django's own commands."""

import gc
import io
import os
import signal
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

    These end any command with one line, also Django's own commands: a bad setting, a database that cannot be reached,
    a file or an output that cannot be written, and an argument that is not valid UTF-8. `--traceback` shows where a
    command met the error; of `ship`, which nobody runs by hand, the log has it. A command that is interrupted (Ctrl-C),
    or whose output nobody reads to its end (`| head`), ends without a word.
    """
    try:
        _prepare_streams()
        try:
            _run()
        finally:
            sys.stdout.flush()  # here, and not when Python ends: then a failure could not be told
    except KeyboardInterrupt:
        _end_by_interrupt()
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)
    except OSError as error:
        _drop_output()
        if _shows_traceback():
            raise
        sys.exit(f"chatproxy: {error}")
    except UnicodeEncodeError as error:
        if _shows_traceback() or not any("\ud800" <= character <= "\udfff" for character in error.object):
            raise
        sys.exit("chatproxy: a text on the command line, or in a setting, is not valid UTF-8")


def _run() -> None:
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
        if _shows_traceback():
            raise
        from chatproxy.postgres.database_refusals import describe_failure  # only if needed

        sys.exit(f"chatproxy: {describe_failure(error)}")


def _prepare_streams() -> None:
    """Makes standard input, output and errors usable; ends the process if standard output is closed.

    Without an output, a new secret would be lost. Characters that the output's encoding lacks are written as escapes.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115  (it stays open)
    if sys.stdout is None:
        sys.exit("chatproxy: the standard output is closed; redirect it, to /dev/null if nobody reads it")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (it stays open)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _shows_traceback() -> bool:
    """Returns whether an error is to be shown with the place in the code where it was met."""
    return "--traceback" in sys.argv or sys.argv[1:2] == ["ship"]


def _drop_output() -> None:
    """Sends to nowhere what is left in the buffer of standard output, if it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_by_interrupt() -> None:
    """Ends this process by SIGINT, so that a shell that runs it in a loop learns that the loop is to end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _database_errors() -> tuple[type[Exception], ...]:
    """Returns the types of the database's errors with which a command may end."""
    import psycopg  # only if needed: it takes libpq, and `--version` must work without

    return OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError


if __name__ == "__main__":
    main()
