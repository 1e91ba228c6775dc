"""`python manage.py keys …`: makes, lists, rotates and revokes keys, for scripts.

Each change is an entry of the admin's audit log, as a change in the admin is.
"""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

from django.contrib.admin.models import ADDITION, CHANGE
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, transaction

from proxyapi.keys.audit_log import log_change
from proxyapi.models import AccessKey, LogBodies

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# The columns of a new key for which the command line has an option each.
FIELDS = (
    "owner", "note", "tags", "expires_at", "allowed_models", "allowed_routes", "shared_objects", "requests_per_minute",
    "tokens_per_minute", "parallel_calls", "budget_day", "budget_month", "budget_total", "max_output_tokens",
    "min_output_tokens", "log_bodies",
)  # fmt: skip
COLUMNS = ("KEY", "STATE", "CREATED", "NAME", "OWNER")
SHOWN_ONCE = "It is shown once, and is kept nowhere. Every worker knows it within two seconds."


class Command(BaseCommand):
    help = "Makes, lists, rotates and revokes the keys of callers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a key, and print it, once")
        create.add_argument("name")
        create.add_argument("--owner", default="")
        create.add_argument("--note", default="")
        create.add_argument("--tag", dest="tags", action="append", default=[], help="may be repeated")
        create.add_argument(
            "--expires", dest="expires_at", type=_moment,
            help="a day or moment in UTC, as 2027-01-31 or 2027-01-31T18:00, or a time from now, as 90d or 12h",
        )  # fmt: skip
        create.add_argument(
            "--model", dest="allowed_models", action="append", default=[],
            help="a name or a pattern such as gpt-4o*; may be repeated",
        )  # fmt: skip
        create.add_argument(
            "--route", dest="allowed_routes", action="append", default=[],
            help="a route or a pattern such as /v1/responses*; may be repeated",
        )  # fmt: skip
        create.add_argument(
            "--shared-object", dest="shared_objects", action="append", default=[],
            help="an id, or a pattern such as vs_abc*, of what it may use beside what it makes; may be repeated",
        )  # fmt: skip
        for name in ("requests-per-minute", "tokens-per-minute", "parallel-calls"):
            create.add_argument(f"--{name}", type=int)
        create.add_argument("--budget-day", type=_dollars, help="dollars for a day in UTC")
        create.add_argument("--budget-month", type=_dollars, help="dollars for a month in UTC")
        create.add_argument("--budget-total", type=_dollars, help="dollars for all its calls (lifetime budget)")
        create.add_argument(
            "--max-output-tokens", type=int, help="the most that a call may have, at least 16; default: no limit"
        )
        create.add_argument(
            "--min-output-tokens", type=int,
            help="the least to which a budget limits a call that states no limit, at least 16; default: 1000",
        )  # fmt: skip
        create.add_argument("--log-bodies", choices=LogBodies.values, default=LogBodies.INHERIT.value)
        create.add_argument("--upstream-key-file", metavar="FILE", help="its own upstream key; - reads standard input")
        rotate = actions.add_parser("rotate", help="give a key a new text, and print it, once")
        rotate.add_argument("name")
        rotate.add_argument(
            "--grace", type=_span, default=timedelta(0), help="how long the old one goes on: 30m, 24h, 7d"
        )
        listing = actions.add_parser("list", help="all keys, without their texts")
        for action in (create, rotate, listing):
            action.add_argument("--json", action="store_true", help="print JSON")
        actions.add_parser("revoke", help="refuse a key for ever").add_argument("name")

    def handle(self, *_args: object, **options: object) -> None:
        """Runs an action of `manage.py keys`: `create`, `rotate`, `revoke` or `list`.

        Raises:
            CommandError: the action failed. The message says what to correct.
        """
        try:
            getattr(self, str(options["action"]))(Namespace(**options))
        except ValidationError as error:
            raise CommandError(" ".join(_faults(error))) from None
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        except (OperationalError, InterfaceError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise CommandError(f"the database cannot be reached; is the server running? ({reason})") from None

    def create(self, options: Namespace) -> None:
        """Creates an access key with the given options, and prints its secret."""
        upstream_key = _read(options.upstream_key_file)
        fields = {name: getattr(options, name) for name in FIELDS}
        with transaction.atomic():
            key, text = AccessKey.objects.issue(options.name, upstream_key=upstream_key, **fields)
            log_change(key, ADDITION, "Created", "keys")
        self._print_text(key, text, options)

    def rotate(self, options: Namespace) -> None:
        """Gives an access key a new secret, and prints it; the old one stays valid for the time in `--grace`."""
        with transaction.atomic():
            key = self._get(options.name)
            text = key.rotate(options.grace)
            end = key.previous_valid_until
            old = f"valid until {end:%Y-%m-%d %H:%M} UTC" if end else "no longer valid"
            log_change(key, CHANGE, f"Rotated; the old key is {old}", "keys")
        self._print_text(key, text, options)

    def revoke(self, options: Namespace) -> None:
        """Revokes an access key for ever, and prints a confirmation."""
        with transaction.atomic():
            key = self._get(options.name)
            key.revoke()
            log_change(key, CHANGE, "Revoked", "keys")
        self.stdout.write(f"{options.name} is revoked; every worker refuses it within two seconds")

    def list(self, options: Namespace) -> None:
        """Prints all access keys, without their secrets, as a table or as JSON."""
        keys = [_facts(key) for key in AccessKey.objects.all()]
        if options.json:
            self.stdout.write(json.dumps(keys, indent=2))
            return
        rows = [COLUMNS]
        for key in keys:
            created = str(key["created_at"])[: len("2026-11-30")]
            rows.append((str(key["hint"]), str(key["state"]), created, str(key["name"]), str(key["owner"])))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())

    def _get(self, name: str) -> AccessKey:
        """Returns the access key with this name, and locks its row until the transaction ends.

        Raises:
            CommandError: there is no such key.
        """
        key = AccessKey.objects.find(name)
        if key is None:
            raise CommandError(f"there is no key {name!r}")
        return key

    def _print_text(self, key: AccessKey, text: str, options: Namespace) -> None:
        """Prints the new secret of an access key alone on standard output, for scripts.

        A remark for people goes to standard error. With `--json`, prints one JSON object with the secret and the key's
        facts.
        """
        if options.json:
            self.stdout.write(json.dumps({"key": text, **_facts(key)}, indent=2))
        else:
            self.stdout.write(text)
            self.stderr.write(SHOWN_ONCE)


