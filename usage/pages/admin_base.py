"""Owns what every table of the admin has in common: an address filters by what its class names, and by nothing else.

Django lets the address of a list filter by any column (`?digest__startswith=a`), so that who may view a list finds out
what it does not show, one character at a time. Here a lookup that is not in `allowed_lookups` is answered with 400.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin

# Columns that no list, filter, search or order may read, whatever a class allows.
SECRET_COLUMNS = frozenset({
    "password", "digest", "previous_digest", "sealed_upstream_key", "session_data", "session_key",
    "request_body", "response_body",
})  # fmt: skip


class GuardedAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """The base of every table. Filters of one's own (`SimpleListFilter`) are allowed by their parameter's name."""

    allowed_lookups: tuple[str, ...] = ()

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup in self.allowed_lookups


class ReadOnlyAdmin(GuardedAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any | None = None) -> bool:
        return False
