"""Owns where the `Location` of upstream's answers leads its caller: to this gateway, if it leads to upstream's API.

A client that follows a redirect to upstream itself would leave policy, budgets and the ledger behind, with its body.
"""

from __future__ import annotations

from urllib.parse import urlsplit

# Their callers send nothing that must not leave; files are downloaded from other hosts.
READING_METHODS = frozenset({"GET", "HEAD"})


def location_down(location: str, *, base_url: str, root_path: str, method: str, status: int) -> str | None:
    """The `Location` that the caller gets; None for none.

    What is below `base_url`, upstream's, is below `/v1` here; `root_path` is what clients have in front of that. All
    else passes as it is, but for a redirect that would send a body to another place.
    """
    base = urlsplit(base_url.rstrip("/"))
    try:
        found = urlsplit(location)
        is_upstreams = not found.netloc or (found.scheme, found.netloc.lower()) == (base.scheme, base.netloc.lower())
    except ValueError:
        return None
    rest = found.path.removeprefix(base.path)
    if is_upstreams and found.path.startswith(base.path) and rest[:1] in {"", "/"}:
        return found._replace(scheme="", netloc="", path=f"{root_path}/v1{rest}").geturl()
    if 300 <= status < 400 and method not in READING_METHODS and (found.netloc or found.scheme):
        return None
    return location
