"""`python manage.py import litellm`: makes keys that are like those of a LiteLLM proxy.

LiteLLM's database has only digests of its keys, so each key gets a new secret. All keys are made in one transaction,
which is committed after their secrets were written to a file. So there is never a key whose secret nobody has.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.contrib.admin.models import ADDITION
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from proxyapi.keys.audit_log import log_change
from proxyapi.keys.litellm_keys import KeyProposal, propose_key
from proxyapi.keys.litellm_tables import LiteLLMError, read_litellm_keys
from proxyapi.keys.private_file import write_private
from proxyapi.models import AccessKey
from proxyapi.upstream.self_calls import is_openai

STDIN = "-"


class Command(BaseCommand):
    help = "Makes keys that are like those of another proxy."
    requires_system_checks = ()  # they would load the admin, which takes as long as all else of a start

    def add_arguments(self, parser: ArgumentParser) -> None:
        sources = parser.add_subparsers(dest="action", required=True)
        litellm = sources.add_parser("litellm", help="the keys of a LiteLLM proxy, by its PostgreSQL database")
        litellm.add_argument(
            "--database-url-file", metavar="FILE", required=True,
            help="has LiteLLM's DATABASE_URL, and nothing else; - reads standard input",
        )  # fmt: skip
        target = litellm.add_mutually_exclusive_group(required=True)
        target.add_argument("--dry-run", action="store_true", help="only say what would be made, and what cannot be")
        target.add_argument("--keys-file", metavar="FILE", help="a new file for the new keys, as JSON, of mode 0600")

    def handle(self, *_args: object, **options: object) -> None:
        """Makes access keys like those of a LiteLLM proxy, and prints a report on each key.

        Without `--keys-file`, only prints the report.

        Raises:
            CommandError: no key was made. The message says what to correct.
        """
        path = Path(str(options["keys_file"])) if options["keys_file"] else None
        if path is not None and (os.path.lexists(path) or not path.parent.is_dir()):
            raise CommandError(f"{path} is there already, or its directory is not; name a new file")
        now, openai = datetime.now(UTC), is_openai(settings.OPENAI_BASE_URL)
        try:
            found = read_litellm_keys(_read(str(options["database_url_file"])))
            proposals = [propose_key(key, now, upstream_is_openai=openai) for key in found]
            texts = self._make(proposals, path)
        except (LiteLLMError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}; nothing was made") from None
        self._report(proposals, texts, path)

    def _make(self, proposals: Iterable[KeyProposal], path: Path | None) -> dict[str, str]:
        """Makes the proposed keys, writes their secrets to `path`, and returns a dict from name to secret.

        If `path` is None, this is a dry run: the keys are not stored. A proposal that cannot become a key gets a
        `refusal`.

        Raises:
            OSError: the file cannot be written; no key was made.
        """
        texts: dict[str, str] = {}
        entries = []
        try:
            with transaction.atomic():
                for proposal in proposals:
                    if not proposal.refusal and (text := self._make_one(proposal)):
                        texts[proposal.name] = text
                        entries.append({
                            "name": proposal.name,
                            "owner": proposal.fields["owner"],
                            "litellm_key": proposal.shown,
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
        return texts

    def _make_one(self, proposal: KeyProposal) -> str:
        """Creates the access key of a proposal, with an entry in the audit log, and returns the key's secret.

        If the key cannot be created, returns "" and stores the reason in `proposal.refusal`.
        """
        if AccessKey.objects.is_taken(proposal.name):
            proposal.refusal = "there is a key of this name already"
            return ""
        try:
            key, text = AccessKey.objects.issue(proposal.name, **proposal.fields)
        except ValidationError as error:
            proposal.refusal = " ".join(error.messages)
            return ""
        log_change(key, ADDITION, f"Created like the key {proposal.shown} of LiteLLM", "import litellm")
        return text

    def _report(self, proposals: Iterable[KeyProposal], texts: dict[str, str], path: Path | None) -> None:
        """Prints for each key of LiteLLM what became of it and how the new key differs, then the number of new keys."""
        left_out = 0
        for proposal in proposals:
            left_out += bool(proposal.refusal)
            became = f"left out: {proposal.refusal}" if proposal.refusal else _facts(proposal)
            self.stdout.write(f"{proposal.name} ({proposal.shown}): {became}")
            if not proposal.refusal:
                for remark in proposal.remarks:
                    self.stdout.write(f"    {remark}")
        verb = "would be made" if path is None else "made"
        where = f", and are in {path}" if texts and path is not None else ""
        self.stdout.write(f"{len(texts)} keys {verb}{where}; {left_out} left out")


def _facts(proposal: KeyProposal) -> str:
    """Returns the columns of a proposed key that are not empty as one line, like `budget_month 20; tags a, b`.

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
