"""The rights and limits of callers in the memory of this process: the ceilings of each key and of its team.

A `Caller` and the `TeamCeilings` of its team are built once, when the keys are loaded, and never change. The properties
that calls read most often are computed only once, so that teams cost nothing for a call of a key without a team.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, ClassVar

from proxyapi import sealing
from proxyapi.key_names import CONTROL_CHARACTERS
from usage.money.spenders import Spender, SpenderKind

MIN_OUTPUT_TOKENS = 1000  # of a key that has no number of its own

# One key or one team as JSON: the columns of its row (`proxyapi.keys.snapshots`).
Record = dict[str, Any]


@dataclass(frozen=True)
class Budgets:
    """The dollars that a key or a team may spend per day, per month and in total; None means no limit."""

    day: Decimal | None = None
    month: Decimal | None = None
    total: Decimal | None = None

    @property
    def tightest(self) -> Decimal | None:
        """The smallest of the budgets per day, per month and in total, in dollars; None if there is no budget."""
        return min((dollars for dollars in (self.day, self.month, self.total) if dollars is not None), default=None)


UNLIMITED = Budgets()


@dataclass(frozen=True)
class Ceilings:
    """The rights and limits of a spender (a key or a team): its models, routes, limits and budgets.

    An empty `allowed_models` or `allowed_routes` allows all. A limit of None means no limit.
    """

    kind: ClassVar[SpenderKind]
    words: ClassVar[str]  # for the spender in messages to callers, within a sentence
    param: ClassVar[str | None]  # of an error by which the spender's ceilings refuse a call

    name: str
    allowed_models: tuple[str, ...] = ()
    allowed_routes: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_calls: int | None = None
    budgets: Budgets = UNLIMITED
    created_at: datetime | None = None

    @cached_property
    def spender(self) -> Spender:
        """The spender (a key or a team) that these ceilings limit, as a pair of kind and name."""
        return Spender(self.kind, self.name)

    @cached_property
    def counted_as(self) -> str:
        """The unique name of this spender (key or team) in the counters of limits."""
        # The name of a key has no line break (`proxyapi.key_names.check_name`).
        return self.name if self.kind == "key" else f"{self.kind}\n{self.name}"

    @property
    def has_limits(self) -> bool:
        """True if there is a limit of requests, tokens or parallel calls, so that calls must be counted."""
        # Budgets need none of these counts: dollars are reserved separately.
        return not (self.requests_per_minute is None and self.tokens_per_minute is None and self.parallel_calls is None)


@dataclass(frozen=True)
class TeamCeilings(Ceilings):
    """The rights and limits of a team, which hold for all its keys together.

    If `is_active` is false, the team is archived, and calls of its keys are refused.
    """

    kind = "team"
    words = "the team of this key"
    param = "team"

    is_active: bool = True


@dataclass(frozen=True)
class Caller(Ceilings):
    """Whoever sends a call: the name of the call's access key, and what this key and its team may do.

    If `upstream_key` is None, the gateway's own upstream key pays.
    """

    kind = "key"
    words = "this key"
    param = None

    shared_objects: tuple[str, ...] = ()
    max_output_tokens: int | None = None  # of one call
    min_output_tokens: int = MIN_OUTPUT_TOKENS  # of one answer, where the budget limits it
    log_bodies: str = "inherit"
    team_ceilings: TeamCeilings | None = None  # None for a key without a team
    owner: str = ""
    tags: tuple[str, ...] = ()
    upstream_key: str | None = field(default=None, repr=False)

    @cached_property
    def team(self) -> str:
        """The name of the key's team; empty for a key without a team."""
        return "" if self.team_ceilings is None else self.team_ceilings.name

    @cached_property
    def ceilings(self) -> tuple[Ceilings, ...]:
        """The ceilings (rights and limits) that hold for the caller: those of its key and, if any, of its team."""
        return (self,) if self.team_ceilings is None else (self, self.team_ceilings)

    @cached_property
    def route_ceilings(self) -> tuple[Ceilings, ...]:
        """The ceilings (rights and limits) of the caller's key and team that restrict the routes: none, one or two.

        Those of an archived team are always included: they allow no route.
        """
        return tuple(one for one in self.ceilings if one.allowed_routes or is_archived(one))

    @cached_property
    def model_ceilings(self) -> tuple[Ceilings, ...]:
        """The ceilings (rights and limits) of the caller's key and team that restrict the models: none, one or two."""
        return tuple(one for one in self.ceilings if one.allowed_models)

    @cached_property
    def limit_ceilings(self) -> tuple[Ceilings, ...]:
        """The ceilings of the caller's key and team that limit requests, tokens or parallel calls: none, one or two."""
        return tuple(one for one in self.ceilings if one.has_limits)

    @cached_property
    def takes_slots(self) -> bool:
        """True if the key or its team has a limit of parallel calls."""
        return any(one.parallel_calls is not None for one in self.ceilings)

    @cached_property
    def counts_tokens(self) -> bool:
        """True if the key or its team has a limit of tokens per minute."""
        return any(one.tokens_per_minute is not None for one in self.ceilings)

    @cached_property
    def budget_ceilings(self) -> tuple[Ceilings, ...]:
        """The ceilings (rights and limits) of the caller's key and team that have budgets: none, one or two."""
        return tuple(one for one in self.ceilings if one.budgets != UNLIMITED)


