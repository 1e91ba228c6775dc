"""One client has one address: in limits, in trust, in the ledger and in its searches."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway import Gateway
from usage.addresses import both_forms, mapped_address, plain_address
from usage.search import _conditions, read_filters

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


@pytest.mark.django_db
def test_a_search_takes_any_form_and_finds_both() -> None:
    filters = read_filters({"caller": "::ffff:192.0.2.7"}, datetime.now(UTC))
    assert filters.caller == "192.0.2.7"
    assert not filters.faults
    (condition,) = [one for one in _conditions(filters) if "client_address" in one.sql]
    with connection.cursor() as cursor:
        for address, is_found in (("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("192.0.2.8", False)):
            sql = condition.sql.replace("client_address", "%s::inet")
            cursor.execute(f"SELECT {sql}", [address, *condition.values])
            assert cursor.fetchone() == (is_found,)
