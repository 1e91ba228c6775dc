"""The list of calls that need a price: which ones, what it proposes, and the form to which it leads."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.support.ledger.ledgers import call
from tests.support.ledger.pages import DASHBOARD, HOSTILE, REQUESTS, make_call, page_of, text_of
from usage.models import ModelPrice, Request
from usage.money.row_pricing import MOST_ALERTS, Pricer
from usage.page_data import formatting
from usage.sums.unpriced_calls import NeededPrice, propose_custom_price
from usage.upkeep.repricing import reprice

pytestmark = pytest.mark.django_db
LIST = "/admin/usage/needed-prices/"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def needed(admin: Client, **query: str) -> list[NeededPrice]:
    answer = admin.get(LIST, query)
    assert answer.status_code == 200
    return [line.of for line in answer.context["needed"]]


def test_it_works(admin: Client) -> None:
    for minutes in (1, 2, 3):
        make_call(minutes, response_model="gpt-4o-mini-nightly", service_tier="default")
    make_call(response_model="nobody-knows", service_tier="flex")
    make_call()  # it has a price
    make_call(60 * 25, response_model="nobody-knew")  # before the last 24 hours

    assert [(one.model, one.tier, one.calls, one.family) for one in needed(admin)] == [
        ("gpt-4o-mini-nightly", "default", 3, "gpt-4o-mini"), ("nobody-knows", "flex", 1, "")
    ]  # fmt: skip
    assert len(needed(admin, range="week")) == 3
    page = text_of(admin.get(LIST).content.decode())
    assert "4 calls need a price" in page
    assert "Input $0.15" in page
    assert "No model of the same family has a price." in page


def test_a_model_that_a_tool_has_run_is_what_needs_the_price(admin: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Not the call's own model, whose price is known; a price for it mends the calls."""
    svg = {"svg": [{"model": "gpt-svg-1", "input_tokens": 10, "output_tokens": 20}]}
    for minutes in (1, 2):
        make_call(minutes, response_model="gpt-4o-mini", other_usage=svg)
    make_call(response_model="nobody-knows", other_usage=svg)  # its own model comes first
    assert [(one.model, one.calls) for one in needed(admin)] == [("gpt-svg-1", 2), ("nobody-knows", 1)]
    assert Request.objects.filter(cost=0).count() == 0

    valid_from = datetime.now(UTC) - timedelta(days=1)
    ModelPrice.objects.create(model="gpt-svg-1", valid_from=valid_from, input=1, output=1)
    assert reprice(valid_from, unpriced_only=True) == 2
    assert [(one.model, one.calls) for one in needed(admin)] == [("nobody-knows", 1)]
    assert any("gpt-svg-1" in text for text in caplog.messages)


def test_the_tile_of_the_dashboard_leads_to_it(admin: Client) -> None:
    assert LIST not in admin.get(DASHBOARD).content.decode()
    make_call(response_model="nobody-knows")
    page = admin.get(DASHBOARD).content.decode()

    assert f'<a href="{LIST}?range=day"><b>1</b> call needs a price</a>' in page
    statuses = page[page.index('<ul class="cp-statuses"') :].partition("</ul>")[0]
    assert "price" not in statuses.lower()  # which tell of now, and not of the period
    link = f'<a href="{LIST}?range=day">Calls in this period lack a price</a>'
    assert f'{link}, and so are missing from its cost: <span dir="auto">nobody-knows</span>' in page


def test_from_the_list_to_a_price_that_mends_the_call(admin: Client) -> None:
    """The form opens filled in, is saved as it is, and the call is priced again: then nothing needs a price."""
    make_call(5, response_model="gpt-4o-mini-nightly")
    [address] = re.findall(r'href="(/admin/usage/modelprice/add/\?[^"]*)"', admin.get(LIST).content.decode())
    form = admin.get(unescape(address)).context["adminform"].form
    assert (form.initial["model"], form.initial["input"], form.initial["output"]) == (
        "gpt-4o-mini-nightly",
        "0.15",
        "0.6",
    )

    moment = form.initial["valid_from"]
    data = {"valid_from_0": f"{moment:%Y-%m-%d}", "valid_from_1": f"{moment:%H:%M:%S}", "valid_until_0": ""}
    data |= {name: value for name, value in form.initial.items() if isinstance(value, str)}
    assert admin.post("/admin/usage/modelprice/add/", data).status_code == 302
    assert ModelPrice.objects.get().input == Decimal("0.15")
    assert reprice(datetime.now(UTC) - timedelta(days=1), unpriced_only=True) == 1
    assert needed(admin) == []


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01", "", "0001-01-01"])
def test_a_form_whose_address_has_no_time_opens_all_the_same(admin: Client, time: str) -> None:
    assert admin.get("/admin/usage/modelprice/add/", {"model": "x", "valid_from": time}).status_code == 200


