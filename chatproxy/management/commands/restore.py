"""`python manage.py restore FILE`: brings a backup into an empty `DATA_DIR` and an empty database."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from chatproxy.backup.archive import BadArchive
from chatproxy.backup.restore_backup import RestoreRefused, restore_backup
from chatproxy.logs import without_secrets
from chatproxy.postgres.binaries import BundledPostgresError
from chatproxy.postgres.client_programs import ClientProgramError
from chatproxy.processes.unix_signals import exit_on_stop_signals
from chatproxy.start.startup import StartError


class Command(BaseCommand):
    """The command `manage.py restore`: restores a backup into an empty `DATA_DIR` and an empty database."""

    help = "Restores a backup into an empty DATA_DIR and an empty database, before the server is started."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="a file that `backup` has written")

    def handle(self, *_args: object, **options: object) -> None:
        path = options["file"]
        assert isinstance(path, Path)  # noqa: S101  (the parser's type)
        exit_on_stop_signals(1)  # so that what was restored so far is removed
        try:
            manifest = restore_backup(path, self.stderr)
        except BadArchive as error:
            raise CommandError(f"{path} {error}") from None
        except (RestoreRefused, StartError, BundledPostgresError, ClientProgramError) as error:
            raise CommandError(without_secrets(str(error))) from None
        except OSError as error:
            raise CommandError(f"{error.filename or path}: {error.strerror}") from None
        self.stdout.write(f"restored the backup of {manifest.made_at}; start the server")
