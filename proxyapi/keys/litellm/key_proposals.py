"""Converts keys of a LiteLLM proxy to proposals for access keys of this gateway, and says what could not be kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256

from proxyapi.key_names import CONTROL_CHARACTERS
from proxyapi.keys.globs import matches_any
from proxyapi.keys.litellm.conversion import (
    Proposal,
    as_number,
    has_limits,
    metadata_of,
    model_globs,
    set_budgets,
    set_limits,
    set_models,
    without_counterpart,
)
from proxyapi.keys.litellm.tables import LiteLLMKey, LiteLLMRow

TEAM_MODELS = "all-team-models"
ALL_ROUTES = {"llm_api_routes", "openai_routes"}  # names of groups of LiteLLM's routes
LONGEST_OWNER = 200  # characters of `AccessKey.owner`
NOBODY = "default_user_id"  # LiteLLM's name of the owner of keys that no user has made


@dataclass
class KeyProposal(Proposal):
    """A proposal for an access key, made from a LiteLLM key whose secret ends as `shown` says, such as `sk-...abcd`.

    `team_id` is the id of its team in LiteLLM; empty if it has none.
    """

    switched_off = "the key is switched off"

    team_id: str = ""


def propose_key(found: LiteLLMKey, now: datetime, *, upstream_is_openai: bool) -> KeyProposal:
    """Converts a LiteLLM key to a proposal for an access key, with a remark for the administrator on each difference.

    The proposal has a `refusal` if the key has expired by `now`, if its time of expiry cannot be read, or if LiteLLM
    allows it no routes for calls. If `upstream_is_openai` is true, the model `openai/gpt-4o` becomes `gpt-4o`, its name
    at OpenAI.
    """
    key = found.key
    shown = str(key.get("key_name") or "")
    proposal = KeyProposal(_name(key, shown), shown, team_id=str(found.team.get("team_id") or ""))
    fields = proposal.fields
    try:
        expires_at = _moment(key.get("expires"))
    except ValueError:
        expires_at, proposal.refusal = None, f"expires at {key.get('expires')}, which cannot be read"
    if expires_at is not None and expires_at <= now:
        proposal.refusal = "has expired"
    fields["expires_at"] = expires_at
    fields["owner"] = _owner(found)
    fields["note"] = _note(key, shown)
    fields["tags"] = _tags(key)
    fields["active"] = True
    _set_models(proposal, found, upstream_is_openai=upstream_is_openai)
    _set_routes(proposal, key)
    set_limits(proposal, key, found.budget)
    set_budgets(proposal, key, found.budget)
    if key.get("blocked"):
        proposal.switch_off("it is blocked")
    proposal.remarks += _remarks(found)
    return proposal


def _name(key: LiteLLMRow, shown: str) -> str:
    """Returns the name for the new key: the key's alias in LiteLLM or, without one, a name made of its digest."""
    alias = " ".join(str(key.get("key_alias") or "").split())
    return alias or f"litellm {shown} {sha256(str(key['token']).encode()).hexdigest()[:8]}"


def _owner(found: LiteLLMKey) -> str:
    """Returns the new key's owner: the e-mail address, name or id of the LiteLLM key's user; "" if it has none."""
    owner, user_id = found.owner, found.key.get("user_id")
    names = (owner.get("user_email"), owner.get("user_alias"), user_id if user_id != NOBODY else None)
    return str(next(filter(None, names), ""))[:LONGEST_OWNER]


def _note(key: LiteLLMRow, shown: str) -> str:
    spent = as_number(key.get("spend")) or Decimal(0)
    return f"Taken over from LiteLLM, where its key was {shown or 'without a name'}, and had spent ${spent:.2f}."


def _tags(key: LiteLLMRow) -> list[str]:
    """Returns the tags in a LiteLLM key's metadata, which LiteLLM adds to calls; omits those above 100 characters."""
    tags = metadata_of(key).get("tags")
    found = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return [CONTROL_CHARACTERS.sub("\ufffd", tag) for tag in found if 0 < len(tag) <= 100]


def _set_models(proposal: KeyProposal, found: LiteLLMKey, *, upstream_is_openai: bool) -> None:
    """Sets the models that the new key may use: those that LiteLLM allows both to its key and to the key's team.

    Without a team, its user's models count instead. If both lists have models, but none in common, the new key is
    switched off.
    """
    above = found.team if found.key.get("team_id") else found.owner
    own, shared = model_globs(found.key.get("models")), model_globs(above.get("models"))
    own = [] if TEAM_MODELS in own else own
    models = _common(own, shared)
    if own and shared and not models:
        proposal.switch_off("none of its models is one of its team's or its user's")
    set_models(proposal, models, upstream_is_openai=upstream_is_openai)


def _common(some: Sequence[str], others: Sequence[str]) -> list[str]:
    """Returns the globs of model names that both lists allow; an empty list allows every name.

    A glob is kept if a glob of the other list covers it. Globs that only overlap, such as `gpt-*` and `*-mini`, are
    dropped. If both lists have globs, but none is kept, the result is empty: then no name is allowed.
    """
    if not some or not others:
        return [*some, *others]
    return [
        *(glob for glob in some if matches_any(glob, others)),
        *(glob for glob in others if matches_any(glob, some)),
    ]


def _set_routes(proposal: KeyProposal, key: LiteLLMRow) -> None:
    """Sets the routes of a proposed key; or its `refusal`, if LiteLLM allows the key no routes for calls."""
    allowed = [str(route) for route in key.get("allowed_routes") or []]
    paths = [_route(route) for route in allowed if route.startswith("/")]
    if not allowed or ALL_ROUTES & set(allowed):
        paths = []
    elif not paths:
        proposal.refusal = f"makes no calls: it is for LiteLLM's {', '.join(allowed)}"
    proposal.fields["allowed_routes"] = paths


def _route(path: str) -> str:
    """Converts a path in LiteLLM's form to the gateway's name of the route: `/files/{file_id}` to `/v1/files/{id}`."""
    whole = path if path.startswith("/v1/") else f"/v1{path}"
    return re.sub(r"\{[^}]*\}", "{id}", whole)


def _remarks(found: LiteLLMKey) -> Iterator[str]:
    """Yields remarks on what a LiteLLM key, or its user, has and an access key cannot have."""
    if found.key.get("team_id") and not found.team:
        yield f"its team {found.key['team_id']!r} is gone from LiteLLM, so it belongs to none"
    yield from without_counterpart(found.key, found.budget, metadata_of(found.key))
    if has_limits(found.member_budget):
        yield "not taken over: the limits and budgets of its user in the team, for all keys together"
    if has_limits(found.owner):
        owner = found.owner
        name = next(filter(None, map(owner.get, ("user_email", "user_alias", "user_id"))), "")
        yield f"not taken over: the limits and budgets of its user {str(name)!r}, for all keys together"


def _moment(value: object) -> datetime | None:
    """Parses a time in LiteLLM's rows, which is in UTC unless it states an offset; returns None if there is no end.

    PostgreSQL's `infinity` is no end, and its `-infinity` is long past.

    Raises:
        ValueError: the text is no time, or one that Python cannot represent, such as one in the year 10000.
    """
    if not isinstance(value, str) or value == "infinity":
        return None
    moment = datetime.fromisoformat("0001-01-01" if value == "-infinity" else value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
