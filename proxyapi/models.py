"""The database tables of access keys and API tokens: their rights, and how they are made, rotated and revoked.

Invariants: `issue`, `rotate` and `renew` return the secret of a key or token, which is stored nowhere; the table has
its digest. A key is never deleted and never renamed, because the ledger refers to it by name. A revoked key or token
stays revoked.

The tables of teams are in `proxyapi.team_models`; this module imports it, so that Django finds them.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.base import ModelBase
from django.utils import timezone

from proxyapi import sealing
from proxyapi.team_models import NamedManager, SpenderColumns, Team

PREFIX = "cp-"
RANDOM_BYTES = 32
KEY_LENGTH = len(PREFIX) + 43  # characters: the random bytes in base64, without padding
MASKED_PREFIX_LENGTH = len(PREFIX) + 4
LONGEST_GRACE = timedelta(days=90)
LEAST_OUTPUT_TOKENS = 16  # the least that the Responses API takes as `max_output_tokens`
TOKEN_PREFIX = "cpt-"  # noqa: S105  (not a secret)
TOKEN_RANDOM_BYTES = 24
TOKEN_CHECK_LENGTH = 11  # characters: a part of an HMAC of the characters before
API_TOKEN_TEXT = re.compile(rf"{TOKEN_PREFIX}[A-Za-z0-9_-]{{32}}[0-9a-f]{{{TOKEN_CHECK_LENGTH}}}")
MASKED_TOKEN_PREFIX_LENGTH = len(TOKEN_PREFIX) + 4
LAST_USED_STEP = timedelta(minutes=1)  # how often the time of a token's last use is written, at most


class AccessKeyManager(NamedManager["AccessKey"]):
    """Django's manager of access keys: creates them in the database, and finds them by name."""

    def issue(self, name: str, *, upstream_key: str = "", **fields: object) -> tuple[AccessKey, str]:
        """Creates an access key in the database; returns the key and its secret. The secret is stored nowhere.

        `upstream_key` pays for the calls of the key, and is stored encrypted; if it is empty, the team's or the
        gateway's pays. `fields` are the values of other columns.

        Raises:
            ValidationError: a field is wrong, or another key has the name.
        """
        key = self.model(name=name, **fields)
        key.set_upstream_key(upstream_key)
        text = key.renew()
        key.full_clean()
        key.save(force_insert=True)
        return key, text


