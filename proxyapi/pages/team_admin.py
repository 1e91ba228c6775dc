"""The admin's pages of teams, and the base class that they share with the admin's pages of access keys."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.postgres.fields import ArrayField
from django.db.models import Count, Field, Q, QuerySet, TextField
from django.forms import Field as FormField
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextareaWidget

from proxyapi.pages.admin_forms import LinesField, SpenderForm, TeamForm
from proxyapi.pages.handover.model_list import ModelsField, ModelsWidget
from proxyapi.team_models import SpenderColumns, Team, TeamMember
from usage.admin_pages.access import may_see
from usage.admin_pages.admin_base import GuardedAdmin
from usage.money.spent_and_reserved import Spent, spent_by
from usage.page_data.key_summary import budget_bars
from usage.untrusted_text import escape_invisible

TEAM_STATES = {"active": "success", "archived": "warning"}
MOST_FOUND = 20  # keys, and teams, that the dialog of Ctrl+K offers; its time grows with the square of their number
MOST_SHOWN_KEYS = 100  # on a team's page; the list of keys has all


class SpenderAdmin(GuardedAdmin):
    """Base class of the admin's pages of access keys and of teams. Nobody can delete their rows."""

    class Media:
        css = {"all": ["usage/pages.css"]}  # noqa: RUF012  (Django's attribute)
        js = ("proxyapi/forms.js",)

    without_account = "none: the server's is used"
    list_filter_sheet = False
    list_per_page = 25
    formfield_overrides = {  # noqa: RUF012  (Django's attribute)
        ArrayField: {"form_class": LinesField, "widget": UnfoldAdminTextareaWidget({"rows": 3})},
        TextField: {"widget": UnfoldAdminTextareaWidget({"rows": 3})},
    }

    def formfield_for_dbfield(
        self, db_field: Field[object, object], request: HttpRequest, **options: object
    ) -> FormField | None:
        """Returns the form field for a database column.

        The field for the allowed models has a box to tick for each model with a price, and a text area for patterns.
        """
        if db_field.name == "allowed_models":
            widget = ModelsWidget(UnfoldAdminTextareaWidget({"rows": 3}))
            # Compared with the row, not with a hidden field: that would need the same order.
            options |= {"form_class": ModelsField, "widget": widget, "show_hidden_initial": False}
        found: FormField | None = super().formfield_for_dbfield(db_field, request, **options)
        return found

    def has_delete_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Returns the rows that contain the searched text, and whether a row may occur twice among them.

        In the admin's search dialog (Ctrl+K), at most `MOST_FOUND` rows are returned.
        """
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        match = request.resolver_match
        is_dialog = match is not None and match.view_name == "admin:search"
        return (found[:MOST_FOUND] if is_dialog else found), has_duplicates

    def save_change(self, row: SpenderColumns, form: SpenderForm) -> None:
        """Saves the columns of a key or a team that a person has changed in the form, and a changed upstream key."""
        account_set = form.set_upstream_key(row)
        row.save(update_fields=[*form.changed_columns, *(["sealed_upstream_key"] if account_set else [])])

    @admin.display(description="created (UTC)", ordering="created_at")
    def created(self, row: SpenderColumns) -> str:
        return f"{row.created_at:%Y-%m-%d %H:%M}"

    @admin.display(description="changed (UTC)")
    def changed(self, row: SpenderColumns) -> str:
        return f"{row.changed_at:%Y-%m-%d %H:%M}"

    @admin.display(description="Own upstream key")
    def own_account(self, row: SpenderColumns) -> str:
        return "set" if row.sealed_upstream_key else self.without_account


class TeamChangeList(ChangeList):  # type: ignore[misc]  # unfold has no types
    def get_results(self, request: HttpRequest) -> None:
        """Loads the teams for one page of the admin's list, and their spending if the person may see it."""
        super().get_results(request)
        if may_see(request):
            spent = spent_by("team", [team.name for team in self.result_list], timezone.now().date())
            for team in self.result_list:
                team.spent = spent[team.name]


class TeamStateFilter(admin.SimpleListFilter):
    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Team]) -> list[tuple[str, str]]:
        return [(state, state) for state in TEAM_STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Team]) -> QuerySet[Team]:
        return queryset.filter(active=value == "active") if (value := self.value()) in TEAM_STATES else queryset


class MembersOfTeam(TabularInline):  # type: ignore[misc]  # unfold has no types
    model = TeamMember
    fields = ("user", "role")
    extra = 0


