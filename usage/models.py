"""Owns the ledger's tables. A row of `Request` is one call that a caller's key let in."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Outcome(models.TextChoices):
    """How a call ended, whatever its HTTP status was."""

    SUCCESS = "success"
    UPSTREAM_ERROR = "upstream_error", "upstream error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    CLIENT_CANCELLED = "client_cancelled", "client cancelled"
    REJECTED = "rejected"
    INTERRUPTED = "interrupted"


class UsageSource(models.TextChoices):
    """Where the token counts come from; a real zero is `exact`, not `unknown`."""

    EXACT = "exact"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


class Request(models.Model):
    """One call. Times are in milliseconds, sizes in bytes, audio in seconds.

    Null means "not known" (upstream never said), never zero.
    """

    request_id = models.UUIDField("request id", primary_key=True, help_text="X-Proxy-Request-Id, a UUIDv7.")
    incoming_request_id = models.CharField(max_length=128, blank=True, help_text="The caller's own id.")
    upstream_request_id = models.CharField(max_length=200, blank=True, help_text="Upstream's x-request-id.")
    response_id = models.CharField(max_length=200, blank=True, help_text="Upstream's id of what it made.")

    key_name = models.CharField("key", max_length=200)
    method = models.CharField(max_length=10)
    route = models.CharField(max_length=100)
    request_model = models.CharField("model asked", max_length=200, blank=True)
    response_model = models.CharField("model answered", max_length=200, blank=True)
    stream = models.BooleanField(default=False)
    service_tier = models.CharField(max_length=50, blank=True, help_text="As answered.")

    status = models.PositiveSmallIntegerField(null=True, help_text="What the caller saw; empty if it left before.")
    outcome = models.CharField(max_length=20, choices=Outcome)
    error_type = models.CharField(max_length=200, blank=True)
    error_code = models.CharField(max_length=200, blank=True)
    error_message = models.TextField(blank=True)

    started_at = models.DateTimeField()
    duration_ms = models.FloatField("total ms")
    time_to_first_chunk_ms = models.FloatField("first chunk ms", null=True)
    upstream_ms = models.FloatField(null=True, help_text="From asking upstream to its end.")
    overhead_ms = models.FloatField(
        null=True, help_text="Our own share: before upstream was asked, and after it had ended."
    )

    request_bytes = models.PositiveBigIntegerField(default=0)
    response_bytes = models.PositiveBigIntegerField(default=0)
    client_address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True)

    input_tokens = models.PositiveBigIntegerField(null=True)
    cached_tokens = models.PositiveBigIntegerField(null=True)
    cache_write_tokens = models.PositiveBigIntegerField(null=True)
    output_tokens = models.PositiveBigIntegerField(null=True)
    reasoning_tokens = models.PositiveBigIntegerField(null=True)
    audio_input_tokens = models.PositiveBigIntegerField(null=True)
    audio_output_tokens = models.PositiveBigIntegerField(null=True)
    audio_seconds = models.FloatField(null=True)
    web_searches = models.PositiveIntegerField(null=True)
    usage = models.JSONField(null=True, help_text="Upstream's usage object, unchanged.")
    usage_source = models.CharField(max_length=10, choices=UsageSource, default=UsageSource.UNKNOWN)

    cost = models.DecimalField("dollars", max_digits=16, decimal_places=8, null=True)
    price = models.JSONField(null=True, help_text="The price the cost was computed from.")
    tags = ArrayField(models.CharField(max_length=100), default=list, blank=True)

    class Meta:
        ordering = ("-request_id",)
        indexes = (
            models.Index(fields=["-started_at"], name="usage_request_started"),
            models.Index(
                fields=["-started_at"], name="usage_request_failed", condition=~models.Q(outcome=Outcome.SUCCESS)
            ),
            models.Index(fields=["response_id"], name="usage_request_response", condition=~models.Q(response_id="")),
        )

    def __str__(self) -> str:
        return f"{self.request_id} {self.route} {self.outcome}"
