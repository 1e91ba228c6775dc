"""A table with one call for each kind of answer that the gateway gives: relayed, refused, a page, an error."""

from __future__ import annotations

import json
from typing import Any

from tests.support.servers.gateway import SECURITY_KEY, Gateway

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
KEY = {"security_key": SECURITY_KEY}
JSON = {"content-type": "application/json"}
# Every kind of answer: ours and upstream's, good and bad.
ANSWERS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "call": ("POST", "/openai", {"json": {**KEY, **CHAT}}, 200),
    "upstream-error": ("POST", "/openai", {"json": {**KEY, **CHAT, "model": "gpt-nope"}}, 404),
    "cut": ("POST", "/openai", {"json": {**KEY, **CHAT, "model": "fault:cut"}}, 502),
    "index": ("GET", "/", {}, 200),
    "healthz": ("GET", "/healthz", {}, 200),
    "readyz": ("GET", "/readyz", {}, 200),
    "not-found": ("GET", "/nowhere", {}, 404),
    "bad-id": ("GET", "/openai2/a.b", {}, 404),
    "method": ("PUT", "/openai", {}, 405),
    "no-key": ("POST", "/openai", {"json": CHAT}, 403),
    "no-token": ("GET", "/log", {}, 403),
    "bad-json": ("POST", "/openai", {"content": b"{" + json.dumps(KEY).encode(), "headers": JSON}, 400),
    "bad-field": ("POST", "/openai", {"json": KEY}, 400),
    "media-type": ("POST", "/openai", {"content": b"x", "headers": {"content-type": "text/plain"}}, 415),
    "options": ("OPTIONS", "/openai", {}, 204),
}


def ask(gateway: Gateway, kind: str, **headers: str) -> Any:
    method, path, options, status = ANSWERS[kind]
    answer = gateway.http.request(method, path, **{**options, "headers": {**options.get("headers", {}), **headers}})
    assert answer.status_code == status, answer.text
    return answer
