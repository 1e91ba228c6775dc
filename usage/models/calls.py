"""The table of calls, and of their logged bodies. A row of `Request` is one call that was admitted with a valid key."""

from __future__ import annotations

from typing import TypedDict

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import HashIndex
from django.db import models
from django.db.models.functions import Coalesce, NullIf


class _LabelOptions(TypedDict):
    """The arguments of Django's CharField for a column that holds a label of a call, such as the end user."""

    max_length: int
    blank: bool
    default: str
    db_default: str


# Older code that writes beside this one leaves these columns out.
_LABEL: _LabelOptions = {"max_length": 200, "blank": True, "default": "", "db_default": ""}


class Outcome(models.TextChoices):
    """The ways in which a call can end. They do not depend on the HTTP status of the answer."""

    SUCCESS = "success", "success"
    UPSTREAM_ERROR = "upstream_error", "upstream error"
    TIMEOUT = "timeout", "timeout"
    UNREACHABLE = "unreachable", "unreachable"
    CLIENT_CANCELLED = "client_cancelled", "caller left"
    REJECTED = "rejected", "rejected"
    INTERRUPTED = "interrupted", "interrupted"


class UsageSource(models.TextChoices):
    """The source of a call's token counts: stated by upstream (`exact`), estimated by the gateway, or unknown.

    If upstream has stated that nothing was used, that is `exact`, too.
    """

    EXACT = "exact", "exact"
    ESTIMATED = "estimated", "estimated"
    UNKNOWN = "unknown", "unknown"


class CostKind(models.TextChoices):
    """The certainty of a call's cost; the column is empty for a call without a cost, and in old rows.

    * `exact`: upstream has stated what was used, and the price is known.
    * `estimated`: the number of tokens or other units is an estimate.
    * `provisional`: upstream has stated what was used, but the price is assumed, for example from a related model.
    """

    EXACT = "exact", "exact"
    ESTIMATED = "estimated", "estimated"
    PROVISIONAL = "provisional", "provisional"


FAILED = ~models.Q(outcome=Outcome.SUCCESS)
# No price is known for the call. A background response that has not ended has no cost either, but says so in `price`.
NEEDS_PRICE = models.Q(cost__isnull=True, price__isnull=True)
FAILED_STATUS = models.Q(status__gte=300)
# The model that answered a call; if none did, the model that the call asked for.
CALLED_MODEL = Coalesce(NullIf("response_model", models.Value("")), "request_model")


