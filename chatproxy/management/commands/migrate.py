"""`python manage.py migrate`: migrates the database, and holds up nobody who uses it, as a start of the server does."""

from __future__ import annotations

from django.core.management.commands import migrate

from chatproxy.start.waiting_migrations import NOTICE, apply


class Command(migrate.Command):
    """The command `manage.py migrate`: Django's own, which tries again while other transactions use the tables."""

    def handle(self, *arguments: object, **options: object) -> None:
        run = super().handle
        apply(lambda: run(*arguments, **options), lambda: self.stderr.write(NOTICE))
