"""The tables of alerts: rules, channels, alerts, messages about alerts, and the hosts that look for faults.

Invariants: for a rule, a subject and a host, at most one alert is open. A unique constraint ensures this, so that
several hosts and processes that find the same fault open one alert. The address and the secret of a channel are stored
encrypted, and are never shown.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from proxyapi import sealing

MAX_TITLE_LENGTH = MAX_SUBJECT_LENGTH = MAX_HOST_LENGTH = 300  # characters; the last two fit into one index
MOST_HOURS = 24 * 365


class AlertKind(models.TextChoices):
    """The kinds of faults that a rule can look for; `chatproxy.alerts.kinds` explains each kind."""

    BUDGET = "budget", "Budget used"
    BUDGET_REFUSALS = "budget_refusals", "Calls refused by a budget"
    ERROR_RATE = "error_rate", "Error rate"
    UPSTREAM_DOWN = "upstream_down", "Upstream unreachable"
    UPSTREAM_SLOW = "upstream_slow", "Upstream slow"
    BACKLOG = "backlog", "Journal backlog"
    SHIPPER = "shipper", "Shipper away"
    DATABASE = "database", "Database away"
    DISK = "disk", "Disk space"
    UNPRICED = "unpriced", "Price missing"
    KEY_EXPIRY = "key_expiry", "Key about to expire"
    LOGIN = "login", "Logins throttled"


# Of the thresholds, where they are no plain numbers.
UNITS: dict[str, str] = {
    **dict.fromkeys((AlertKind.BUDGET, AlertKind.ERROR_RATE, AlertKind.DISK), " %"),
    **dict.fromkeys((AlertKind.BUDGET_REFUSALS, AlertKind.UNPRICED), " calls"),
    **{AlertKind.UPSTREAM_SLOW: " times", AlertKind.BACKLOG: " seconds"},
    **{AlertKind.KEY_EXPIRY: " days", AlertKind.LOGIN: " attempts"},
}


class AlertRule(models.Model):
    """A rule for alerts: which kind of fault to look for, its threshold, and how often to send messages about it."""

    kind = models.CharField(max_length=20, choices=AlertKind)
    threshold = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    window_minutes = models.PositiveIntegerField(
        "window in minutes", null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(7 * 1440)]
    )
    quiet_hours = models.PositiveIntegerField(
        "quiet hours",
        default=1,
        validators=[MaxValueValidator(MOST_HOURS)],
        help_text="After a message, an alert about the same subject that comes back is not sent for so many hours.",
    )
    repeat_hours = models.PositiveIntegerField(
        "repeat after hours",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_HOURS)],
        help_text="An alert that stays open is sent again after so many hours. Leave empty to send it once.",
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ("kind", "threshold")
        verbose_name = "alert rule"
        constraints = (models.UniqueConstraint(fields=["kind", "threshold"], name="chatproxy_alertrule_once"),)

    def __str__(self) -> str:
        if self.threshold is None:
            return self.get_kind_display()
        unit = UNITS.get(self.kind, "").removesuffix("s" if self.threshold == 1 else "")
        return f"{self.get_kind_display()}: {self.threshold.normalize():f}{unit}"


class ChannelKind(models.TextChoices):
    """The ways in which a channel sends messages: webhook, Slack, Teams, e-mail."""

    WEBHOOK = "webhook", "Webhook (signed JSON)"
    SLACK = "slack", "Slack"
    TEAMS = "teams", "Microsoft Teams"
    EMAIL = "email", "E-mail"


class AlertChannel(models.Model):
    """A channel to which messages about alerts are sent, with the hours of the day in which it is silent.

    The channel's address and secret are encrypted (`proxyapi.sealing`). Only `host`, the host name in the address, may
    be shown: anybody who knows the whole address of a Slack or Teams webhook can post there.
    """

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=10, choices=ChannelKind)
    enabled = models.BooleanField(default=True)
    recipients = ArrayField(
        models.EmailField(), default=list, blank=True, help_text="E-mail addresses. For e-mail only."
    )
    rules = models.ManyToManyField(
        AlertRule, blank=True, help_text="Leave empty to send the alerts of all rules, also of later ones."
    )
    quiet_from = models.TimeField(
        null=True, blank=True, help_text="In UTC. From then until the end of the quiet time, messages wait."
    )
    quiet_until = models.TimeField(null=True, blank=True, help_text="In UTC. May be on the next day.")
    host = models.CharField(max_length=255, blank=True, editable=False)
    sealed_url = models.TextField(blank=True, editable=False)
    sealed_secret = models.TextField(blank=True, editable=False)

    class Meta:
        ordering = ("name",)
        verbose_name = "alert channel"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Checks the quiet time of the channel: a beginning and an end must both be set, or neither.

        Raises:
            ValidationError: only one of the two is set, or both are the same.
        """
        if (self.quiet_from is None) != (self.quiet_until is None):
            raise ValidationError({"quiet_until": "Give both times, or neither."})
        if self.quiet_from is not None and self.quiet_from == self.quiet_until:
            raise ValidationError({"quiet_until": "The quiet time must end at another time than it begins."})

    def set_url(self, url: str) -> None:
        """Sets the channel's address, encrypted, and the host name in it (`host`); does not save the channel."""
        self.host = urlsplit(url).hostname or ""
        self.sealed_url = sealing.seal(url)

    def set_secret(self, secret: str) -> None:
        """Sets the secret with which the channel signs its messages, encrypted; does not save the channel."""
        self.sealed_secret = sealing.seal(secret)

    @property
    def url(self) -> str:
        """The address to which the channel sends, decrypted.

        Raises:
            CannotUnseal: the stored address is missing, damaged, or encrypted with another encryption key.
        """
        return sealing.unseal(self.sealed_url)

    @property
    def secret(self) -> str:
        """The secret with which the channel signs its messages, decrypted.

        Raises:
            CannotUnseal: the stored secret is missing, damaged, or encrypted with another encryption key.
        """
        return sealing.unseal(self.sealed_secret)

    def is_quiet(self, moment: time) -> bool:
        """Returns whether `moment`, a time of the day (UTC), is in the channel's quiet time, if it has one."""
        if self.quiet_from is None or self.quiet_until is None:
            return False
        if self.quiet_from < self.quiet_until:
            return self.quiet_from <= moment < self.quiet_until
        return moment >= self.quiet_from or moment < self.quiet_until

    def sends_from(self, now: datetime) -> datetime:
        """Returns the earliest time at which a message that is written `now` may be sent.

        Usually this is `now`. If `now` is in the channel's quiet time (UTC), it is the end of the quiet time.
        """
        if self.quiet_until is None or not self.is_quiet(now.time()):
            return now
        end = datetime.combine(now.date(), self.quiet_until, tzinfo=now.tzinfo)
        return end if end > now else end + timedelta(days=1)