@admin.register(Team)
class TeamAdmin(SpenderAdmin):
    form = TeamForm
    list_display = ("name", "team_state", "key_count", "member_count", "spending", "created")
    seen_with_requests = ("spending",)  # by those who may view requests
    list_filter = (TeamStateFilter,)
    allowed_lookups = (TeamStateFilter.parameter_name,)
    search_fields = ("name", "note")
    search_help_text = "A part of the name or the note."
    empty_words = "A team's budgets and limits hold for all its keys together. Add one, and choose it in its keys."
    readonly_fields = ("team_state", "keys_of_team", "spent", "own_account", "created", "changed")
    inlines = (MembersOfTeam,)

    about = ("name", "note", "tags")
    rules = ("allowed_models", "allowed_routes", "log_bodies")
    limits = (
        "requests_per_minute", "tokens_per_minute", "parallel_calls", "budget_day", "budget_month", "budget_total",
    )  # fmt: skip
    of_members = ("self_service", "keys_per_member", "member_key_budget_month")

    def get_fieldsets(self, request: HttpRequest, obj: Team | None = None) -> Any:
        account: tuple[str, ...] = ("upstream_key",)
        facts: tuple[tuple[str, dict[str, tuple[str, ...]]], ...] = ()
        if obj is not None:
            account = ("own_account", "upstream_key", "forget_upstream_key")
            spent = ("spent",) if may_see(request) else ()
            facts = (
                ("Team", {"fields": ("team_state", "keys_of_team", *spent, "created", "changed")}),
                ("Validity", {"fields": ("active",)}),
            )
        words = "They hold for all keys of the team together, beside those of each key. Leave empty for no limit."
        return (
            *facts,
            ("About", {"fields": self.about}),
            ("Permissions", {"fields": self.rules}),
            ("Limits", {"fields": self.limits, "description": words}),
            ("Self-service", {"fields": self.of_members}),
            ("Account", {"fields": account}),
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Team | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, *(() if obj is None else ("name",)))

    def get_list_display(self, request: HttpRequest) -> list[str]:
        return [column for column in self.list_display if may_see(request) or column not in self.seen_with_requests]

    def get_changelist(self, request: HttpRequest, **options: object) -> type[TeamChangeList]:
        return TeamChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Team]:
        rows: QuerySet[Team] = super().get_queryset(request)
        return rows.annotate(
            keys_in_use=Count("keys", Q(keys__revoked_at=None), distinct=True),
            people=Count("memberships", distinct=True),
        )

    def save_model(self, request: HttpRequest, obj: Team, form: TeamForm, change: bool) -> None:
        if change:
            self.save_change(obj, form)
        else:
            form.set_upstream_key(obj)
            obj.save(force_insert=True)

    # Columns of the list, and fields of a team's page that cannot be edited

    @display(description="state", label=TEAM_STATES)  # type: ignore[untyped-decorator]  # unfold's
    def team_state(self, team: Team) -> str:
        return team.state

    @admin.display(description="keys", ordering="keys_in_use")
    def key_count(self, team: Team) -> str:
        found: int = team.keys_in_use  # type: ignore[attr-defined]  # of `get_queryset`
        address = reverse("admin:proxyapi_accesskey_changelist", query={"team": team.pk})
        return format_html('<a class="cp-link" href="{}">{}</a>', address, found)

    @admin.display(description="members", ordering="people")
    def member_count(self, team: Team) -> int:
        found: int = team.people  # type: ignore[attr-defined]  # likewise
        return found

    @admin.display(description="Keys")
    def keys_of_team(self, team: Team) -> str:
        """Renders links to the keys of a team that are not revoked, at most `MOST_SHOWN_KEYS`, for the team's page."""
        keys = team.keys.filter(revoked_at=None).only("pk", "name", "team")[:MOST_SHOWN_KEYS]
        links = (
            (reverse("admin:proxyapi_accesskey_change", args=[key.pk]), escape_invisible(key.name)) for key in keys
        )
        return format_html_join(", ", '<a class="cp-link" href="{}">{}</a>', links) or "none"

    @admin.display(description="spent")
    def spending(self, team: Team) -> str:
        """Renders a team's spending for the admin's list of teams, as bars: one per budget.

        If the team has no budget, there is one bar for this month.
        """
        found: Spent = team.spent  # type: ignore[attr-defined]  # set by TeamChangeList, for the list only
        return _bars(found, team, is_short=True)

    @admin.display(description="Spent")
    def spent(self, team: Team) -> str:
        """Renders a team's spending for the admin's page of the team, as bars: today, this month and in total."""
        return _bars(spent_by("team", [team.name], timezone.now().date())[team.name], team)


def _bars(spent: Spent, team: Team, *, is_short: bool = False) -> str:
    """Renders a team's spending as three bars: today, this month and in total.

    If `is_short` is true, renders one bar per budget instead, or one for this month if the team has no budget.
    """
    found = budget_bars(spent, team.budgets, timezone.now())
    if is_short:
        found = [bar for bar in found if bar.budget] or [bar for bar in found if bar.span == "month"]
    return render_to_string("admin/usage/bars.html", {"budget_bars": found})
