"""Owns the requests that the fuzz tests make up: heads, targets, bodies; from pieces that parsers disagree about.

Made of known words and of noise: noise alone would end at the first check, and known words alone find what is known.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

PATHS = (
    *("/openai", "/openai2", "/chatgpt", "/embeddings", "/openai/audio/transcriptions", "/openai2/compact"),
    *("/openai2/resp_1", "/openai2/resp_1/cancel", "/openai2/resp_1/input_items", "/openai2/input_tokens"),
    *("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/images/edits", "/v1/files"),
    *("/v1/conversations/conv_1/items", "/v1/audio/transcriptions", "/v1/", "/", "/healthz", "/readyz", "/docs"),
    *("/openapi.json", "/log", "/log_errors", "/metrics", "/usage", "/health", "/debug/runtime", "/nowhere"),
    *("/admin/", "/admin/login/", "/my-usage/", "/static/x", "/static/../openai", "//openai", "/v1/../usage", "*", ""),
)
JSON_PATHS = ("/openai", "/openai2", "/chatgpt", "/embeddings", "/openai2/compact", "/openai2/input_tokens")
V1_PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/conversations", "/v1/images/generations")
METHODS = (
    "GET",
    "POST",
    "POST",
    "POST",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PUT",
    "PATCH",
    "TRACE",
    "CONNECT",
    "get",
    "M-SEARCH",
)
HEADERS = (
    *("Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect", "TE", "Trailer"),
    *("Content-Type", "Content-Encoding", "Accept-Encoding", "Accept", "Cookie", "Origin", "Range", "Forwarded"),
    *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id", "X-Client-Request-Id"),
    *("X-Security-Key", "Authorization", "OpenAI-Organization", "OpenAI-Project", "X-HTTP-Method-Override"),
)
VALUES = (
    *("", "0", "1", "-1", "+1", "00", "1e3", "5, 5", "18446744073709551616", "chunked", "gzip, chunked", "identity"),
    *("close", "keep-alive", "upgrade", "h2c", "websocket", "100-continue", "authorization", "evil.example", "a b"),
    *("application/json", "application/json; charset=utf-16", "multipart/form-data", "text/plain", "Bearer ", "Bearer"),
    *("multipart/form-data; boundary=b", "application/x-www-form-urlencoded", "null", "127.0.0.1", "bytes=0-"),
)
MEMBERS = (
    *(
        "model",
        "messages",
        "input",
        "prompt",
        "stream",
        "timeout",
        "security_key",
        "openai_api_key",
        "project",
        "store",
    ),
    *(
        "organization",
        "image",
        "temperature",
        "max_tokens",
        "tools",
        "metadata",
        "previous_response_id",
        "conversation",
    ),
    *(
        "stream_options",
        "n",
        "user",
        "response_format",
        "encoding_format",
        "service_tier",
        "background",
        "instructions",
    ),
)
WORDS = (
    "gpt-4o-mini",
    "text-embedding-3-small",
    "hi",
    "",
    "\x00",
    "\ud800",
    "true",
    "cp-",
    "sk-x",
    "é" * 9,
    "../..",
    "%s",
)
NUMBERS = (0, -1, 1, 2**63, 2**70, 10**400, 0.1, -0.0, 1e308)
NOISE = (
    "{",
    "}",
    "[",
    "]",
    '"',
    ",",
    ":",
    "\\",
    "\\u",
    "\\ud800",
    "NaN",
    "1e999",
    "\ufeff",
    "//",
    "'",
    "\x00",
    "[" * 2000,
)

header_value = st.sampled_from(VALUES) | st.text(
    st.characters(codec="latin-1", exclude_characters="\r\n\x00"), max_size=40
)
header = st.tuples(st.sampled_from(HEADERS) | st.text("abcXYZ-_:", min_size=1, max_size=12), header_value)
query = st.dictionaries(
    st.sampled_from((*MEMBERS, "access_token", "range", "limit", "after", "include[]")),
    st.sampled_from(WORDS[:-1]) | st.text(max_size=20),
    max_size=4,
)
scalar = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(WORDS) | st.text(max_size=20)
value: SearchStrategy[Any] = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
CALLS: tuple[dict[str, Any], ...] = (
    {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]},
    {"model": "gpt-4o-mini", "input": "hi"},
    {"prompt": "hi"},
    {},
)


@st.composite
def json_body(draw: st.DrawFn) -> bytes:
    """A call with some members replaced by anything, as JSON; every third one is damaged in one to three places."""
    members = {**draw(st.sampled_from(CALLS)), **draw(st.dictionaries(st.sampled_from(MEMBERS), value, max_size=4))}
    text = json.dumps(members, ensure_ascii=draw(st.booleans()))
    for _ in range(draw(st.sampled_from((0, 0, 1, 3)))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(NOISE)) + text[at + draw(st.integers(0, 3)) :]
    return text.encode(draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-16"))), "surrogatepass")


@st.composite
def raw_request(draw: st.DrawFn, key: str | None) -> bytes:
    """A whole request as bytes, with a `key` in a usual place if one is given; its framing is sometimes wrong."""
    version = draw(st.sampled_from(("HTTP/1.1",) * 8 + ("HTTP/1.0", "HTTP/9.9", "HTTP/1.1 ", "")))
    target = draw(st.sampled_from(PATHS) | st.text(st.characters(codec="latin-1"), max_size=30))
    if draw(st.booleans()):
        target += "?" + draw(
            st.sampled_from(("a=b", "security_key=cp-x", "%", "%zz", "&&&=", "a=%00", "stream=true", "?#"))
        )
    body = draw(st.just(b"") | st.binary(max_size=60) | json_body())
    headers = draw(st.lists(header, max_size=5))
    if key is not None:
        headers.append(draw(st.sampled_from((("Authorization", f"Bearer {key}"), ("X-Security-Key", key)))))
    framing = draw(st.sampled_from(("right", "right", "right", "chunked", "none", "short", "long")))
    if framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif framing != "none":
        headers.append(("Content-Length", str(len(body) + {"right": 0, "short": -1, "long": 1}[framing])))
    end = draw(st.sampled_from(("\r\n",) * 9 + ("\n",)))
    lines = [f"{draw(st.sampled_from(METHODS))} {target} {version}", "Host: gateway"]
    lines += [f"{name}{draw(st.sampled_from((': ',) * 9 + (' : ',)))}{content}" for name, content in headers]
    head: str = end.join([*lines, "", ""])
    return head.encode("latin-1", "replace") + body
