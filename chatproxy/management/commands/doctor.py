"""`python manage.py doctor`: checks the settings and surroundings of a server, running or not, and changes nothing."""

from __future__ import annotations

import sys

from django.core.management.base import BaseCommand

from chatproxy.doctor.checkup import examine
from chatproxy.doctor.finding import Level
from chatproxy.logs import without_secrets
from chatproxy.start.startup import close_connections


class Command(BaseCommand):
    """The command `manage.py doctor`: prints a line for each check; exits with status 1 if one has found a fault."""

    help = "Checks the settings, this machine, the database and Redis: a line for each check; exit code 1 with a fault."
    requires_system_checks = ()

    def handle(self, *_args: object, **_options: object) -> None:
        has_fault = False
        try:
            for name, finding in examine():
                self.stdout.write(f"{finding.level:<9}{name:<25}{without_secrets(finding.words)}".rstrip())
                has_fault |= finding.level is Level.FAULT
        finally:
            close_connections()
        sys.exit(1 if has_fault else 0)
