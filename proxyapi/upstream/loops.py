"""Owns finding out that upstream is this gateway itself.

That happens to whoever starts it in a shell that was prepared for its clients, with their OPENAI_BASE_URL and
OPENAI_API_KEY. Each call would then become calls until every place is taken. Behind another address the start cannot
see it, but a call can: only this gateway's keys let its own calls in.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from django.conf import settings

from proxyapi.exceptions import LoopDetected
from proxyapi.keys.keyring import keyring
from proxyapi.models import PREFIX
from proxyapi.upstream.proxies import PORTS


def is_own_address(base_url: str, host: str, port: int) -> bool:
    """Whether a server that listens on `host` and `port` is what answers at `base_url`. Names are looked up."""
    parts = urlsplit(base_url)
    if (parts.port or PORTS.get(parts.scheme)) != port:
        return False
    theirs, ours = _addresses(parts.hostname or ""), _addresses(host)
    if any(address.is_unspecified for address in ours):
        return any(address.is_unspecified or _is_local(address) for address in theirs)
    return any(address in ours or (address.is_unspecified and _is_local(address)) for address in theirs)


def check_key(api_key: str) -> None:
    """Raises `LoopDetected` if this is a key of this gateway: upstream would let the call in here again."""
    may_be_ours = api_key.startswith(PREFIX) or api_key == settings.SECURITY_KEY
    if may_be_ours and keyring.find(api_key) is not None:
        raise LoopDetected


def _addresses(host: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    addresses = {ipaddress.ip_address(str(where[0]).partition("%")[0]) for *_, where in found}
    return {getattr(address, "ipv4_mapped", None) or address for address in addresses}


def _is_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether this machine has the address."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
