"""The same bills through a real gateway: what callers were answered, upstream's bill, rows and sums agree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.support.bills.all_calls import CASES
from tests.support.bills.shapes import KNOWN, BillCase, response, tokens
from tests.support.callers.budgeted_keys import ask, make_key, settled
from tests.support.callers.metrics import Samples, value, wait_until
from tests.support.ledger.equal_sums import Dollars
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import ACCESS_TOKEN, ADMIN_PASSWORD, SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream

AUTH = {"Authorization": f"Bearer {SECURITY_KEY}"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def database(gateway_database: str) -> Iterator[str]:
    with new_database(gateway_database) as url:
        yield url


@pytest.fixture(scope="module")
def billing(upstream: FixedUpstream, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a ledger of its own, whose upstream answers as a test says."""
    # It polls, so that background responses are counted when they end; but no poll comes in between.
    settings = {"V1_ROUTES": "all", "BACKGROUND_POLL_SECONDS": "3600", "ADMIN_PASSWORD": ADMIN_PASSWORD}
    with run_gateway(upstream.base_url, database, tmp_path_factory.mktemp("billing"), **settings) as gateway:
        yield gateway


def make(gateway: Gateway, upstream: FixedUpstream, case: BillCase) -> str:
    """Makes a call, whose answer must pass unchanged, and returns its request id."""
    upstream.status, upstream.content_type, upstream.body = case.status, case.content_type, case.body
    options: dict[str, Any] = {"headers": AUTH}
    if case.is_form:
        options |= {"data": case.asked, "files": {"file": ("a.bin", b"\x89PNG" + b"0" * 100)}}
    elif case.method == "POST":
        options["json"] = case.asked
    answer = gateway.http.request(case.method, case.path, **options)
    assert answer.content == case.body
    return str(answer.headers["x-proxy-request-id"])


def call(gateway: Gateway, upstream: FixedUpstream, case: BillCase) -> dict[str, Any]:
    """Makes a call, and returns its row."""
    return gateway.row(make(gateway, upstream, case))


def assert_programs_and_pages_say(gateway: Gateway, expected: Dollars) -> None:
    """Asserts that `/usage`, `/metrics`, the dashboard and the export of calls say the dollars of all calls."""
    usage = gateway.http.get("/usage", params={"access_token": ACCESS_TOKEN, "range": "week"}).json()
    assert Dollars.of_report(usage["total"]) == expected
    wait_until(gateway, lambda samples: metered(samples) == expected.all)
    browser, week = gateway.sign_in(), {"range": "week"}
    assert expected.is_in_tile(browser.get("/admin/", params=week).text)
    assert Dollars.of_export(browser.get("/admin/usage/request/export.csv", params=week).text) == expected


def metered(samples: Samples) -> Decimal:
    dollars = value(samples, "chatproxy_cost_dollars_total") - value(samples, "chatproxy_cost_taken_back_dollars_total")
    return round(Decimal(repr(dollars)), 8)


