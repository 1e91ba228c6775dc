"""Owns which client addresses are counted as one client: an IPv4 address, or the /64 network of an IPv6 address."""

from __future__ import annotations

import ipaddress


def network_of(address: str) -> str:
    """Returns the network that `address` is counted under, in text; text that is no address is returned unchanged.

    An IPv4 address inside IPv6 (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2) is that IPv4 address. One client usually
    has a whole IPv6 /64 to himself (RFC 6177).
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(parsed), 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)
