"""`python manage.py ship`: the shipper process, which `manage.py serve` starts automatically."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser

from django.core.management.base import BaseCommand

from chatproxy.processes.shipper_process import run_shipper

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    """The command `manage.py ship`: runs the shipper, which copies the records in the journals into the database.

    The command ends when its standard input ends.
    """

    help = "Ships the journals into the database until the standard input ends. `serve` starts it by itself."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--reload", action="store_true", help="end when the code changes; `serve` starts it again")

    def handle(self, *_args: object, **options: object) -> None:
        if options["reload"]:
            end_when_code_changes()
        try:
            run_shipper(sys.stdin.fileno())
        except Exception:  # the border: what is not expected goes to the log, in its form
            logger.exception("the shipper fails")
            sys.exit(1)


def end_when_code_changes() -> None:
    """Starts a thread that ends this process when a file with its Python code changes (`--reload`)."""
    from gunicorn.reloader import reloader_engines  # only for development

    reloader_engines["auto"](callback=lambda _file: os._exit(0)).start()
