"""Calls `/v1` over a plain socket, and reads the row of such a call."""

from __future__ import annotations

from typing import Any

from tests.support.callers.wire import WireAnswer, connect
from tests.support.servers.gateway import Gateway


def the_row(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """Returns the row of a call in the ledger, and asserts that there is only one.

    `request_id` is the id that the caller gave to the call.
    """
    rows = gateway.rows("WHERE incoming_request_id = %s", [request_id], at_least=1)
    assert len(rows) == 1
    return rows[0]


def assert_refused(answer: WireAnswer, status: int, code: str, request_type: str = "invalid_request_error") -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.error.keys() == {"message", "type", "param", "code", "request_id"}
    assert (answer.error["code"], answer.error["type"]) == (code, request_type)
    assert answer.error["request_id"] == answer.headers["x-proxy-request-id"]


def ask(gateway: Gateway, *sent: bytes) -> WireAnswer:
    with connect(gateway) as wire:
        for piece in sent:
            wire.send(piece)
        return wire.read_answer()
