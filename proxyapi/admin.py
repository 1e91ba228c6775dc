"""The pages of access keys in the admin, where keys are made, rotated and revoked. A key's secret is shown once.

The answer to the submitted form is the page with the secret. A redirect to that page would need a place to store the
secret in between.

Over 300 lines, since Django has all pages of a model in one class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.forms import Media
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import pluralize
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.views import ChangeList

from proxyapi.models import AccessKey
from proxyapi.pages import key_usage
from proxyapi.pages.admin_forms import GRACES, AccessKeyForm, RotateForm
from proxyapi.pages.handover.handover import Handover
from proxyapi.pages.handover.presets import PARAMETER, PRESETS, Preset, find_preset
from proxyapi.pages.key_usage import KeyFacts
from proxyapi.pages.team_admin import SpenderAdmin
from proxyapi.team_models import Team
from usage.admin_pages.access import may_see
from usage.admin_pages.admin_base import row_number
from usage.admin_pages.base_url import base_url
from usage.page_data.formatting import count, need_price
from usage.page_data.key_summary import KeySummary, budget_bars, last_used, read_summaries
from usage.untrusted_text import escape_invisible

USAGE = "proxyapi_accesskey_usage"
USAGE_DATA = f"{USAGE}_data"
EMPTY_LIMIT = "Leave empty for no limit."
STATE_LABELS = {"active": "success", "off": "warning", "expired": "warning", "revoked": "danger"}


class KeyChangeList(ChangeList):  # type: ignore[misc]  # unfold has no types
    def get_results(self, request: HttpRequest) -> None:
        """Loads the access keys for one page of the admin's list, and their usage if the person may see it."""
        super().get_results(request)
        if may_see(request):
            summaries = read_summaries([key.name for key in self.result_list], timezone.now())
            for key in self.result_list:
                key.summary = summaries[key.name]


class StateFilter(admin.SimpleListFilter):
    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[AccessKey]) -> list[tuple[str, str]]:
        return [(state, state) for state in STATE_LABELS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AccessKey]) -> QuerySet[AccessKey]:
        revoked, expired = Q(revoked_at__isnull=False), Q(expires_at__lte=timezone.now())
        conditions = {
            "revoked": revoked,
            "expired": expired & ~revoked,
            "off": Q(active=False) & ~expired & ~revoked,
            "active": Q(active=True) & ~revoked & (Q(expires_at__isnull=True) | ~expired),
        }
        return queryset.filter(conditions[value]) if (value := self.value()) in conditions else queryset


class TeamFilter(admin.SimpleListFilter):
    title, parameter_name = "team", "team"
    without = "none"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[AccessKey]) -> list[tuple[str, str]]:
        teams = [(str(number), escape_invisible(name)) for number, name in Team.objects.values_list("pk", "name")]
        return [*teams, (self.without, "no team")] if teams else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[AccessKey]) -> QuerySet[AccessKey]:
        value = self.value()
        if value == self.without:
            return queryset.filter(team=None)
        team = row_number(value or "")
        return queryset if team is None else queryset.filter(team=team)


