"""The pages of API tokens in the admin, where tokens are made and revoked. A token's secret is shown once.

A person makes tokens for themselves only, and a token can never do more than its user. Whoever has the permission to
change tokens may revoke those of everybody. A token cannot be changed, since its scopes could then grow without its
holder knowing.
"""

from __future__ import annotations

from collections.abc import Mapping

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from proxyapi.models import ApiToken, ApiTokenScope
from usage.admin_pages.admin_base import GuardedAdmin, signed_in
from usage.admin_pages.base_url import base_url
from usage.untrusted_text import escape_invisible

TOKEN_STATES = {"active": "success", "user inactive": "warning", "expired": "warning", "revoked": "danger"}
EXAMPLES = {ApiTokenScope.KEYS_READ: "/api/keys", ApiTokenScope.TEAMS_READ: "/api/teams"}
HIDDEN_BUTTONS = {"show_save_and_continue": False, "show_save_and_add_another": False}


class ApiTokenForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable when it runs
    """The admin's form for a new API token."""

    scopes = forms.MultipleChoiceField(
        choices=ApiTokenScope.choices,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="It may do what these allow and what you may do yourself, at any moment.",
    )

    class Meta:
        model = ApiToken
        fields = ("name", "scopes", "expires_at")


@admin.register(ApiToken)
class ApiTokenAdmin(GuardedAdmin):
    form = ApiTokenForm
    list_display = ("name", "token_text", "user_name", "scope_names", "token_state", "expires_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("name", "user__username", "=last_four")
    search_help_text = "A part of the name or of its user, or the last four characters."
    empty_words = "A script manages keys and teams with an API token. Add one for each script."
    readonly_fields = ("token_text", "user_name", "scope_names", "token_state", "created_at", "last_used_at")
    fixed = (
        "name",
        "token_text",
        "user_name",
        "scope_names",
        "token_state",
        "created_at",
        "expires_at",
        "last_used_at",
    )
    actions_detail = ("revoke",)

    def has_delete_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> tuple[str, ...]:
        return ApiTokenForm.Meta.fields if obj is None else self.fixed

    def get_readonly_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> tuple[str, ...]:
        return self.readonly_fields if obj is None else self.fixed

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        rows: QuerySet[ApiToken] = super().get_queryset(request)
        return rows.select_related("user")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Mapping[str, object] | None = None
    ) -> HttpResponse:
        """Shows the form for a new API token, with Save as its only button; a POST of the form makes the token."""
        # The other buttons would skip the next page, which alone shows the token's secret.
        answer: HttpResponse = super().add_view(request, form_url, {**HIDDEN_BUTTONS, **(extra_context or {})})
        return answer

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Mapping[str, object] | None = None,
    ) -> HttpResponse:
        """Shows the admin's page of an API token, without buttons to save: a token cannot be changed."""
        context = {**HIDDEN_BUTTONS, "show_save": False, **(extra_context or {})}
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer

    def save_model(self, request: HttpRequest, obj: ApiToken, form: ApiTokenForm, change: bool) -> None:
        if not change:
            obj.user_id = signed_in(request)
            request.token_text = obj.renew()  # type: ignore[attr-defined]  # for `response_add`, in the same request
            obj.save(force_insert=True)

    def response_add(self, request: HttpRequest, obj: ApiToken, post_url_continue: object = None) -> HttpResponse:
        text: str = request.token_text  # type: ignore[attr-defined]  # of `save_model`
        address = next((path for scope, path in EXAMPLES.items() if scope in obj.scopes), "/api/keys")
        curl = f'curl {base_url(request)}{address} \\\n  -H "Authorization: Bearer {text}"'
        return self._ask(request, obj, "API token", "show_token.html", text=text, curl=curl)

    @action(description="Revoke", url_path="revoke", permissions=["change"], variant=ActionVariant.DANGER)  # type: ignore[untyped-decorator]  # unfold's
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        token = self.get_object(request, object_id)
        if token is None:
            raise Http404("There is no such API token.")
        if request.method == "POST":
            with transaction.atomic():
                token = ApiToken.objects.select_for_update().get(pk=token.pk)
                token.revoke()
                self.log_change(request, token, "Revoked.")
            self.message_user(request, f"The API token {token} is revoked.", messages.SUCCESS)
            return redirect("admin:proxyapi_apitoken_change", token.pk)
        return self._ask(request, token, "Revoke API token", "revoke_token.html")

    def _ask(self, request: HttpRequest, token: ApiToken, verb: str, template: str, **more: object) -> HttpResponse:
        """Renders an admin page about one API token, such as the question whether to revoke the token.

        `verb` begins the title of the page, and `more` are further values for the template.
        """
        title = f"{verb} {escape_invisible(token.name, 60)}"
        context = {**self.admin_site.each_context(request), "opts": self.opts, "original": token, "token": token}
        return TemplateResponse(request, f"admin/proxyapi/apitoken/{template}", {**context, "title": title, **more})

    @admin.display(description="token")
    def token_text(self, token: ApiToken) -> str:
        return token.masked

    @admin.display(description="user", ordering="user__username")
    def user_name(self, token: ApiToken) -> str:
        return escape_invisible(str(token.user))

    @admin.display(description="scopes")
    def scope_names(self, token: ApiToken) -> str:
        return ", ".join(token.scopes)

    @display(description="state", label=TOKEN_STATES)  # type: ignore[untyped-decorator]  # unfold's
    def token_state(self, token: ApiToken) -> str:
        return token.state()
