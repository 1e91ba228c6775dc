"""The tables of what the ledger knows beside calls and sums: names, marks, responses and other stored objects."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from usage.models.calls import Outcome


class KnownName(models.Model):
    """A model name or an error code that has sums of its own: the calls with this name are added up separately.

    The calls of all other names are added up under one common name, because a caller can send any number of names. Only
    `usage.sums.summed_names` writes this table.
    """

    pk = models.CompositePrimaryKey("kind", "name")
    kind = models.CharField(max_length=5)
    name = models.CharField(max_length=200)
    learnt_on = models.DateField(
        db_index=True, help_text="The day (UTC) on which the name became known, by the database's clock."
    )

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class ErrorState(models.TextChoices):
    """The mark that somebody has given to an error on the errors page: known, or resolved (should not occur again)."""

    KNOWN = "known", "known"
    RESOLVED = "resolved", "resolved"


class KnownError(models.Model):
    """A kind of error that somebody has marked on the errors page as known or as resolved, with a remark (`note`).

    An error is identified by its outcome, its error code and the group of its message. `message` is this group: "-" if
    there is none. It is empty in marks of earlier releases, which are for all errors with this code. `status`, `model`
    and `route` are 0 or empty in new rows; only earlier releases used them.
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

    page = models.CharField(max_length=8, help_text="The page, as usage.admin_pages.saved_views names it.")
    name = models.CharField(max_length=100)
    query = models.TextField(blank=True, help_text="The filters, as they stand in the page's address.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    is_shared = models.BooleanField(default=False)

    class Meta:
        default_permissions = ()  # whoever may see the pages has views of their own
        constraints = (models.UniqueConstraint(fields=["user", "page", "name"], name="usage_savedview_once"),)

    def __str__(self) -> str:
        return f"{self.page}: {self.name}"


class LedgerState(models.Model):
    """The progress of deleting old data, in a single row: when data were last deleted, and up to which times."""

    pruned_at = models.DateTimeField(null=True)
    pruned_before = models.DateTimeField(
        null=True, help_text="Rows of calls before this time are deleted; only their sums are left."
    )
    bodies_pruned_before = models.DateTimeField(null=True, help_text="Bodies of calls before this time are deleted.")
    histograms_emptied_before = models.DateTimeField(
        null=True, help_text="The sums of hours before this time have no histograms."
    )

    def __str__(self) -> str:
        return f"pruned at {self.pruned_at}"

    @classmethod
    def load(cls) -> LedgerState:
        return cls.objects.get_or_create(pk=1)[0]


class CountedResponse(models.Model):
    """A response of upstream's, with the request id of the one call that is billed for the response's usage.

    The rows of several calls can state the usage of the same response. The docstring of
    `usage.journal_shipping.response_billing` explains which call is billed.
    """

    response_id = models.CharField(max_length=200, primary_key=True)
    request_id = models.UUIDField(db_index=True)

    def __str__(self) -> str:
        return self.response_id


class StoredObject(models.Model):
    """An object that upstream stores, such as a response or a file, with the name of the key that created it.

    If upstream stores the object until somebody deletes it, the row stays for ever; otherwise the row is deleted
    together with the row of the call that created the object (RETENTION_DAYS), but after 30 days at the earliest. Only
    `usage.journal_shipping.stored_object_rows` inserts rows, also for a second key that upstream has given the same id.
    """

    object_id = models.CharField(max_length=512, primary_key=True, help_text="The id that upstream gave to the object.")
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
    """A background response that must be polled upstream, because the gateway does not know yet that it has ended."""

    response_id = models.CharField(max_length=200, primary_key=True)
    request_id = models.UUIDField(help_text="The call that made it.")
    key_name = models.CharField(max_length=200)
    # Both times are the database's, because several hosts read and write these rows, and their clocks differ.
    created_at = models.DateTimeField(db_default=Now())
    supposed = models.JSONField(null=True, help_text="The token counts to use if upstream never states the usage.")
    ask_at = models.DateTimeField(db_default=Now(), db_index=True)

    def __str__(self) -> str:
        return self.response_id
