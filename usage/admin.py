"""Owns the ledger's pages in the admin: to read and to search, never to change."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html
from unfold.admin import ModelAdmin

from usage.models import ModelPrice, Request, RequestBody, UsageHour


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # not subscriptable when it runs
    """Counts to `MOST` and no further: counting millions of rows takes seconds."""

    MOST = 10_000

    @cached_property
    def count(self) -> int:
        return len(cast(QuerySet[Any], self.object_list).values_list("pk")[: self.MOST])


class SummedFilter(admin.SimpleListFilter):
    """The values of a column, from the hourly sums: looking through the rows would take seconds."""

    column: str

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        values = UsageHour.objects.order_by(self.column).values_list(self.column, flat=True).distinct()
        return [(value, value or "none") for value in values]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Request]) -> QuerySet[Request]:
        return self.narrow(queryset, self.value()) if self.value() is not None else queryset

    def narrow(self, queryset: QuerySet[Request], value: str | None) -> QuerySet[Request]:
        return queryset.filter(**{self.column: value})


class KeyFilter(SummedFilter):
    title, parameter_name, column = "key", "key", "key_name"


class RouteFilter(SummedFilter):
    title, parameter_name, column = "route", "route", "route"


class ModelFilter(SummedFilter):
    title, parameter_name, column = "model", "model", "model"

    def narrow(self, queryset: QuerySet[Request], value: str | None) -> QuerySet[Request]:
        return queryset.filter(Q(response_model=value) | Q(response_model="", request_model=value))


@admin.register(Request)
class RequestAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    list_display = (
        "started", "key_name", "route", "model_name", "status", "outcome", "total_ms", "input_tokens", "output_tokens",
        "dollars", "error_code",
    )  # fmt: skip
    list_filter = (
        "outcome", KeyFilter, ModelFilter, RouteFilter, "stream", ("started_at", admin.DateFieldListFilter)
    )  # fmt: skip
    paginator = BoundedPaginator
    search_fields = (
        "=request_id", "=incoming_request_id", "=upstream_request_id", "=response_id", "request_model",
        "response_model", "error_message",
    )  # fmt: skip
    search_help_text = "A whole id, or a part of a model's name or of an error's text."
    ordering = ("-started_at",)
    list_per_page = 50
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

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Request], search_term: str
    ) -> tuple[QuerySet[Request], bool]:
        """A request id is looked up by the primary key, whatever else there is."""
        try:
            call = queryset.filter(pk=UUID(search_term.strip()))
        except ValueError:
            call = queryset.none()
        if call.exists():
            return call, False
        found: tuple[QuerySet[Request], bool] = super().get_search_results(request, queryset, search_term)
        return found

    @admin.display(description="started (UTC)", ordering="started_at")
    def started(self, call: Request) -> str:
        return f"{call.started_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="model", ordering="response_model")
    def model_name(self, call: Request) -> str:
        return call.response_model or call.request_model

    @admin.display(description="dollars", ordering="cost")
    def dollars(self, call: Request) -> str:
        return "-" if call.cost is None else f"{call.cost:.6f}"

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
