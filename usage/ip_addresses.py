"""Converts IP addresses to one form: an IPv4 address that is written as IPv6 becomes IPv4 again.

A dual-stack socket reports an IPv4 client as `::ffff:192.0.2.1`, and so may a proxy. For limits, for trusted proxies,
and for the ledger and its searches, this client is the same as `192.0.2.1`.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

# Networks of IPv6 whose last 32 bits are the client's IPv4 address: IPv4-mapped (RFC 4291; what a dual-stack socket
# reports), SIIT (RFC 2765), NAT64 (RFC 6052) and IPv4-compatible (RFC 4291, deprecated; its first addresses are `::`
# and `::1`). Limits count an IPv6 network /64 as one client. So without this conversion, all IPv4 clients would be one.
_IPV4_IN_IPV6 = tuple(
    ipaddress.IPv6Network(network).network_address.packed[:12]
    for network in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96")
)
_OWN_ADDRESSES = (ipaddress.IPv6Address("::"), ipaddress.IPv6Address("::1"))
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str) -> Address | None:
    """Parses an IP address; returns None for any other text.

    An IPv4 address that is written as IPv6, such as `::ffff:192.0.2.1`, becomes `192.0.2.1`. A zone is left out:
    `fe80::1%eth0` becomes `fe80::1`.
    """
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.packed[:12] in _IPV4_IN_IPV6:
        return parsed if parsed in _OWN_ADDRESSES else ipaddress.IPv4Address(parsed.packed[12:])
    return parsed


@lru_cache(maxsize=4096)
def plain_address(text: str) -> str | None:
    """Converts an IP address to the one form in which the ledger stores addresses, for example `2001:db8::1`.

    Returns None if `text` is not an IP address.
    """
    parsed = parse_address(text)
    return None if parsed is None else str(parsed)


def mapped_address(address: str) -> str:
    """Returns the IPv6 form of an IPv4 address, for example `::ffff:192.0.2.1`; returns an IPv6 address unchanged."""
    return f"::ffff:{address}" if isinstance(parse_address(address), ipaddress.IPv4Address) else address


def both_forms(network: str) -> list[str]:
    """Returns a network of IPv4 addresses in both notations: `["10.0.0.0/8", "::ffff:10.0.0.0/104"]`.

    `network` may be in either notation. For an IPv6 network, or any other text, the list has only `network` itself.
    """
    try:
        parsed = ipaddress.ip_network(network)
    except ValueError:
        return [network]
    if isinstance(parsed, ipaddress.IPv4Network):
        return [network, f"::ffff:{parsed.network_address}/{96 + parsed.prefixlen}"]
    if parsed.subnet_of(_MAPPED):
        ipv4 = ipaddress.IPv4Address(parsed.network_address.packed[12:])
        return [f"{ipv4}/{parsed.prefixlen - 96}", network]
    return [network]


def is_loopback(address: str) -> bool:
    """Returns whether a host name or address means this machine: `localhost`, or a loopback one such as `127.0.0.1`."""
    if address == "localhost":
        return True
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
