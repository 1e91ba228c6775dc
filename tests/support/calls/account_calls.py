"""Makes one call of each endpoint of the simple API, and reads which account upstream was told to bill."""

from __future__ import annotations

from typing import Any

from tests.simulator.server import Simulator
from tests.support.servers.gateway import Gateway

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
SOUND = {"file": ("audio.mp3", b"\xff\xfb\x90\x00" * 100, "audio/mpeg")}
TRANSCRIPTIONS = "/openai/audio/transcriptions"
BODY_CALLS: dict[str, dict[str, Any]] = {
    "/openai": CHAT,
    "/openai2": {"model": "gpt-4o", "input": "hi"},
    "/openai2/compact": {"model": "gpt-4o", "input": "hi"},
    "/openai2/input_tokens": {"model": "gpt-4o", "input": "hi"},
    "/openai2/resp_abc123/cancel": {},
    "/chatgpt": {"prompt": "hi"},
    "/embeddings": {"input": "hi"},
}
QUERY_CALLS = [
    ("GET", "/openai2/resp_abc123"),
    ("DELETE", "/openai2/resp_abc123"),
    ("POST", "/openai2/resp_abc123/cancel"),
    ("GET", "/openai2/resp_abc123/input_items"),
]
CALLS = [*(("POST", path) for path in [*BODY_CALLS, TRANSCRIPTIONS]), *QUERY_CALLS[:2], QUERY_CALLS[3]]
OWN = {"openai_api_key": "sk-own", "project": "proj_own", "organization": "org-own"}


def call(gateway: Gateway, method: str, path: str, **options: Any) -> Any:
    """Makes a call to a path of the simple API, with all that the path requires except a key; returns the answer."""
    if path == TRANSCRIPTIONS:
        options = {"files": SOUND, **options}
    elif path in BODY_CALLS and "json" not in options:
        options = {"json": BODY_CALLS[path], **options}
    return gateway.http.request(method, path, **options)


def account(simulator: Simulator) -> tuple[str | None, ...]:
    """Returns which account pays for the newest request at upstream: the values of the headers that say so."""
    return tuple(simulator.last.header(name) for name in ("authorization", "openai-project", "openai-organization"))


def sent_up(simulator: Simulator) -> str:
    """Returns the newest request at upstream as one text, without the headers that say which account pays."""
    last = simulator.last
    said = [pair for pair in last.headers if pair[0] not in {"authorization", "openai-project", "openai-organization"}]
    return f"{last.path} {last.query} {said} {last.body.decode('latin-1')}"
