"""Checks all parts of an error of the gateway, and has calls that are refused because one part is changed."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from tests.support.callers.wire import WireAnswer
from tests.support.servers.gateway import SECURITY_KEY

MESSAGES = [{"role": "user", "content": "hi"}]
CALL = {"model": "gpt-4o-mini", "messages": MESSAGES}
BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
FILE = ("speech.mp3", b"sound", "audio/mpeg")


def assert_refused(
    answer: httpx2.Response | WireAnswer, status: int, kind: str, code: str, param: str | None = None
) -> dict[str, Any]:
    """Asserts that an answer is a certain error of the gateway: its status, type, code and parameter, and its form.

    Returns the error object.
    """
    content = answer.content if isinstance(answer, httpx2.Response) else answer.body
    assert answer.headers["content-type"] == "application/json", content[:200]
    body: dict[str, Any] = json.loads(content)
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert (answer.status if isinstance(answer, WireAnswer) else answer.status_code) == status, error
    assert (error["type"], error["code"], error["param"]) == (kind, code, param), error
    assert error["request_id"] == answer.headers["x-proxy-request-id"]
    assert error["message"]
    assert "Traceback" not in error["message"]
    return error


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg\r\n\r\nsound'
