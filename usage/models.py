"""The ledger's tables. A row of `Request` is one call that was admitted with a valid key.

Over 300 lines, since the tables of the ledger refer to each other, and a migration compares them as a whole.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypedDict

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import HashIndex
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Coalesce, Now, NullIf

from usage.custom_prices import PRICES, CustomPrice, service_tier


class _PriceOptions(TypedDict):
    """The arguments of Django's DecimalField for a database column that holds a price."""

    max_digits: int
    decimal_places: int
    null: bool
    blank: bool


class _LabelOptions(TypedDict):
    """The arguments of Django's CharField for a column with a label of a call, such as its end user."""

    max_length: int
    blank: bool
    default: str
    db_default: str


class _PartOptions(TypedDict):
    """The arguments of Django's DecimalField for a column with a part of a sum of dollars, such as the estimate."""

    max_digits: int
    decimal_places: int
    default: int
    db_default: int


# Both are parts of the column `cost` beside them; the rest of it is exact. Nothing of a call is in them whose row was
# written before rows had a `cost_kind`, although its dollars may have been estimated.
_PART: _PartOptions = {"max_digits": 20, "decimal_places": 8, "default": 0, "db_default": 0}
# Older code that writes beside this one leaves these columns out.
_LABEL: _LabelOptions = {"max_length": 200, "blank": True, "default": "", "db_default": ""}
_PRICE: _PriceOptions = {"max_digits": 14, "decimal_places": 6, "null": True, "blank": True}


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
    """The ways in which a call's token counts can be known: stated by upstream, estimated, or unknown.

    They are `exact`, too, if upstream has stated that nothing was used.
    """

    EXACT = "exact", "exact"
    ESTIMATED = "estimated", "estimated"
    UNKNOWN = "unknown", "unknown"


