"""Reads the HTTP proxy for upstream from `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, as curl reads them."""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies

PORTS = {"http": 80, "https": 443}
PROXY_SCHEMES = ("http",)  # of the proxies that the gateway can use


def environment_proxy(url: str) -> SplitResult | None:
    """Returns the URL of the proxy that the environment variables name for requests to `url`.

    Returns None if there is none, or if `NO_PROXY` exempts the host. A proxy URL without a scheme means http://.
    """
    parts, named = urlsplit(url), getproxies()
    proxy = named.get(parts.scheme) or named.get("all")
    port = parts.port or PORTS.get(parts.scheme, 0)
    if not proxy or is_bypassed(parts.hostname or "", port, named.get("no", "")):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Returns whether requests to `host` and `port` bypass the proxy, because `no_proxy` lists them.

    `no_proxy` is the value of NO_PROXY, such as `example.com, 10.0.0.0/8, localhost:8000` or `*` for all hosts.
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
    """Returns a sentence that says why the proxy for requests to `url` cannot be used; empty if nothing is wrong.

    The proxy is the one in the environment variables. Without a proxy, the result is empty, too.
    """
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
    """Returns a list with the header line `Proxy-Authorization: …`, made of the user and password in the proxy's URL.

    The list is empty if the URL has no user.
    """
    if not proxy.username:
        return []
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return [f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}"]


def _split_port(entry: str) -> tuple[str, int | None]:
    """Splits an entry of NO_PROXY, such as `example.com:443` or `[::1]:443`, into host and port (None without a port).

    An IPv6 address without brackets has no port.
    """
    if found := re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?", entry) or re.fullmatch(r"([^:]*):(\d{1,5})", entry):
        return found[1], int(found[2]) if found[2] else None
    return entry, None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parses an IP address, without its IPv6 zone; returns None for any other text.

    `::ffff:192.0.2.1` is returned as the IPv4 address.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in_domain(name: str, entry: str) -> bool:
    """Returns whether a host is in the domain that an entry of NO_PROXY names: `a.example.com` is in `example.com`.

    `.example.com` and `*.example.com` mean the same domain.
    """
    domain = entry.removeprefix("*").strip(".")
    return bool(domain) and f".{name}".endswith(f".{domain}")


def _includes(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Returns whether an entry of NO_PROXY is this IP address, or is a network with this address in it."""
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return network.version == address.version and address in network