def is_archived(ceilings: Ceilings) -> bool:
    """Returns whether `ceilings` (rights and limits) are those of an archived team."""
    return isinstance(ceilings, TeamCeilings) and not ceilings.is_active


def team_ceilings_of(record: Record) -> TeamCeilings:
    """Builds the ceilings of a team from `record`: the team's database row as a dictionary of JSON values."""
    return TeamCeilings(is_active=record["active"], **_ceilings(record))


def caller_of(record: Record, team: Record | None) -> Caller:
    """Builds the `Caller` of an access key from database rows, each a dictionary of JSON values.

    `record` is the row of the key, `team` the row of its team, or None. The caller has the tags of both. The rule for
    stored bodies (`log_bodies`) and the upstream key are the key's own or, if it has none, the team's.

    Raises:
        CannotUnseal: the upstream key that is to pay cannot be decrypted.
    """
    own = () if team is None else tuple(team["tags"])
    log_bodies = record["log_bodies"]
    if team is not None and log_bodies == "inherit":
        log_bodies = team["log_bodies"]
    sealed = record["sealed_upstream_key"] or ("" if team is None else team["sealed_upstream_key"])
    return Caller(
        **_ceilings(record),
        shared_objects=tuple(record.get("shared_objects", ())),  # older versions wrote the copy without it
        max_output_tokens=record.get("max_output_tokens"),  # as shared objects
        min_output_tokens=record.get("min_output_tokens") or MIN_OUTPUT_TOKENS,
        log_bodies=log_bodies,
        team_ceilings=None if team is None else team_ceilings_of(team),
        owner=record.get("owner", ""),  # as shared objects
        # Those of older versions, or set by SQL, may have control characters, which no label of a call has.
        tags=tuple(dict.fromkeys(CONTROL_CHARACTERS.sub("\ufffd", tag) for tag in (*record["tags"], *own))),
        upstream_key=sealing.unseal(sealed) if sealed else None,
    )


def _ceilings(record: Record) -> dict[str, Any]:
    """Converts the database row of a key or a team, a dictionary of JSON values, to the fields of `Ceilings`."""
    budgets = (record[f"budget_{span}"] for span in ("day", "month", "total"))
    created_at = record.get("created_at")  # older versions wrote the copy without it
    return {
        "name": record["name"],
        "allowed_models": tuple(record["allowed_models"]),
        "allowed_routes": tuple(record["allowed_routes"]),
        "requests_per_minute": record["requests_per_minute"],
        "tokens_per_minute": record["tokens_per_minute"],
        "parallel_calls": record["parallel_calls"],
        "budgets": Budgets(*(None if dollars is None else Decimal(dollars) for dollars in budgets)),
        "created_at": None if created_at is None else datetime.fromtimestamp(created_at, UTC),
    }
