"""The table of access keys: what each key may do, and how keys are made, rotated and revoked.

Invariants: the secret of a key exists only as the return value of `issue`, `rotate` and `renew`; the table has its
digest. A key is never deleted and never renamed, because the ledger refers to it by name. A revoked key stays revoked.
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
from django.db.models.base import ModelBase
from django.utils import timezone

from proxyapi import sealing
from proxyapi.key_names import check_name, comparable, normalised

PREFIX = "cp-"
RANDOM_BYTES = 32
KEY_LENGTH = len(PREFIX) + 43  # characters: the random bytes in base64, without padding
MASKED_PREFIX_LENGTH = len(PREFIX) + 4
LONGEST_GRACE = timedelta(days=90)
HEADER_VALUE = re.compile(r"[\x21-\x7e]{8,500}")
LEAST_OUTPUT_TOKENS = 16  # the least that the Responses API takes as `max_output_tokens`
_LIMIT: dict[str, Any] = {"null": True, "blank": True, "validators": [MinValueValidator(1)]}
_DOLLARS: dict[str, Any] = {
    "max_digits": 12, "decimal_places": 4, "null": True, "blank": True, "validators": [MinValueValidator(Decimal(0))],
}  # fmt: skip


class LogBodies(models.TextChoices):
    """The choice of the calls of an access key whose bodies (request and answer) the ledger stores."""

    INHERIT = "inherit", "server default"
    ALL = "all", "all"
    ERRORS = "errors", "failed calls only"
    NONE = "none", "none"


def check_routes(globs: list[str]) -> None:
    """Checks the patterns of routes, such as `/v1/responses*`, to which an access key will be limited.

    Raises:
        ValidationError: a pattern can match no route, because it begins with neither `/` nor `*`.
    """
    for glob in globs:
        if not glob.startswith(("/", "*")):
            words = "A route starts with '/', as /openai or /v1/responses*; '%(glob)s' does not."
            raise ValidationError(words, params={"glob": glob})


def check_upstream_key(text: str) -> None:
    """Checks that a text can be an API key for upstream.

    Raises:
        ValidationError: the text is too short or too long, or has spaces or characters outside of ASCII.
    """
    if not HEADER_VALUE.fullmatch(text):
        raise ValidationError("An upstream key has 8 to 500 printable ASCII characters, without spaces.")


class AccessKeyManager(models.Manager["AccessKey"]):
    """Django's manager of access keys: creates them in the database, and finds them by name."""

    def issue(self, name: str, *, upstream_key: str = "", **fields: object) -> tuple[AccessKey, str]:
        """Creates an access key in the database; returns the key and its secret, which is stored nowhere.

        Raises:
            ValidationError: a field is wrong, or another key has the name.
        """
        key = self.model(name=name, **fields)
        key.set_upstream_key(upstream_key)
        text = key.renew()
        key.full_clean()
        key.save(force_insert=True)
        return key, text

    def is_taken(self, name: str) -> bool:
        """Returns whether an access key has this name, or one that looks the same."""
        wanted = comparable(name)
        if self.filter(comparable_name=wanted).exists():
            return True
        # Keys that an older version of the gateway created have no `comparable_name`. They are few.
        return any(
            comparable(other) == wanted for other in self.filter(comparable_name=None).values_list("name", flat=True)
        )

    def find(self, name: str) -> AccessKey | None:
        """Returns the access key with this name, and locks its row until the transaction ends; None if there is none.

        The name may also be given in another Unicode form than the stored one.
        """
        keys = self.select_for_update()
        return keys.filter(name=name).first() or keys.filter(name=normalised(name)).first()


