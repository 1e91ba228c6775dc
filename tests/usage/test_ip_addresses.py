"""One client has one address: in limits, in trust, in the ledger and in its searches."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime

import httpx2
import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.page_protection.login_throttle import PER_NETWORK
from tests.support.callers.all_pages import hidden_fields
from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway
from usage.ip_addresses import both_forms, mapped_address, plain_address
from usage.page_data.filters import conditions_of, read_filters

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
        ("::", "::"),
        ("", None),
        ("localhost", None),
        ("192.0.2.1:80", None),
    ],
)
def test_it_works(text: str, address: str | None) -> None:
    assert plain_address(text) == address


@given(st.ip_addresses())
def test_an_address_is_its_own_form_and_that_of_its_mapping(address: ipaddress.IPv4Address) -> None:
    plain = plain_address(str(address))
    assert plain is not None
    assert plain_address(plain) == plain_address(mapped_address(plain)) == plain


@pytest.mark.parametrize(
    ("network", "forms"),
    [
        ("10.0.0.0/8", {"10.0.0.0/8", "::ffff:10.0.0.0/104"}),
        ("10.1.2.3", {"10.1.2.3/32", "::ffff:10.1.2.3/128"}),
        ("::ffff:10.0.0.0/104", {"10.0.0.0/8", "::ffff:10.0.0.0/104"}),
        ("2001:db8::/32", {"2001:db8::/32"}),
        ("::/0", {"::/0"}),
    ],
)
def test_a_proxy_is_trusted_in_both_forms(network: str, forms: set[str]) -> None:
    assert set(map(ipaddress.ip_network, both_forms(network))) == set(map(ipaddress.ip_network, forms))


FORWARDED = {
    "192.0.2.7": "192.0.2.7",
    "::ffff:192.0.2.7": "192.0.2.7",
    "192.0.2.7, ::ffff:127.0.0.1": "192.0.2.7",
    "2001:db8::7": "2001:db8::7",
    "": "127.0.0.1",
}


@pytest.mark.parametrize("proxy", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_the_ledger_has_the_client_behind_a_dual_stack_socket(
    start_gateway: Callable[..., Gateway], proxy: str
) -> None:
    gateway = start_gateway(HOST="::", TRUSTED_PROXIES=proxy)
    for forwarded, client in FORWARDED.items():
        answer = gateway.post("/openai", CHAT, headers={"X-Forwarded-For": forwarded} if forwarded else {})
        assert str(gateway.row(answer)["client_address"]) == client, forwarded


@pytest.fixture
def dual_stack(start_gateway: Callable[..., Gateway]) -> Gateway:
    """To a client of 127.0.0.1 it is `::ffff:127.0.0.1` that connects."""
    return start_gateway(HOST="::", TRUSTED_PROXIES="127.0.0.1")


def test_logins_by_both_forms_of_an_address_count_for_one_client(dual_stack: Gateway) -> None:
    page = dual_stack.http.get("/my-usage/")
    form = {"key": "cp-wrong", **hidden_fields(page.text)}

    def status(address: str) -> int:
        headers = {"X-Forwarded-For": address}
        return dual_stack.http.post("/my-usage/sign-in", data=form, headers=headers).status_code

    forms = ("192.0.2.9", "::ffff:192.0.2.9", "::FFFF:c000:0209")
    assert [status(forms[number % 3]) for number in range(PER_NETWORK)] == [403] * PER_NETWORK
    assert [status(form) for form in forms] == [429] * 3
    assert [status("192.0.2.10"), status("::ffff:192.0.2.10")] == [403, 403]


def test_a_proxy_is_trusted_over_a_dual_stack_socket_and_its_neighbour_is_not(dual_stack: Gateway) -> None:
    said = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/ai"}
    assert 'href="/ai/admin/"' in dual_stack.http.get("/", headers=said).text
    assert "; Secure" in dual_stack.http.get("/my-usage/", headers=said).headers["set-cookie"]
    port = dual_stack.url.rpartition(":")[2]
    with httpx2.Client(base_url=f"http://[::1]:{port}", timeout=PATIENCE) as neighbour:
        assert 'href="/admin/"' in neighbour.get("/", headers=said).text
        assert "Secure" not in neighbour.get("/my-usage/", headers=said).headers["set-cookie"]
        answer = neighbour.post("/openai", json={**CHAT, "security_key": SECURITY_KEY}, headers=said)
    assert str(dual_stack.row(answer)["client_address"]) == "::1"


@pytest.mark.django_db
def test_a_search_takes_any_form_and_finds_both() -> None:
    filters = read_filters({"caller": "::ffff:192.0.2.7"}, datetime.now(UTC))
    assert filters.caller == "192.0.2.7"
    assert not filters.faults
    (condition,) = [one for one in conditions_of(filters) if "client_address" in one.sql]
    with connection.cursor() as cursor:
        for address, is_found in (("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("192.0.2.8", False)):
            sql = condition.sql.replace("client_address", "%s::inet")
            cursor.execute(f"SELECT {sql}", [address, *condition.values])
            assert cursor.fetchone() == (is_found,)
