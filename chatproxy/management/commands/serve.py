"""`python manage.py serve`: prepares the server, then becomes gunicorn.

It prepares, in this order, the data directory, the port, the database, its migrations, the secrets and the first admin.
If a step fails, the command ends with a message of one line. Then it prints the banner and calls `exec`, so that the
server's master process has no Django in it.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser
from contextlib import ExitStack
from importlib import import_module
from typing import NoReturn

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand

from chatproxy.configuration import setting_reader
from chatproxy.doctor import checkup
from chatproxy.doctor.checkup import check_database, obey, run_checks
from chatproxy.doctor.host_checks import not_a_directory
from chatproxy.logs import without_secrets
from chatproxy.postgres.binaries import BundledPostgresError
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.processes.unix_signals import HELD_SIGNALS, REPLACEMENT_SIGNALS, exit_on_stop_signals
from chatproxy.processes.upgrade import PREPARED, is_taking_over
from chatproxy.start.first_start import create_first_admin, generate_secrets, has_admin
from chatproxy.start.secret_canary import record_secrets
from chatproxy.start.startup import (
    StartError,
    check_port,
    lock_data_dir,
    migrated_database,
    raise_open_files,
    wait_for_database,
)
from proxyapi.keys.private_file import make_private_directory

# The modules that load all of a worker's code, with what it loads when it needs it, or in a process of its own. The
# master's own, `chatproxy.processes.gunicorn_conf`, is not among them: a process that loads it stops the bundled
# PostgreSQL at its exit.
LOADED_BY_WORKERS = (
    "chatproxy.asgi",
    "chatproxy.urls",
    "proxyapi.pages.api_description",
    "proxyapi.management.api_actions",
    "usage.live.metrics",
    "chatproxy.http.protocol",
    "chatproxy.processes.worker",
    "uvloop",
    "proxyapi.upstream.sdk",
    "genai_prices.data",
    "markdown_it",
)


class Command(BaseCommand):
    """The command `manage.py serve`: prepares the server, then becomes gunicorn's master process."""

    help = "Starts the server, with the bundled PostgreSQL when DATABASE_URL is unset."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--reload", action="store_true", help="restart the worker when the code changes (make dev)")
        parser.add_argument(
            "--prepare", action="store_true", help="check and migrate beside a server, do not start one"
        )
        parser.add_argument("--new-secrets", action="store_true", help="go on without those that the database knows")
        parser.add_argument("--demo", action="store_true", help="the upstream is a simulated one (make demo)")

    def handle(self, *_args: object, **options: object) -> NoReturn:
        reload = bool(options["reload"])
        self.skipped_checks = {checkup.DEBUG} if reload else set()
        self.skipped_checks |= {checkup.DEBUG, checkup.DEMO} if options["demo"] else set()
        self.skipped_checks |= {checkup.SECRETS} if options["new_secrets"] else set()
        signal.pthread_sigmask(signal.SIG_BLOCK, REPLACEMENT_SIGNALS)  # until gunicorn handles them
        exit_on_stop_signals(0)
        # A failure, or a signal to stop, undoes what was done so far. `exec` never returns, so then nothing is undone.
        try:
            make_data_dir()
            if not is_taking_over():
                obey(run_checks(checkup.OF_HOST, self.skipped_checks), self.stderr)
            if options["prepare"]:
                self.prepare_beside_server()
                sys.exit(0)
            with ExitStack() as undo:
                self.prepare_start(undo)
                signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)  # until gunicorn handles them
                become_gunicorn(reload=reload)
        except (StartError, BundledPostgresError, ImproperlyConfigured) as error:
            sys.exit(f"chatproxy: {without_secrets(str(error))}")

    def prepare_start(self, undo: ExitStack) -> None:
        """Prepares this process to become the server: checks the port, starts the bundled PostgreSQL, calls `prepare`.

        Also locks `DATA_DIR`, and raises the limit of open files. A function that stops PostgreSQL is added to `undo`,
        for the case that a later step fails. If this code takes over from a running server (an upgrade), the port is
        not checked, and `prepare` is not called: both were done before.
        """
        # When this code takes over from a running server, `--prepare` has just done the checks and `prepare`. They are
        # not done again: they could fail now, or wait for the database, and signals to stop are blocked.
        if not is_taking_over():
            check_port(settings.HOST, settings.PORT, self.stderr)
        self.lock_data_dir()
        raise_open_files()
        if settings.DATABASE_IS_BUNDLED:
            postgres = BundledPostgres(settings.DATA_DIR)
            postgres.start()
            undo.callback(postgres.stop)
            postgres.keep_lock_through_exec()
        if not is_taking_over():
            self.prepare()

    def lock_data_dir(self) -> None:
        """Makes this process the only server of `DATA_DIR`.

        If this code takes over from a running server (an upgrade), a failure causes only a warning.

        Raises:
            StartError: another server uses `DATA_DIR`, or it cannot be locked.
        """
        try:
            lock_data_dir()
        except StartError as error:
            # The running code was an older version, which took no lock. It must not end, with all its calls.
            if not is_taking_over():
                raise
            self.stderr.write(f"chatproxy: {error}")

    def prepare_beside_server(self) -> None:
        """Checks that new code can start, and migrates the database, while a server of the same DATA_DIR runs.

        Then prints the line `PREPARED`; the running server waits for that line (`chatproxy.processes.upgrade`).

        Raises:
            StartError: a step of `prepare` has failed.
            BundledPostgresError: the new code has another major version of PostgreSQL.
            Exception: a module that the workers load cannot be imported.
        """
        if settings.DATABASE_IS_BUNDLED:
            BundledPostgres(settings.DATA_DIR).check_version()
        for name in LOADED_BY_WORKERS:
            import_module(name)
        self.prepare()
        self.stdout.write(PREPARED)

    def prepare(self) -> None:
        """Checks and migrates the database, generates missing secrets, creates the first admin, prints the banner.

        Raises:
            StartError: one of these steps has failed.
        """
        obey(wait_for_database(self.stderr, check_database), self.stderr)
        with migrated_database(self.stderr):
            obey(run_checks(checkup.OF_LEDGER, self.skipped_checks), self.stderr)
            generated = self.find_secrets()
            values = setting_reader.load()
            try:
                admin_made = create_first_admin(values)
            except ValueError as fault:
                raise StartError(str(fault)) from None
        self.stdout.write(banner(values, generated, admin_made=admin_made))
        self.stdout.flush()

    def find_secrets(self) -> dict[str, str]:
        """Generates the missing secrets, and returns the generated ones by name.

        Also stores digests of all secrets in the database, and prints a line with the names of secrets that have
        changed since the last start.
        """
        generated = generate_secrets(settings.DATA_DIR, with_password=not has_admin())
        # By the digests (canaries), the next start recognises the secrets.
        if changed := record_secrets(setting_reader.load()):
            self.stderr.write(
                f"chatproxy: changed since the last start: {', '.join(changed)}; other hosts need the same"
            )
        return generated


def make_data_dir() -> None:
    """Creates the directory `DATA_DIR`, and those above it, if they are missing.

    Only their owner may look into the new directories.

    Raises:
        StartError: the directory cannot be created.
    """
    path = settings.DATA_DIR
    try:
        make_private_directory(path)
    except FileExistsError:
        raise StartError(not_a_directory(path)) from None
    except OSError as error:
        raise StartError(f"DATA_DIR {path} cannot be written: {error.strerror}") from None


def banner(values: setting_reader.SettingValues, generated: dict[str, str], *, admin_made: bool) -> str:
    """Returns the text to print at the start: version, addresses of server and upstream, and the generated secrets.

    The text also says whether there is an upstream key. If the first admin was just created (`admin_made`), the text
    has the name and the password of the admin; a password that was set, and not generated, is not shown.
    """
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
    """Replaces this process by gunicorn's master process; never returns.

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