def test_rows_and_sums_are_what_openai_bills(billing: Gateway, upstream: FixedUpstream, database: str) -> None:
    """Also after all of it has been priced again."""
    named = {}
    for number, case in enumerate(CASES):
        fresh = f"resp_case{number}"  # a response is counted once, so that each needs an id of its own
        path, body = case.path.replace("resp_1", fresh), case.body.replace(b"resp_1", fresh.encode())
        named[make(billing, upstream, case._replace(path=path, body=body))] = case
    rows = {str(row["request_id"]): row for row in billing.rows(at_least=len(CASES))}
    wrong = {
        case.name: (rows[one]["cost"], rows[one]["cost_kind"], rows[one]["price"])
        for one, case in named.items()
        if (rows[one]["cost"], rows[one]["cost_kind"])
        != (None if case.dollars is None else Decimal(case.dollars), case.kind)
    }
    assert not wrong

    def sums() -> list[Any]:
        with psycopg.connect(database, autocommit=True) as connection:
            queries = (
                "SELECT sum(cost), count(*) FILTER (WHERE cost IS NULL AND price IS NULL) FROM usage_request",
                "SELECT sum(cost), sum(unpriced_calls) FROM usage_usagehour",
                "SELECT sum(cost), sum(unpriced_calls) FROM usage_usageday",
                "SELECT sum(cost), sum(unpriced_calls) FROM usage_usagetotal WHERE span = 'day' AND dimension = 'all'",
            )
            return [connection.execute(query).fetchone() for query in queries]

    total = sum(Decimal(case.dollars or 0) for case in CASES), 0  # what has not ended yet needs no price
    assert sums() == [total] * 4
    expected = Dollars.of_calls((row["cost"], row["cost_kind"] or "exact") for row in rows.values())
    assert expected.all == total[0]
    assert_programs_and_pages_say(billing, expected)
    repriced = billing.manage("ledger", "reprice", "--since", "2020-01-01", "--all")
    assert repriced.returncode == 0, repriced.stderr
    assert sums() == [total] * 4
    assert_programs_and_pages_say(billing, expected)
    verified = billing.manage("ledger", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_background_response_is_counted_when_it_ends(billing: Gateway, upstream: FixedUpstream) -> None:
    """And costs what its completion window, of which only the request knows, says."""
    asked = {"model": "gpt-6.1-sol", "input": "hi", "background": True}
    asked["background_options"] = {"completion_window": "8h"}
    queued = {**response("gpt-6.1-sol", None, status="queued", output=[]), "id": "resp_window"}
    ended = {**response("gpt-6.1-sol", KNOWN), "id": "resp_window"}
    created = call(billing, upstream, BillCase("", "/v1/responses", asked, json.dumps(queued).encode(), None))
    assert (created["cost"], created["price"]) == (None, {"source": "counted when it ends"})
    path = "/v1/responses/resp_window"
    row = call(billing, upstream, BillCase("", path, {}, json.dumps(ended).encode(), None, method="GET"))
    assert (row["cost"], row["cost_kind"]) == (Decimal("0.0018"), "exact")  # 3,000 millionths, less 40 %
    again = call(billing, upstream, BillCase("", path, {}, json.dumps(ended).encode(), None, method="GET"))
    assert again["cost"] == 0
    created = billing.row(str(created["request_id"]))
    assert (created["cost"], created["price"]) == (0, {"source": "counted later"})


def test_a_server_that_answers_at_once_gives_no_discount_for_waiting(billing: Gateway, upstream: FixedUpstream) -> None:
    asked = {"model": "gpt-6.1-sol", "input": "hi", "background": True}
    asked["background_options"] = {"completion_window": "8h"}
    body = json.dumps({**response("gpt-6.1-sol", KNOWN), "id": "resp_at_once"}).encode()
    row = call(billing, upstream, BillCase("", "/v1/responses", asked, body, None))
    assert (row["cost"], row["cost_kind"]) == (Decimal("0.003"), "exact")
    assert row["other_usage"] is None


def test_zeros_in_a_response_that_is_read_again_take_no_estimate_back(
    billing: Gateway, upstream: FixedUpstream
) -> None:
    answer = {**response("gpt-5", tokens(0, 0)), "id": "resp_zeros"}
    body = json.dumps(answer).encode()
    created = call(billing, upstream, BillCase("", "/v1/responses", {"model": "gpt-5", "input": "hi"}, body, None))
    assert (created["usage_source"], created["cost_kind"]) == ("estimated", "estimated")
    assert created["cost"] > 0
    read = call(billing, upstream, BillCase("", "/v1/responses/resp_zeros", {}, body, None, method="GET"))
    assert read["cost"] == 0
    assert billing.row(str(created["request_id"]))["cost"] == created["cost"]


def test_a_background_response_that_fails_costs_nothing(billing: Gateway, upstream: FixedUpstream) -> None:
    asked = {"model": "gpt-5", "input": "hi", "background": True}
    queued = {**response("gpt-5", None, status="queued", output=[]), "id": "resp_failing"}
    failed = {**queued, "status": "failed", "error": {"code": "server_error", "message": "Oh"}}
    created = call(billing, upstream, BillCase("", "/v1/responses", asked, json.dumps(queued).encode(), None))
    assert created["cost"] is None
    got = BillCase("", "/v1/responses/resp_failing", {}, json.dumps(failed).encode(), None, method="GET")
    assert call(billing, upstream, got)["cost"] == 0
    assert billing.row(str(created["request_id"]))["cost"] == 0


def test_a_call_that_never_reaches_upstream_costs_nothing(billing: Gateway, upstream: FixedUpstream) -> None:
    refused = billing.http.post("/v1/no-such-route", json={}, headers=AUTH)
    assert refused.status_code == 404
    assert billing.row(refused)["cost"] == 0


@pytest.mark.parametrize("budget", ["", "100"])
@pytest.mark.parametrize(
    ("usage", "source", "least"),
    [
        ({}, "estimated", "0.00000015"),
        ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}, "estimated", "0.00000015"),
        ({"total_tokens": 1_000_000}, "exact", "0.6"),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, "estimated", "0.00000015"),
        ({"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}, "estimated", "0.15"),
        ({"prompt_tokens": 1_000_000, "completion_tokens": -5}, "estimated", "0.15"),
        ({"prompt_tokens": 0, "total_tokens": 1_000_000}, "exact", "0.6"),
    ],
)
def test_a_usage_without_counts_is_not_free(
    billing: Gateway,
    upstream: FixedUpstream,
    database: str,
    budget: str,
    usage: dict[str, Any],
    source: str,
    least: str,
) -> None:
    name = f"says little {budget} {json.dumps(usage)}"
    key = make_key(billing, name, **({"total": budget} if budget else {}))
    message = {"role": "assistant", "content": "Yes."}
    answer = {"id": "c", "object": "chat.completion", "model": "gpt-4o-mini", "choices": [{"message": message}]}
    upstream.status, upstream.content_type = 200, "application/json"
    upstream.body = json.dumps({**answer, "usage": usage}).encode()
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Is it?"}], "max_tokens": 20}
    made = ask(billing, key, "/v1/chat/completions", body)
    row = billing.row(made)
    assert (row["usage_source"], row["cost_kind"]) == (source, "estimated")
    assert row["cost"] >= Decimal(least)
    assert settled(database, name) == row["cost"]
