"""`python manage.py serve`: prepares the server, then becomes gunicorn.

It prepares, in this order, the data directory, the port, the database, its migrations, the secrets and the first admin;
what fails ends the command with one line. Then it prints the banner and calls `exec`, so that the server's master
process has no Django in it.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from argparse import ArgumentParser
from contextlib import ExitStack
from typing import NoReturn

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand

from chatproxy.configuration import setting_parsers, setting_reader
from chatproxy.logs import without_secrets
from chatproxy.postgres.binaries import BundledPostgresError
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.processes.unix_signals import STOP_SIGNALS, exit_on_stop_signals
from chatproxy.start.first_start import create_first_admin, generate_secrets, has_admin
from chatproxy.start.secret_canary import SecretsDiffer, check_secrets, record_secrets
from chatproxy.start.startup import (
    StartError,
    check_port,
    check_upstream,
    migrated_database,
    raise_open_files,
    wait_for_database,
)
from usage.addresses import is_loopback
from usage.database.clock import ClocksDiffer, check_clocks

WORKERS_DIRECTORIES = ("journal", "owners", "workers")  # in DATA_DIR


class Command(BaseCommand):
    """The command `manage.py serve`: prepares the server, and then becomes gunicorn's master process."""

    help = "Starts the server, with the bundled PostgreSQL when DATABASE_URL is unset."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--reload", action="store_true", help="restart the worker when the code changes (make dev)")
        parser.add_argument("--new-secrets", action="store_true", help="go on without those that the database knows")
        parser.add_argument("--demo", action="store_true", help="the upstream is a simulated one (make demo)")

    def handle(self, *_args: object, **options: object) -> NoReturn:
        self.takes_new_secrets = bool(options["new_secrets"])
        reload = bool(options["reload"])
        exit_on_stop_signals(0)
        # A failure, or a signal to stop, undoes what was done so far. `exec` never returns, so then nothing is undone.
        try:
            check_debug(allowed=reload or bool(options["demo"]))
            with ExitStack() as undo:
                self.prepare(undo)
                signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # until gunicorn handles them
                become_gunicorn(reload=reload)
        except (StartError, SecretsDiffer, BundledPostgresError, ImproperlyConfigured) as error:
            sys.exit(f"chatproxy: {without_secrets(str(error))}")

    def prepare(self, undo: ExitStack) -> None:
        """Does all that must be done before the server starts: checks, database, migrations, secrets, the first admin.

        At the end prints the banner. Adds functions to `undo` that undo the steps, in case a later step fails.
        """
        make_data_dir()
        check_upstream(settings.OPENAI_BASE_URL, settings.HOST, settings.PORT)
        check_port(settings.HOST, settings.PORT)
        if warning := raise_open_files(settings.MAX_PARALLEL_REQUESTS):
            self.stderr.write(f"chatproxy: {warning}")
        if settings.DATABASE_IS_BUNDLED:
            postgres = BundledPostgres(settings.DATA_DIR)
            postgres.start()
            undo.callback(postgres.stop)
            postgres.keep_lock_through_exec()
        wait_for_database(self.stderr)
        with migrated_database(self.stderr):
            try:
                check_clocks()
            except ClocksDiffer as fault:
                self.stderr.write(f"chatproxy: {fault}")
            generated = self.find_secrets()
            values = setting_reader.load()
            try:
                admin_made = create_first_admin(values)
            except ValueError as fault:
                raise StartError(str(fault)) from None
        for name in setting_reader.short_secrets(values):
            self.stderr.write(
                f"chatproxy: {name} is short, and so taken on the loopback only; set {setting_parsers.STRONG}"
            )
        self.stdout.write(banner(values, generated, admin_made=admin_made))
        self.stdout.flush()

    def find_secrets(self) -> dict[str, str]:
        """Generates the server's missing secrets, and returns them by name.

        Stores a digest (a "canary") of every secret in the database, by which the next start recognizes the secret.

        Raises:
            SecretsDiffer: the database has been in use with secrets that this server does not have.
        """
        if not self.takes_new_secrets:
            check_secrets(setting_reader.load(), settings.DATA_DIR / setting_reader.SECRETS_FILE)
        generated = generate_secrets(settings.DATA_DIR, with_password=not has_admin())
        if changed := record_secrets(setting_reader.load()):
            self.stderr.write(
                f"chatproxy: changed since the last start: {', '.join(changed)}; other hosts need the same"
            )
        return generated


