"""Detects that upstream is this gateway itself, or a gateway whose upstream leads back to this one.

That happens when the gateway is started in a shell that was prepared for its clients, with their OPENAI_BASE_URL and
OPENAI_API_KEY, or when two gateways each have the other's address. Each call would cause another one until all slots
are taken. At its start, the gateway compares addresses. If it is reached by another address, such as a proxy's, only a
call shows the loop: its upstream key is a key of this gateway. In a ring of gateways, each has a key of the next one,
so the header `Via` of a call (RFC 9110, 7.6.3) lists the gateways that it has passed.

A gateway's name in `Via` is a pseudonym, made from its secret and the address of its upstream. So all hosts of one
installation have the same name, and two gateways in a row have different names even if their secrets are the same. The
header is not sent to OpenAI, which never calls a gateway.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import cache
from urllib.parse import urlsplit

from proxyapi import sealing
from proxyapi.cached_settings import call_settings
from proxyapi.exceptions import LoopDetected
from proxyapi.keys.keyring import keyring
from proxyapi.models import PREFIX
from proxyapi.upstream.fault_answers import unreachable_log
from proxyapi.upstream.proxies import PORTS

GATEWAY = re.compile(r"1\.1 chatproxy-[0-9a-f]{16}")  # one entry of `Via`: the protocol's version, and a gateway's name
# Azure serves OpenAI's models below three domains, by the kind of the resource: OpenAI, AI services, Foundry.
OPENAI_DOMAINS = ("openai.com", "openai.azure.com", "cognitiveservices.azure.com", "services.ai.azure.com")
CAME_BACK = (
    "This call came back to the gateway that had sent it: its upstream, or the upstream of a gateway behind it, is this"
    " gateway. OPENAI_BASE_URL of one of them has to be the provider's address."
)


def is_own_address(base_url: str, host: str, port: int) -> bool:
    """Returns whether a request to `base_url` would reach the gateway itself, which listens on `host` and `port`.

    Resolves host names, so it may wait for DNS.
    """
    parts = urlsplit(base_url)
    if (parts.port or PORTS.get(parts.scheme)) != port:
        return False
    theirs, ours = _addresses(parts.hostname or ""), _addresses(host)
    if any(address.is_unspecified for address in ours):
        return any(address.is_unspecified or _is_local(address) for address in theirs)
    return any(address in ours or (address.is_unspecified and _is_local(address)) for address in theirs)


def check(api_key: str, via: str) -> None:
    """Refuses a call that this gateway would receive again from upstream, and logs the loop.

    Args:
        api_key: the upstream key for the call.
        via: the header `Via` of the caller's request; may be empty.

    Raises:
        LoopDetected: `api_key` is an access key of this gateway, or `via` has the name of this gateway.
    """
    may_be_ours = api_key.startswith(PREFIX) or api_key == call_settings().SECURITY_KEY
    if may_be_ours and keyring.find(api_key) is not None:
        unreachable_log.add_reason(LoopDetected.message)
        raise LoopDetected
    if via and own_entry() in _entries(via):
        unreachable_log.add_reason(CAME_BACK)
        raise LoopDetected(CAME_BACK)


def own_entry() -> str:
    """Returns this gateway's name in the header `Via` of requests to upstream; empty if upstream is OpenAI."""
    # By it, the gateway recognises a call that comes back.
    return _entry(call_settings().OPENAI_BASE_URL)


def gateways_passed(via: str) -> str:
    """Returns the entries of the header `Via` that chatproxy gateways have added, to be passed on to upstream.

    Entries of other proxies are left out. If upstream is OpenAI, the result is empty.
    """
    # Entries of other proxies are the caller's, and upstream does not learn of them.
    return ", ".join(_entries(via)) if own_entry() else ""


@cache
def _entry(base_url: str) -> str:
    """Returns the name in the header `Via`, such as `1.1 chatproxy-…`, of a gateway whose upstream is `base_url`.

    The name is empty if upstream is OpenAI, which does not get this header.
    """
    return "" if is_openai(base_url) else f"1.1 chatproxy-{sealing.pseudonym(base_url)}"


def is_openai(base_url: str) -> bool:
    """Returns whether the host in `base_url` belongs to OpenAI, or to Azure, which serves OpenAI's models."""
    host = urlsplit(base_url).hostname or ""
    return any(host == domain or host.endswith(f".{domain}") for domain in OPENAI_DOMAINS)


def _entries(via: str) -> list[str]:
    """Returns the entries of a header `Via` that chatproxy gateways have added."""
    return [entry for entry in map(str.strip, via.split(",")) if GATEWAY.fullmatch(entry)]


def _addresses(host: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Returns the IP addresses of a host, given by its name; an empty set if the name is unknown."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    addresses = {ipaddress.ip_address(str(where[0]).partition("%")[0]) for *_, where in found}
    return {getattr(address, "ipv4_mapped", None) or address for address in addresses}


def _is_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Returns whether an IP address belongs to this machine."""
    # A socket can be bound to a local address only.
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
