"""What a key of LiteLLM becomes here: the same, or narrower with a remark, never wider."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from proxyapi.keys.litellm.key_proposals import KeyProposal, propose_key
from proxyapi.keys.litellm.tables import LiteLLMKey

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def propose(
    team: dict[str, Any] | None = None,
    owner: dict[str, Any] | None = None,
    budget: dict[str, Any] | None = None,
    member_budget: dict[str, Any] | None = None,
    *,
    upstream_is_openai: bool = True,
    **key: Any,
) -> KeyProposal:
    row = {"token": "88dc28d0f030", "key_name": "sk-...x9Qa", "key_alias": "research", **key}
    if team:
        row["team_id"], team = "t-1", {"team_id": "t-1", **team}
    found = LiteLLMKey(row, team or {}, owner or {}, budget or {}, member_budget or {}, {})
    return propose_key(found, NOW, upstream_is_openai=upstream_is_openai)


def test_it_works() -> None:
    found = propose(
        team={"team_alias": "science"},
        models=["gpt-4o", "openai/gpt-5*"],
        rpm_limit=60,
        tpm_limit=100_000,
        max_parallel_requests=5,
        max_budget=Decimal("12.5"),
        budget_duration="30d",
        expires="2026-12-24T18:00:00",
        metadata={"tags": ["lab", "eu"]},
        spend=Decimal("3.14159"),
    )
    assert (found.name, found.shown, found.remarks, found.refusal) == ("research", "sk-...x9Qa", [], "")
    assert found.team_id == "t-1"
    assert found.fields == {
        "owner": "",
        "note": "Taken over from LiteLLM, where its key was sk-...x9Qa, and had spent $3.14.",
        "tags": ["lab", "eu"],
        "active": True,
        "expires_at": datetime(2026, 12, 24, 18, tzinfo=UTC),
        "allowed_models": ["gpt-4o", "gpt-5*"],
        "allowed_routes": [],
        "requests_per_minute": 60,
        "tokens_per_minute": 100_000,
        "parallel_calls": 5,
        "budget_month": Decimal("12.5"),
    }


@pytest.mark.parametrize(
    ("duration", "budgets", "remark"),
    [
        ("1d", {"budget_day": 10}, ""),
        ("24h", {"budget_day": 10}, ""),
        ("1mo", {"budget_month": 10}, ""),
        ("30d", {"budget_month": 10}, ""),
        (None, {"budget_total": 6}, ""),
        ("1h", {"budget_day": 10}, "its budget of $10 for 1h became $10.0000 a day"),
        ("7d", {"budget_month": 10}, "its budget of $10 for 7d became $10.0000 a month"),
        ("2w", {"budget_month": 10}, "its budget of $10 for 2w became $10.0000 a month"),
        ("90d", {"budget_total": 6}, "its budget of $10 for 90d became $6.0000 as lifetime budget"),
        ("2mo", {"budget_total": 6}, "its budget of $10 for 2mo became $6.0000 as lifetime budget"),
        ("soon", {"budget_total": 6}, "its budget of $10 for soon became $6.0000 as lifetime budget"),
    ],
)
def test_a_budget_is_for_the_same_span_or_the_next_longer_one(
    duration: str | None, budgets: dict[str, int], remark: str
) -> None:
    found = propose(max_budget=10, budget_duration=duration, spend=4)
    assert {name: value for name, value in found.fields.items() if name.startswith("budget")} == budgets
    assert found.remarks == ([remark] if remark else [])


def test_a_budget_that_is_spent_is_nothing_and_not_less() -> None:
    assert propose(max_budget=10, spend=Decimal("10.00001")).fields["budget_total"] == 0
    assert propose(max_budget=Decimal("0.00019"), budget_duration="1d").fields["budget_day"] == Decimal("0.0001")


def test_a_key_may_have_its_limits_from_a_budget_of_their_own() -> None:
    shared = {"max_budget": 50, "budget_duration": "1d", "rpm_limit": 7, "tpm_limit": 8, "max_parallel_requests": 9}
    found = propose(budget=shared, tpm_limit=3)
    assert found.fields["budget_day"] == 50
    assert [found.fields[name] for name in ("requests_per_minute", "tokens_per_minute", "parallel_calls")] == [7, 3, 9]
    assert propose(budget=shared, max_budget=5, budget_duration="1mo").fields["budget_month"] == 5


def test_of_several_windows_the_narrowest_of_each_span_counts() -> None:
    windows = [
        {"max_budget": 20, "budget_duration": "1d"},
        {"max_budget": 9, "budget_duration": "12h"},
        {"max_budget": 90, "budget_duration": "30d"},
    ]
    found = propose(max_budget=100, budget_duration="30d", budget_limits=windows)
    assert (found.fields["budget_day"], found.fields["budget_month"]) == (9, 90)


@pytest.mark.parametrize("limit", ["rpm_limit", "tpm_limit", "max_parallel_requests"])
def test_a_key_that_may_do_nothing_is_switched_off(limit: str) -> None:
    limits: dict[str, Any] = {limit: 0}
    found = propose(**limits)
    assert found.fields["active"] is False
    assert found.remarks == [f"its {limit} is 0, so the key is switched off"]


def test_a_limit_that_is_none_is_none() -> None:
    found = propose(rpm_limit=2**63 - 1, max_budget="Infinity")
    assert not {"requests_per_minute", "budget_total"} & found.fields.keys()


@pytest.mark.parametrize(
    ("own", "shared", "allowed"),
    [
        ([], [], []),
        (["gpt-4o"], [], ["gpt-4o"]),
        ([], ["gpt-4o"], ["gpt-4o"]),
        (["all-team-models"], ["gpt-4o"], ["gpt-4o"]),
        (["all-team-models"], [], []),
        (["all-proxy-models"], ["gpt-4o"], ["gpt-4o"]),
        (["gpt-4o"], ["all-proxy-models"], ["gpt-4o"]),
        (["gpt-4o", "o3"], ["gpt-*"], ["gpt-4o"]),
        (["gpt-*"], ["gpt-4o", "o3"], ["gpt-4o"]),
        (["openai/*"], [], []),
        (["openai/gpt-4o", "gpt-4o"], [], ["gpt-4o"]),
        (["odd[1]?"], [], ["odd[[]1][?]"]),
        (["no-default-models"], [], ["no-default-models"]),
    ],
)
def test_models_are_those_of_the_key_that_are_also_its_teams(
    own: list[str], shared: list[str], allowed: list[str]
) -> None:
    found = propose(team={"team_alias": "science", "models": shared}, models=own)
    assert (found.fields["allowed_models"], found.fields["active"]) == (allowed, True)
    assert propose(owner={"models": shared}, models=own).fields["allowed_models"] == allowed


def test_a_key_without_a_model_is_switched_off() -> None:
    found = propose(team={"models": ["o3"]}, models=["gpt-4o"])
    assert found.fields["active"] is False
    assert found.remarks == ["none of its models is one of its team's or its user's, so the key is switched off"]


def test_models_of_other_providers_are_mentioned_if_upstream_is_openai() -> None:
    models = ["openai/gpt-4o", "anthropic/claude-5"]
    found = propose(models=models)
    assert found.fields["allowed_models"] == ["gpt-4o", "anthropic/claude-5"]
    assert found.remarks == ["OpenAI has no models of these names: anthropic/claude-5"]
    other = propose(models=models, upstream_is_openai=False)
    assert (other.fields["allowed_models"], other.remarks) == (models, [])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ([], []),
        (["llm_api_routes"], []),
        (["openai_routes", "/key/info"], []),
        (["/chat/completions", "/v1/embeddings"], ["/v1/chat/completions", "/v1/embeddings"]),
        (["/v1/responses/{response_id}", "info_routes"], ["/v1/responses/{id}"]),
        (["/v1/responses/*"], ["/v1/responses/*"]),
    ],
)
def test_routes_are_those_of_v1(theirs: list[str], ours: list[str]) -> None:
    found = propose(allowed_routes=theirs)
    assert (found.fields["allowed_routes"], found.refusal) == (ours, "")


def test_what_cannot_be_a_key_here_is_refused() -> None:
    assert propose(allowed_routes=["management_routes"]).refusal == (
        "makes no calls: it is for LiteLLM's management_routes"
    )
    assert propose(expires="2026-11-30T11:59:59").refusal == "has expired"
    assert propose(expires="-infinity").refusal == "has expired"
    for unreadable in ("20261-01-01T00:00:00", "2026-11-30T11:59:59 BC", "never"):
        assert propose(expires=unreadable).refusal == f"expires at {unreadable}, which cannot be read"


def test_a_key_without_an_end_stays_one() -> None:
    for expires in (None, "infinity"):
        found = propose(expires=expires)
        assert (found.fields["expires_at"], found.refusal) == (None, "")


def test_a_blocked_key_is_switched_off() -> None:
    found = propose(blocked=True)
    assert found.fields["active"] is False
    assert found.remarks == ["it is blocked, so the key is switched off"]


def test_what_has_no_counterpart_in_metadata_and_budget_is_mentioned() -> None:
    found = propose(
        metadata={"model_rpm_limit": {"gpt-4o": 5}, "model_tpm_limit": {"gpt-4o": 1000}, "guardrails": ["pii"]},
        budget={"model_max_budget": {"gpt-4o": {"budget_limit": 1}}},
    )
    assert found.remarks == [
        "not taken over: budgets for each model, requests per minute for each model, tokens per minute for each model, "
        "guardrails"
    ]


def test_what_has_no_counterpart_is_mentioned() -> None:
    found = propose(
        team={"team_alias": "science", "max_budget": 500},
        member_budget={"max_budget": 3},
        owner={"user_email": "ann@example.com", "rpm_limit": 5},
        aliases={"gpt-4": "gpt-4o"},
        tpd_limit=1000,
        model_max_budget={},
    )
    assert found.remarks == [
        "not taken over: names of models that it replaces, tokens per day",
        "not taken over: the limits and budgets of its user in the team, for all keys together",
        "not taken over: the limits and budgets of its user 'ann@example.com', for all keys together",
    ]


def test_a_key_without_an_alias_has_the_same_name_each_time() -> None:
    found = propose(key_alias=None)
    assert found.name == propose(key_alias="").name
    assert found.name.startswith("litellm sk-...x9Qa ")
    assert found.name != propose(key_alias=None, token="another").name


@pytest.mark.parametrize(
    ("owner", "key", "expected"),
    [
        ({"user_email": "ann@example.com", "user_alias": "Ann"}, {}, "ann@example.com"),
        ({"user_alias": "Ann"}, {}, "Ann"),
        ({}, {"user_id": "u-1"}, "u-1"),
        ({}, {"user_id": "default_user_id"}, ""),
        ({"user_alias": "x" * 300}, {}, "x" * 200),
    ],
)
def test_the_owner_is_the_user(owner: dict[str, Any], key: dict[str, Any], expected: str) -> None:
    assert propose(owner=owner, **key).fields["owner"] == expected
    assert propose(team={"team_alias": "science"}, owner=owner, **key).fields["owner"] == expected


def test_a_key_of_a_team_that_is_gone_has_none() -> None:
    found = propose(team_id="t-9")
    assert (found.team_id, found.remarks) == ("", ["its team 't-9' is gone from LiteLLM, so it belongs to none"])
