"""The network of a client: the unit in which limits on strangers are counted.

One subscriber has one IPv4 address, or one /64 of IPv6 at least, so the addresses of a /64 are one client. Hosting
providers assign whole /48s: `client_site` is that larger unit, for a second and higher limit.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from usage.addresses import parse_address

MAX_TEXT_CHARACTERS = 64  # of a text that is no address


@lru_cache(maxsize=4096)
def client_network(address: str) -> str:
    """Returns `192.0.2.1` for an IPv4 address, in whichever form, and `2001:db8::/64` for one of IPv6.

    A text that is no address, such as a socket's path, is returned as it is, cut at `MAX_TEXT_CHARACTERS`.
    """
    return _network(address, 64)


@lru_cache(maxsize=4096)
def client_site(address: str) -> str:
    """Returns the /48 network of an IPv6 address; for other addresses the same as `client_network`."""
    return _network(address, 48)


def _network(address: str, prefix: int) -> str:
    """Returns an IPv4 address, or the network of an IPv6 address with a prefix of `prefix` bits."""
    parsed = parse_address(address)
    if parsed is None:
        return address[:MAX_TEXT_CHARACTERS]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.IPv6Network((parsed, prefix), strict=False))
