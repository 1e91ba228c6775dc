"""Converts the teams of a LiteLLM proxy to proposals for teams of this gateway, and says what could not be kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256

from proxyapi.key_names import comparable
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


@dataclass
class TeamProposal(Proposal):
    """A proposal for a team, made from a LiteLLM team, whose id is `shown`.

    `is_new` becomes true once the team has been made, `is_known` if there is a team of this name already.
    """

    switched_off = "the team is archived, and calls of its keys are refused"

    is_new: bool = False
    is_known: bool = False


def propose_teams(found: Iterable[LiteLLMKey], *, upstream_is_openai: bool) -> dict[str, TeamProposal]:
    """Converts the teams of some LiteLLM keys to proposals; returns a map from LiteLLM's team ids to these.

    A team gets its alias as name. If several teams have the same alias, each name also has a digest of the team's id.
    If `upstream_is_openai` is true, the model `openai/gpt-4o` becomes `gpt-4o`, its name at OpenAI.
    """
    teams = {str(key.team["team_id"]): key for key in found if key.team}
    aliases = {team_id: _alias(key.team) for team_id, key in teams.items()}
    uses = Counter(map(comparable, aliases.values()))
    proposals = {}
    for team_id, key in teams.items():
        name = aliases[team_id]
        if uses[comparable(name)] > 1:
            name = f"{name} {sha256(team_id.encode()).hexdigest()[:8]}"
        proposals[team_id] = _propose(TeamProposal(name, team_id), key, upstream_is_openai=upstream_is_openai)
    return proposals


def _propose(proposal: TeamProposal, found: LiteLLMKey, *, upstream_is_openai: bool) -> TeamProposal:
    """Fills in the proposal for a key's LiteLLM team, and returns it."""
    team = found.team
    spent = as_number(team.get("spend")) or Decimal(0)
    proposal.fields["note"] = f"Taken over from LiteLLM, where its id was {proposal.shown}, and had spent ${spent:.2f}."
    proposal.fields["active"] = True
    set_models(proposal, model_globs(team.get("models")), upstream_is_openai=upstream_is_openai)
    set_limits(proposal, team, {})
    set_budgets(proposal, team, {})
    if team.get("blocked"):
        proposal.switch_off("it is blocked")
    proposal.remarks += without_counterpart(team, metadata_of(team))
    if has_limits(found.organization_budget):
        proposal.remarks.append("not taken over: the limits and budgets of its organization, for all teams together")
    return proposal


def _alias(team: LiteLLMRow) -> str:
    return " ".join(str(team.get("team_alias") or "").split()) or str(team["team_id"])
