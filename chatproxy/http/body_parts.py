"""Saves copies of a request's body on its way from the parser to the call.

uvicorn adds each part that the parser finds to a `bytearray`, and copies that to `bytes` when the call takes it. Nearly
always the call takes a part before the next one comes.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def put_without_copy(cycle: RequestResponseCycle, part: bytes) -> bytes:
    """Makes `part` the body of a request as far as it waits for the call, if nothing else waits.

    Returns the bytes that uvicorn still has to add to what waits: none, or all of the part.
    """
    if not cycle.body and not cycle.response_complete:
        cycle.body = part  # type: ignore[assignment]  # uvicorn converts it to bytes, which copies nothing
        return b""
    if isinstance(cycle.body, bytes):
        cycle.body = bytearray(cycle.body)  # very many small parts are joined in place
    return part
