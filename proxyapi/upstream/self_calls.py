"""Detects that upstream is this gateway itself.

That happens when the gateway is started in a shell that was prepared for its clients, with their OPENAI_BASE_URL and
OPENAI_API_KEY. Each call would cause another one until all slots are taken. The start compares addresses; behind
another address, such as a proxy's, only a call can notice: its upstream key is a key of this gateway.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from proxyapi.cached_settings import call_settings
from proxyapi.exceptions import LoopDetected
from proxyapi.keys.keyring import keyring
from proxyapi.models import PREFIX
from proxyapi.upstream.proxies import PORTS


def is_own_address(base_url: str, host: str, port: int) -> bool:
    """Returns whether a request to `base_url` would reach the gateway itself, which listens on `host` and `port`.

    Names are resolved for that, so this may wait for DNS.
    """
    parts = urlsplit(base_url)
    if (parts.port or PORTS.get(parts.scheme)) != port:
        return False
    theirs, ours = _addresses(parts.hostname or ""), _addresses(host)
    if any(address.is_unspecified for address in ours):
        return any(address.is_unspecified or _is_local(address) for address in theirs)
    return any(address in ours or (address.is_unspecified and _is_local(address)) for address in theirs)


def check_key(api_key: str) -> None:
    """Checks that the upstream key `api_key` is not a key of this gateway.

    Raises `LoopDetected` if it is one, because the call would come back to the gateway.
    """
    may_be_ours = api_key.startswith(PREFIX) or api_key == call_settings().SECURITY_KEY
    if may_be_ours and keyring.find(api_key) is not None:
        raise LoopDetected


def _addresses(host: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Resolves a host name and returns the host's IP addresses; the set is empty if the name is not known."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    addresses = {ipaddress.ip_address(str(where[0]).partition("%")[0]) for *_, where in found}
    return {getattr(address, "ipv4_mapped", None) or address for address in addresses}


def _is_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Returns whether an IP address belongs to this machine, by trying to bind a socket to the address."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
