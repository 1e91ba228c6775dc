"""The shared parts of the commands about keys and teams: the types of their options, and their output.

`SpenderCommand` is their base class: it runs an action, and turns errors into messages.
"""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import BaseCommand, CommandError

from proxyapi.team_models import LogBodies
from usage.untrusted_text import escape_invisible

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# The columns of a new key or team for which the command line has an option each.
SHARED_FIELDS = (
    "note", "tags", "allowed_models", "allowed_routes", "requests_per_minute", "tokens_per_minute", "parallel_calls",
    "budget_day", "budget_month", "budget_total", "log_bodies",
)  # fmt: skip


class SpenderCommand(BaseCommand):
    """Base class of the commands `keys` and `teams`: runs the action that the command line names, such as `create`."""

    requires_system_checks = ()  # they would load the admin, which takes as long as all else of a start

    def handle(self, *_args: object, **options: object) -> None:
        """Runs the action that the command line names, such as `create`, by calling the method of that name.

        Raises:
            CommandError: the action failed. The message says what to correct.
        """
        try:
            getattr(self, str(options["action"]))(Namespace(**options))
        except ValidationError as error:
            raise CommandError(" ".join(faults_of(error))) from None
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None

    def print_facts(self, facts: Mapping[str, object], options: Namespace) -> None:
        """Prints `facts`, the properties of one key or team by name: one line `name: value` for each property.

        With `--json`, prints them all as one JSON object.
        """
        if options.json:
            self.stdout.write(json.dumps(facts, indent=2))
            return
        for name, value in facts.items():
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            # One line, so that no text can look like another fact.
            line = "" if text is None else escape_invisible(str(text)).replace("\n", "\\n")
            self.stdout.write(f"{name}: {line}".rstrip())

    def print_table(self, rows: list[tuple[str, ...]]) -> None:
        """Prints rows of texts as a table with aligned columns; the first row has the titles of the columns."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())


def add_shared_options(create: ArgumentParser) -> None:
    """Adds to the parser of the action `create` the options that both keys and teams have, such as `--budget-day`."""
    create.add_argument("name")
    create.add_argument("--note", default="", help="a text for the admins")
    create.add_argument(
        "--tag", dest="tags", action="append", default=[], help="a word by which the usage is grouped; may be repeated"
    )
    create.add_argument(
        "--model", dest="allowed_models", action="append", default=[],
        help="a name or a pattern such as gpt-4o*; may be repeated",
    )  # fmt: skip
    create.add_argument(
        "--route", dest="allowed_routes", action="append", default=[],
        help="a route or a pattern such as /v1/responses*; may be repeated",
    )  # fmt: skip
    for name in ("requests-per-minute", "tokens-per-minute", "parallel-calls"):
        create.add_argument(f"--{name}", type=int, help="a whole number; default: no limit")
    create.add_argument("--budget-day", type=dollars, help="dollars for a day in UTC")
    create.add_argument("--budget-month", type=dollars, help="dollars for a month in UTC")
    create.add_argument("--budget-total", type=dollars, help="dollars for all its calls (lifetime budget)")
    create.add_argument(
        "--log-bodies", choices=LogBodies.values, default=LogBodies.INHERIT.value,
        help="the calls whose request and answer are kept; default: inherit, as the team or LOG_BODIES says",
    )  # fmt: skip
    create.add_argument("--upstream-key-file", metavar="FILE", help="its own upstream key; - reads standard input")


def as_json(value: object) -> object:
    """Converts the value of a database column for JSON: a time to ISO 8601, a decimal number to text.

    Other values are returned unchanged.
    """
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def faults_of(error: ValidationError) -> list[str]:
    """Returns the messages of a Django validation error, each with the name of the wrong field, if one is known."""
    if not hasattr(error, "error_dict"):
        return error.messages
    return [f"{name}: {words}" for name, faults in error.message_dict.items() for words in faults]


def read_upstream_key(path: str | None) -> str:
    """Reads an upstream key from a file, or from standard input if the path is `-`.

    Returns an empty text if there is no path.

    Raises:
        CommandError: the file cannot be read, or is empty.
    """
    # Not from the command line, which other users of the host can see.
    if path is None:
        return ""
    try:
        text = (sys.stdin.read() if path == "-" else Path(path).read_text()).strip()
    except (OSError, UnicodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from None
    if not text:  # without it, the calls would be paid with the server's key
        raise CommandError(f"{'standard input' if path == '-' else path} is empty: there is no upstream key in it")
    return text


def duration(text: str) -> timedelta:
    """Parses a duration from the command line: a number with a unit, such as 30m, 24h, 7d or 4w.

    Raises:
        ArgumentTypeError: the text is no number with one of these units.
    """
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    if not match:
        raise ArgumentTypeError(f"{text!r} is no span; 30m, 24h, 7d or 4w")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def moment(text: str) -> datetime:
    """Parses a point in time from the command line: an ISO 8601 time, or a duration from now, such as 7d.

    A time without a zone is in UTC.

    Raises:
        ArgumentTypeError: the text is neither a time nor a duration, or the time is not in the years 1 to 9999.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    try:
        if found is None:
            return datetime.now(UTC) + duration(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except OverflowError:
        raise ArgumentTypeError(f"{text!r} lies beyond the year 9999 or before the year 1") from None


def dollars(text: str) -> Decimal:
    """Parses a number of dollars in an option of the command line.

    Raises:
        ArgumentTypeError: the text is no number.
    """
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text!r} is no number") from None