def check_debug(*, allowed: bool) -> None:
    """Checks that the setting DEBUG is not on where other people could see a debug page.

    Such a page shows code, routes and some settings.

    Raises:
        StartError: DEBUG is set although it is not `allowed`, or although other machines can reach the address HOST.
    """
    if settings.DEBUG and not allowed:
        raise StartError("DEBUG is true, which only `make dev` and `make demo` start with; unset it")
    if settings.DEBUG and not is_loopback(settings.HOST):
        raise StartError(f"DEBUG is true and HOST {settings.HOST} can be reached by others; 127.0.0.1 or ::1 only")


def make_data_dir() -> None:
    """Creates the directory `DATA_DIR` if there is none, and checks that files can be written there.

    The directories in it that workers write to are checked, too: a worker would fail later, and at length.

    Raises:
        StartError: a directory cannot be created, or no file can be written there.
    """
    paths = [settings.DATA_DIR / name for name in WORKERS_DIRECTORIES]
    for path in (settings.DATA_DIR, *filter(os.path.lexists, paths)):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path) as probe:
                probe.write(b"x")
        except FileExistsError:
            words = "is no directory, or a link to none; move it away, or name another DATA_DIR"
            raise StartError(f"DATA_DIR cannot be used: {path} {words}") from None
        except OSError as error:
            raise StartError(f"DATA_DIR {path} cannot be written: {error.strerror}") from None


def banner(values: setting_reader.SettingValues, generated: dict[str, str], *, admin_made: bool) -> str:
    """Returns the text that is printed at the start: the server's addresses, and the secrets just generated."""
    host = "localhost" if values["HOST"] in {"0.0.0.0", "::"} else values["HOST"]  # noqa: S104  (compared)
    url = f"http://[{host}]:{values['PORT']}" if ":" in host else f"http://{host}:{values['PORT']}"
    url += values["ROOT_PATH"] or ""
    has_key = "configured" if values["OPENAI_API_KEY"] else "not configured; set OPENAI_API_KEY, or send one with calls"
    lines = [("URL", url), ("OpenAI key", has_key), ("upstream", values["OPENAI_BASE_URL"])]
    labels = {"SECURITY_KEY": "security key", "ACCESS_TOKEN": "access token"}
    lines += [(label, generated[name]) for name, label in labels.items() if name in generated]
    if admin_made:
        password = generated.get("ADMIN_PASSWORD", "as set in ADMIN_PASSWORD")
        lines += [("admin", f"{url}/admin/"), ("  name", values["ADMIN_USERNAME"]), ("  password", password)]
    if generated:
        lines.append(("kept in", str(settings.DATA_DIR / setting_reader.SECRETS_FILE)))
    return f"\nchatproxy {settings.VERSION}\n" + "".join(f"  {label:<14}{value}\n" for label, value in lines)


def become_gunicorn(*, reload: bool) -> NoReturn:
    """Replaces this process by gunicorn's master process, and so never returns.

    With `reload`, gunicorn restarts its worker when the code changes.

    Raises:
        StartError: Python cannot be executed.
    """
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        "python:chatproxy.processes.gunicorn_conf",
        "chatproxy.asgi:application",
    ]
    os.chdir(setting_reader.BASE_DIR)
    try:
        os.execv(sys.executable, [*command, *(["--reload"] if reload else [])])  # noqa: S606  (no shell is the point)
    except OSError as error:
        raise StartError(f"{sys.executable} cannot be run: {error.strerror}") from None
