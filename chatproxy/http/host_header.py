"""The check of the Host header, on every path: HTTP/1.1 demands exactly one (RFC 9112, 3.2).

If a request has no Host header, or two, proxies and servers disagree about the host that it is for.
"""

from __future__ import annotations

import re

from asgiref.typing import HTTPScope

# RFC 3986, 3.2.2 and 3.2.3: a host or an address, and a port. The value may be empty.
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
WORDS = "An HTTP/1.1 request must have exactly one valid Host header."


def has_valid_host(scope: HTTPScope) -> bool:
    """Returns whether a request has exactly one well-formed Host header; in HTTP/1.0, it may also have none.

    An empty value is well-formed.
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1:
        return not hosts and scope["http_version"] == "1.0"
    return _HOST.fullmatch(hosts[0]) is not None
