"""The headers that pass through: from the caller to upstream (`/v1` only), and from upstream to the caller (both APIs).

All headers go to upstream, with four exceptions: those that identify or authenticate the caller, those for the gateway,
those that belong to one connection, and those that would be wrong for the request that the gateway sends. One header is
changed, so that no key gets what is another's: `Idempotency-Key`. To the caller, only the listed headers pass.

`INERT` are headers that keep a browser from running an answer as a page of this server, whose origin is also the
admin's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import urlsplit

from multidict import CIMultiDict

Headers = CIMultiDict[str]

KEPT_BACK = {
    # of one connection (RFC 9110, 7.6.1), or of the framing of the message, which the gateway does anew
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect",
    b"host", b"content-length", b"accept-encoding",
    # what authenticates the caller here, or is a secret of a browser
    b"authorization", b"proxy-authorization", b"proxy-authenticate", b"cookie", b"cookie2", b"x-security-key",
    b"api-key", b"x-api-key",
    # what identifies the caller, or tells where the caller is
    b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"origin", b"referer",
    # by which some servers replace the method or the path that the gateway has checked
    b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url",
    b"x-original-method",
}  # fmt: skip
# Names that must not come in a second spelling, beside those that are kept back.
SPELLED_ONCE = {
    b"content-type", b"content-encoding", b"openai-organization", b"openai-project", b"idempotency-key",
    b"x-idempotency-key",
}  # fmt: skip
# By which a server recognises a request that it has answered before, whichever key of the gateway has sent it.
IDEMPOTENCY_KEYS = ("Idempotency-Key", "X-Idempotency-Key")
# The gateway's own headers, such as X-Proxy-Tags, say things that are for it alone.
KEPT_BACK_PREFIXES = (b"x-forwarded-", b"sec-", b"access-control-", b"cf-", b"x-proxy-")

PASSED_DOWN = {
    "accept-ranges", "allow", "cache-control", "content-disposition", "content-range", "content-type", "link",
    "location", "retry-after", "retry-after-ms", "x-models-etag", "x-reasoning-included", "x-request-id",
    "x-should-retry",
}  # fmt: skip
# Codex reads `x-codex-…`, `x-models-etag` and `x-reasoning-included` (codex-rs/codex-api), and sends
# `x-codex-turn-state` back with the next requests of a turn, so that upstream finds its cache again.
PASSED_DOWN_PREFIXES = ("openai-", "x-codex-", "x-ratelimit-")
# On every answer that is not a page of ours. Upstream's content type passes unchanged, whatever it is: `nosniff` keeps
# a browser from guessing another one, and the policy makes a document of HTML, XML or SVG have an origin of its own,
# run no script and load nothing. Pages of other origins read answers with `fetch` as before. There is no
# Cross-Origin-Resource-Policy, since media elements may load answers, and no Referrer-Policy, since such a document
# loads nothing.
INERT = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
)
# A header's value (RFC 9110, 5.5), without bytes above 127: only old software sends these, and it is not defined what
# they mean.
VALUE = re.compile(r"[\t\x20-\x7e]*")
UNDERSCORE = ord("_")  # a number is found in bytes much faster than other bytes are

# Requests without a body: they may follow a redirect to another server, for example to download a file.
READING_METHODS = frozenset({"GET", "HEAD"})


def pass_up(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Returns the headers of the caller's request that are sent upstream, in their order; names may be repeated.

    These are left out: headers that identify the caller, headers for the gateway (`X-Proxy-…`), and headers about the
    connection or the length of the body. The names in `headers` must be in lower case.
    """
    listed = {word.strip().lower() for name, value in headers if name == b"connection" for word in value.split(b",")}
    kept_back = KEPT_BACK | listed if listed else KEPT_BACK
    return Headers(
        [
            (name.decode("latin-1"), _text(value))
            for name, value in headers
            if name not in kept_back
            and not name.startswith(KEPT_BACK_PREFIXES)
            and not (UNDERSCORE in name and _is_second_spelling(name, kept_back))
        ]
    )


