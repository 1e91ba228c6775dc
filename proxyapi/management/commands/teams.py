"""`python manage.py teams …`: makes, lists and shows teams, for scripts.

Each change gets an entry in the admin's audit log, like a change on the pages of the admin.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from django.contrib.admin.models import ADDITION
from django.core.management.base import CommandError
from django.db import transaction

from proxyapi.keys.audit_log import log_change
from proxyapi.management.spender_command import (
    SHARED_FIELDS,
    SpenderCommand,
    add_shared_options,
    as_json,
    dollars,
    read_upstream_key,
)
from proxyapi.team_models import Team

FIELDS = (*SHARED_FIELDS, "self_service", "keys_per_member", "member_key_budget_month")
COLUMNS: tuple[str, ...] = ("STATE", "CREATED", "KEYS", "MEMBERS", "NAME")


class Command(SpenderCommand):
    help = "Makes, lists and shows teams, whose budgets and limits hold for all their keys together."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a team")
        add_shared_options(create)
        create.add_argument("--self-service", action="store_true", help="members may make their own keys")
        create.add_argument("--keys-per-member", type=int, help="how many keys a member may make; default: no limit")
        create.add_argument(
            "--member-key-budget-month", type=dollars, help="the highest budget per month of a key that a member makes"
        )
        show = actions.add_parser("show", help="what a team may do, its members and its keys")
        show.add_argument("name")
        listing = actions.add_parser("list", help="all teams")
        for action in (create, show, listing):
            action.add_argument("--json", action="store_true", help="print JSON")

    def create(self, options: Namespace) -> None:
        """Creates a team from the options of the command line, and prints a confirmation.

        With `--json`, prints the facts about the new team as JSON instead.
        """
        upstream_key = read_upstream_key(options.upstream_key_file)
        fields = {name: getattr(options, name) for name in FIELDS}
        with transaction.atomic():
            team = Team.objects.found(options.name, upstream_key=upstream_key, **fields)
            log_change(team, ADDITION, "Created", "teams")
        facts = _facts(team)
        self.stdout.write(json.dumps(facts, indent=2) if options.json else f"made the team {team.name!r}")

    def show(self, options: Namespace) -> None:
        """Prints the limits, the members and the keys of one team, as lines of text or, with `--json`, as JSON.

        Raises:
            CommandError: no team has the given name.
        """
        team = Team.objects.filter(name=options.name).first()
        if team is None:
            raise CommandError(f"there is no team {options.name!r}")
        self.print_facts(_facts(team), options)

    def list(self, options: Namespace) -> None:
        """Prints all teams, as a table or, with `--json`, as JSON."""
        teams = [_facts(team) for team in Team.objects.prefetch_related("keys", "memberships__user")]
        if options.json:
            self.stdout.write(json.dumps(teams, indent=2))
            return
        rows = [COLUMNS]
        for team in teams:
            created = str(team["created_at"])[: len("2026-11-30")]
            numbers = (len(team["keys"]), len(team["members"]))  # type: ignore[arg-type]  # both are lists
            rows.append(tuple(map(str, (team["state"], created, *numbers, team["name"]))))
        self.print_table(rows)


def _facts(team: Team) -> dict[str, object]:
    """Returns the facts about a team for `--json`, as a dict: state, rights, limits, budgets, members, keys and more.

    Times are texts in ISO 8601, and dollars are texts, too. Revoked keys are left out.
    """
    return {
        "name": team.name,
        "state": team.state,
        "active": team.active,
        **{name: as_json(getattr(team, name)) for name in (*FIELDS, "created_at", "changed_at")},
        "own_upstream_key": bool(team.sealed_upstream_key),
        "members": sorted(str(member) for member in team.memberships.all()),
        "keys": sorted(key.name for key in team.keys.all() if key.revoked_at is None),
    }
