"""Owns the keys of callers: what each may do, and how it is made, rotated and revoked.

Invariants: a key's text exists once, in what `issue` and `rotate` return; here is its digest. A key is never deleted,
because the ledger refers to it by its name, and its name never changes. What is revoked stays so.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from proxyapi import sealing
from proxyapi.key_names import check_name, comparable, normalised

PREFIX = "cp-"
RANDOM_BYTES = 32
KEY_LENGTH = len(PREFIX) + 43  # bytes in base64, without padding
SHOWN_PREFIX = len(PREFIX) + 4
LONGEST_GRACE = timedelta(days=90)
HEADER_VALUE = re.compile(r"[\x21-\x7e]{8,500}")
_LIMIT: dict[str, Any] = {"null": True, "blank": True, "validators": [MinValueValidator(1)]}
_DOLLARS: dict[str, Any] = {
    "max_digits": 12, "decimal_places": 4, "null": True, "blank": True, "validators": [MinValueValidator(Decimal(0))],
}  # fmt: skip


class LogBodies(models.TextChoices):
    """Whose bodies the ledger keeps."""

    INHERIT = "inherit", "as LOG_BODIES says"
    ALL = "all", "all"
    ERRORS = "errors", "of failed calls"
    NONE = "none", "none"


def check_routes(globs: list[str]) -> None:
    for glob in globs:
        if not glob.startswith(("/", "*")):
            words = "A route starts with '/', as /openai or /v1/responses*; '%(glob)s' does not."
            raise ValidationError(words, params={"glob": glob})


def check_upstream_key(text: str) -> None:
    if not HEADER_VALUE.fullmatch(text):
        raise ValidationError("An upstream key has 8 to 500 printable ASCII characters, without spaces.")


class AccessKeyManager(models.Manager["AccessKey"]):
    def issue(self, name: str, *, upstream_key: str = "", **fields: Any) -> tuple[AccessKey, str]:
        """A new key and its text, which is nowhere else and cannot be had again.

        Raises:
            ValidationError: a field is wrong, or the name is taken.
        """
        key = self.model(name=name, **fields)
        key.set_upstream_key(upstream_key)
        text = key.renew()
        key.full_clean()
        key.save(force_insert=True)
        return key, text

    def is_taken(self, name: str) -> bool:
        """Whether a key has this name in any spelling. Of keys without a comparable name there are few."""
        wanted = comparable(name)
        if self.filter(comparable_name=wanted).exists():
            return True
        return any(
            comparable(other) == wanted for other in self.filter(comparable_name=None).values_list("name", flat=True)
        )

    def find(self, name: str) -> AccessKey | None:
        """Returns the key of this name, locked; as it was typed, or in the form in which names are kept."""
        keys = self.select_for_update()
        return keys.filter(name=name).first() or keys.filter(name=normalised(name)).first()


class AccessKey(models.Model):
    """One key. An empty limit or budget means none; an empty list of models or routes means all."""

    name = models.CharField(
        max_length=200, unique=True, validators=[check_name],
        help_text="How the ledger calls it, for ever: a name cannot be changed.",
    )  # fmt: skip
    # The name as `comparable` has it. Null: a key of before this column, whose name another key has too, or one that
    # an older version has made since.
    comparable_name = models.CharField(max_length=600, unique=True, null=True, editable=False)  # noqa: DJ001  (as said)
    note = models.TextField(blank=True)
    owner = models.CharField(max_length=200, blank=True, help_text="The person or the team that uses it.")
    tags = ArrayField(
        models.CharField(max_length=100), default=list, blank=True, help_text="Written into each call's row."
    )

    active = models.BooleanField(default=True, help_text="Off: calls are refused until it is on again.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="UTC. Empty: never.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    allowed_models = ArrayField(
        models.CharField(max_length=200), default=list, blank=True,
        help_text="Names or patterns such as gpt-4o*. Upper and lower case differ. Empty: all models.",
    )  # fmt: skip
    allowed_routes = ArrayField(
        models.CharField(max_length=100), default=list, blank=True, validators=[check_routes],
        help_text="As the ledger names them, or patterns: /openai, /v1/responses*. Empty: all routes.",
    )  # fmt: skip
    shared_objects = ArrayField(
        models.CharField(max_length=200), default=list, db_default=[], blank=True,
        help_text="Ids or patterns such as vs_abc* or pmpt_*: objects of the account (vector stores, files, prompts)"
        " that it may read and use, but not change. Empty: only what it has made itself.",
    )  # fmt: skip
    requests_per_minute = models.PositiveIntegerField(**_LIMIT)
    tokens_per_minute = models.PositiveBigIntegerField(**_LIMIT)
    parallel_calls = models.PositiveIntegerField(**_LIMIT)
    budget_day = models.DecimalField("budget per day", help_text="Dollars, by days in UTC.", **_DOLLARS)
    budget_month = models.DecimalField("budget per month", help_text="Dollars, by months in UTC.", **_DOLLARS)
    budget_total = models.DecimalField("budget in all", help_text="Dollars.", **_DOLLARS)
    log_bodies = models.CharField("keep bodies", max_length=10, choices=LogBodies, default=LogBodies.INHERIT)
    sealed_upstream_key = models.TextField(blank=True, editable=False, help_text="Fernet; see proxyapi.sealing.")

    digest = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(max_length=10, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    previous_digest = models.CharField(max_length=64, blank=True, editable=False)
    previous_valid_until = models.DateTimeField(null=True, blank=True, editable=False)

    created_at = models.DateTimeField("created", default=timezone.now, editable=False)
    changed_at = models.DateTimeField("changed", auto_now=True)

    objects = AccessKeyManager()

    class Meta:
        ordering = ("name",)
        verbose_name = "key"
        default_permissions = ("add", "change", "view")  # never delete

    def __str__(self) -> str:
        return self.name

    def save(
        self,
        *,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Never writes another name, and always says that something has changed."""
        if self._state.adding:
            self.comparable_name = comparable(self.name)
        else:
            names = update_fields or [field.name for field in self._meta.concrete_fields if not field.primary_key]
            update_fields = {*names, "changed_at"} - {"name", "comparable_name"}
        super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Checks a new name in the form in which it is kept."""
        if self._state.adding:
            self.name = normalised(self.name)
        super().clean_fields(exclude)

    def clean(self) -> None:
        """Checks that no other key has a name that reads the same; forms do not look at columns they do not show."""
        super().clean()
        if self._state.adding and type(self).objects.is_taken(self.name):
            raise ValidationError({"name": "Key with this Name already exists, perhaps in another spelling."})

    def rotate(self, grace: timedelta = timedelta(0)) -> str:
        """Gives the key a new text and returns it; the old one goes on for `grace`, the one before that ends now.

        Raises:
            ValidationError: the key is revoked, or the grace is too long.
        """
        if self.revoked_at is not None:
            raise ValidationError("A revoked key cannot be rotated; make a new one.")
        if not timedelta(0) <= grace <= LONGEST_GRACE:
            raise ValidationError(f"The grace is at most {LONGEST_GRACE.days} days.")
        old = self.digest if grace else ""
        text = self.renew()
        self.previous_digest, self.previous_valid_until = old, timezone.now() + grace if grace else None
        self.save(update_fields=["digest", "prefix", "last_four", "previous_digest", "previous_valid_until"])
        return text

    def revoke(self) -> None:
        """For ever, the text of before a rotation too."""
        if self.revoked_at is None:
            self.active, self.revoked_at = False, timezone.now()
            self.previous_digest, self.previous_valid_until = "", None
            self.save(update_fields=["active", "revoked_at", "previous_digest", "previous_valid_until"])

    def renew(self) -> str:
        """A new text, not saved yet."""
        text = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
        self.digest = sealing.digest(text)
        self.prefix, self.last_four = text[:SHOWN_PREFIX], text[-4:]
        return text

    def set_upstream_key(self, text: str) -> None:
        """The key's own account, or none; not saved yet.

        Raises:
            ValidationError: it cannot be a header.
        """
        if text:
            check_upstream_key(text)
        self.sealed_upstream_key = sealing.seal(text) if text else ""

    def state(self, now: datetime | None = None) -> str:
        """`active`, `off`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= (now or timezone.now()):
            return "expired"
        return "active" if self.active else "off"

    @property
    def budgets(self) -> dict[str, Decimal | None]:
        """By span, in dollars; None: no limit."""
        return {"day": self.budget_day, "month": self.budget_month, "total": self.budget_total}

    @property
    def shown(self) -> str:
        """As much of the text as may be seen."""
        return f"{self.prefix}…{self.last_four}"
