"""Builds the requests that the benchmarks send: whole HTTP/1.1 requests, as bytes."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlsplit

MIB = 1024 * 1024
BOUNDARY = b"4f8a2c31d96b07e5583c1f0a6be4d792"  # as long as that of httpx; shorter ones take longer to search for
MODEL, EMBEDDING_MODEL = "gpt-4o-mini", "text-embedding-3-small"
CHAT: Any = {"model": MODEL, "messages": [{"role": "user", "content": "What is TypeScript? " * 5}]}
EMBEDDING: Any = {"model": EMBEDDING_MODEL, "input": "What is TypeScript?"}  # upstream answers with 1,536 floats
BODIES: dict[str, Any] = {
    "/v1/chat/completions": CHAT,
    "/openai": CHAT,
    "/embeddings": EMBEDDING,
    "/v1/embeddings": EMBEDDING,
}
STREAMS: dict[str, Any] = {
    "/v1/chat/completions": CHAT,
    "/openai2": {"model": MODEL, "input": "What is TypeScript?"},
    "/v1/responses": {"model": MODEL, "input": "What is TypeScript?"},
}


def plain(path: str, key: str) -> bytes:
    """Builds the bytes of a small request to `path` for an answer that is not streamed."""
    return post(path, key, json.dumps(BODIES[path]).encode())


def streamed(path: str, key: str, events: int, rate: float, *, is_spaced: bool = False) -> bytes:
    """Builds the bytes of a request to `path` for a stream of `events` events, `rate` a second.

    Both numbers are in the field `user`, which the gateway and nginx pass on to `bench.stand.upstream`. With
    `is_spaced`, upstream writes the events' JSON with spaces.
    """
    pace = {"user": f"{events} events, {rate:g} a second{', spaced' * is_spaced}", "stream": True}
    return post(path, key, json.dumps({**pace, **STREAMS[path]}).encode())


def image(path: str, key: str, size: int = 5 * MIB) -> bytes:
    """Builds the bytes of a chat request with a picture of `size` bytes, which is a data URL in the JSON."""
    url = "data:image/png;base64," + base64.b64encode(bytes(range(256)) * (size // 256)).decode()
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return post(path, key, json.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}]}).encode())


def upload(path: str, key: str, size: int = 24_000_000) -> bytes:
    """Builds the bytes of a transcription request: a form with a recording of `size` bytes."""
    part = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    file = bytes(range(256)) * (size // 256)
    body = part % (b"model", b"", b"whisper-1") + part % (
        b"file",
        b'; filename="speech.mp3"\r\nContent-Type: audio/mpeg',
        file,
    )
    return post(path, key, body + b"--%b--\r\n" % BOUNDARY, f"multipart/form-data; boundary={BOUNDARY.decode()}")


def post(path: str, key: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Builds the bytes of a POST request with the key in its `Authorization` header."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nUser-Agent: bench\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def address(url: str) -> tuple[str, int]:
    """Splits a URL, and returns its host and its port."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port
