"""The network of a client: the unit in which limits on strangers are counted.

One subscriber has one IPv4 address, or one /64 of IPv6 at least, so the addresses of a /64 are one client. Hosting
providers give away whole /48s: `client_site` is the larger unit for a second, higher limit.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

# Networks of IPv6 whose last 32 bits are the client's IPv4 address: IPv4-mapped (RFC 4291; what a dual-stack socket
# reports), SIIT (RFC 2765), NAT64 (RFC 6052) and IPv4-compatible (RFC 4291, deprecated; its first addresses are `::`
# and `::1`). Counted as a /64, all of IPv4 would be one client.
_IPV4_IN_IPV6 = tuple(
    ipaddress.IPv6Network(network).network_address.packed[:12]
    for network in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96")
)
_OWN_ADDRESSES = (ipaddress.IPv6Address("::"), ipaddress.IPv6Address("::1"))
LONGEST_TEXT = 64  # characters kept of what is no address


@lru_cache(maxsize=4096)
def client_network(address: str) -> str:
    """Returns `192.0.2.1` for an IPv4 address, in whichever form, and `2001:db8::/64` for one of IPv6.

    A text that is no address, such as a socket's path, is returned as it is, cut at `LONGEST_TEXT`.
    """
    return _network(address, 64)


@lru_cache(maxsize=4096)
def client_site(address: str) -> str:
    """Returns the /48 of an IPv6 address, and what `client_network` does for any other."""
    return _network(address, 48)


def _network(address: str, prefix: int) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])  # without the interface of a link-local address
    except ValueError:
        return address[:LONGEST_TEXT]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.packed[:12] in _IPV4_IN_IPV6 and parsed not in _OWN_ADDRESSES:
        return str(ipaddress.IPv4Address(parsed.packed[12:]))
    return str(ipaddress.IPv6Network((parsed, prefix), strict=False))
