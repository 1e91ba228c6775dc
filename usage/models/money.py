"""The tables for budgets and prices: sums of days, what is held of budgets, and the administrator's prices."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypedDict

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now

from usage.custom_prices import PRICES, CustomPrice, service_tier
from usage.models.sums import PART


class _PriceOptions(TypedDict):
    """The arguments of Django's DecimalField for a database column that holds a price."""

    max_digits: int
    decimal_places: int
    null: bool
    blank: bool


_PRICE: _PriceOptions = {"max_digits": 14, "decimal_places": 6, "null": True, "blank": True}


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
    estimated_cost = models.DecimalField(**PART)
    provisional_cost = models.DecimalField(**PART)

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
    estimated_cost = models.DecimalField(**PART)
    provisional_cost = models.DecimalField(**PART)

    def __str__(self) -> str:
        return f"{self.day} {self.team}"


class Hold(models.Model):
    """Dollars of the budget of a key or a team that are set aside for one worker (a lease) or one call (a reservation).

    * A lease is for the calls that a worker serves on one day (`usage.money.leases`). Its dollars include the cost of
      ended calls until their rows are in the table of calls.
    * A reservation has a row here only if its call created a background response, or if an earlier release made it. For
      all other calls, the worker reserves dollars of a lease in its memory. It counts in the budgets of its day and of
      each later day, because nobody knows on which of them the response ends.

    `usage.money.spent_and_reserved` says when a row is deleted.
    """

    request_id = models.UUIDField(primary_key=True, help_text="The call's id; of a lease, an id made for it.")
    # A lease is of a key or of a team, and the other of these two is empty. A reservation may be of both.
    key_name = models.CharField(max_length=200)
    team = models.CharField(max_length=200, default="", db_default="")
    day = models.DateField(
        help_text="The UTC day on which the calls began. The dollars count in the budget of this day."
    )
    dollars = models.DecimalField(max_digits=20, decimal_places=8)
    made_at = models.DateTimeField(
        db_default=Now(), help_text="When the reservation was made, or the lease last renewed."
    )
    # The rest is of leases only.
    writer = models.CharField(max_length=40, db_default="", help_text="The id of the worker's journal.")
    granted = models.DecimalField(
        max_digits=20,
        decimal_places=8,
        db_default=0,
        help_text="All dollars that the lease was granted, less those given back.",
    )
    version = models.BigIntegerField(
        db_default=0, help_text="The number of the worker's newest statement about the lease."
    )
    has_spare = models.BooleanField(db_default=False, help_text="The lease may have dollars that no call uses.")
    recalled_at = models.DateTimeField(
        null=True, help_text="When another worker last asked for the dollars that no call uses."
    )

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
        help_text="The service tier in upstream's answer, such as flex. Leave empty for the default tier.",
    )  # fmt: skip
    # Prices that were made before there was this column are for every tier, if they name none.
    every_tier = models.BooleanField(
        default=False, db_default=True, help_text="Applies the price to every tier; then leave the service tier empty."
    )
    valid_from = models.DateTimeField(help_text="In UTC. The price is for calls that begin at this time or later.")
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
        "picture, each", help_text="For models with one price for each picture, whatever its size.", **_PRICE
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
