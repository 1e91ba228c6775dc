"""The HTTP proxy for upstream from `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, read as curl reads them."""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies

PORTS = {"http": 80, "https": 443}
PROXY_SCHEMES = ("http",)  # that the gateway speaks


def environment_proxy(url: str) -> SplitResult | None:
    """Returns the proxy for `url`, None if there is none. A proxy without a scheme is an http:// one."""
    parts, named = urlsplit(url), getproxies()
    proxy = named.get(parts.scheme) or named.get("all")
    port = parts.port or PORTS.get(parts.scheme, 0)
    if not proxy or is_bypassed(parts.hostname or "", port, named.get("no", "")):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Returns whether `NO_PROXY` exempts a host: by its name, its domain, its address or its network; `*` means all.

    An entry with a port is for that port only.
    """
    name = host.rstrip(".").lower()
    address = _address(name)
    for entry in filter(None, re.split(r"[,\s]+", no_proxy)):
        if entry == "*":
            return True
        wanted, wanted_port = _split_port(entry.lower())
        if wanted_port not in (None, port):
            continue
        if _includes(wanted, address) if address is not None else _is_in_domain(name, wanted):
            return True
    return False


def proxy_fault(url: str) -> str:
    """Returns why calls cannot go through the proxy of the environment; empty if they can, or if there is none."""
    proxy = environment_proxy(url)
    if proxy is None:
        return ""
    try:
        is_complete = bool(proxy.hostname) and (proxy.port is None or proxy.port > 0)
    except ValueError:
        is_complete = False
    if proxy.scheme not in PROXY_SCHEMES:
        return (
            f"the environment names a {proxy.scheme}:// proxy for upstream, and only http:// ones are spoken (which "
            "pass HTTPS on); name one, or put upstream's host into NO_PROXY"
        )
    return "" if is_complete else "the environment names a proxy for upstream that is no URL with a host and a port"


def proxy_authorization(proxy: SplitResult) -> list[str]:
    """Returns the header line that authenticates to a proxy whose URL has a user; an empty list for other proxies."""
    if not proxy.username:
        return []
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return [f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}"]


def _split_port(entry: str) -> tuple[str, int | None]:
    """Splits an entry such as `example.com:443` or `[::1]:443`. An IPv6 address without brackets has no port."""
    if found := re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?", entry) or re.fullmatch(r"([^:]*):(\d{1,5})", entry):
        return found[1], int(found[2]) if found[2] else None
    return entry, None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Returns the IP address in `text`, without its zone; None if it is a name."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in_domain(name: str, entry: str) -> bool:
    """Returns whether a host name is `entry`, such as `.example.com` or `*.example.com`, or below it."""
    domain = entry.removeprefix("*").strip(".")
    return bool(domain) and f".{name}".endswith(f".{domain}")


def _includes(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Returns whether an entry is this address, or a network that has it."""
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return network.version == address.version and address in network