class CostKind(models.TextChoices):
    """The certainty of a call's cost: whether the dollars in its row are exact, estimated or provisional.

    `estimated`: the numbers of tokens or other units are estimates. `provisional`: upstream has stated them, but the
    price is assumed, for example that of the model's family. The text is empty if there is no cost, and in rows that
    are older than this column.
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
    incoming_request_id = models.CharField(max_length=128, blank=True, help_text="The caller's own id.")
    upstream_request_id = models.CharField(max_length=200, blank=True, help_text="Upstream's x-request-id.")
    response_id = models.CharField(max_length=200, blank=True, help_text="Upstream's id of what it made.")

    key_name = models.CharField("key", max_length=200)
    method = models.CharField(max_length=10)
    route = models.CharField(max_length=100)
    request_model = models.CharField("model asked", max_length=200, blank=True)
    response_model = models.CharField("model answered", max_length=200, blank=True)
    output_limit = models.PositiveIntegerField(
        null=True, help_text="Output tokens of each answer, where the gateway has added a limit to the body."
    )
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

    other_usage = models.JSONField(
        null=True, help_text="What upstream bills beside its usage object: pictures, searches, characters, …"
    )

    cost = models.DecimalField("dollars", max_digits=16, decimal_places=8, null=True)
    cost_kind = models.CharField(max_length=11, choices=CostKind, blank=True, default="", db_default="")
    price = models.JSONField(null=True, help_text="The price the cost was computed from.")
    # What the call was for, as it was when the call was made: a key that moves takes none of its calls with it.
    team = models.CharField(help_text="Of the key.", **_LABEL)
    owner = models.CharField("key owner", help_text="Of the key: a person or a team.", **_LABEL)
    end_user = models.CharField("end user", help_text="On whose behalf the caller has sent it, as it says.", **_LABEL)
    session = models.CharField(help_text="The calls of one conversation have the same.", **_LABEL)
    tags = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    by_gateway = models.BooleanField(
        "made by the gateway",
        default=False,
        db_default=False,
        help_text="A look at a background response: no call of the key, but its usage and cost are the key's.",
    )
    # Whether the sums count the row under a common name for unknown ones (usage.sums.summed_names).
    unknown_model = models.BooleanField(default=False, db_default=False, help_text="Summed up as (unknown model).")
    other_code = models.BooleanField(default=False, db_default=False, help_text="Summed up as (other code).")
    error_group = models.CharField(
        max_length=12, blank=True, default="", db_default="", help_text="Of the error's message, without its numbers."
    )
    digest = models.CharField(
        max_length=32, editable=False, help_text="Of the row as it was written (usage.journal_shipping.rows)."
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
    response_body = models.TextField(blank=True, help_text="A streamed answer is its text, put together.")

    class Meta:
        verbose_name_plural = "request bodies"

    def __str__(self) -> str:
        return str(self.request_id)


class UsageHour(models.Model):
    """The sums of all calls of one hour that have the same key, model, route and outcome.

    The histograms count calls by latency (`usage.sums.histogram`). Each is the sum of two columns: a packed one, such
    as `durations`, and an older one, such as `duration_ms_histogram`, to which older versions add. Histograms are
    emptied after some weeks (`usage.upkeep.old_histograms`), because they take much space. Only `usage.sums.adding_up`
    adds to this table.
    """

    pk = models.CompositePrimaryKey("hour", "key_name", "model", "route", "outcome")
    hour = models.DateTimeField()
    key_name = models.CharField(max_length=200)
    model = models.CharField(max_length=200)
    route = models.CharField(max_length=100)
    outcome = models.CharField(max_length=20, choices=Outcome)

    calls = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    audio_input_tokens = models.BigIntegerField()
    audio_output_tokens = models.BigIntegerField()
    audio_seconds = models.FloatField()
    web_searches = models.BigIntegerField()
    request_bytes = models.BigIntegerField()
    response_bytes = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8)
    estimated_cost = models.DecimalField(**_PART)
    provisional_cost = models.DecimalField(**_PART)
    duration_ms = models.FloatField()
    max_duration_ms = models.FloatField()
    max_input_tokens = models.BigIntegerField()
    max_cached_tokens = models.BigIntegerField()
    max_output_tokens = models.BigIntegerField()
    durations = ArrayField(models.IntegerField(), default=list, db_default=[], help_text="Packed, in milliseconds.")
    upstream_times = ArrayField(models.IntegerField(), default=list, db_default=[], help_text="The same of upstream.")
    overheads = ArrayField(models.IntegerField(), default=list, db_default=[], help_text="The same of our own share.")
    duration_ms_histogram = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    upstream_ms_histogram = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    overhead_ms_histogram = ArrayField(models.BigIntegerField(), default=list, db_default=[])

    class Meta:
        indexes = (models.Index(fields=["key_name", "hour"], name="usage_usagehour_key"),)

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H} {self.key_name} {self.model} {self.route} {self.outcome}"


class UsagePeak(models.Model):
    """The highest figures of any call of one day (UTC), which the log pages show for all days together.

    The figures stay when a call is subtracted from the sums. Only `usage.sums.adding_up` writes this table.
    """

    day = models.DateField(primary_key=True)
    max_duration_ms = models.FloatField()
    max_input_tokens = models.BigIntegerField()
    max_cached_tokens = models.BigIntegerField()
    max_output_tokens = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.day}"


class Span(models.TextChoices):
    """The unit of time that one row of sums covers (`UsageTotal`, `ErrorTotal`, `UsageBreakdown`), such as an hour."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"  # of the calendar


class Dimension(models.TextChoices):
    """The property that the calls in a row of `UsageTotal` have in common, such as the key; `all` is for all calls."""

    ALL = "all"
    KEY = "key"
    MODEL = "model"
    ROUTE = "route"
    OUTCOME = "outcome"


class UsageTotal(models.Model):
    """The sums of the calls of one minute, hour, day or month (UTC): of all, or of one key, model, route or outcome.

    The dashboard reads this table: reading a month costs as little as reading an hour, however many keys and models
    there are. The totals of all calls have three histograms. Those of a key, a model or a route have only the histogram
    of durations, which is the sum of the columns `durations` and `duration_ms_histogram` (older versions add the calls
    of a key's days to the latter). Totals of minutes are deleted after a few days. Only `usage.sums.adding_up` writes
    this table.
    """

    pk = models.CompositePrimaryKey("span", "dimension", "start", "value")
    span = models.CharField(max_length=6, choices=Span)
    dimension = models.CharField(max_length=7, choices=Dimension)
    start = models.DateTimeField()
    value = models.CharField(max_length=200, help_text="Empty for all calls.")

    calls = models.BigIntegerField()
    errors = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8)
    estimated_cost = models.DecimalField(**_PART)
    provisional_cost = models.DecimalField(**_PART)
    duration_ms = models.FloatField()
    duration_ms_histogram = ArrayField(models.BigIntegerField())
    upstream_ms_histogram = ArrayField(models.BigIntegerField())
    overhead_ms_histogram = ArrayField(models.BigIntegerField())
    durations = ArrayField(models.IntegerField(), default=list, db_default=[], help_text="A packed histogram.")

    def __str__(self) -> str:
        return f"{self.span} {self.start:%Y-%m-%d %H:%M} {self.dimension} {self.value}"


