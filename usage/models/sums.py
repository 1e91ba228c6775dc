"""The tables of sums of calls for pages and reports. `usage.sums` adds to them, and `usage.upkeep` corrects them."""

from __future__ import annotations

from typing import TypedDict

from django.contrib.postgres.fields import ArrayField
from django.db import models

from usage.models.calls import Outcome


class PartOptions(TypedDict):
    """The arguments of Django's DecimalField for a column that holds one part of a cost, in dollars.

    An example is the column `estimated_cost`, the estimated part of the column `cost`.
    """

    max_digits: int
    decimal_places: int
    default: int
    db_default: int


# Both are parts of the column `cost` beside them; the rest of it is exact. Nothing of a call is in them whose row was
# written before rows had a `cost_kind`, although its dollars may have been estimated.
PART: PartOptions = {"max_digits": 20, "decimal_places": 8, "default": 0, "db_default": 0}


class UsageHour(models.Model):
    """The sums of all calls of one hour that have the same key, model, route and outcome.

    The arrays are histograms: numbers of calls by latency (`usage.sums.histogram`). They are emptied after some weeks.
    Each histogram has two columns, which a reader adds together: a packed one, such as `durations`, and a plain one,
    such as `duration_ms_histogram`, to which only servers with an earlier release write.

    `usage.sums.totals_rollup` adds calls to this table; `usage.upkeep` corrects it.
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
    estimated_cost = models.DecimalField(**PART)
    provisional_cost = models.DecimalField(**PART)
    duration_ms = models.FloatField()
    max_duration_ms = models.FloatField()
    max_input_tokens = models.BigIntegerField()
    max_cached_tokens = models.BigIntegerField()
    max_output_tokens = models.BigIntegerField()
    durations = ArrayField(
        models.IntegerField(), default=list, db_default=[], help_text="Histogram of durations in milliseconds, packed."
    )
    upstream_times = ArrayField(
        models.IntegerField(), default=list, db_default=[], help_text="Histogram of the times that upstream took."
    )
    overheads = ArrayField(
        models.IntegerField(), default=list, db_default=[], help_text="Histogram of the gateway overheads."
    )
    duration_ms_histogram = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    upstream_ms_histogram = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    overhead_ms_histogram = ArrayField(models.BigIntegerField(), default=list, db_default=[])

    class Meta:
        indexes = (models.Index(fields=["key_name", "hour"], name="usage_usagehour_key"),)

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H} {self.key_name} {self.model} {self.route} {self.outcome}"


class UsagePeak(models.Model):
    """The longest duration and the highest token counts of any call of one day (UTC).

    The log pages show the highest values of all days. No value is lowered when a call is subtracted from the sums.
    `usage.sums.totals_rollup` adds calls to this table; `usage.upkeep` corrects it.
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

    The dashboard reads this table, because it is as fast for a month as for an hour. Totals of minutes are deleted
    after a few days.

    Rows of all calls have three histograms of latencies. Rows of a key, model or route have only a histogram of
    durations; it has two columns, which a reader adds together: `durations`, and `duration_ms_histogram`, to which only
    servers with an earlier release write. `usage.sums.totals_rollup` adds calls to this table; `usage.upkeep` corrects
    it.
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
    estimated_cost = models.DecimalField(**PART)
    provisional_cost = models.DecimalField(**PART)
    duration_ms = models.FloatField()
    duration_ms_histogram = ArrayField(models.BigIntegerField())
    upstream_ms_histogram = ArrayField(models.BigIntegerField())
    overhead_ms_histogram = ArrayField(models.BigIntegerField())
    durations = ArrayField(models.IntegerField(), default=list, db_default=[], help_text="A packed histogram.")

    def __str__(self) -> str:
        return f"{self.span} {self.start:%Y-%m-%d %H:%M} {self.dimension} {self.value}"


class UsageBreakdown(models.Model):
    """The sums of the calls of one day or month (UTC) with the same model, route and outcome, for one key or all keys.

    * Rows of one key: `dimension` is `key`, and `value` is the name of the key. Only these have a histogram.
    * Rows of all keys: `dimension` is `all`, and `value` is empty.

    Calls that an earlier release has written may be missing (`usage.sums.breakdown_reader`). `usage.sums.totals_rollup`
    adds calls to this table; `usage.upkeep` corrects it.
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
    estimated_cost = models.DecimalField(**PART)
    provisional_cost = models.DecimalField(**PART)
    duration_ms = models.FloatField()
    durations = ArrayField(models.IntegerField(), default=list, db_default=[], help_text="A packed histogram.")

    def __str__(self) -> str:
        return f"{self.span} {self.start:%Y-%m-%d} {self.value} {self.model} {self.route} {self.outcome}"


class SummedName(models.Model):
    """The name of a key, model or route that occurs in the tables of sums.

    Filters on pages take their choices from this small table, because a scan of the sums would take long. Only
    `usage.sums.totals_rollup` writes it.
    """

    pk = models.CompositePrimaryKey("dimension", "value")
    dimension = models.CharField(max_length=7, choices=Dimension)
    value = models.CharField(max_length=200)

    def __str__(self) -> str:
        return f"{self.dimension} {self.value}"


class ErrorTotal(models.Model):
    """The number of calls of one key that failed in the same way in one hour, on one day or in one month (UTC).

    If the row of a failed call is replaced later, the call is subtracted from `calls`. But `first_at`, `last_at` and
    `sample_id` stay, even if they are this call's. `usage.sums.totals_rollup` adds calls to this table; `usage.upkeep`
    corrects it.
    """

    pk = models.CompositePrimaryKey("span", "start", "outcome", "status", "error_code", "model", "route", "key_name")
    span = models.CharField(max_length=6, choices=Span)
    start = models.DateTimeField()
    outcome = models.CharField(max_length=20, choices=Outcome)
    status = models.PositiveSmallIntegerField(help_text="0 means that the caller had left.")
    error_code = models.CharField(
        max_length=213, help_text="Followed by # and the group of the message, if it has one."
    )
    model = models.CharField(max_length=200)
    route = models.CharField(max_length=100)
    key_name = models.CharField(max_length=200)
    calls = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    sample_id = models.UUIDField(help_text="The newest of these calls.")

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
