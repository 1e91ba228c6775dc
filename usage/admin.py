"""Owns the ledger's pages in the admin: to read and to search, never to change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.admin import ModelAdmin

from usage.models import ModelPrice, Request, RequestBody


@admin.register(Request)
class RequestAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    list_display = (
        "started", "key_name", "route", "model_name", "status", "outcome", "total_ms", "input_tokens", "output_tokens",
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

    fieldsets = (
        ("Call", {"fields": (
            "started", "key_name", "method", "route", "request_model", "response_model", "stream", "service_tier",
        )}),
        ("Outcome", {"fields": ("status", "outcome", "error_type", "error_code", "error_message")}),
        ("Usage", {"fields": (
            "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
            "audio_input_tokens", "audio_output_tokens", "audio_seconds", "web_searches", "usage_source", "usage",
            "cost", "price",
        )}),
        ("Time", {"fields": ("duration_ms", "time_to_first_chunk_ms", "upstream_ms", "overhead_ms")}),
        ("Caller", {"fields": ("client_address", "user_agent", "request_bytes", "response_bytes", "tags")}),
        ("Bodies", {"fields": ("request_body", "response_body")}),
        ("Ids", {"fields": ("request_id", "incoming_request_id", "upstream_request_id", "response_id")}),
    )  # fmt: skip

    @admin.display(description="started (UTC)", ordering="started_at")
    def started(self, call: Request) -> str:
        return f"{call.started_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="model", ordering="response_model")
    def model_name(self, call: Request) -> str:
        return call.response_model or call.request_model

    @admin.display(description="total ms", ordering="duration_ms")
    def total_ms(self, call: Request) -> str:
        return f"{call.duration_ms:,.0f}"

    @admin.display(description="request")
    def request_body(self, call: Request) -> str:
        return _shown(call, "request_body")

    @admin.display(description="answer")
    def response_body(self, call: Request) -> str:
        return _shown(call, "response_body")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any | None = None) -> bool:
        return False


@admin.register(ModelPrice)
class ModelPriceAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    list_display = ("model", "service_tier", "valid_from", "valid_until", "input", "cached_input", "output")
    search_fields = ("model",)


def _shown(call: Request, name: str) -> str:
    """A body as it was kept: text, never markup."""
    body = RequestBody.objects.filter(pk=call.pk).first()
    return format_html('<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}</pre>', getattr(body, name, ""))
