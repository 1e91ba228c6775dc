"""`python manage.py backup FILE`: writes the ledger, the keys and the journal of a running server to one file."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from chatproxy.backup.make_backup import write_backup
from chatproxy.logs import without_secrets
from chatproxy.postgres.client_programs import ClientProgramError
from chatproxy.processes.unix_signals import exit_on_stop_signals
from chatproxy.start.startup import StartError
from proxyapi.keys.private_file import private_file

STDOUT = "-"


class Command(BaseCommand):
    """The command `manage.py backup`: writes a backup to a file or to the standard output."""

    help = "Writes a backup to a file, while the server runs: the ledger, the keys, the accounts, the journal."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the backup; a file of that name is replaced; - is the standard output")
        parser.add_argument("--with-secrets", action="store_true", help="also secrets.env, without which no key works")

    def handle(self, *_args: object, **options: object) -> None:
        name, with_secrets = str(options["file"]), bool(options["with_secrets"])
        exit_on_stop_signals(1)  # so that an unfinished file is deleted
        try:
            if name == STDOUT:
                if sys.stdout.isatty():
                    raise CommandError("the standard output is a terminal; send it to a file or a program")
                manifest = write_backup(sys.stdout.buffer, with_secrets=with_secrets)
                sys.stdout.buffer.flush()
            else:
                check_target(Path(name))
                with private_file(Path(name)) as file:
                    manifest = write_backup(file, with_secrets=with_secrets)
        except (StartError, ClientProgramError) as error:
            raise CommandError(without_secrets(str(error))) from None
        except OSError as error:
            raise CommandError(f"the backup has failed: {error.filename or name}: {error.strerror}") from None
        without = "there is no secrets.env" if with_secrets else "keep a copy of secrets.env elsewhere"
        secrets = "with the secrets" if manifest.has_secrets else f"without the secrets: {without}"
        self.stderr.write(f"chatproxy: the backup is whole, {secrets}")


def check_target(path: Path) -> None:
    """Checks that a backup can be written to the file `path`; called first, since dumping the database takes long.

    Raises:
        CommandError: `path` is a directory, a device or the like, or the directory for the file is missing.
    """
    if path.is_dir():
        raise CommandError(f"{path} is a directory; name a file in it")
    if path.exists() and not path.is_file():
        raise CommandError(f"{path} is no file; `-` is the standard output")
    if not path.parent.is_dir():
        raise CommandError(f"there is no directory {path.parent}; create it")
