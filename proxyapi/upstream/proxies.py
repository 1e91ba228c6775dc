"""Owns which proxy the environment names for upstream (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, as curl reads them)."""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies

PORTS = {"http": 80, "https": 443}
SPOKEN = ("http",)  # schemes of proxies


def environment_proxy(url: str) -> SplitResult | None:
    """The proxy that the environment names for `url`; a scheme that is not given is http."""
    parts, named = urlsplit(url), getproxies()
    proxy = named.get(parts.scheme) or named.get("all")
    port = parts.port or PORTS.get(parts.scheme, 0)
    if not proxy or is_bypassed(parts.hostname or "", port, named.get("no", "")):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Whether `NO_PROXY` names a host: by its name, a domain it is in, its address or a network; `*` is all of them.

    An entry with a port is for this port only.
    """
    name = host.rstrip(".").lower()
    address = _address(name)
    for entry in filter(None, re.split(r"[,\s]+", no_proxy)):
        if entry == "*":
            return True
        wanted, wanted_port = _split_port(entry.lower())
        if wanted_port not in (None, port):
            continue
        if _holds(wanted, address) if address is not None else _is_in_domain(name, wanted):
            return True
    return False


def proxy_fault(url: str) -> str:
    """Why calls cannot go through the proxy that the environment names; an empty text if there is no reason."""
    proxy = environment_proxy(url)
    if proxy is None:
        return ""
    try:
        is_complete = bool(proxy.hostname) and (proxy.port is None or proxy.port > 0)
    except ValueError:
        is_complete = False
    if proxy.scheme not in SPOKEN:
        return (
            f"the environment names a {proxy.scheme}:// proxy for upstream, and only http:// ones are spoken (which "
            "pass HTTPS on); name one, or put upstream's host into NO_PROXY"
        )
    return "" if is_complete else "the environment names a proxy for upstream that is no URL with a host and a port"


def proxy_authorization(proxy: SplitResult) -> list[str]:
    """The header line for a proxy whose URL names its user; none for others."""
    if not proxy.username:
        return []
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return [f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}"]


def _split_port(entry: str) -> tuple[str, int | None]:
    """`example.com:443`, `[::1]:443`; the colons of an IPv6 address without brackets are its own."""
    if found := re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?", entry) or re.fullmatch(r"([^:]*):(\d{1,5})", entry):
        return found[1], int(found[2]) if found[2] else None
    return entry, None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in_domain(name: str, entry: str) -> bool:
    domain = entry.removeprefix("*").strip(".")
    return bool(domain) and f".{name}".endswith(f".{domain}")


def _holds(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an entry is this address, or a network with it."""
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return network.version == address.version and address in network