class UsageBreakdown(models.Model):
    """The sums of calls of one day or month (UTC) with the same model, route and outcome, for one key or all keys.

    Either `dimension` is `key` and `value` the name of the key, or `dimension` is `all` and `value` is empty. Only the
    sums of a key have a histogram. Calls that older versions have written may be missing
    (`usage.sums.breakdown_reader`). Only `usage.sums.adding_up` writes this table.
    """

    pk = models.CompositePrimaryKey("span", "dimension", "start", "value", "model", "route", "outcome")
    span = models.CharField(max_length=6, choices=Span)
    dimension = models.CharField(max_length=7, choices=Dimension)
    start = models.DateTimeField()
    value = models.CharField(max_length=200, help_text="Empty for all calls.")
    model = models.CharField(max_length=200)
    route = models.CharField(max_length=100)
    outcome = models.CharField(max_length=20, choices=Outcome)

    calls = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    audio_input_tokens = models.BigIntegerField()
    audio_output_tokens = models.BigIntegerField()
    audio_seconds = models.FloatField()
    web_searches = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8)
    estimated_cost = models.DecimalField(**_PART)
    provisional_cost = models.DecimalField(**_PART)
    duration_ms = models.FloatField()
    durations = ArrayField(models.IntegerField(), default=list, db_default=[], help_text="A packed histogram.")

    def __str__(self) -> str:
        return f"{self.span} {self.start:%Y-%m-%d} {self.value} {self.model} {self.route} {self.outcome}"


class LabelTotal(models.Model):
    """The sums of all calls of one day or month (UTC) with the same key, team, owner, model and route.

    If `label` is empty, the row has all these calls. If `label` is `end_user`, or `tag:` with the name of a tag, the
    row has only those whose label has the `value`. `usage.sums.labels` limits the number of values.
    """

    pk = models.CompositePrimaryKey("span", "label", "start", "value", "key_name", "team", "owner", "model", "route")
    span = models.CharField(max_length=5)
    label = models.CharField(max_length=110)
    start = models.DateField()
    value = models.CharField(max_length=200)
    key_name = models.CharField(max_length=200)
    team = models.CharField(max_length=200)
    owner = models.CharField(max_length=200)
    model = models.CharField(max_length=200)
    route = models.CharField(max_length=100)
    calls = models.BigIntegerField()
    errors = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8)
    estimated_cost = models.DecimalField(**_PART)
    provisional_cost = models.DecimalField(**_PART)

    def __str__(self) -> str:
        return f"{self.span} {self.start} {self.label} {self.value} {self.key_name} {self.model}"


class SummedName(models.Model):
    """The name of a key, a model or a route that has sums; lists of choices read the names here, not from the sums.

    Only `usage.sums.adding_up` writes this table.
    """

    pk = models.CompositePrimaryKey("dimension", "value")
    dimension = models.CharField(max_length=7, choices=Dimension)
    value = models.CharField(max_length=200)

    def __str__(self) -> str:
        return f"{self.dimension} {self.value}"