@pytest.mark.parametrize(
    ("model", "tier", "family", "rates"),
    [
        ("gpt-4o-mini-nightly", "", "gpt-4o-mini", {"input": "0.15", "output": "0.6"}),
        ("some-host/gpt-4o-mini", "", "gpt-4o-mini", {"input": "0.15"}),
        ("nobody-knows", "", "", {}),
        ("", "", "", {}),
    ],
)
def test_the_price_of_the_family_is_proposed(model: str, tier: str, family: str, rates: dict[str, str]) -> None:
    name, proposed = propose_custom_price(model, tier, NOON)

    assert name == family
    assert {unit: proposed[unit] for unit in rates} == {unit: Decimal(rate) for unit, rate in rates.items()}
    assert bool(proposed) == bool(family)


def test_a_models_first_call_without_a_price_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    pricer = Pricer()
    with caplog.at_level(logging.WARNING, "usage.money.row_pricing"):
        pricer.priced([call(response_model="ours"), call(response_model="ours"), call(), call(response_model="theirs")])
        pricer.priced([call(response_model="ours", service_tier="flex")])
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        f"no price is known for model '{name}', service tier 'default'" for name in ("ours", "theirs")
    ]
    caplog.clear()
    pricer.priced([call(response_model=f"made up {number}") for number in range(2 * MOST_ALERTS)])
    assert len(caplog.records) == MOST_ALERTS - 2


def test_what_lacks_a_price_is_not_shown_as_free(admin: Client) -> None:
    """In the tables of keys, models and routes: with a dash if no call of the line has a cost."""
    make_call(response_model="nobody-knows", key_name="red")
    make_call(response_model="nobody-knows", key_name="blue")
    make_call(key_name="blue")
    rows = {row.name: row for rows in admin.get(DASHBOARD).context["dashboard"].used.values() for row in rows}

    assert {name: (row.cost == formatting.UNKNOWN, [*row.uncertain]) for name, row in rows.items()} == {
        "red": (True, ["1 needs a price"]), "blue": (False, ["1 needs a price"]),
        "nobody-knows": (True, ["2 need a price"]), "gpt-4o-mini-2024-07-18": (False, []),
        "/openai": (False, ["2 need a price"]), "Total": (False, ["2 need a price"]),
    }  # fmt: skip


def test_another_process_does_not_log_the_same_model_again(caplog: pytest.LogCaptureFixture) -> None:
    """Until its calls have a price, and it lacks one again: for an earlier day, for example."""

    def logged() -> bool:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "usage.money.row_pricing"):
            Pricer().priced([call(response_model="ours", service_tier="flex")])
        return "'ours'" in caplog.text

    assert logged()
    make_call(response_model="ours")
    assert not logged()
    ModelPrice.objects.create(model="ours", valid_from=NOON + timedelta(days=1), input=1, cached_input=1, output=2)
    reprice(datetime.now(UTC) - timedelta(days=1), unpriced_only=True)
    assert logged()


def test_the_proposal_is_said_in_the_words_of_the_form(admin: Client) -> None:
    make_call(response_model="gpt-6.1-sol-mega", service_tier="priority")
    make_call(response_model="nobody-knows")
    page = admin.get(LIST).content.decode()

    rates = dict(re.findall(r"<li><span>([^<]+)</span> <b>(\$[\d.]+)</b></li>", page))
    assert {"Input", "Cached input", "Output", "Input of long prompts", "Web search, each"} <= rates.keys()
    assert "The price of gpt-6.1-sol, in dollars per million tokens" in text_of(page)
    with_prices, without = re.findall(r'href="(/admin/usage/modelprice/add/\?[^"]*)"', page)
    if "nobody" in with_prices:
        with_prices, without = without, with_prices
    assert "are a proposal" in admin.get(unescape(with_prices)).content.decode()
    assert "are a proposal" not in admin.get(unescape(without)).content.decode()


def test_a_call_that_needs_a_price_says_so_where_it_is_listed_and_on_its_page(admin: Client) -> None:
    request_id = make_call(response_model="nobody-knows", started_at=datetime(2026, 10, 5, 3, tzinfo=UTC))
    assert f"{formatting.UNKNOWN} needs a price" in text_of(admin.get(REQUESTS).content.decode())
    page = admin.get(page_of(request_id)).content.decode()
    assert "needs a price" in text_of(page)
    [address] = re.findall(rf'href="({LIST}[^"]*)"', page)
    assert [one.model for one in needed(admin, range=address.partition("range=")[2])] == ["nobody-knows"]


def test_who_may_see_it_and_who_may_add_a_price(client: Client) -> None:
    make_call(response_model="nobody-knows")
    viewer = User.objects.create_user("viewer", is_staff=True)
    client.force_login(viewer)
    assert client.get(LIST).status_code == 403
    viewer.user_permissions.add(Permission.objects.get(codename="view_request"))
    page = client.get(LIST)
    assert page.status_code == 200
    assert "modelprice/add" not in page.content.decode()


def test_a_hostile_name_is_shown_as_text(admin: Client) -> None:
    make_call(response_model=HOSTILE)
    for page in (LIST, DASHBOARD):
        assert "<script>alert(1)" not in admin.get(page).content.decode()
