"""Records in the audit log who has looked at the content of calls, if the setting `AUDIT_BODY_VIEWS` is on.

These actions are recorded: opening a request's page with its prompt and answer, opening the page of a session or an end
user with the prompts and answers of several calls (an entry for each call), searching prompts and answers for
words (in the list, in an export, and from a request's page for the next one in the list), and exporting a list with
texts of errors, which may quote prompts. The entry is written before the content is shown; if it cannot be written,
nothing is shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest

from usage.admin_pages.admin_base import signed_in
from usage.models import Request
from usage.untrusted_text import escape_invisible

VIEW = 4  # the action of an entry of the audit log; Django's own are 1, 2 and 3


def log_views_of_calls(request: HttpRequest, calls: Iterable[Request]) -> None:
    """Records in the audit log that the signed-in person sees the bodies of calls, if `AUDIT_BODY_VIEWS` is on.

    Each call gets an entry of its own, so that the entry is in the history of the call.
    """
    about = "Looked at the prompt and the answer of a call of the key"
    _log(
        request,
        *((str(call.pk), f"call {call.pk}", f"{about} “{escape_invisible(call.key_name, 200)}”.") for call in calls),
    )


def log_search(request: HttpRequest, text: str) -> None:
    """Records in the audit log that the signed-in person searches prompts and answers, if `AUDIT_BODY_VIEWS` is on.

    `text` is the text that they search for.
    """
    _log(request, ("", "search", f"Searched prompts and answers for “{escape_invisible(text, 200)}”."))


def log_export(request: HttpRequest, query: str) -> None:
    """Records in the audit log that the signed-in person exports calls with error texts, if `AUDIT_BODY_VIEWS` is on.

    `query` is the query string of the filters that select the calls; it is empty for all calls.
    """
    which = f"the calls that match {escape_invisible(query, 500)}" if query else "all calls"
    _log(request, ("", "export", f"Exported {which}, with the texts of errors."))


def _log(request: HttpRequest, *views: tuple[str, str, str]) -> None:
    """Writes an entry to the audit log for each of `views`, if the setting `AUDIT_BODY_VIEWS` is on; else does nothing.

    A view is a tuple of three texts: the call's id or "", the name of what was viewed, and a sentence about what was
    done.
    """
    if not settings.AUDIT_BODY_VIEWS:
        return
    LogEntry.objects.bulk_create(
        LogEntry(
            user_id=signed_in(request),
            content_type=ContentType.objects.get_for_model(Request),
            object_id=object_id,
            object_repr=about,
            action_flag=VIEW,
            change_message=words,
        )
        for object_id, about, words in views
    )
