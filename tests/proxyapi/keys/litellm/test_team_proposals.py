"""What a team of LiteLLM becomes here: a team with the same models, limits and budgets, or narrower with a remark."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from proxyapi.keys.litellm.tables import LiteLLMKey
from proxyapi.keys.litellm.team_proposals import TeamProposal, propose_teams


def propose(organization_budget: dict[str, Any] | None = None, **team: Any) -> TeamProposal:
    row = {"team_id": "t-1", "team_alias": "science", **team}
    key = LiteLLMKey({"team_id": "t-1"}, row, {}, {}, {}, organization_budget or {})
    [(number, proposal)] = propose_teams([key, key], upstream_is_openai=True).items()
    assert number == "t-1"
    return proposal


def test_it_works() -> None:
    found = propose(
        models=["openai/gpt-4o", "gpt-5*"], rpm_limit=60, tpm_limit=1000, max_parallel_requests=5, max_budget=500,
        budget_duration="30d", spend=Decimal("12.345"),
    )  # fmt: skip
    assert (found.name, found.shown, found.remarks, found.refusal) == ("science", "t-1", [], "")
    assert found.fields == {
        "note": "Taken over from LiteLLM, where its id was t-1, and had spent $12.34.",
        "active": True,
        "allowed_models": ["gpt-4o", "gpt-5*"],
        "requests_per_minute": 60,
        "tokens_per_minute": 1000,
        "parallel_calls": 5,
        "budget_month": 500,
    }


def test_a_lifetime_budget_is_what_is_left_of_it() -> None:
    assert propose(max_budget=500, spend=20).fields["budget_total"] == 480


@pytest.mark.parametrize("off", [{"blocked": True}, {"rpm_limit": 0}])
def test_a_team_that_may_do_nothing_is_archived(off: dict[str, Any]) -> None:
    found = propose(**off)
    assert found.fields["active"] is False
    assert found.remarks[0].endswith("so the team is archived, and calls of its keys are refused")


def test_what_has_no_counterpart_is_mentioned() -> None:
    found = propose(
        {"max_budget": 9000}, tpd_limit=5, model_max_budget={}, default_team_member_models=["o3"],
        metadata={"guardrails": ["pii"]},
    )  # fmt: skip
    assert found.remarks == [
        "not taken over: tokens per day, models of its members, guardrails",
        "not taken over: the limits and budgets of its organization, for all teams together",
    ]


def test_teams_of_one_alias_have_different_names_the_same_each_time() -> None:
    rows = [{"team_id": f"t-{number}", "team_alias": alias} for number, alias in enumerate(["x", "X ", "y", None])]
    keys = [LiteLLMKey({}, row, {}, {}, {}, {}) for row in rows] + [LiteLLMKey({}, {}, {}, {}, {}, {})]
    found = propose_teams(keys, upstream_is_openai=False)
    names = [team.name for team in found.values()]
    assert names[2:] == ["y", "t-3"]
    assert len(set(names)) == 4
    assert [name[:2] for name in names[:2]] == ["x ", "X "]
    assert [team.name for team in propose_teams(keys, upstream_is_openai=False).values()] == names
