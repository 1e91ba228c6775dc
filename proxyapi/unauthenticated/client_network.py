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
    """Returns the network to which a client's address belongs, as text, for limits on clients without a valid key.

    The network of an IPv6 address is its /64, such as `2001:db8::/64`. An IPv4 address is returned itself. Any other
    text, such as a socket's path, is cut at `MAX_TEXT_CHARACTERS`.
    """
    return _network(address, 64)


@lru_cache(maxsize=4096)
def client_site(address: str) -> str:
    """Returns the /48 network to which a client's IPv6 address belongs, as text.

    For any other text, the result is that of `client_network`. A hosting provider may give a whole /48 network to one
    client, so a second, higher limit counts each /48 network as one client.
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
