"""Creates responses by `/openai2`, and requests them by their ids."""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway

MODEL = "gpt-4o"
EXAMPLE = "resp_abc123"  # the simulator always has it
KEY = {"security_key": SECURITY_KEY}


def create(gateway: Gateway, **parameters: Any) -> str:
    """Creates a stored response by a call of `/openai2`, and returns the response's id."""
    answer = gateway.post("/openai2", {"model": MODEL, "input": "My name is Alice.", **parameters})
    assert answer.status_code == 200
    return str(answer.json()["id"])


def ask_unchanged(gateway: Gateway, method: str, path: str) -> tuple[int, str | None, bytes]:
    """Requests a path exactly as it is written; returns the answer's status, content type and body.

    Other clients would normalize the path first.
    """
    address = urlsplit(gateway.url)
    with closing(HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("content-type"), answer.read()
