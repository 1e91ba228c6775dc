"""Finds the network of a client, by which limits on senders without a valid key are counted.

An internet subscriber has one IPv4 address, or at least one /64 network of IPv6, so all addresses of a /64 count as one
client. Hosting providers assign whole /48 networks; `client_site` returns these, for a second and higher limit.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from usage.ip_addresses import parse_address

MAX_TEXT_CHARACTERS = 64  # of a text that is no address


@lru_cache(maxsize=4096)
def client_network(address: str) -> str:
    """Returns the network of a client's address as text: `192.0.2.7` itself for IPv4, `2001:db8::/64` for IPv6.

    Limits on clients without a valid key are counted for each network. A text that is no address, such as a socket's
    path, is cut at `MAX_TEXT_CHARACTERS`.
    """
    return _network(address, 64)


@lru_cache(maxsize=4096)
def client_site(address: str) -> str:
    """Returns the /48 network of an IPv6 address as text; for any other text, the same as `client_network`.

    Hosting providers assign such networks, so a second and higher limit counts each of them as one client.
    """
    return _network(address, 48)


def _network(address: str, prefix: int) -> str:
    """Returns the network of `prefix` bits around an IPv6 address, as text; for IPv4, the address itself.

    A text that is no address is cut at `MAX_TEXT_CHARACTERS`.
    """
    parsed = parse_address(address)
    if parsed is None:
        return address[:MAX_TEXT_CHARACTERS]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.IPv6Network((parsed, prefix), strict=False))