class ErrorTotal(models.Model):
    """The number of one key's calls that failed in the same way in one hour, on one day or in one month (UTC).

    When a call is subtracted from `calls` later, `first_at`, `last_at` and `sample_id` stay, even if they are those of
    the subtracted call. Only `usage.sums.adding_up` writes this table.
    """

    pk = models.CompositePrimaryKey("span", "start", "outcome", "status", "error_code", "model", "route", "key_name")
    span = models.CharField(max_length=6, choices=Span)
    start = models.DateTimeField()
    outcome = models.CharField(max_length=20, choices=Outcome)
    status = models.PositiveSmallIntegerField(help_text="0: the caller had left.")
    error_code = models.CharField(max_length=213, help_text="With # and the group of the message, if it has one.")
    model = models.CharField(max_length=200)
    route = models.CharField(max_length=100)
    key_name = models.CharField(max_length=200)
    calls = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    sample_id = models.UUIDField(help_text="The newest of the calls.")

    class Meta:
        indexes = (
            # For the time at which a kind of error occurred first.
            models.Index(
                fields=["error_code", "outcome", "first_at"],
                name="usage_errortotal_seen",
                condition=models.Q(span="day", calls__gt=0),
            ),
        )

    def __str__(self) -> str:
        return f"{self.span} {self.start:%Y-%m-%d %H} {self.outcome} {self.status} {self.error_code} {self.key_name}"


class KnownName(models.Model):
    """The name of a model, or an error code, that has sums of its own: its calls are added up separately.

    The calls of all other names are added up under one common name, because a caller can send any number of names. Only
    `usage.sums.summed_names` writes this table.
    """

    pk = models.CompositePrimaryKey("kind", "name")
    kind = models.CharField(max_length=5)
    name = models.CharField(max_length=200)
    learnt_on = models.DateField(db_index=True, help_text="In UTC, by the database's clock.")

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class ErrorState(models.TextChoices):
    """What somebody has said of an error on the errors page: it is known, or resolved: it should not occur again."""

    KNOWN = "known", "known"
    RESOLVED = "resolved", "resolved"


class KnownError(models.Model):
    """An error on the errors page that somebody has marked as known or as resolved, with a remark.

    An error is an outcome, an error code and a group of messages. The other three columns are those of older versions,
    which marked narrower kinds; they are 0 and empty now.
    """

    outcome = models.CharField(max_length=20, choices=Outcome)
    error_code = models.CharField(max_length=200, blank=True)
    message = models.CharField(max_length=12, blank=True, default="", db_default="")
    status = models.PositiveSmallIntegerField(default=0)
    model = models.CharField(max_length=200, blank=True, default="")
    route = models.CharField(max_length=100, blank=True, default="")
    state = models.CharField(
        max_length=8, choices=ErrorState, default=ErrorState.KNOWN, db_default=ErrorState.KNOWN.value
    )
    note = models.CharField(max_length=500, blank=True)
    marked_by = models.CharField(max_length=150)
    marked_at = models.DateTimeField()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["outcome", "error_code", "message", "status", "model", "route"], name="usage_knownerror_one"
            ),
        )

    def __str__(self) -> str:
        return f"{self.outcome} {self.error_code} {self.message}"


class SavedView(models.Model):
    """A name that a person has given to the filters of a page, for themselves or, if it is shared, for everybody."""

    page = models.CharField(max_length=8, help_text="One of the pages of `usage.admin_pages.saved_views`.")
    name = models.CharField(max_length=100)
    query = models.TextField(blank=True, help_text="The filters, as the page's address has them.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    is_shared = models.BooleanField(default=False)

    class Meta:
        default_permissions = ()  # whoever may see the pages has views of their own
        constraints = (models.UniqueConstraint(fields=["user", "page", "name"], name="usage_savedview_once"),)

    def __str__(self) -> str:
        return f"{self.page}: {self.name}"


class UsageDay(models.Model):
    """The sums of one key's calls on one day (UTC). The key's budgets are compared with these sums."""

    pk = models.CompositePrimaryKey("day", "key_name")
    day = models.DateField()
    key_name = models.CharField(max_length=200)
    calls = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8)
    estimated_cost = models.DecimalField(**_PART)
    provisional_cost = models.DecimalField(**_PART)

    class Meta:
        indexes = (models.Index(fields=["key_name", "day"], name="usage_usageday_key"),)

    def __str__(self) -> str:
        return f"{self.day} {self.key_name}"


class TeamDay(models.Model):
    """The sums of one day (UTC) of the calls of one team's keys. The team's budgets are compared with these sums.

    A call counts for the team that its key belonged to when the call was made, as stated in its row. Calls without a
    team have no sums here.
    """

    pk = models.CompositePrimaryKey("team", "day")
    team = models.CharField(max_length=200)
    day = models.DateField()
    calls = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=20, decimal_places=8)
    estimated_cost = models.DecimalField(**_PART)
    provisional_cost = models.DecimalField(**_PART)

    def __str__(self) -> str:
        return f"{self.day} {self.team}"