@admin.register(AccessKey)
class AccessKeyAdmin(SpenderAdmin):
    form = AccessKeyForm
    without_account = "none: that of the team or of the server is used"
    list_display = (
        "name", "key_text", "owner", "team_name", "key_state", "spending", "week", "last_used",
    )  # fmt: skip
    seen_with_requests = ("spending", "week", "last_used")  # by those who may view requests
    list_before_template = "admin/proxyapi/accesskey/new_key.html"
    list_after_template = "admin/proxyapi/accesskey/built_in_key.html"
    list_filter = (StateFilter, TeamFilter)
    allowed_lookups = (StateFilter.parameter_name, TeamFilter.parameter_name)
    list_select_related = ("team",)
    search_fields = ("name", "owner", "note", "=last_four")
    search_help_text = "A part of the name, the owner or the note, or the last four characters."
    empty_words = "A key lets a person or a program make calls, within limits that you set. Add one for each."
    readonly_fields = ("key_text", "key_state", "previous_key", "own_account", "created", "changed")
    actions_detail = ("usage", "rotate", "revoke")

    about = ("name", "team", "owner", "owner_user", "note", "tags")
    # What nearly each new key is given. Its form begins with these, and has the others in folded sections.
    first = ("name", "allowed_models", "budget_month")
    rules = ("allowed_models", "allowed_routes", "shared_objects", "log_bodies")
    limits = (
        "requests_per_minute", "tokens_per_minute", "parallel_calls", "budget_day", "budget_month", "budget_total",
        "max_output_tokens", "min_output_tokens",
    )  # fmt: skip

    def get_fieldsets(self, request: HttpRequest, obj: AccessKey | None = None) -> Any:
        if obj is None:
            return self._fieldsets_of_new_key(find_preset(request.GET.get(PARAMETER)))
        return (
            ("Key", {"fields": ("key_text", "key_state", "previous_key", "created", "changed")}),
            ("About", {"fields": self.about}),
            ("Validity", {"fields": ("active", "expires_at")}),
            ("Permissions", {"fields": self.rules}),
            ("Limits", {"fields": self.limits, "description": EMPTY_LIMIT}),
            ("Account", {"fields": ("own_account", "upstream_key", "forget_upstream_key")}),
        )

    def _fieldsets_of_new_key(self, preset: Preset | None) -> Any:
        """Returns the sections of the form for a new access key: the usual fields, then folded sections with the rest.

        Django opens a folded section that has an error.
        """
        folded: dict[str, dict[str, Any]] = {
            "Owner, team and tags": {"fields": self.about},
            "Validity": {"fields": ("expires_at",)},
            "More permissions": {"fields": self.rules},
            "More limits": {"fields": self.limits, "description": EMPTY_LIMIT},
            "Account": {"fields": ("upstream_key",)},
        }
        rest = [
            (title, {**one, "fields": _without(one["fields"], self.first), "classes": ("collapse",)})
            for title, one in folded.items()
        ]
        return (("About", {"fields": self.first, "description": _preset_links(preset)}), *rest)

    def get_readonly_fields(self, request: HttpRequest, obj: AccessKey | None = None) -> tuple[str, ...]:
        fixed = () if obj is None else ("name",) if obj.revoked_at is None else ("name", "active", "expires_at")
        return (*self.readonly_fields, *fixed)

    def get_list_display(self, request: HttpRequest) -> list[str]:
        return [column for column in self.list_display if may_see(request) or column not in self.seen_with_requests]

    def get_changelist(self, request: HttpRequest, **options: object) -> type[KeyChangeList]:
        return KeyChangeList

    # Making a key

    @property
    def media(self) -> Media:
        found: Media = super().media
        return found + Media(js=["proxyapi/presets.js"])

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Mapping[str, object] | None = None
    ) -> HttpResponse:
        """Shows the form for a new access key, with Save as its only button; makes the key when the form is saved."""
        # The other buttons would skip the next page, which alone shows the key's secret.
        context = {"show_save_and_continue": False, "show_save_and_add_another": False, **(extra_context or {})}
        answer: HttpResponse = super().add_view(request, form_url, context)
        return answer

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, object]:
        """Returns the initial values of the form for a new key, from the preset that is named in the page's address.

        A preset is a set of values for a usual kind of key. The result is empty if the address names no preset.
        """
        # Nothing else of the address: Django would pass any text on to any field, which fails on a date.
        preset = find_preset(request.GET.get(PARAMETER))
        return {} if preset is None else preset.initial()

    def save_model(self, request: HttpRequest, obj: AccessKey, form: AccessKeyForm, change: bool) -> None:
        if change:
            self.save_change(obj, form)
        else:
            form.set_upstream_key(obj)
            request.key_text = obj.renew()  # type: ignore[attr-defined]  # for `response_add`, in the same request
            obj.save(force_insert=True)

    def response_add(self, request: HttpRequest, obj: AccessKey, post_url_continue: object = None) -> HttpResponse:
        return self._show(request, obj, request.key_text, "This is the new key.")  # type: ignore[attr-defined]

    # The usage of a key

    def get_urls(self) -> list[URLPattern]:
        data = self.admin_site.admin_view(self.usage_data)
        return [path("<path:object_id>/usage.json", data, name=USAGE_DATA), *super().get_urls()]

    def has_usage_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Returns whether the person may see the usage of access keys in the admin."""
        # A method, since django-unfold would look up a permission given by name in the database, and `manage.py check`
        # has none.
        return may_see(request)

    @action(description="Usage", url_path="usage", permissions=["view", "usage"])  # type: ignore[untyped-decorator]  # unfold's
    def usage(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = _key_or_404(object_id)
        facts = key_usage.page_context(request, KeyFacts.of(key), reverse(f"admin:{USAGE_DATA}", args=[key.pk]))
        return self._render(request, key, "Usage of", "usage.html", **facts)

    def usage_data(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not (may_see(request) and self.has_view_permission(request)):
            raise PermissionDenied
        return key_usage.data_response(request, KeyFacts.of(_key_or_404(object_id)))

    # Rotating and revoking a key

    @action(description="Rotate", url_path="rotate", permissions=["change"])  # type: ignore[untyped-decorator]  # unfold's
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = _key_or_404(object_id)
        form = RotateForm(request.POST or None)
        if form.is_valid():
            try:
                with transaction.atomic():
                    key = AccessKey.objects.select_for_update().get(pk=object_id)
                    text = key.rotate(form.chosen)
                    words = GRACES[form.cleaned_data["grace"]].partition(":")[0]
                    self.log_change(request, key, f"Rotated; grace for the old key: {words}.")
            except ValidationError as error:
                form.add_error(None, error)
            else:
                end = key.previous_valid_until
                old = (
                    f"The old key is valid until {end:%Y-%m-%d %H:%M} UTC."
                    if end
                    else "The old key is no longer valid."
                )
                return self._show(request, key, text, f"This is the new key. {old}")
        return self._render(request, key, "Rotate", "rotate_key.html", form=form)

    @action(description="Revoke", url_path="revoke", permissions=["change"], variant=ActionVariant.DANGER)  # type: ignore[untyped-decorator]  # unfold's
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = _key_or_404(object_id)
        if request.method == "POST":
            with transaction.atomic():
                key = AccessKey.objects.select_for_update().get(pk=object_id)
                key.revoke()
                self.log_change(request, key, "Revoked.")
            self.message_user(
                request, f"The key {key} is revoked. It stops working in about two seconds.", messages.SUCCESS
            )
            return redirect("admin:proxyapi_accesskey_change", key.pk)
        return self._render(request, key, "Revoke", "revoke_key.html")

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """Returns the action buttons for the admin's page of one access key; for a revoked key, only Usage."""
        actions: list[UnfoldAction] = super().get_actions_detail(request, object_id)
        if _key_or_404(object_id).revoked_at is None:
            return actions
        return [one for one in actions if one.action_name == USAGE]

    def _render(self, request: HttpRequest, key: AccessKey, verb: str, template: str, **more: object) -> HttpResponse:
        """Renders an admin page about one access key, such as the question whether to revoke the key."""
        context = {**self.admin_site.each_context(request), "opts": self.opts, "original": key, "key": key, **more}
        return TemplateResponse(
            request,
            f"admin/proxyapi/accesskey/{template}",
            {**context, "title": f"{verb} key {escape_invisible(key.name, 60)}"},
        )

    def _show(self, request: HttpRequest, key: AccessKey, text: str, words: str) -> HttpResponse:
        """Renders the admin page with an access key's new secret, which is shown only once."""
        handover = Handover(key, text, base_url(request))
        return self._render(request, key, "Secret of", "show_key.html", words=words, handover=handover)

    # Columns of the list, and fields of a key's page that cannot be edited

    @admin.display(description="key")
    def key_text(self, key: AccessKey) -> str:
        return format_html('<code class="cp-nowrap">{}</code>', key.masked)

    @admin.display(description="team", ordering="team__name")
    def team_name(self, key: AccessKey) -> str:
        return "-" if key.team is None else escape_invisible(key.team.name)

    @display(description="state", label=STATE_LABELS)  # type: ignore[untyped-decorator]  # unfold's
    def key_state(self, key: AccessKey) -> str:
        return key.state()

    @admin.display(description="spent")
    def spending(self, key: AccessKey) -> str:
        """Renders a key's spending for the admin's list: a bar for each budget, with the dollars spent and reserved.

        A key without budgets gets one bar, for the dollars of this month.
        """
        found = budget_bars(self._summary(key).spent, key.budgets, timezone.now())
        shown_bars = [bar for bar in found if bar.budget] or [bar for bar in found if bar.span == "month"]
        return render_to_string("admin/usage/bars.html", {"budget_bars": shown_bars})

    @admin.display(description="last 7 days")
    def week(self, key: AccessKey) -> str:
        summary = self._summary(key)
        if not summary.calls:
            return "no calls"
        calls = f"{count(summary.calls)} call{pluralize(summary.calls)}"
        # The dollars beside it lack what calls without a price have cost.
        lacking = format_html("<br>{}", need_price(summary.unpriced)) if summary.unpriced else ""
        return format_html('<span class="cp-nowrap">{}<br>{} failed{}</span>', calls, summary.error_rate, lacking)

    @admin.display(description="last used")
    def last_used(self, key: AccessKey) -> str:
        """Renders the day of a key's last call for the admin's list, and below it the link to the key's usage."""
        # Without a column of its own the link leaves room for the budgets.
        day = self._summary(key).spent.last_day
        words = last_used(day, timezone.now().date())
        when = format_html('<time datetime="{}" title="{}">{}</time>', day, day, words) if day else words
        url = reverse(f"admin:{USAGE}", args=[key.pk])
        link = '<span class="cp-nowrap">{}<br><a class="cp-link" href="{}" aria-label="Usage of {}">Usage</a></span>'
        return format_html(link, when, url, escape_invisible(key.name))

    def _summary(self, key: AccessKey) -> KeySummary:
        found: KeySummary = key.summary  # type: ignore[attr-defined]  # set by KeyChangeList, for the list only
        return found

    @admin.display(description="Previous key")
    def previous_key(self, key: AccessKey) -> str:
        until = key.previous_valid_until
        return f"valid until {until:%Y-%m-%d %H:%M} UTC" if until and until > timezone.now() else "-"


def _preset_links(chosen: Preset | None) -> str:
    """Renders the links that fill in the form for a new access key, one for each preset (a set of initial values).

    `chosen` is the preset that the page's address names, or None; its values are listed after the links. In the
    browser, `presets.js` fills in the form without loading the page again.
    """
    links = (
        (PARAMETER, preset.name, json.dumps(preset.form_values()), preset.filled_words(), preset.label)
        for preset in PRESETS
    )
    link = '<a class="cp-link" href="?{}={}" data-values="{}" data-filled="{}">{}</a>'
    return format_html(
        'Fill in for a usual kind of key: {} <span id="filled" role="status">{}</span>',
        format_html_join(" · ", link, links),
        f"Filled in: {chosen.filled_words()}." if chosen else "",
    )


def _without(names: tuple[str, ...], left_out: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in left_out)


def _key_or_404(object_id: str) -> AccessKey:
    """Returns the access key whose id is in the address of an admin page.

    Raises:
        Http404: there is no such key, or the text in the address is no id.
    """
    try:
        return AccessKey.objects.get(pk=object_id)
    except (AccessKey.DoesNotExist, ValueError):
        raise Http404("There is no such key.") from None
