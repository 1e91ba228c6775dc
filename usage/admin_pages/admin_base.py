"""The base classes of all tables' pages in the admin, whose lists can be filtered only by allowed columns.

Django lets the URL of a list filter by any column (`?digest__startswith=a`). So whoever may view a list could find out
hidden values, one character at a time. Here a lookup that is not in `allowed_lookups` is answered with 400.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.forms import BaseForm, BaseModelFormSet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from usage.admin_pages.audit_words import change_in_words, deletion_in_words


def row_number(text: str) -> int | None:
    """Parses the number of a table's row in the address of a page or in a sent form; returns None for any other text.

    PostgreSQL has no larger numbers of rows, and Python refuses to parse much larger ones.
    """
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def signed_in(request: HttpRequest) -> int:
    """Returns the id of the person who is signed in to the admin.

    Raises:
        PermissionDenied: nobody is signed in.
    """
    if request.user.pk is None:
        raise PermissionDenied
    return request.user.pk


class GuardedAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Base class of a table's pages in the admin; their list can be filtered only by columns in `allowed_lookups`.

    The query parameter of a `SimpleListFilter` must be in `allowed_lookups`, too, since Django checks it like a column.
    """

    allowed_lookups: tuple[str, ...] = ()
    empty_words = ""  # what the list is for and what to do, where it has no row yet

    def lookup_allowed(self, lookup: str, value: object, request: HttpRequest | None = None) -> bool:
        return lookup in self.allowed_lookups

    def construct_change_message(
        self,
        request: HttpRequest,
        form: BaseForm,
        formsets: Iterable[BaseModelFormSet] | None,  # type: ignore[type-arg]  # not subscriptable when it runs
        add: bool = False,
    ) -> str:
        """Returns for the audit log what a sent form changes, in words, with the values before and after the change."""
        # Django names the fields, but not their values.
        return change_in_words(form, formsets or (), is_new=add)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Model]) -> None:
        """Adds an entry to the audit log for each row that is about to be deleted, with the values in the row."""
        for row in queryset:
            LogEntry.objects.create(
                user_id=signed_in(request),
                content_type=ContentType.objects.get_for_model(row, for_concrete_model=False),
                object_id=str(row.pk),
                object_repr=str(row)[:200],
                action_flag=DELETION,
                change_message=deletion_in_words(row),
            )


class ReadOnlyAdmin(GuardedAdmin):
    """Base class of a table's pages in the admin where people can view rows, but not add, change or delete them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