class AccessKey(SpenderColumns):
    """An access key of the gateway: a database row with a name, the digest of the secret, rights and limits.

    An empty limit or budget means no limit; an empty list of models or routes allows all.
    """

    team = models.ForeignKey(
        Team, on_delete=models.PROTECT, null=True, blank=True, related_name="keys",
        help_text="Its budgets and limits hold for all its keys together. Moving a key moves only its later calls.",
    )  # fmt: skip
    owner = models.CharField(max_length=200, blank=True, help_text="The person or team that uses the key.")
    owner_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+",
        verbose_name="owner's account",
        help_text="The person sees the key in My usage, and can rotate and revoke it. Its name becomes the owner.",
    )  # fmt: skip

    expires_at = models.DateTimeField(null=True, blank=True, help_text="In UTC. Leave empty for no expiry.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    shared_objects = ArrayField(
        models.CharField(max_length=200), default=list, db_default=[], blank=True,
        help_text="Ids or patterns such as vs_abc* or pmpt_*: objects of the account (vector stores, files, prompts)"
        " that the key may read and use, but not change. Leave empty to allow only objects that it has made itself.",
    )  # fmt: skip
    max_output_tokens = models.PositiveIntegerField(
        "maximum output tokens per call", null=True, blank=True, validators=[MinValueValidator(LEAST_OUTPUT_TOKENS)],
        help_text="A call that sets no limit gets this one. A call that asks for more is refused.",
    )  # fmt: skip
    min_output_tokens = models.PositiveIntegerField(
        "minimum output tokens per call", null=True, blank=True, validators=[MinValueValidator(LEAST_OUTPUT_TOKENS)],
        help_text="For keys with a budget. A call that sets no limit gets the highest limit that the budget can still"
        " pay for. If that is less than this, the call is refused. Leave empty for 1,000.",
    )  # fmt: skip

    digest = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(max_length=10, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    previous_digest = models.CharField(max_length=64, blank=True, editable=False)
    previous_valid_until = models.DateTimeField(null=True, blank=True, editable=False)

    objects = AccessKeyManager()

    class Meta(SpenderColumns.Meta):
        verbose_name = "key"
        default_permissions = ("add", "change", "view")  # keys are never deleted

    def save(
        self,
        *,
        force_insert: bool | tuple[ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Saves the access key; sets the column `owner` to the user name of the key's account, if it has one.

        With `update_fields`, `owner` is set only if `owner_user` or `owner` is among these fields.
        """
        names = None if update_fields is None else {*update_fields}
        if self.owner_user_id is not None and (names is None or names & {"owner_user", "owner"}):
            self.owner = self.owner_user.get_username() if self.owner_user else self.owner
            names = None if names is None else names | {"owner"}
        super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=names)

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Validates each field, and converts the expiry to UTC.

        Raises:
            ValidationError: a field is wrong, or the expiry is not a time of the years 1 to 9999 in UTC.
        """
        super().clean_fields(exclude)
        try:
            self.expires_at = self.expires_at and self.expires_at.astimezone(UTC)
        except OverflowError:
            # PostgreSQL would store it, and nothing could read the table of keys any more.
            raise ValidationError({"expires_at": "In UTC, this is not a time of the years 1 to 9999."}) from None

    def rotate(self, grace: timedelta = timedelta(0)) -> str:
        """Gives the access key a new secret, saves the key, and returns the new secret.

        The current secret stays valid for the duration `grace`; by default, it becomes invalid at once. If the secret
        before it is still in its own grace period, that one becomes invalid at once.

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
        """Revokes the access key for ever, with all its secrets, and saves it; does nothing to a revoked key."""
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

    def state(self, now: datetime | None = None) -> str:
        """Returns the access key's state at a time (by default now): `active`, `off`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= (now or timezone.now()):
            return "expired"
        return "active" if self.active else "off"

    @property
    def masked(self) -> str:
        """The beginning and the last four characters of the access key's secret, for people to recognise it."""
        return f"{self.prefix}…{self.last_four}"


class ApiTokenScope(models.TextChoices):
    """The permissions that an API token can have in the management API (`/api`): to read or to change keys or teams."""

    KEYS_READ = "keys:read", "read keys"
    KEYS_WRITE = "keys:write", "make, change, rotate and revoke keys"
    TEAMS_READ = "teams:read", "read teams"
    TEAMS_WRITE = "teams:write", "make, change, archive and restore teams"


class ApiTokenManager(models.Manager["ApiToken"]):
    """Django's manager of API tokens: finds the token that a request has sent."""

    def find_valid(self, text: str) -> ApiToken | None:
        """Returns the valid API token whose secret is `text`, with its user; None if no valid token has this secret.

        A token is valid if it is neither revoked nor expired, and its user is active and has the staff status. Also
        stores the time in `last_used_at`, unless the stored time is quite new (`LAST_USED_STEP`).
        """
        if not may_be_api_token(text):  # a made-up text causes no query
            return None
        now = timezone.now()
        token = self.select_related("user").filter(digest=sealing.digest(text)).first()
        if token is None or token.state(now) != "active":
            return None
        if token.last_used_at is None or now - token.last_used_at >= LAST_USED_STEP:
            self.filter(pk=token.pk).update(last_used_at=now)
        return token


class ApiToken(models.Model):
    """An API token: a secret with which a script manages keys and teams by `/api` in the name of a person, its user.

    A token may do only what both its scopes and the present rights of its user allow.
    """

    name = models.CharField(max_length=200, unique=True, help_text="What the token is for, as the audit log shows it.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, editable=False)
    scopes = ArrayField(models.CharField(max_length=20, choices=ApiTokenScope))
    expires_at = models.DateTimeField(null=True, blank=True, help_text="In UTC. Leave empty for no expiry.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)
    last_used_at = models.DateTimeField("last used", null=True, blank=True, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(max_length=10, editable=False)
    last_four = models.CharField(max_length=4, editable=False)

    objects = ApiTokenManager()

    class Meta:
        verbose_name = "API token"
        ordering = ("name",)
        default_permissions = ("add", "change", "view")  # tokens are revoked, not deleted: the audit log names them

    def __str__(self) -> str:
        return self.name

    def renew(self) -> str:
        """Gives the API token a new random secret and returns the secret; does not save the token."""
        start = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_RANDOM_BYTES)
        text = start + _check_of(start)
        self.digest = sealing.digest(text)
        self.prefix, self.last_four = text[:MASKED_TOKEN_PREFIX_LENGTH], text[-4:]
        return text

    def revoke(self) -> None:
        """Revokes the API token for ever, and saves it; does nothing to a revoked token."""
        if self.revoked_at is None:
            self.revoked_at = timezone.now()
            self.save(update_fields=["revoked_at"])

    def state(self, now: datetime | None = None) -> str:
        """Returns the API token's state at a time (by default now): `active`, `user inactive`, `expired` or `revoked`.

        `user inactive` also means a user without the staff status.
        """
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= (now or timezone.now()):
            return "expired"
        return "active" if self.user.is_active and self.user.is_staff else "user inactive"

    @property
    def masked(self) -> str:
        """The beginning and the last four characters of the API token's secret, for people to recognise it."""
        return f"{self.prefix}…{self.last_four}"


def _check_of(start: str) -> str:
    """Computes the check characters at the end of an API token from `start`, all characters before them.

    They show without a query to the database that a token is made up.
    """
    return sealing.digest(f"check {start}")[:TOKEN_CHECK_LENGTH]


def may_be_api_token(text: str) -> bool:
    """Returns whether `text` has the form and the check characters of an API token that this gateway has made.

    Does not ask the database, so the token may be expired or revoked.
    """
    if not API_TOKEN_TEXT.fullmatch(text):
        return False
    start, check = text[:-TOKEN_CHECK_LENGTH], text[-TOKEN_CHECK_LENGTH:]
    return hmac.compare_digest(_check_of(start), check)
