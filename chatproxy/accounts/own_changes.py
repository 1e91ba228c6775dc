"""Records in the audit log what changes how a person signs in: a claim, their own password, or a second factor."""

from __future__ import annotations

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType


def log_own_change(user: User, words: str) -> None:
    """Adds an entry to the audit log, under the name of `user`, about a change of their own account.

    `words` are a sentence about the change. Call this in the transaction of the change, so that change and entry are
    stored together.
    """
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(user.pk),
        object_repr=str(user)[:200],
        action_flag=CHANGE,
        change_message=words,
    )
