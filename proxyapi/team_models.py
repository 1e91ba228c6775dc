"""The tables of teams and of their members, and the columns that teams and access keys have in common.

A team is a group of people whose access keys share budgets, limits and rules (`SpenderColumns`). The limits of the team
hold for all its keys together; each key may have limits of its own as well.

Invariants: a team is never deleted and never renamed, because the ledger refers to it by name. A team that is not
active is archived: calls of its keys are refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any, Self, TypeVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.base import ModelBase
from django.utils import timezone

from proxyapi import sealing
from proxyapi.key_names import CONTROL_CHARACTERS, check_name, comparable, normalised

Named = TypeVar("Named", bound="SpenderColumns")
HEADER_VALUE = re.compile(r"[\x21-\x7e]{8,500}")
LIMIT_OPTIONS: dict[str, Any] = {"null": True, "blank": True, "validators": [MinValueValidator(1)]}
DOLLAR_OPTIONS: dict[str, Any] = {
    "max_digits": 12, "decimal_places": 4, "null": True, "blank": True, "validators": [MinValueValidator(Decimal(0))],
}  # fmt: skip


class LogBodies(models.TextChoices):
    """The choices for one setting of a key or a team: for which calls the ledger stores prompts and answers."""

    INHERIT = "inherit", "server default"
    ALL = "all", "all"
    ERRORS = "errors", "failed calls only"
    NONE = "none", "none"


class TeamRole(models.TextChoices):
    """The roles that a person can have in a team."""

    MEMBER = "member", "member"
    LEAD = "lead", "lead"


def check_routes(globs: list[str]) -> None:
    """Checks the patterns of the routes that an access key or a team may use, such as `/v1/responses*`.

    Raises:
        ValidationError: a pattern begins with neither `/` nor `*`, so it can match no route.
    """
    for glob in globs:
        if not glob.startswith(("/", "*")):
            words = "A route starts with '/', as /openai or /v1/responses*; '%(glob)s' does not."
            raise ValidationError(words, params={"glob": glob})


def check_tags(tags: list[str]) -> None:
    """Checks the tags of an access key or a team.

    Raises:
        ValidationError: a tag has a control character.
    """
    if any(map(CONTROL_CHARACTERS.search, tags)):
        raise ValidationError("A tag has no control characters.")


def check_upstream_key(text: str) -> None:
    """Checks that a text can be an API key for upstream.

    Raises:
        ValidationError: the text is not 8 to 500 printable ASCII characters without spaces.
    """
    if not HEADER_VALUE.fullmatch(text):
        raise ValidationError("An upstream key has 8 to 500 printable ASCII characters, without spaces.")


class NamedManager(models.Manager[Named]):
    """Django's manager of access keys or of teams: finds them by name."""

    def is_taken(self, name: str) -> bool:
        """Returns whether a row of the table has this name, or a name that looks like it."""
        wanted = comparable(name)
        if self.filter(comparable_name=wanted).exists():
            return True
        # Keys that an older version of the gateway created have no `comparable_name`. They are few.
        return any(
            comparable(other) == wanted for other in self.filter(comparable_name=None).values_list("name", flat=True)
        )

    def find(self, name: str, *, lock: bool = True) -> Named | None:
        """Returns the row with this name, locked until the present transaction ends; None if there is no such row.

        The name may also be given in another Unicode form than the stored one. With `lock=False` the row is not locked,
        and no transaction is needed.
        """
        rows = self.select_for_update(of=("self",)) if lock else self.all()
        return rows.filter(name=name).first() or rows.filter(name=normalised(name)).first()


