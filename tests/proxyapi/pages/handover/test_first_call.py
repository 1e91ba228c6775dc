"""The first call of a new key is one that the key and its team may make, at an endpoint that takes the model."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.conf import LazySettings

from proxyapi.models import AccessKey
from proxyapi.pages.handover.first_call import NO_MODEL, find_first_call
from proxyapi.team_models import Team
from usage.models import ModelPrice

pytestmark = pytest.mark.django_db
CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"


@pytest.mark.parametrize(
    ("models", "routes", "route", "model"),
    [
        ([], [], CHAT, "gpt-4o-mini"),
        (["gpt-4o*"], [], CHAT, "gpt-4o-mini"),
        (["o*", "o3-mini"], [], CHAT, "o3-mini"),
        (["gpt-4.1*"], [], CHAT, "gpt-4.1"),
        (["gpt-5-pro"], [], RESPONSES, "gpt-5-pro"),
        (["text-embedding-3-small"], [], EMBEDDINGS, "text-embedding-3-small"),
        (["ft:gpt-4o-mini:org::id"], [], CHAT, "ft:gpt-4o-mini:org::id"),
        (["whisper-1"], [], CHAT, NO_MODEL),
        (["it's", "own-*"], [], CHAT, NO_MODEL),
        ([], ["/v1/responses*"], RESPONSES, "gpt-4o-mini"),
        ([], ["/openai*"], "/openai", "gpt-4o-mini"),
        ([], ["/openai2"], "/openai2", "gpt-4o-mini"),
        ([], ["/v1/files*"], CHAT, "gpt-4o-mini"),
    ],
)
def test_the_key_may_make_it(models: list[str], routes: list[str], route: str, model: str) -> None:
    found = find_first_call(AccessKey(allowed_models=models, allowed_routes=routes))
    assert (found.endpoint.route, found.model) == (route, model)


def test_its_team_may_make_it_too() -> None:
    team = Team(allowed_models=["gpt-4.1*"], allowed_routes=["/v1/responses"])
    found = find_first_call(AccessKey(team=team, allowed_models=["gpt-*"]))
    assert (found.endpoint.route, found.model, found.may_use_responses) == (RESPONSES, "gpt-4.1", True)


def test_a_closed_family_has_no_first_call(settings: LazySettings) -> None:
    settings.V1_ROUTES = ["responses"]
    assert find_first_call(AccessKey()).endpoint.route == RESPONSES
    settings.V1_ROUTES = ["chat/completions"]
    assert not find_first_call(AccessKey()).may_use_responses


def test_with_a_budget_the_model_has_a_price(settings: LazySettings) -> None:
    settings.DEFAULT_MODEL = "our-own-model"
    budget = Decimal(20)
    assert find_first_call(AccessKey()).model == "our-own-model"
    assert find_first_call(AccessKey(budget_month=budget, allowed_models=["our-*", "gpt-4.1"])).model == "gpt-4.1"
    assert find_first_call(AccessKey(team=Team(budget_day=budget), allowed_models=["our-*"])).model == NO_MODEL

    ModelPrice.objects.create(model="our-own-*", valid_from=datetime(2026, 1, 1, tzinfo=UTC), input=1, output=2)
    assert find_first_call(AccessKey(budget_month=budget, allowed_models=["our-*"])).model == "our-own-model"