def separate_by_key(headers: Headers, key_name: str) -> None:
    """Replaces the value of each `Idempotency-Key` in `headers` by one that differs between the gateway's keys.

    It is a digest of the old value and of `key_name`, the name of the caller's key. A client that tries again sends the
    same value, and so gets the same digest. For upstream, all our keys are one account. So if two keys sent the same
    value, upstream would give the second key the first one's answer, such as the id of an environment.
    """
    for name in IDEMPOTENCY_KEYS:
        if name in headers:
            for value in headers.popall(name):
                headers.add(name, hashlib.sha256(f"{key_name}\n{value}".encode()).hexdigest())


def _is_second_spelling(name: bytes, kept_back: Collection[bytes]) -> bool:
    """Returns whether the header `name`, which has underscores, must not be sent: it may be taken for another one.

    CGI, and servers made after it, read `X_Forwarded_For` as `X-Forwarded-For`. So the result is True if the name with
    hyphens is in `kept_back`, begins with a prefix such as `x-forwarded-`, or may be sent only once (`SPELLED_ONCE`).
    """
    usual = name.replace(b"_", b"-")
    return usual in kept_back or usual in SPELLED_ONCE or usual.startswith(KEPT_BACK_PREFIXES)


def without_encoding(headers: Headers | None) -> Headers:
    """Returns a copy of `headers` without Content-Encoding, for a body that has been decoded.

    If `headers` is None, the result has no headers.
    """
    kept = Headers(headers or {})
    kept.popall("content-encoding", None)
    return kept


def pass_down(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns the headers of upstream's answer that the caller may get, as a dict with names in lower case.

    A repeated header has its values joined by commas (RFC 9110, 5.3). Values with control characters or outside of
    ASCII are left out.
    """
    passed: dict[str, str] = {}
    for cased, value in headers:
        name = cased.lower()
        if (name in PASSED_DOWN or name.startswith(PASSED_DOWN_PREFIXES)) and _is_value(value):
            passed[name] = f"{passed[name]}, {value}" if name in passed else value
    return passed


def location_down(location: str, *, base_url: str, root_path: str, method: str, status: int) -> str | None:
    """Converts the header `Location` of upstream's answer to the header for the caller; None if the caller gets none.

    * A location at upstream becomes one at the gateway: `<base_url>/files/x` becomes `/v1/files/x`, or `/ai/v1/files/x`
      if the gateway's `root_path` is `/ai`.
    * A malformed location is not passed on. Neither is a redirect to an absolute URL outside of `base_url` if `method`
      is not GET or HEAD, because the client would send its request's body there.
    * Any other location stays unchanged.
    """
    base = urlsplit(base_url.rstrip("/"))
    try:
        found = urlsplit(location)
        is_upstreams = not found.netloc or (found.scheme, found.netloc.lower()) == (base.scheme, base.netloc.lower())
    except ValueError:
        return None
    rest = found.path.removeprefix(base.path)
    # A client that followed a redirect to upstream itself would bypass policies, budgets and the ledger.
    if is_upstreams and found.path.startswith(base.path) and rest[:1] in {"", "/"}:
        return found._replace(scheme="", netloc="", path=f"{root_path}/v1{rest}").geturl()
    # The client would send its request's body to another server.
    if 300 <= status < 400 and method not in READING_METHODS and (found.netloc or found.scheme):
        return None
    return location


def _is_value(value: str) -> bool:
    """Returns whether a header's value has only printable ASCII characters and tabs, so that it can be sent on."""
    # Nearly all values have no tab, and the first test is faster.
    return (value.isascii() and value.isprintable()) or VALUE.fullmatch(value) is not None


def _text(value: bytes) -> str:
    """Decodes the value of a caller's header from UTF-8; other bytes become `?`."""
    # The text goes upstream encoded as UTF-8. No other replacement is sure to be accepted everywhere.
    return value.decode("ascii") if value.isascii() else value.decode("utf-8", "replace").replace("\ufffd", "?")