class Hold(models.Model):
    """A part of the budget of a key or a team, in dollars, set aside for one worker (a lease) or call (a reservation).

    A lease has the dollars that a worker may use for the calls of one day (`usage.money.leases`). It includes the cost
    of ended calls whose rows are not in the table of calls yet. A reservation outside of a lease is for a background
    response, or was made by older code. `usage.money.spent_and_reserved` says when a row is deleted.
    """

    request_id = models.UUIDField(primary_key=True, help_text="Of the call, or an id of the lease's own.")
    # A lease is of a key or of a team, and the other of these two is empty. A reservation may be of both.
    key_name = models.CharField(max_length=200)
    team = models.CharField(max_length=200, default="", db_default="")
    day = models.DateField(help_text="Of the calls' start (UTC): the day whose budget it is held of.")
    dollars = models.DecimalField(max_digits=20, decimal_places=8)
    made_at = models.DateTimeField(db_default=Now(), help_text="When it was made or, of a lease, renewed.")
    # The rest is of leases only.
    writer = models.CharField(max_length=40, db_default="", help_text="The worker, by the id of its journal.")
    granted = models.DecimalField(
        max_digits=20, decimal_places=8, db_default=0, help_text="All that it has got, less what it has given back."
    )
    version = models.BigIntegerField(db_default=0, help_text="Of the worker's newest statement about it.")
    has_spare = models.BooleanField(db_default=False, help_text="Dollars may be in it that no call uses.")
    recalled_at = models.DateTimeField(null=True, help_text="When another worker last needed what no call uses.")

    class Meta:
        indexes = (
            models.Index(fields=["key_name"], name="usage_hold_key"),
            models.Index(fields=["team"], name="usage_hold_team", condition=~models.Q(team="")),
        )

    def __str__(self) -> str:
        return f"{self.request_id} {self.key_name} {self.dollars}"


