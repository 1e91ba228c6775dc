"""`python manage.py keys …`: makes, lists, shows, moves, rotates and revokes keys, for scripts.

Each change gets an entry in the admin's audit log, like a change on the pages of the admin.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from datetime import date, timedelta
from decimal import Decimal

from django.contrib.admin.models import ADDITION, CHANGE
from django.core.management.base import CommandError
from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone

from proxyapi.key_names import SECURITY_KEY_NAME
from proxyapi.keys.audit_log import log_change
from proxyapi.management.spender_command import (
    SHARED_FIELDS,
    SpenderCommand,
    add_shared_options,
    as_json,
    duration,
    moment,
    read_upstream_key,
)
from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from usage.database.snapshot import one_snapshot
from usage.models import UsageDay
from usage.page_data.key_summary import read_summaries

# The columns of a new key for which the command line has an option each.
FIELDS = (*SHARED_FIELDS, "owner", "expires_at", "shared_objects", "max_output_tokens", "min_output_tokens")
COLUMNS: tuple[str, ...] = ("KEY", "STATE", "CREATED", "NAME", "TEAM", "OWNER")
SHOWN_ONCE = "It is shown once, and is kept nowhere. It works in about two seconds."


class Command(SpenderCommand):
    help = "Makes, lists, shows, moves, rotates and revokes the keys of callers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a key, and print it, once")
        add_shared_options(create)
        create.add_argument("--team", help="the team that it belongs to")
        create.add_argument("--owner", default="", help="the person or group that uses it, as a text")
        create.add_argument(
            "--expires", dest="expires_at", type=moment,
            help="a day or moment in UTC, as 2027-01-31 or 2027-01-31T18:00, or a time from now, as 90d or 12h",
        )  # fmt: skip
        create.add_argument(
            "--shared-object", dest="shared_objects", action="append", default=[],
            help="an id, or a pattern such as vs_abc*, of what it may use beside what it makes; may be repeated",
        )  # fmt: skip
        create.add_argument(
            "--max-output-tokens", type=int, help="the most that a call may have, at least 16; default: no limit"
        )
        create.add_argument(
            "--min-output-tokens", type=int,
            help="the least to which a budget limits a call that states no limit, at least 16; default: 1000",
        )  # fmt: skip
        rotate = actions.add_parser("rotate", help="give a key a new secret, and print it, once")
        rotate.add_argument("name")
        rotate.add_argument(
            "--grace", type=duration, default=timedelta(0), help="how long the old one goes on: 30m, 24h, 7d"
        )
        listing = actions.add_parser("list", help="all keys, without their texts")
        show = actions.add_parser("show", help="what a key may do and has spent, without its text")
        show.add_argument("name")
        for action in (create, rotate, listing, show):
            action.add_argument("--json", action="store_true", help="print JSON")
        move = actions.add_parser("move", help="move a key to a team, or out of its team; its calls so far stay there")
        move.add_argument("name")
        to = move.add_mutually_exclusive_group(required=True)
        to.add_argument("--team", help="the team to which it moves")
        to.add_argument("--no-team", action="store_true", help="move it out of its team")
        actions.add_parser("revoke", help="revoke a key permanently").add_argument("name")

    def create(self, options: Namespace) -> None:
        """Creates an access key with the given options, and prints its secret."""
        upstream_key = read_upstream_key(options.upstream_key_file)
        fields = {name: getattr(options, name) for name in FIELDS}
        with transaction.atomic():
            fields["team"] = None if options.team is None else find_team(options.team)
            key, text = AccessKey.objects.issue(options.name, upstream_key=upstream_key, **fields)
            log_change(key, ADDITION, "Created", "keys")
            self._print_text(key, text, options)

    def rotate(self, options: Namespace) -> None:
        """Gives an access key a new secret and prints it; the old secret stays valid for the time in `--grace`."""
        with transaction.atomic():
            key = self._get(options.name)
            text = key.rotate(options.grace)
            end = key.previous_valid_until
            old = f"valid until {end:%Y-%m-%d %H:%M} UTC" if end else "no longer valid"
            log_change(key, CHANGE, f"Rotated; the old key is {old}", "keys")
            self._print_text(key, text, options)

    def move(self, options: Namespace) -> None:
        """Moves an access key into a team or out of its team, and prints a confirmation.

        Calls that were made before stay with the old team.
        """
        with transaction.atomic():
            key = self._get(options.name)
            before, team = key.team, None if options.no_team else find_team(options.team)
            key.team = team
            key.save(update_fields=["team"])
            log_change(key, CHANGE, f"Moved from {_in_words(before)} to {_in_words(team)}", "keys")
        self.stdout.write(f"{options.name} is in {_in_words(team)}; every worker knows it within two seconds")

    def revoke(self, options: Namespace) -> None:
        """Revokes an access key for ever, and prints a confirmation."""
        with transaction.atomic():
            key = self._get(options.name)
            key.revoke()
            log_change(key, CHANGE, "Revoked", "keys")
        self.stdout.write(f"{options.name} is revoked; every worker refuses it within two seconds")

    def list(self, options: Namespace) -> None:
        """Prints all access keys, without their secrets, as a table or as JSON."""
        keys = [_facts(key) for key in AccessKey.objects.select_related("team")]
        if options.json:
            self.stdout.write(json.dumps(keys, indent=2))
            return
        rows = [COLUMNS]
        for key in keys:
            created = str(key["created_at"])[: len("2026-11-30")]
            facts = (key["hint"], key["state"], created, key["name"], key["team"] or "", key["owner"])
            rows.append(tuple(map(str, facts)))
        self.print_table(rows)

    def show(self, options: Namespace) -> None:
        """Prints the settings, state and spending of one access key, without its secret; with `--json`, as JSON."""
        self.print_facts(_shown_facts(self._get(options.name, lock=False)), options)

    def _get(self, name: str, *, lock: bool = True) -> AccessKey:
        """Returns the access key with this name; with `lock`, locks its row until the transaction ends.

        Raises:
            CommandError: there is no such key.
        """
        key = AccessKey.objects.find(name, lock=lock)
        if key is None:
            is_built_in = name == SECURITY_KEY_NAME
            why = "; it is the built-in key, which stands in SECURITY_KEY and has no limits" if is_built_in else ""
            raise CommandError(f"there is no key {name!r}{why}")
        return key

    def _print_text(self, key: AccessKey, text: str, options: Namespace) -> None:
        """Prints the new secret of an access key: alone on standard output, with a hint for people on standard error.

        With `--json`, prints a JSON object with the secret and the facts about the key instead. Call this before the
        transaction ends, so that a secret that cannot be printed is not stored.
        """
        self.stdout.write(json.dumps({"key": text, **_facts(key)}, indent=2) if options.json else text)
        self.stdout.flush()
        if not options.json:
            self.stderr.write(SHOWN_ONCE)


def _facts(key: AccessKey) -> dict[str, object]:
    """Returns the facts about an access key for `--json`, as a dict by name, without the secret.

    Times are in ISO 8601. Dollars are texts.
    """
    # No digit of the dollars may be lost.
    return {
        "name": key.name,
        "hint": key.masked,
        "state": key.state(),
        "active": key.active,
        "team": None if key.team is None else key.team.name,
        **{name: as_json(getattr(key, name)) for name in (*FIELDS, "created_at", "changed_at", "previous_valid_until")},
        "own_upstream_key": bool(key.sealed_upstream_key),
    }


def _shown_facts(key: AccessKey) -> dict[str, object]:
    """Returns the facts about an access key that the command `keys show` prints, as a dict by name.

    Besides the key's state and settings (`_facts`), they are the user account that owns the key, the times of its
    revocation and last use, the dollars spent and reserved, and its calls of the last seven days. Dollars are texts.
    The dollars spent do not include those reserved for calls in flight.
    """
    now = timezone.now()
    with one_snapshot():
        summary = read_summaries([key.name], now)[key.name]
        spent = _dollars_spent(key.name, now.date())
    return {
        **_facts(key),
        "owner_user": None if key.owner_user is None else key.owner_user.get_username(),
        "revoked_at": as_json(key.revoked_at),
        **{name: as_json(dollars) for name, dollars in spent.items()},
        "reserved": as_json(summary.spent.held),
        "last_used_on": None if summary.spent.last_day is None else summary.spent.last_day.isoformat(),
        "calls_in_7_days": summary.calls,
        "failed_calls_in_7_days": summary.errors,
    }


def _dollars_spent(key_name: str, today: date) -> dict[str, Decimal]:
    """Returns what a key's calls have cost today, in this month (both UTC) and in total, in dollars.

    Dollars that are reserved for calls in flight are not included.
    """
    # Not what `spent_by` returns less what is reserved: a part of that may be reserved for calls of an earlier day.
    none = Decimal(0)
    return UsageDay.objects.filter(key_name=key_name).aggregate(
        spent_day=Sum("cost", filter=Q(day=today), default=none),
        spent_month=Sum("cost", filter=Q(day__year=today.year, day__month=today.month), default=none),
        spent_total=Sum("cost", default=none),
    )


def find_team(name: str) -> Team:
    """Returns the team with this name, and locks its row until the transaction ends.

    Raises:
        CommandError: there is no such team.
    """
    team = Team.objects.find(name)
    if team is None:
        raise CommandError(f"there is no team {name!r}")
    return team


def _in_words(team: Team | None) -> str:
    return "no team" if team is None else f"team {team.name!r}"
