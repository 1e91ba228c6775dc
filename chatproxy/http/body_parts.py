"""Saves copies of a request's body on its way from the parser to the call.

uvicorn adds each part that the parser finds to a `bytearray`, and copies that to `bytes` when the call takes it. Nearly
always the call takes a part before the next one comes.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def put_without_copy(cycle: RequestResponseCycle, part: bytes) -> bytes:
    """Stores a part of a request's body for the call without copying it, if no earlier part still waits for the call.

    Returns the bytes that uvicorn still has to append to those that wait: none if the part was stored, else all of it.
    """
    if not cycle.body and not cycle.response_complete:
        cycle.body = part  # type: ignore[assignment]  # uvicorn converts it to bytes, which copies nothing
        return b""
    if isinstance(cycle.body, bytes):
        cycle.body = bytearray(cycle.body)  # very many small parts are joined in place
    return part
