"""The base classes of every table in the admin. The address of a list filters by the columns that the class allows.

Django lets the address of a list filter by any column (`?digest__startswith=a`): whoever may view a list could find out
the values that the list does not show, one character at a time. Here a lookup that is not in `allowed_lookups` is
answered with 400.
"""

from __future__ import annotations

from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin

# Columns that no list, filter, search or order may read, whatever a class allows.
SECRET_COLUMNS = frozenset({
    "password", "digest", "previous_digest", "sealed_upstream_key", "sealed_url", "sealed_secret", "session_data",
    "session_key", "request_body", "response_body",
})  # fmt: skip


class GuardedAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Base class for the admin of a table, whose list can be filtered only by the columns in `allowed_lookups`.

    Django checks the query parameter of a `SimpleListFilter` in the same way, so `allowed_lookups` must have it as
    well.
    """

    allowed_lookups: tuple[str, ...] = ()
    empty_words = ""  # what the list is for and what to do, where it has no row yet

    def lookup_allowed(self, lookup: str, value: object, request: HttpRequest | None = None) -> bool:
        return lookup in self.allowed_lookups


class ReadOnlyAdmin(GuardedAdmin):
    """Base class for the admin of a table whose rows people can view, but not add, change or delete."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
