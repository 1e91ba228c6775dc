"""Registers tables with Django's admin: requests (read-only), custom prices, and the audit log (read-only).

`chatproxy.accounts.accounts_admin` registers users and groups.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http import HttpRequest, HttpResponseBase

from usage.admin_pages import requests
from usage.admin_pages.admin_base import GuardedAdmin, ReadOnlyAdmin
from usage.admin_pages.needed_prices import PROPOSED
from usage.models import ModelPrice, Request
from usage.sums.ranges import read_moment
from usage.untrusted_text import escape_invisible


@admin.register(Request)
class RequestAdmin(ReadOnlyAdmin):
    """The admin's pages of logged requests, where nobody can change a request.

    The pages are this project's own, because Django's list would count all rows of a large table.
    """

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponseBase:
        return requests.show_list(request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, object] | None = None
    ) -> HttpResponseBase:
        return requests.show_one(request, object_id)


@admin.register(ModelPrice)
class ModelPriceAdmin(GuardedAdmin):
    list_display = (
        "model",
        "service_tier",
        "valid_from",
        "valid_until",
        "multiplier",
        "input",
        "cached_input",
        "output",
    )
    search_fields = ("model",)
    empty_words = (
        "Calls are billed by the published price list. Add a price for a model that the list does not have, or that"
        " costs you something else."
    )
    fieldsets = (
        (None, {"fields": ("model", "service_tier", "every_tier", "valid_from", "valid_until", "multiplier")}),
        (
            "Text, dollars per million tokens",
            {"fields": ("input", "cached_input", "cache_write", "cache_write_12h", "output")},
        ),
        (
            "Prompts of more than 272,000 tokens, dollars per million tokens",
            {
                "fields": (
                    "long_input", "long_cached_input", "long_cache_write", "long_cache_write_12h", "long_output",
                ),
                "description": "Leave empty for the same prices as for other prompts.",
            },
        ),
        (
            "Audio and images, dollars per million tokens",
            {
                "fields": (
                    "audio_input", "cached_audio_input", "audio_output",
                    "image_input", "cached_image_input", "image_output",
                )
            },
        ),
        (
            "Other, dollars",
            {"fields": ("characters", "per_minute", "per_picture", "per_web_search", "per_file_search")},
        ),
    )  # fmt: skip

    def get_fieldsets(self, request: HttpRequest, obj: ModelPrice | None = None) -> Any:
        """Returns the groups of fields in the admin's form of a custom price.

        If the query string proposes a price, the first group has a note that says so.
        """
        fieldsets = super().get_fieldsets(request, obj)
        if obj is not None or PROPOSED not in request.GET:
            return fieldsets
        (title, options), *others = fieldsets
        words = "The prices below are a proposal: those of a model of the same family. Check them before you save."
        return ((title, {**options, "description": words}), *others)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, object]:
        """Returns the initial values of the form for a new price, by field, from the query string of the form's page.

        `valid_from` and `valid_until` are parsed; a time that cannot be parsed is left out.
        """
        initial: dict[str, object] = dict(super().get_changeform_initial_data(request))
        for name in ("valid_from", "valid_until"):
            if name in initial:
                with suppress(ValueError):
                    initial[name] = read_moment(str(initial.pop(name)), datetime.now(UTC))
        return initial


class ActionFilter(admin.ChoicesFieldListFilter):
    """The filter of the audit log by what was done: added, changed or deleted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # the arguments of Django's filter
        super().__init__(*args, **kwargs)
        self.title = "action"


class KindFilter(admin.RelatedFieldListFilter):
    """The filter of the audit log by the kind of the object that was changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # the arguments of Django's filter
        super().__init__(*args, **kwargs)
        self.title = "kind"


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """The admin's page of past changes: who has changed what in the admin. Nobody can change its entries."""

    list_title = "Audit log"
    list_display = ("time", "user", "kind", "object_name", "change")
    fields = readonly_fields = list_display
    list_filter = (("action_flag", ActionFilter), ("content_type", KindFilter))
    allowed_lookups = ("action_flag__exact", "content_type__id__exact", "content_type__isnull")
    search_fields = ("object_repr", "change_message")
    empty_words = "What is changed in the admin, and by manage.py keys, will be listed here."
    list_select_related = ("user", "content_type")
    show_full_result_count = False

    @admin.display(description="time (UTC)", ordering="action_time")
    def time(self, entry: LogEntry) -> str:
        return f"{entry.action_time:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="kind", ordering="content_type")
    def kind(self, entry: LogEntry) -> str:
        """Returns the kind of the object that was changed, such as "key"; an empty text for a kind that is gone."""
        return entry.content_type.name if entry.content_type else ""

    @admin.display(description="name", ordering="object_repr")
    def object_name(self, entry: LogEntry) -> str:
        return escape_invisible(entry.object_repr)

    @admin.display(description="change")
    def change(self, entry: LogEntry) -> str:
        """Returns a description of a change for the audit log, such as "Changed owner from “Ada” to “Bob”.".

        An entry of an earlier release may have no description: then the name of the action, such as "Deletion", is
        returned.
        """
        # Deletions that an older version has logged have no description, so the name of the action is shown.
        return entry.get_change_message() or str(entry.get_action_flag_display())
