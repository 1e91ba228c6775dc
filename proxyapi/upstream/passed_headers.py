"""Owns which headers pass: the caller's to upstream on `/v1`, and upstream's to the caller on both faces.

Up, all pass but those that name or admit the caller, belong to one connection only, or would say something
untrue of the call as we send it. Down, only those listed pass.

Also owns `INERT`, the headers that keep a browser from running an answer as a page of this server's origin, which is
the admin's origin, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from multidict import CIMultiDict

Headers = CIMultiDict[str]

KEPT_BACK = {
    # of one connection (RFC 9110, 7.6.1), or of the message as we frame it
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect",
    "host", "content-length", "accept-encoding",
    # what lets the caller in here, or is a browser's own secret
    "authorization", "proxy-authorization", "proxy-authenticate", "cookie", "cookie2", "x-security-key", "api-key",
    "x-api-key",
    # who and where the caller is
    "forwarded", "via", "x-real-ip", "true-client-ip", "origin", "referer",
}  # fmt: skip
KEPT_BACK_PREFIXES = ("x-forwarded-", "sec-", "access-control-", "cf-")

PASSED_DOWN = {
    "accept-ranges", "allow", "cache-control", "content-disposition", "content-range", "content-type", "link",
    "location", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry",
}  # fmt: skip
PASSED_DOWN_PREFIXES = ("openai-", "x-ratelimit-")
# On every answer that is not a page of ours. Upstream's content type passes unchanged, whatever it is: `nosniff` keeps
# a browser from guessing another one, and the policy makes a document of HTML, XML or SVG have an origin of its own,
# run no script and load nothing. Pages of other origins read answers with `fetch` as before. There is no
# Cross-Origin-Resource-Policy, since media elements may load answers, and no Referrer-Policy, since such a document
# loads nothing.
INERT = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
)
# RFC 9110, 5.5; without the bytes that only old software sends, which have no one meaning.
VALUE = re.compile(r"[\t\x20-\x7e]*")


def pass_up(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The caller's headers that upstream gets: in their order, repeated ones too. Names come in lower case."""
    pairs = [(name.decode("latin-1"), _text(value)) for name, value in headers]
    listed = {word.strip().lower() for name, value in pairs if name == "connection" for word in value.split(",")}
    kept_back = KEPT_BACK | listed if listed else KEPT_BACK
    return Headers([pair for pair in pairs if pair[0] not in kept_back and not pair[0].startswith(KEPT_BACK_PREFIXES)])


def without_encoding(headers: Headers | None) -> Headers:
    """A copy for a body that is not encoded."""
    kept = Headers(headers or {})
    kept.popall("content-encoding", None)
    return kept


def pass_down(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Upstream's headers that the caller gets; a repeated one is joined (RFC 9110, 5.3)."""
    passed: dict[str, str] = {}
    for cased, value in headers:
        name = cased.lower()
        if (name in PASSED_DOWN or name.startswith(PASSED_DOWN_PREFIXES)) and _is_value(value):
            passed[name] = f"{passed[name]}, {value}" if name in passed else value
    return passed


def _is_value(value: str) -> bool:
    """Whether a header's value has the bytes of `VALUE` only; nearly all have no tab, and that is seen faster."""
    return (value.isascii() and value.isprintable()) or VALUE.fullmatch(value) is not None


def _text(value: bytes) -> str:
    """As it is written back: UTF-8; what is not becomes `?`, as nothing else is sure to be let through."""
    return value.decode("ascii") if value.isascii() else value.decode("utf-8", "replace").replace("\ufffd", "?")
