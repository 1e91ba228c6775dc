"""The admin's pages of users and groups, where people can grant only rights they have (`chatproxy.accounts.grants`).

The rule is checked three times. A user or group with more rights than one's own cannot be changed or deleted (`has_*`).
A form offers only the rights that may be given, and any other value is an error of the form. The saved user or group is
checked once more before the transaction ends.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db.models import ManyToManyField, Model, QuerySet
from django.forms import ModelForm, ModelMultipleChoiceField
from django.http import HttpRequest, HttpResponse
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from chatproxy.accounts.grants import groups_grantable_by, may_change_group, may_change_user, permissions_of
from chatproxy.accounts.sign_in_tables import delete_sign_in_rows
from proxyapi.models import AccessKey
from usage.admin_pages.admin_base import GuardedAdmin

Holder = TypeVar("Holder", bound=Model)

admin.site.unregister(User)
admin.site.unregister(Group)


class GrantingAdmin(GuardedAdmin, Generic[Holder]):
    """Base class of the admin's pages of users and groups: people can give only permissions that they have."""

    def may_change(self, request: HttpRequest, obj: Holder) -> bool:
        """Returns whether the signed-in person may change `obj`, a user or group.

        The person must have all permissions that the user or group has. Subclasses implement this.
        """
        raise NotImplementedError

    def has_change_permission(self, request: HttpRequest, obj: Holder | None = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        return allowed and (obj is None or self.may_change(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Holder | None = None) -> bool:
        allowed = super().has_delete_permission(request, obj)
        return allowed and (obj is None or self.may_change(request, obj))

    def formfield_for_manytomany(
        self, db_field: ManyToManyField[Model, Model], request: HttpRequest, **options: object
    ) -> ModelMultipleChoiceField | None:  # type: ignore[type-arg]  # not subscriptable when it runs
        """Returns the form field in which a person chooses the groups or permissions of a user or group.

        The field offers only groups and permissions that the signed-in person may give; a superuser may give all.
        """
        field: ModelMultipleChoiceField | None  # type: ignore[type-arg]  # likewise
        field = super().formfield_for_manytomany(db_field, request, **options)
        if field is not None and field.queryset is not None and not request.user.is_superuser:
            giveable = groups_grantable_by(request.user) if db_field.name == "groups" else permissions_of(request.user)
            field.queryset = field.queryset.filter(pk__in=giveable.values("pk"))
        return field

    def save_related(self, request: HttpRequest, form: ModelForm, formsets: object, change: bool) -> None:  # type: ignore[type-arg]  # not subscriptable when it runs
        """Saves the groups and permissions that were chosen for a user or group, and checks the result.

        Raises:
            PermissionDenied: the signed-in person may not change the saved user or group; the transaction is rolled
                back.
        """
        super().save_related(request, form, formsets, change)
        if not self.may_change(request, form.instance):
            raise PermissionDenied


@admin.register(User)
class UserAdmin(DjangoUserAdmin, GrantingAdmin[User]):  # type: ignore[type-arg,misc]  # not subscriptable when it runs; unfold has no types
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    allowed_lookups = (
        "is_staff__exact", "is_superuser__exact", "is_active__exact", "groups__id__exact", "groups__isnull"
    )  # fmt: skip
    lookup_allowed = GrantingAdmin.lookup_allowed

    def may_change(self, request: HttpRequest, obj: User) -> bool:
        return may_change_user(request.user, obj)

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm, change: bool) -> None:  # type: ignore[type-arg]  # likewise
        """Saves a user; if the user has a new name, also writes it as the owner's name into the user's keys.

        Each change of a key is recorded in the audit log.
        """
        super().save_model(request, obj, form, change)
        if not change or "username" not in form.changed_data:
            return
        for key in AccessKey.objects.filter(owner_user=obj).select_for_update(of=("self",)):
            before = key.owner
            key.save(update_fields=["owner_user"])
            self.log_change(request, key, f"Changed owner from “{before}” to “{key.owner}”, its account's new name.")

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Deletes a user, and first the rows about the user in the tables of django-allauth.

        These tables can exist although the library is not installed now.
        """
        delete_sign_in_rows([obj.pk])
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Deletes several users, and first the rows about them in the tables of django-allauth.

        These tables can exist although the library is not installed now.
        """
        delete_sign_in_rows(queryset.values_list("pk", flat=True))
        super().delete_queryset(request, queryset)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str] | tuple[str, ...]:
        """Returns the fields of a user's form that this person can only read.

        They include `is_superuser`, unless the person is a superuser.
        """
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.is_superuser else (*fields, "is_superuser")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Returns the fields of a user's form, grouped by heading.

        For people who may only view the user, the field of the password is left out, since it would show a part of the
        password's hash.
        """
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [
            (title, {**options, "fields": tuple(name for name in options["fields"] if name != "password")})
            for title, options in fieldsets
        ]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:
        """Shows the form of a user (GET), or saves it (POST).

        Raises:
            PermissionDenied: the field `is_superuser` was sent by somebody who is no superuser.
        """
        if "is_superuser" in request.POST and not request.user.is_superuser:
            raise PermissionDenied
        answer: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        return answer


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, GrantingAdmin[Group]):  # type: ignore[misc]  # unfold has no types
    def may_change(self, request: HttpRequest, obj: Group) -> bool:
        return may_change_group(request.user, obj)
