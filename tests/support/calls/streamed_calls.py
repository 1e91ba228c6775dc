"""Makes streamed calls over a plain socket, and builds the events with which upstream answers them."""

from __future__ import annotations

import json
from typing import Any

from tests.support.callers.wire import connect, json_call
from tests.support.servers.gateway import Gateway

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "stream": True}
RESPONSE = {"model": "gpt-4o-mini", "input": "hi", "stream": True}
DONE = b"data: [DONE]\n\n"


def chunk(text: str, reason: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": reason}
    facts = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o-mini", "choices": [choice]}
    return b"data: " + json.dumps(facts).encode() + b"\n\n"


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def answered(gateway: Gateway, path: str, body: dict[str, Any]) -> tuple[int, bytes, dict[str, Any], bool]:
    """Makes a call with a streamed answer; returns its status, its body, its row in the ledger, and whether it was cut.

    An answer was cut if the connection was closed before the end of its body.
    """
    with connect(gateway) as wire:
        wire.send(json_call(path, body))
        head = wire.read_head()
        pieces: list[bytes] = []
        is_cut = False
        try:
            pieces.extend(wire.read_chunks())
        except EOFError:
            is_cut = True
    return head.status, b"".join(pieces), gateway.row(head.headers["x-proxy-request-id"]), is_cut
