"""The page of a new key says what the key may do, and has a message with everything that a colleague needs."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from proxyapi.models import AccessKey
from proxyapi.pages.handover import key_words
from proxyapi.pages.handover.handover import Handover
from proxyapi.pages.handover.presets import FIELD_WORDS, PRESETS
from proxyapi.team_models import Team
from tests.support.callers.roles import browser_of
from tests.support.ledger.pages import make_call
from usage.prices.price_lookup import listed_models

pytestmark = pytest.mark.django_db
ADD = "/admin/proxyapi/accesskey/add/"
ADDRESS = "https://ai.example.com/ai"
MONTH = Decimal(20)


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password=None))
    return client


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "The key “a” has no limit and no budget of its own."),
        ({"budget_month": MONTH}, "The key “a” may spend up to $20.00 a month."),
        (
            {"allowed_models": ["gpt-4o*", "o3"], "budget_day": 1, "budget_month": MONTH, "budget_total": 300},
            "The key “a” may use gpt-4o*, o3 and spend up to $1.00 a day, $20.00 a month, $300.00 in total.",
        ),
        (
            {"requests_per_minute": 60, "tokens_per_minute": 10_000, "parallel_calls": 2, "max_output_tokens": 500},
            "The key “a” may make up to 60 requests a minute, take up to 10,000 tokens a minute, run up to 2 calls at a"
            " time and get up to 500 output tokens a call.",
        ),
        (
            {"allowed_routes": ["/v1/*"], "expires_at": datetime(2027, 1, 1, 12, tzinfo=UTC)},
            "The key “a” may call /v1/*, until 2027-01-01 12:00 UTC.",
        ),
        (
            {"team": Team(name="b", budget_month=100), "budget_month": MONTH},
            "The key “a” may spend up to $20.00 a month. All keys of its team “b” together may spend up to $100.00 a"
            " month.",
        ),
        ({"team": Team(name="b")}, "The key “a” has no limit and no budget of its own."),
    ],
)  # fmt: skip
def test_limits_and_budgets_in_a_sentence(fields: dict[str, Any], words: str) -> None:
    assert key_words.summary(AccessKey(name="a", **fields)) == words


@pytest.mark.parametrize(
    ("own", "of_team", "words"),
    [
        ([], [], "all"),
        (["o3"], [], "o3"),
        ([], ["o3"], "o3"),
        (["o3"], ["o3"], "o3"),
        (["gpt-*"], ["gpt-4o", "o3"], "gpt-*; of these, only what the team may use: gpt-4o, o3"),
    ],
)
def test_models_in_words(own: list[str], of_team: list[str], words: str) -> None:
    assert key_words.models(AccessKey(allowed_models=own, team=Team(allowed_models=of_team))) == words


def test_the_message_has_all_that_is_needed() -> None:
    key = AccessKey(name="for Ada", budget_month=MONTH, allowed_models=["gpt-4o-mini"], team=Team(budget_day=9))
    assert (
        Handover(key, "cp-secret", ADDRESS).message
        == """\
This is your key “for Ada” for OpenAI's API. Keep it secret.

Base URL: https://ai.example.com/ai/v1
Key: cp-secret
Models: gpt-4o-mini
Budget: $20.00 a month; $9.00 a day for all keys of the team together
My usage: https://ai.example.com/ai/my-usage/ (sign in with the key)

A first call, in a shell:

curl https://ai.example.com/ai/v1/chat/completions \\
  -H "Authorization: Bearer cp-secret" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'

OpenAI's libraries, and most programs that use them, read these variables:

export OPENAI_BASE_URL=https://ai.example.com/ai/v1
export OPENAI_API_KEY=cp-secret"""
    )


def test_the_message_says_where_a_model_is_to_be_put_in() -> None:
    message = Handover(AccessKey(name="a", allowed_models=["our-*"]), "cp-secret", ADDRESS).message
    assert "in the place of MODEL-NAME" in message
    assert '"model": "MODEL-NAME"' in message


def test_a_name_cannot_hide_a_part_of_the_message() -> None:
    handover = Handover(AccessKey(name="a\u202eb"), "cp-secret", ADDRESS)
    for text in (handover.message, handover.summary):
        assert "a<U+202E>b" in text
        assert "\u202e" not in text


def test_the_address_is_that_at_which_people_reach_the_gateway(admin: Client, settings: LazySettings) -> None:
    fields = {"name": "a", "log_bodies": "inherit"}
    page = admin.post(ADD, fields).content.decode()
    assert "Base URL: http://testserver/v1" in page

    settings.PUBLIC_URL = "https://ai.example.com"
    page = admin.post(ADD, {**fields, "name": "b"}).content.decode()
    assert "Base URL: https://ai.example.com/v1" in page
    assert "testserver" not in page


def test_a_rotated_key_is_handed_over_in_the_same_way(admin: Client) -> None:
    key, old = AccessKey.objects.issue("a", budget_month=MONTH)
    page = admin.post(f"/admin/proxyapi/accesskey/{key.pk}/rotate/", {"grace": "0"}).content.decode()
    assert "spend up to $20.00 a month" in page
    assert "Copy message" in page
    assert old not in page


def test_models_are_chosen_from_a_list_with_prices(admin: Client) -> None:
    page = admin.get(ADD).content.decode()
    assert "<span>gpt-4o-mini</span> <small>$0.15 in, $0.6 out</small>" in page
    assert "<span>whisper-1</span> <small>$0.006 a minute</small>" in page
    assert "ft:gpt-4o" in listed_models()
    assert "ft:gpt-4o" not in page

    chosen = {"allowed_models": "own-*", "allowed_models-chosen": ["gpt-4o-mini", "o3"]}
    admin.post(ADD, {"name": "a", "log_bodies": "inherit", **chosen})
    key = AccessKey.objects.get()
    assert key.allowed_models == ["own-*", "gpt-4o-mini", "o3"]

    page = admin.get(f"/admin/proxyapi/accesskey/{key.pk}/change/").content.decode()
    assert 'value="o3" checked' in page
    assert 'value="o3-mini" checked' not in page
    assert "own-*</textarea>" in page


def test_models_that_stay_the_same_are_no_change(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("a", allowed_models=["o3", "own-*", "gpt-4o-mini"])
    change = f"/admin/proxyapi/accesskey/{key.pk}/change/"
    form = {"log_bodies": "inherit", "active": "on", "note": "x", "allowed_models": "own-*"}
    admin.post(change, {**form, "allowed_models-chosen": ["gpt-4o-mini", "o3"]})
    assert AccessKey.objects.get().allowed_models == ["o3", "own-*", "gpt-4o-mini"]
    assert "models" not in LogEntry.objects.latest("pk").change_message

    admin.post(change, {**form, "allowed_models-chosen": ["o3"]})
    assert AccessKey.objects.get().allowed_models == ["own-*", "o3"]
    admin.post(change, {**form, "allowed_models": ""})
    assert AccessKey.objects.get().allowed_models == []


def test_what_is_wrong_beside_them_keeps_the_chosen_models(admin: Client) -> None:
    page = admin.post(ADD, {"name": "", "log_bodies": "inherit", "allowed_models-chosen": ["o3"]}).content.decode()
    assert "This field is required." in page
    assert 'value="o3" checked' in page


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_fills_in_the_form(admin: Client, preset: Any) -> None:
    assert f'href="?preset={preset.name}"' in admin.get(ADD).content.decode()
    form = admin.get(f"{ADD}?preset={preset.name}").context["adminform"].form
    assert f"Filled in: {preset.filled_words()}." in admin.get(f"{ADD}?preset={preset.name}").content.decode()
    for field in preset.initial():
        assert form[field].value() not in (None, ""), field
    # As a browser sends it, with a name.
    sent = {"name": "a", "log_bodies": "inherit"}
    for field, value in preset.initial().items():
        sent |= (
            {f"{field}_0": f"{value:%Y-%m-%d}", f"{field}_1": f"{value:%H:%M}"}
            if field == "expires_at"
            else {field: value}
        )
    admin.post(ADD, sent)
    key = AccessKey.objects.get()
    assert any(budget is not None for budget in key.budgets.values())
    assert key.parallel_calls is not None
    assert (key.expires_at is not None) == (preset.lifetime is not None)


@pytest.mark.parametrize("page", ["/admin/", "/admin/proxyapi/accesskey/"])
def test_a_usual_key_is_one_click_away(admin: Client, page: str) -> None:
    """To the filled-in form, for those who may make keys."""
    shown = admin.get(page).content.decode()
    for preset in PRESETS:
        assert f'href="{ADD}?preset={preset.name}">{preset.label}</a>' in shown
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_accesskey", "view_request"]))
    assert "?preset=" not in browser_of(viewer).get(page).content.decode()


def test_the_form_begins_with_what_each_key_is_given(admin: Client) -> None:
    sections = list(admin.get(ADD).context["adminform"])
    assert sections[0].fields == ("name", "allowed_models", "budget_month")
    assert [section.is_collapsible for section in sections] == [False] + [True] * (len(sections) - 1)
    # A section with an error is open.
    wrong = {"name": "a", "log_bodies": "inherit", "budget_day": "much"}
    opened = [section.name for section in admin.post(ADD, wrong).context["adminform"] if not section.is_collapsible]
    assert opened == ["About", "More limits"]


def test_no_field_of_a_new_key_is_lost_or_double(admin: Client) -> None:
    key = AccessKey.objects.create(name="a", digest="0" * 64)
    of_new = [field for section in admin.get(ADD).context["adminform"] for field in section.fields]
    address = f"/admin/proxyapi/accesskey/{key.pk}/change/"
    of_old = [field for section in admin.get(address).context["adminform"] for field in section.fields]
    facts = {"key_text", "key_state", "previous_key", "created", "changed", "active", "own_account"}
    assert sorted(of_new) == sorted({*of_old} - facts - {"forget_upstream_key"})


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_names_inputs_of_the_form(admin: Client, preset: Any) -> None:
    page = admin.get(ADD).content.decode()
    for name in preset.form_values():
        assert f'name="{name}"' in page
    assert preset.values.keys() <= FIELD_WORDS.keys()


def test_the_title_of_the_page_with_the_secret(admin: Client) -> None:
    page = admin.post(ADD, {"name": "a", "log_bodies": "inherit"}).content.decode()
    assert "Secret of key a" in page
    assert "Key key" not in page


@pytest.mark.parametrize("address", ["?preset=x", "?expires_at=x", "?team=x&name=y"])
def test_an_address_fills_in_nothing_else(admin: Client, address: str) -> None:
    answer = admin.get(ADD + address)
    assert answer.status_code == 200
    assert answer.context["adminform"].form.initial == {}


def test_the_message_names_every_limit() -> None:
    team = Team(name="b", requests_per_minute=300)
    limits: Any = {
        "requests_per_minute": 60,
        "tokens_per_minute": 10_000,
        "parallel_calls": 5,
        "max_output_tokens": 500,
    }
    key = AccessKey(name="a", team=team, expires_at=datetime(2027, 1, 1, 12, tzinfo=UTC), **limits)
    message = Handover(key, "cp-secret", ADDRESS).message

    assert (
        "Limits: 60 requests a minute, 10,000 tokens a minute, 5 calls at a time, 500 output tokens a call; " in message
    )
    assert "; 300 requests a minute for all keys of the team together\n" in message
    assert "Valid until: 2027-01-01 12:00 UTC\n" in message


def test_models_that_calls_have_used_come_first(admin: Client) -> None:
    make_call(response_model="gpt-4o-mini-2024-07-18")
    page = admin.get(ADD).content.decode()
    names = re.findall(r"<span>([^<]*)</span> <small>([^<]*)</small>", page)

    assert ("gpt-4o-mini", "$0.15 in, $0.6 out, used before") in names[:2]
    assert not any("used before" in price for _, price in names[2:])