class Request(models.Model):
    """One call: its key, route and model, how it ended, how long it took, its usage and its cost.

    If `by_gateway` is true, the row is of a poll instead: the gateway's own request for a background response. Times
    are in milliseconds, sizes in bytes, audio in seconds. Null means "unknown", never zero.
    """

    request_id = models.UUIDField("request id", primary_key=True, help_text="X-Proxy-Request-Id, a UUIDv7.")
    incoming_request_id = models.CharField(max_length=128, blank=True, help_text="The id that the caller has sent.")
    upstream_request_id = models.CharField(max_length=200, blank=True, help_text="Upstream's x-request-id.")
    response_id = models.CharField(
        max_length=200, blank=True, help_text="The id that upstream gave to what the call made."
    )

    key_name = models.CharField("key", max_length=200)
    method = models.CharField(max_length=10)
    route = models.CharField(max_length=100)
    request_model = models.CharField("model asked", max_length=200, blank=True)
    response_model = models.CharField("model answered", max_length=200, blank=True)
    output_limit = models.PositiveIntegerField(
        null=True, help_text="Output tokens of each answer, where the gateway has added a limit to the body."
    )
    stream = models.BooleanField(default=False)
    service_tier = models.CharField(max_length=50, blank=True, help_text="As upstream states it in its answer.")

    status = models.PositiveSmallIntegerField(
        null=True, help_text="The one that the caller got. Empty if the caller left before."
    )
    outcome = models.CharField(max_length=20, choices=Outcome)
    error_type = models.CharField(max_length=200, blank=True)
    error_code = models.CharField(max_length=200, blank=True)
    error_message = models.TextField(blank=True)

    started_at = models.DateTimeField()
    duration_ms = models.FloatField("total ms")
    time_to_first_chunk_ms = models.FloatField("first chunk ms", null=True)
    upstream_ms = models.FloatField(null=True, help_text="From the request to upstream to the end of its answer.")
    overhead_ms = models.FloatField(
        null=True, help_text="Gateway overhead: before the request to upstream, and after the end of its answer."
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

    other_usage = models.JSONField(
        null=True, help_text="What upstream bills beside its usage object: pictures, searches, characters, …"
    )

    cost = models.DecimalField("dollars", max_digits=16, decimal_places=8, null=True)
    cost_kind = models.CharField(max_length=11, choices=CostKind, blank=True, default="", db_default="")
    price = models.JSONField(null=True, help_text="The price from which the cost was computed.")
    # What the call was for, as it was when the call was made: a key that moves takes none of its calls with it.
    team = models.CharField(help_text="The key's team.", **_LABEL)
    owner = models.CharField("key owner", help_text="The person or team that uses the key.", **_LABEL)
    end_user = models.CharField(
        "end user", help_text="The person for whom the call was made, as the caller states it.", **_LABEL
    )
    session = models.CharField(help_text="Stated by the caller; the same for all calls of one conversation.", **_LABEL)
    tags = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    by_gateway = models.BooleanField(
        "made by the gateway",
        default=False,
        db_default=False,
        help_text="A poll for a background response. It counts as no call of the key, but with its usage and cost.",
    )
    # Whether the sums count the row under a common name for unknown ones (usage.sums.summed_names).
    unknown_model = models.BooleanField(
        default=False, db_default=False, help_text="The sums have the call under (unknown model)."
    )
    other_code = models.BooleanField(
        default=False, db_default=False, help_text="The sums have the call under (other code)."
    )
    error_group = models.CharField(
        max_length=12,
        blank=True,
        default="",
        db_default="",
        help_text="The same for errors whose messages differ only in numbers, ids and names.",
    )
    error_param = models.CharField(
        "refused parameter",
        max_length=100,
        blank=True,
        default="",
        db_default="",
        help_text="The parameter of the request that was refused, if the error names one.",
    )
    digest = models.CharField(
        max_length=32,
        editable=False,
        help_text="The digest of the row as it was written (usage.journal_shipping.rows).",
    )

    class Meta:
        ordering = ("-request_id",)
        # A request id is a UUIDv7, so the order of ids is the order of time, and no index of `started_at` is needed.
        # The table is partitioned by ranges of ids, each of which is a month (`usage.upkeep.months`).
        # Two other ids are only looked up whole. For these a hash index will do, which has a third of a tree's size.
        indexes = (
            models.Index(fields=["response_id"], name="usage_request_response", condition=~models.Q(response_id="")),
            HashIndex(
                fields=["upstream_request_id"],
                name="usage_request_upstream",
                condition=~models.Q(upstream_request_id=""),
            ),
            HashIndex(
                fields=["incoming_request_id"],
                name="usage_request_incoming",
                condition=~models.Q(incoming_request_id=""),
            ),
            # `usage.page_data.search` reads calls along these indexes, newest first.
            models.Index(fields=["key_name", "request_id"], name="usage_request_key"),
            models.Index(CALLED_MODEL, "request_id", name="usage_request_model"),
            models.Index(fields=["route", "request_id"], name="usage_request_route"),
            models.Index(fields=["status", "request_id"], name="usage_request_status", condition=FAILED_STATUS),
            models.Index(fields=["error_code", "request_id"], name="usage_request_code", condition=FAILED),
            models.Index(fields=["request_id"], name="usage_request_failures", condition=FAILED),
            models.Index(fields=["request_id"], name="usage_request_unknown", condition=models.Q(unknown_model=True)),
            *(
                models.Index(
                    fields=[name, "request_id"], name=f"usage_request_{name}", condition=~models.Q(**{name: ""})
                )
                for name in ("team", "owner", "end_user", "session")
            ),
            models.Index(fields=["request_id"], name="usage_request_tagged", condition=~models.Q(tags=[])),
            models.Index(fields=["cost"], include=["request_id"], name="usage_request_cost"),
            models.Index(fields=["duration_ms"], include=["request_id"], name="usage_request_duration"),
        )

    def __str__(self) -> str:
        return f"{self.request_id} {self.route} {self.outcome}"


class RequestBody(models.Model):
    """The logged bodies of one call's request and answer: without secrets and binary data, cut at LOG_BODY_BYTES."""

    # No constraint in the database: it would hold up the deletion of a month of calls.
    request = models.OneToOneField(
        Request, on_delete=models.CASCADE, primary_key=True, related_name="body", db_constraint=False
    )
    request_body = models.TextField(blank=True)
    response_body = models.TextField(blank=True, help_text="Of a streamed answer, the text that its events make up.")

    class Meta:
        verbose_name_plural = "request bodies"

    def __str__(self) -> str:
        return str(self.request_id)
