"""The tables of django-allauth in the admin: only second factors are shown, and can only be deleted.

By itself, the library shows all of its tables, with forms in which a second factor or a secret could be entered.
"""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.http import HttpRequest

from chatproxy.accounts.grants import may_change_user
from usage.admin_pages.admin_base import ReadOnlyAdmin

for model in (EmailAddress, SocialAccount, SocialApp, SocialToken):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class SecondFactorAdmin(ReadOnlyAdmin):
    """The admin's page of second factors, where they can only be deleted.

    Whoever may change another person's account may delete that person's second factors.
    """

    list_display = fields = readonly_fields = ("user", "type", "created_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("user__username",)
    show_full_result_count = False
    empty_words = "The second factors that people have set up will be listed here."

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("auth.change_user")

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("auth.change_user")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Returns whether the signed-in person may delete the second factor `obj`: never their own.

        The person must be allowed to change the owner of `obj`. Without `obj`, returns whether the person may change
        users at all.
        """
        # One's own page of second factors asks for the password before, which a stolen session does not have.
        owner: User | None = getattr(obj, "user", None)
        is_others = owner is None or (owner.pk != request.user.pk and may_change_user(request.user, owner))
        return request.user.has_perm("auth.change_user") and is_others

    def get_actions(self, request: HttpRequest) -> dict[str, object]:
        """Returns an empty dict, so that nothing can be done with several second factors at once.

        The right to delete a second factor is checked for each one.
        """
        return {}


if apps.is_installed("allauth.mfa"):
    factors = apps.get_app_config("mfa").get_model("Authenticator")
    admin.site.unregister(factors)
    admin.site.register(factors, SecondFactorAdmin)
