"""Passes a request's body from the parser to the call with fewer copies than uvicorn makes.

uvicorn appends each part of a body to a `bytearray`, and copies that to `bytes` when the call takes it. If the part is
large, it stops reading from the socket in between. This work can be saved, since a call nearly always takes a part
before the next one comes.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def put_without_copy(cycle: RequestResponseCycle, part: bytes) -> bool:
    """Passes a part of a request's body to the call without copying it, if possible; returns whether it was passed on.

    This is possible if the call has taken all earlier parts and is not answered yet. Otherwise uvicorn must handle the
    part.
    """
    if not cycle.body and not cycle.response_complete:
        cycle.body = part  # type: ignore[assignment]  # uvicorn converts it to bytes, which copies nothing
        cycle.message_event.set()
        return True
    if isinstance(cycle.body, bytes):
        cycle.body = bytearray(cycle.body)  # very many small parts are joined in place
    return False