class SpenderColumns(models.Model):
    """Base class of access keys and teams, with their common columns: name, tags, rights, limits, budgets and others.

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
    tags = ArrayField(
        models.CharField(max_length=100), default=list, blank=True, validators=[check_tags],
        help_text="Copied onto each call, for filtering and reports.",
    )  # fmt: skip
    active = models.BooleanField(default=True, help_text="Off: calls are refused until it is on again.")

    allowed_models = ArrayField(
        models.CharField(max_length=200), default=list, blank=True,
        help_text="Names or patterns such as gpt-4o*. Upper and lower case differ. Leave empty to allow all models.",
    )  # fmt: skip
    allowed_routes = ArrayField(
        models.CharField(max_length=100), default=list, blank=True, validators=[check_routes],
        help_text="Routes or patterns such as /openai or /v1/responses*. Leave empty to allow all routes.",
    )  # fmt: skip
    requests_per_minute = models.PositiveIntegerField(**LIMIT_OPTIONS)
    tokens_per_minute = models.PositiveBigIntegerField(**LIMIT_OPTIONS)
    parallel_calls = models.PositiveIntegerField(**LIMIT_OPTIONS)
    budget_day = models.DecimalField("budget per day", help_text="In dollars, for a day in UTC.", **DOLLAR_OPTIONS)
    budget_month = models.DecimalField(
        "budget per month", help_text="In dollars, for a month in UTC.", **DOLLAR_OPTIONS
    )
    budget_total = models.DecimalField("lifetime budget", help_text="In dollars, for all calls.", **DOLLAR_OPTIONS)
    log_bodies = models.CharField(
        "store prompts and answers", max_length=10, choices=LogBodies, default=LogBodies.INHERIT
    )
    sealed_upstream_key = models.TextField(blank=True, editable=False, help_text="Encrypted (proxyapi.sealing).")

    created_at = models.DateTimeField("created", default=timezone.now, editable=False)
    changed_at = models.DateTimeField("changed", auto_now=True)

    class Meta:
        abstract = True
        ordering = ("name",)

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
        """Saves the row, and sets `changed_at` to now.

        The name is stored only when the row is new; a later change of it is ignored. A new row also gets its
        `comparable_name`, which is the same for all names that look alike.
        """
        if self._state.adding:
            self.comparable_name = comparable(self.name)
        else:
            names = update_fields or [field.name for field in self._meta.concrete_fields if not field.primary_key]
            update_fields = {*names, "changed_at"} - {"name", "comparable_name"}
        super().save(force_insert=force_insert, force_update=force_update, using=using, update_fields=update_fields)

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Converts the name of a new row to the Unicode form that is stored, then validates each field.

        Raises:
            ValidationError: a field is wrong, or an item of a list has a control character, such as a line end.
        """
        if self._state.adding:
            self.name = normalised(self.name)
        super().clean_fields(exclude)
        lists = {field.name for field in self._meta.concrete_fields if isinstance(field, ArrayField)}
        for name in sorted(lists - {*(exclude or ())}):
            if any(map(CONTROL_CHARACTERS.search, getattr(self, name))):
                raise ValidationError({name: "An item of this list has no control characters."})

    def clean(self) -> None:
        """Checks that the name of a new row does not look like that of another row of the table.

        Raises:
            ValidationError: the name looks like that of another row.
        """
        super().clean()
        # Forms check uniqueness only of the columns that they show, and `comparable_name` is none of them.
        rows: NamedManager[Self] = type(self)._default_manager  # type: ignore[assignment]  # of both subclasses
        if self._state.adding and rows.is_taken(self.name):
            kind = str(self._meta.verbose_name).capitalize()
            raise ValidationError({"name": f"{kind} with this Name already exists, perhaps in another spelling."})

    def set_upstream_key(self, text: str) -> None:
        """Sets the upstream key that pays for the calls; an empty text removes it. Does not save the row.

        Raises:
            ValidationError: the text is not 8 to 500 printable ASCII characters without spaces.
        """
        if text:
            check_upstream_key(text)
        self.sealed_upstream_key = sealing.seal(text) if text else ""

    @property
    def budgets(self) -> dict[str, Decimal | None]:
        """The budgets of the key or team in dollars, as a dict with `day`, `month` and `total`; None means no limit."""
        return {"day": self.budget_day, "month": self.budget_month, "total": self.budget_total}


class TeamManager(NamedManager["Team"]):
    """Django's manager of teams: creates them in the database, and finds them by name."""

    def found(self, name: str, *, upstream_key: str = "", **fields: object) -> Team:
        """Creates a team in the database, and returns it.

        Args:
            name: the name of the team.
            upstream_key: the upstream key that pays for the calls of the team's keys; stored encrypted. If it is empty,
                the gateway's upstream key pays.
            fields: the values of other columns.

        Raises:
            ValidationError: a field is wrong, or another team has the name.
        """
        team = self.model(name=name, **fields)
        team.set_upstream_key(upstream_key)
        team.full_clean()
        team.save(force_insert=True)
        return team


class Team(SpenderColumns):
    """A team: people who are its members, access keys, and the rights and limits that all its keys share."""

    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="TeamMember", related_name="teams")
    self_service = models.BooleanField(
        "members make their own keys", default=False, help_text="Off: only leads and key managers make keys."
    )
    keys_per_member = models.PositiveIntegerField(
        help_text="How many active keys a member may have made. Leave empty for no limit.", **LIMIT_OPTIONS
    )
    member_key_budget_month = models.DecimalField(
        "highest budget per month of such a key",
        help_text="In dollars. A key that a member makes must then have a budget per month. Leave empty for no limit.",
        **DOLLAR_OPTIONS,
    )

    objects = TeamManager()

    class Meta(SpenderColumns.Meta):
        default_permissions = ("add", "change", "view")  # teams are never deleted

    @property
    def state(self) -> str:
        """The team's state: `active` or `archived`."""
        return "active" if self.active else "archived"


class TeamMember(models.Model):
    """The membership of one person in one team, with the person's role there."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=TeamRole, default=TeamRole.MEMBER)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["team", "user"], name="proxyapi_teammember_once"),)
        verbose_name = "member"

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"
