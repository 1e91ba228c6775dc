"""Owns the ledger's pages in the admin: to read and to search, never to change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from usage.models import Request


@admin.register(Request)
class RequestAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    list_display = (
        "started_at", "key_name", "route", "model", "status", "outcome", "total_ms", "input_tokens", "output_tokens",
        "error_code",
    )  # fmt: skip
    list_filter = ("outcome", "route", "stream", "key_name", "status", ("started_at", admin.DateFieldListFilter))
    search_fields = (
        "=request_id", "=incoming_request_id", "=upstream_request_id", "=response_id", "request_model",
        "response_model", "error_message",
    )  # fmt: skip
    search_help_text = "A whole id, or a part of a model's name or of an error's text."
    ordering = ("-started_at",)
    list_per_page = 50
    # Counting all rows takes seconds once there are millions.
    show_full_result_count = False
    list_filter_sheet = False

    @admin.display(ordering="response_model")
    def model(self, call: Request) -> str:
        return call.response_model or call.request_model

    @admin.display(description="total ms", ordering="duration_ms")
    def total_ms(self, call: Request) -> str:
        return f"{call.duration_ms:,.0f}"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any | None = None) -> bool:
        return False