class ModelPrice(models.Model):
    """A price that the administrator has set for a model, in dollars. It takes precedence over the published price.

    Only `ledger reprice` changes the cost of calls that were billed before.
    """

    model = models.CharField(max_length=200, help_text="A name, or a pattern such as gpt-4o-*.")
    service_tier = models.CharField(
        max_length=50, blank=True,
        help_text="The tier that upstream answers, such as flex. Leave empty for the default tier.",
    )  # fmt: skip
    # Prices that were made before there was this column are for every tier, if they name none.
    every_tier = models.BooleanField(
        default=False, db_default=True, help_text="Applies the price to every tier; then leave the service tier empty."
    )
    valid_from = models.DateTimeField(help_text="In UTC. Calls that begin from then on have this price.")
    valid_until = models.DateTimeField(null=True, blank=True, help_text="Leave empty if the price has no end.")
    multiplier = models.DecimalField(
        "multiple of the list price",
        help_text="0.88 is OpenAI's list price less 12 %. A price below replaces the one of the list.",
        **_PRICE,
    )
    input = models.DecimalField("input", **_PRICE)
    cached_input = models.DecimalField("cached input", **_PRICE)
    cache_write = models.DecimalField("cache write", **_PRICE)
    cache_write_12h = models.DecimalField("cache write, kept 12 hours", **_PRICE)
    output = models.DecimalField("output", **_PRICE)
    long_input = models.DecimalField("input of long prompts", **_PRICE)
    long_cached_input = models.DecimalField("cached input of long prompts", **_PRICE)
    long_cache_write = models.DecimalField("cache write of long prompts", **_PRICE)
    long_cache_write_12h = models.DecimalField("cache write of long prompts, kept 12 hours", **_PRICE)
    long_output = models.DecimalField("output of long prompts", **_PRICE)
    audio_input = models.DecimalField("audio input", **_PRICE)
    cached_audio_input = models.DecimalField("cached audio input", **_PRICE)
    audio_output = models.DecimalField("audio output", **_PRICE)
    image_input = models.DecimalField("image input", **_PRICE)
    cached_image_input = models.DecimalField("cached image input", **_PRICE)
    image_output = models.DecimalField("image output", **_PRICE)
    characters = models.DecimalField("characters to speak, per million", **_PRICE)
    per_minute = models.DecimalField("audio, per minute", **_PRICE)
    per_picture = models.DecimalField(
        "picture, each", help_text="Of a model that takes a price for each picture, whatever its size.", **_PRICE
    )
    per_web_search = models.DecimalField("web search, each", **_PRICE)
    per_file_search = models.DecimalField("file search, each", **_PRICE)

    class Meta:
        ordering = ("model", "-valid_from")
        verbose_name = "custom price"

    def __str__(self) -> str:
        return f"{self.model} from {self.valid_from:%Y-%m-%d}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the price with its service tier in standard spelling: `Priority` as `priority`, the default tier as "".

        If a service tier is given, `every_tier` becomes False.
        """
        if self.service_tier:
            tier = service_tier(self.service_tier)
            self.service_tier, self.every_tier = "" if tier == "default" else tier, False
        super().save(*args, **kwargs)

    def clean(self) -> None:
        """Checks the fields of the price together.

        Raises:
            ValidationError: no price is stated, a price is negative, or both a service tier and every tier are chosen.
        """
        prices = self.as_custom_price().stated(PRICES)
        if not prices:
            raise ValidationError("Give at least one price, or a multiple of the list price.")
        if negative := [name for name, value in prices.items() if value < 0]:
            raise ValidationError(dict.fromkeys(negative, "A price is never negative."))
        if self.every_tier and self.service_tier:
            raise ValidationError({"every_tier": "Leave the service tier empty, or this box."})

    def as_custom_price(self) -> CustomPrice:
        return CustomPrice(**{field.name: getattr(self, field.name) for field in fields(CustomPrice)})


class LedgerState(models.Model):
    """The state of the deletion of old data, in a single row: when it was last done, and which data are deleted."""

    pruned_at = models.DateTimeField(null=True)
    pruned_before = models.DateTimeField(null=True, help_text="Before it, rows are gone and only sums are left.")
    bodies_pruned_before = models.DateTimeField(null=True, help_text="Before it, bodies are gone.")
    histograms_emptied_before = models.DateTimeField(null=True, help_text="Before it, hours have no histograms.")

    def __str__(self) -> str:
        return f"pruned at {self.pruned_at}"

    @classmethod
    def load(cls) -> LedgerState:
        return cls.objects.get_or_create(pk=1)[0]


class CountedResponse(models.Model):
    """A response of upstream's, with the request id of the one call that is billed for the response's usage.

    The rows of several calls can state the usage of the same response. `usage.journal_shipping.background_cost` writes
    this table, and explains it.
    """

    response_id = models.CharField(max_length=200, primary_key=True)
    request_id = models.UUIDField(db_index=True)

    def __str__(self) -> str:
        return self.response_id


class StoredObject(models.Model):
    """An object that upstream stores, such as a response or a file, with the name of the key that created it.

    If upstream stores the object until somebody deletes it, the row stays for ever; otherwise the row is deleted
    together with that of its call (RETENTION_DAYS). Only `usage.journal_shipping.stored_object_rows` inserts rows.
    """

    object_id = models.CharField(max_length=512, primary_key=True, help_text="Upstream's id of it.")
    key_name = models.CharField(max_length=200)
    request_id = models.UUIDField(help_text="The call that made it.")
    lasts = models.BooleanField(default=True, help_text="Upstream keeps it until it is deleted.")

    class Meta:
        indexes = (
            models.Index(fields=["request_id"], name="usage_storedobject_short", condition=models.Q(lasts=False)),
        )

    def __str__(self) -> str:
        return f"{self.object_id} {self.key_name}"


class PendingResponse(models.Model):
    """A background response that has not ended as far as the gateway knows, so that it must be polled upstream."""

    response_id = models.CharField(max_length=200, primary_key=True)
    request_id = models.UUIDField(help_text="The call that made it.")
    key_name = models.CharField(max_length=200)
    # Both times are the database's, because several hosts read and write these rows, and their clocks differ.
    created_at = models.DateTimeField(db_default=Now())
    supposed = models.JSONField(null=True, help_text="Counts that stand for its usage if upstream never states it.")
    ask_at = models.DateTimeField(db_default=Now(), db_index=True)

    def __str__(self) -> str:
        return self.response_id