class AccessKey(models.Model):
    """An access key: a row with a name, the digest of its secret, and what its callers may do.

    An empty limit or budget means no limit; an empty list of models or routes allows all.
    """

    name = models.CharField(
        max_length=200, unique=True, validators=[check_name],
        help_text="Shown in logs and reports. Cannot be changed later.",
    )  # fmt: skip
    # The name in the form that `comparable` returns. Null for a key older than this column whose name looks the same as
    # another key's, and for a key that an older version of the gateway has made since.
    comparable_name = models.CharField(max_length=600, unique=True, null=True, editable=False)  # noqa: DJ001  (as said)
    note = models.TextField(blank=True)
    owner = models.CharField(max_length=200, blank=True, help_text="The person or team that uses the key.")
    tags = ArrayField(
        models.CharField(max_length=100), default=list, blank=True,
        help_text="Copied onto each call, for filtering and reports.",
    )  # fmt: skip

    active = models.BooleanField(default=True, help_text="Off: calls are refused until it is on again.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="In UTC. Leave empty for no expiry.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    allowed_models = ArrayField(
        models.CharField(max_length=200), default=list, blank=True,
        help_text="Names or patterns such as gpt-4o*. Upper and lower case differ. Leave empty to allow all models.",
    )  # fmt: skip
    allowed_routes = ArrayField(
        models.CharField(max_length=100), default=list, blank=True, validators=[check_routes],
        help_text="Routes or patterns such as /openai or /v1/responses*. Leave empty to allow all routes.",
    )  # fmt: skip
    shared_objects = ArrayField(
        models.CharField(max_length=200), default=list, db_default=[], blank=True,
        help_text="Ids or patterns such as vs_abc* or pmpt_*: objects of the account (vector stores, files, prompts)"
        " that the key may read and use, but not change. Leave empty to allow only objects that it has made itself.",
    )  # fmt: skip
    requests_per_minute = models.PositiveIntegerField(**_LIMIT)
    tokens_per_minute = models.PositiveBigIntegerField(**_LIMIT)
    parallel_calls = models.PositiveIntegerField(**_LIMIT)
    budget_day = models.DecimalField("budget per day", help_text="In dollars, for a day in UTC.", **_DOLLARS)
    budget_month = models.DecimalField("budget per month", help_text="In dollars, for a month in UTC.", **_DOLLARS)
    budget_total = models.DecimalField("lifetime budget", help_text="In dollars, for all calls of the key.", **_DOLLARS)
    max_output_tokens = models.PositiveIntegerField(
        "maximum output tokens per call", null=True, blank=True, validators=[MinValueValidator(LEAST_OUTPUT_TOKENS)],
        help_text="A call that sets no limit gets this one. A call that asks for more is refused.",
    )  # fmt: skip
    min_output_tokens = models.PositiveIntegerField(
        "minimum output tokens per call", null=True, blank=True, validators=[MinValueValidator(LEAST_OUTPUT_TOKENS)],
        help_text="For keys with a budget. A call that sets no limit gets the highest limit that the budget can still"
        " pay for. If that is less than this, the call is refused. Leave empty for 1,000.",
    )  # fmt: skip
    log_bodies = models.CharField(
        "store prompts and answers", max_length=10, choices=LogBodies, default=LogBodies.INHERIT
    )
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
        default_permissions = ("add", "change", "view")  # keys are never deleted

    def __str__(self) -> str:
        return self.name

    def save(
        self,
        *,
        force_insert: bool | tuple[ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Saves the access key with a new `changed_at`; the name of a saved key stays the same."""
        if self._state.adding:
            self.comparable_name = comparable(self.name)
        else:
            names = update_fields or [field.name for field in self._meta.concrete_fields if not field.primary_key]
            update_fields = {*names, "changed_at"} - {"name", "comparable_name"}
        super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Brings the name of a new access key into the form to be stored, then checks each field."""
        if self._state.adding:
            self.name = normalised(self.name)
        super().clean_fields(exclude)

    def clean(self) -> None:
        """Checks that the name of a new access key does not look like that of another key.

        Raises:
            ValidationError: there is such a key.
        """
        super().clean()
        # Forms check uniqueness only of the columns that they show, and `comparable_name` is none of them.
        if self._state.adding and type(self).objects.is_taken(self.name):
            raise ValidationError({"name": "Key with this Name already exists, perhaps in another spelling."})

    def rotate(self, grace: timedelta = timedelta(0)) -> str:
        """Gives the access key a new secret, saves the key, and returns the secret.

        The previous secret stays valid for the time `grace`, and an older one ends now.

        Raises:
            ValidationError: the key is revoked, or `grace` is too long or negative.
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
        """Revokes the access key for ever, with all its secrets, and saves it."""
        if self.revoked_at is None:
            self.active, self.revoked_at = False, timezone.now()
            self.previous_digest, self.previous_valid_until = "", None
            self.save(update_fields=["active", "revoked_at", "previous_digest", "previous_valid_until"])

    def renew(self) -> str:
        """Gives the access key a new random secret and returns the secret; does not save the key."""
        text = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
        self.digest = sealing.digest(text)
        self.prefix, self.last_four = text[:MASKED_PREFIX_LENGTH], text[-4:]
        return text

    def set_upstream_key(self, text: str) -> None:
        """Sets the upstream key that pays for this access key's calls; an empty text removes it. Does not save the row.

        Raises:
            ValidationError: the text cannot be sent in a header.
        """
        if text:
            check_upstream_key(text)
        self.sealed_upstream_key = sealing.seal(text) if text else ""

    def state(self, now: datetime | None = None) -> str:
        """Returns the access key's state at a time (by default now): `active`, `off`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= (now or timezone.now()):
            return "expired"
        return "active" if self.active else "off"

    @property
    def budgets(self) -> dict[str, Decimal | None]:
        """The budgets of the access key in dollars, as a dict with `day`, `month` and `total`; None means no limit."""
        return {"day": self.budget_day, "month": self.budget_month, "total": self.budget_total}

    @property
    def masked(self) -> str:
        """The beginning and the last four characters of the access key's secret, for people to recognise it."""
        return f"{self.prefix}…{self.last_four}"
