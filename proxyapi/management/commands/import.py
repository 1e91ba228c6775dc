"""`python manage.py import litellm`: makes keys and teams that are like those of a LiteLLM proxy.

LiteLLM's database has only digests of its keys, so each key gets a new secret. All keys and teams are made in one
transaction, which is committed after the secrets were written to a file. So there is never a key whose secret nobody
has.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.contrib.admin.models import ADDITION
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from proxyapi.keys.audit_log import log_change
from proxyapi.keys.litellm.conversion import Proposal
from proxyapi.keys.litellm.key_proposals import KeyProposal, propose_key
from proxyapi.keys.litellm.tables import LiteLLMError, read_litellm_keys
from proxyapi.keys.litellm.team_proposals import TeamProposal, propose_teams
from proxyapi.keys.private_file import write_private
from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from proxyapi.upstream.self_calls import is_openai
from usage.number_words import counted

STDIN = "-"


class Command(BaseCommand):
    help = "Makes keys and teams that are like those of another proxy."
    requires_system_checks = ()  # they would load the admin, which takes as long as all else of a start

    def add_arguments(self, parser: ArgumentParser) -> None:
        sources = parser.add_subparsers(dest="action", required=True)
        litellm = sources.add_parser(
            "litellm", help="the keys and teams of a LiteLLM proxy, by its PostgreSQL database"
        )
        litellm.add_argument(
            "--database-url-file", metavar="FILE", required=True,
            help="has LiteLLM's DATABASE_URL, and nothing else; - reads standard input",
        )  # fmt: skip
        target = litellm.add_mutually_exclusive_group(required=True)
        target.add_argument("--dry-run", action="store_true", help="only say what would be made, and what cannot be")
        target.add_argument("--keys-file", metavar="FILE", help="a new file for the new keys, as JSON, of mode 0600")

    def handle(self, *_args: object, **options: object) -> None:
        """Makes access keys and teams like those of a LiteLLM proxy, and prints a report on each.

        Without `--keys-file`, only prints the report.

        Raises:
            CommandError: nothing was made. The message says what to correct.
        """
        path = Path(str(options["keys_file"])) if options["keys_file"] else None
        if path is not None and (os.path.lexists(path) or not path.parent.is_dir()):
            raise CommandError(f"{path} is there already, or its directory is not; name a new file")
        now, openai = datetime.now(UTC), is_openai(settings.OPENAI_BASE_URL)
        try:
            found = read_litellm_keys(_read(str(options["database_url_file"])))
            keys = [propose_key(key, now, upstream_is_openai=openai) for key in found]
            teams = propose_teams(found, upstream_is_openai=openai)
            made, texts = self._make(teams, keys, path)
        except (LiteLLMError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}; nothing was made") from None
        self._report(teams.values(), keys)
        verb = "would be made" if path is None else "made"
        where = f", and are in {path}" if texts and path is not None else ""
        left_out = sum(bool(key.refusal) for key in keys)
        new = f"{counted(made, 'team')} and {counted(len(texts), 'key')} {verb}{where}"
        self.stdout.write(f"{new}; {counted(left_out, 'key')} left out")

    def _make(
        self, teams: Mapping[str, TeamProposal], keys: Iterable[KeyProposal], path: Path | None
    ) -> tuple[int, dict[str, str]]:
        """Makes the proposed teams and keys, and writes the keys' secrets to `path`.

        Returns the number of new teams, and a dict from the name of each new key to its secret. `teams` maps LiteLLM's
        ids of teams to the proposals. If `path` is None, this is a dry run: nothing is stored. A proposal that cannot
        become a key or a team gets a `refusal`.

        Raises:
            OSError: the file cannot be written; nothing was made.
        """
        texts: dict[str, str] = {}
        entries = []
        try:
            with transaction.atomic():
                wanted = {key.team_id for key in keys if not key.refusal}
                found = {number: self._team(team) for number, team in teams.items() if number in wanted}
                for key in keys:
                    team = found.get(key.team_id)
                    if key.team_id and team is None and not key.refusal:
                        key.refusal = "its team is left out"
                    if not key.refusal and (text := self._make_one(key, team)):
                        texts[key.name] = text
                        entries.append({
                            "name": key.name,
                            "team": team.name if team else "",
                            "owner": key.fields["owner"],
                            "litellm_key": key.shown,
                            "key": text,
                        })  # fmt: skip
                if path is None:
                    transaction.set_rollback(True)
                elif texts:
                    write_private(path, json.dumps(entries, indent=2) + "\n")
        except BaseException:  # a border: without the keys, the file would be a lie
            if path is not None:
                path.unlink(missing_ok=True)
            raise
        return sum(team.is_new for team in teams.values()), texts

    def _team(self, proposal: TeamProposal) -> Team | None:
        """Creates the team of a proposal, with an entry in the audit log; or finds the team that has its name already.

        Returns None, and stores the reason in `proposal.refusal`, if the team cannot be created.
        """
        if (team := Team.objects.find(proposal.name)) is not None:
            proposal.is_known = True
            return team
        try:
            team = Team.objects.found(proposal.name, **proposal.fields)
        except ValidationError as error:
            proposal.refusal = " ".join(error.messages)
            return None
        proposal.is_new = True
        log_change(team, ADDITION, f"Created like the team {proposal.shown} of LiteLLM", "import litellm")
        return team

    def _make_one(self, proposal: KeyProposal, team: Team | None) -> str:
        """Creates the access key of a proposal, with an entry in the audit log, and returns the key's secret.

        If the key cannot be created, returns "" and stores the reason in `proposal.refusal`.
        """
        if AccessKey.objects.is_taken(proposal.name):
            proposal.refusal = "there is a key of this name already"
            return ""
        try:
            key, text = AccessKey.objects.issue(proposal.name, team=team, **proposal.fields)
        except ValidationError as error:
            proposal.refusal = " ".join(error.messages)
            return ""
        log_change(key, ADDITION, f"Created like the key {proposal.shown} of LiteLLM", "import litellm")
        return text

    def _report(self, teams: Iterable[TeamProposal], keys: Iterable[KeyProposal]) -> None:
        """Prints what became of each team and key of LiteLLM, and how the new ones differ from these."""
        for team in teams:
            if team.is_new or team.refusal:
                self._report_one(f"team {team.name}", team)
            elif team.is_known:
                self.stdout.write(f"team {team.name} ({team.shown}): is here already, and keeps its own limits")
        for key in keys:
            self._report_one(key.name, key)

    def _report_one(self, name: str, proposal: Proposal) -> None:
        """Prints a line on one proposal; if it was made, then a line for each of its remarks."""
        became = f"left out: {proposal.refusal}" if proposal.refusal else _facts(proposal)
        self.stdout.write(f"{name} ({proposal.shown}): {became}")
        if not proposal.refusal:
            for remark in proposal.remarks:
                self.stdout.write(f"    {remark}")


def _facts(proposal: Proposal) -> str:
    """Returns the columns of a proposed key or team that are not empty as one line, like `budget_month 20; tags a, b`.

    The note is left out. The result is "no limits" if all other columns are empty.
    """
    shown = {
        name: value
        for name, value in proposal.fields.items()
        if name not in {"note", "active"} and value not in (None, "", [])
    }
    texts = [f"{name} {', '.join(value) if isinstance(value, list) else value}" for name, value in shown.items()]
    return "; ".join(texts) or "no limits"


def _read(path: str) -> str:
    """Returns the text of the file `path` or, for `-`, of the standard input.

    Raises:
        CommandError: the file cannot be read.
    """
    try:
        return sys.stdin.read() if path == STDIN else Path(path).read_text()
    except (OSError, UnicodeError) as error:
        raise CommandError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
