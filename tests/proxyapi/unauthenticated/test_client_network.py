"""The network that a client is counted as: one IPv4 address, one /64, and the /48 above it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxyapi.unauthenticated.client_network import MAX_TEXT_CHARACTERS, client_network, client_site


@pytest.mark.parametrize(
    ("address", "network", "site"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1", "192.0.2.1"),
        ("::ffff:0:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("::1", "::/64", "::/48"),
        ("", "", ""),
        ("/run/a.sock", "/run/a.sock", "/run/a.sock"),
        ("x" * 1000, "x" * MAX_TEXT_CHARACTERS, "x" * MAX_TEXT_CHARACTERS),
    ],
)
def test_it_works(address: str, network: str, site: str) -> None:
    assert (client_network(address), client_site(address)) == (network, site)


@given(st.ip_addresses(v=4), st.sampled_from(["", "::ffff:", "::ffff:0:", "64:ff9b::"]))
def test_an_ipv4_address_is_one_network_in_every_form(address: ipaddress.IPv4Address, form: str) -> None:
    assert client_network(f"{form}{address}") == client_site(f"{form}{address}") == str(address)


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1), st.integers(0, 2**80 - 1))
def test_a_64_is_one_network_and_a_48_one_site(address: ipaddress.IPv6Address, host: int, inside: int) -> None:
    assume(int(address) >> 96 not in (0, 0x0064FF9B))  # these hold an IPv4 address
    neighbour = ipaddress.IPv6Address(int(address) >> 64 << 64 | host)
    tenant = ipaddress.IPv6Address(int(address) >> 80 << 80 | inside)

    assert client_network(str(neighbour)) == client_network(str(address))
    assert client_site(str(tenant)) == client_site(str(address))


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert isinstance(client_network(text), str)
    assert isinstance(client_site(text), str)