class AlertHost(models.Model):
    """A host whose shipper looks for faults; the shipper is the process that also copies calls to the database.

    `seen_at` is the time of the last search, by the database's clock. `stopped_at` is set when the shipper was stopped
    properly; then nobody gets an alert that the host is away.
    """

    name = models.CharField(max_length=MAX_HOST_LENGTH, unique=True)
    seen_at = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Alert(models.Model):
    """A fault that a rule has found, from `since` until `resolved_at` (null while the alert is open).

    `subject` is the thing that has the fault, such as a key; it is empty if the whole gateway has it. `host` is empty
    unless the fault belongs to one host. `title`, `detail` and `page` describe the fault as it was when the rule last
    found it.
    """

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="alerts")
    subject = models.CharField(max_length=MAX_SUBJECT_LENGTH, blank=True)
    host = models.CharField(max_length=MAX_HOST_LENGTH, blank=True)
    title = models.CharField(max_length=MAX_TITLE_LENGTH)
    detail = models.TextField(blank=True)
    page = models.TextField(blank=True, help_text="The path of the page with details.")
    since = models.DateTimeField("since (UTC)")
    resolved_at = models.DateTimeField("resolved (UTC)", null=True)
    sent_at = models.DateTimeField("sent (UTC)", null=True, help_text="When messages about it were last written.")

    class Meta:
        ordering = ("-since", "-pk")
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(
                fields=["rule", "subject", "host"],
                condition=models.Q(resolved_at=None),
                name="chatproxy_alert_open_once",
            ),
        )
        indexes = (models.Index(fields=["resolved_at"], name="chatproxy_alert_resolved"),)

    def __str__(self) -> str:
        return self.title


class AlertEvent(models.TextChoices):
    """The events of an alert about which a message is sent: opened, still open, resolved; or a test."""

    OPENED = "opened", "opened"
    REPEATED = "repeated", "still open"
    RESOLVED = "resolved", "resolved"
    TEST = "test", "test"


class AlertMessage(models.Model):
    """A message about an alert for one channel: its content, when it is due, and whether it was sent.

    It is stored in the transaction that changes the alert, and marked as sent only after sending; so a crash cannot
    lose it, but can send it twice. `due_at` is the time of the next try; null if the message was sent, was given up
    (`failed_at`), or was withdrawn before the first try. A test message has no alert.
    """

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, null=True, related_name="messages")
    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="messages")
    event = models.CharField(max_length=10, choices=AlertEvent)
    notice = models.JSONField(help_text="The content of the message (chatproxy.alerts.notice).")
    made_at = models.DateTimeField("written (UTC)")
    due_at = models.DateTimeField("next try (UTC)", null=True)
    attempts = models.PositiveIntegerField("tries", default=0)
    sent_at = models.DateTimeField("sent (UTC)", null=True)
    failed_at = models.DateTimeField("given up (UTC)", null=True)

    class Meta:
        ordering = ("-pk",)
        default_permissions = ("view",)
        verbose_name = "alert message"
        indexes = (
            models.Index(
                fields=["due_at"], name="chatproxy_alertmessage_due", condition=models.Q(due_at__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_event_display()}: {self.notice.get('title', '')}"

    @property
    def state(self) -> str:
        """The state of this message about an alert, in one word: sent, failed, withdrawn or waiting."""
        if self.sent_at is not None:
            return "sent"
        if self.failed_at is not None:
            return "failed"
        return "withdrawn" if self.due_at is None else "waiting"


class AlertAttempt(models.Model):
    """One try to send a message, and its result in words, which contain no part of the channel's address."""

    message = models.ForeignKey(AlertMessage, on_delete=models.CASCADE, related_name="tries")
    at = models.DateTimeField()
    was_sent = models.BooleanField()
    result = models.CharField(max_length=200)

    class Meta:
        ordering = ("pk",)
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.result}"
