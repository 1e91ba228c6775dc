"""Writes to the admin's audit log which keys and teams were changed by commands and by API tokens.

An entry of the log needs an account. For an API token, it is the account of its user. For commands, it is an account
that cannot sign in; the first entry of a command creates it.
"""

from __future__ import annotations

import os
import pwd

from django.contrib.admin.models import LogEntry
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType

from proxyapi.models import ApiToken
from proxyapi.team_models import SpenderColumns
from usage.untrusted_text import escape_invisible

ACCOUNT = "manage.py"  # the name of the account of the audit log's entries


def log_change(row: SpenderColumns, action: int, words: str, command: str) -> None:
    """Records in the admin's audit log that a command has changed a key or a team, and which system user has run it.

    `action` is one of Django's log actions, such as `ADDITION`; `words` say what was done; `command` is the command of
    `manage.py`. The entry names the user `ACCOUNT`, an inactive account, which is created if it is missing. Call this
    in the transaction of the change, so that change and entry are stored together.
    """
    account, _ = User.objects.get_or_create(
        username=ACCOUNT, defaults={"is_active": False, "password": make_password(None)}
    )
    _add_entry(account, row, action, f"{words}, with `manage.py {command}` by the system user {_system_user()}.")


def log_token_change(row: SpenderColumns, action: int, words: str, token: ApiToken) -> None:
    """Records in the admin's audit log that an API token has changed a key or a team; names the token and its user.

    `action` is one of Django's log actions, such as `ADDITION`; `words` are whole sentences about the change. Call this
    in the transaction of the change, so that change and entry are stored together.
    """
    _add_entry(token.user, row, action, f"{words} By the API token “{escape_invisible(token.name)}”.")


def _add_entry(user: User, row: SpenderColumns, action: int, message: str) -> None:
    """Adds an entry about a change of a key or a team to the admin's audit log."""
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(row),
        object_id=str(row.pk),
        object_repr=str(row),
        action_flag=action,
        change_message=message,
    )


def _system_user() -> str:
    """Returns the name of the operating system's user that runs this process, or the user's number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
