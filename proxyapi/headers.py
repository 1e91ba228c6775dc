"""Owns which headers pass: the caller's to upstream on `/v1`, and upstream's to the caller on both faces.

Up, all pass but those that name or admit the caller, belong to one connection only, or would say something
untrue of the call as we send it. Down, only those listed pass.
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
    "accept-ranges", "cache-control", "content-disposition", "content-range", "content-type", "retry-after",
    "retry-after-ms", "x-request-id", "x-should-retry",
}  # fmt: skip
PASSED_DOWN_PREFIXES = ("openai-", "x-ratelimit-")
# RFC 9110, 5.5; without the bytes that only old software sends, which have no one meaning.
VALUE = re.compile(r"[\t\x20-\x7e]*")


def pass_up(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The caller's headers that upstream gets: in their order, repeated ones too. Names come in lower case."""
    pairs = [(name.decode("latin-1"), _text(value)) for name, value in headers]
    listed = {word.strip().lower() for name, value in pairs if name == "connection" for word in value.split(",")}
    kept_back = KEPT_BACK | listed if listed else KEPT_BACK
    return Headers([pair for pair in pairs if pair[0] not in kept_back and not pair[0].startswith(KEPT_BACK_PREFIXES)])


def pass_down(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Upstream's headers that the caller gets; a repeated one is joined (RFC 9110, 5.3)."""
    passed: dict[str, str] = {}
    for cased, value in headers:
        name = cased.lower()
        if (name in PASSED_DOWN or name.startswith(PASSED_DOWN_PREFIXES)) and VALUE.fullmatch(value):
            passed[name] = f"{passed[name]}, {value}" if name in passed else value
    return passed


def _text(value: bytes) -> str:
    """As it is written back: UTF-8; what is not becomes `?`, as nothing else is sure to be let through."""
    return value.decode("ascii") if value.isascii() else value.decode("utf-8", "replace").replace("\ufffd", "?")