def _facts(key: AccessKey) -> dict[str, object]:
    """Returns the facts about an access key for `--json`, by name, without the secret.

    Times are in ISO 8601. Dollars are texts.
    """
    # No digit of the dollars may be lost.
    return {
        "name": key.name,
        "hint": key.masked,
        "state": key.state(),
        "active": key.active,
        **{
            name: _as_json(getattr(key, name)) for name in (*FIELDS, "created_at", "changed_at", "previous_valid_until")
        },
        "own_upstream_key": bool(key.sealed_upstream_key),
    }


def _as_json(value: object) -> object:
    """Converts the value of an access key's column for JSON: a time to ISO 8601, a decimal number to text."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _faults(error: ValidationError) -> list[str]:
    """Returns the messages of a validation error, each with the name of the wrong field."""
    if not hasattr(error, "error_dict"):
        return error.messages
    return [f"{name}: {words}" for name, faults in error.message_dict.items() for words in faults]


def _read(path: str | None) -> str:
    """Reads an upstream key from a file, or from standard input if the path is `-`.

    Returns an empty text if there is no path.

    Raises:
        CommandError: the file cannot be read.
    """
    # Not from the command line, which other users of the host can see.
    if path is None:
        return ""
    try:
        return (sys.stdin.read() if path == "-" else Path(path).read_text()).strip()
    except (OSError, UnicodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from None


def _span(text: str) -> timedelta:
    """Parses a duration in an option of the command line, such as 30m, 24h, 7d or 4w.

    Raises:
        ArgumentTypeError: the text is no such duration.
    """
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    if not match:
        raise ArgumentTypeError(f"{text!r} is no span; 30m, 24h, 7d or 4w")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def _moment(text: str) -> datetime:
    """Parses a time in an option of the command line: an ISO time (UTC without a zone), or a span from now, such as 7d.

    Raises:
        ArgumentTypeError: the text is neither a time nor a duration.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC) + _span(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _dollars(text: str) -> Decimal:
    """Parses a number of dollars in an option of the command line.

    Raises:
        ArgumentTypeError: the text is no number.
    """
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text!r} is no number") from None
