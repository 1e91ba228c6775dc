"""Sending an answer as the real thing does, or as its fault says it should go wrong."""

import asyncio
import gzip
import time
import zlib
from collections.abc import Iterator

from tests.simulator.content.answers import Answer, Stream, bare_event, typed_event
from tests.simulator.wire.chance import chance
from tests.simulator.wire.connection import Connection
from tests.simulator.wire.faults import Fault
from tests.simulator.wire.gate import Gate
from tests.simulator.wire.recording import ReceivedRequest, Recorder

_HTML = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
)
_BROKEN_EVENT = b'data: {"id": "broken", "choices": [{"delta"\n\n'
_ERROR = {
    "message": "The server had an error while processing your request. Sorry about that!",
    "type": "server_error",
    "param": None,
    "code": "server_error",
}
_EVENTS_BEFORE_AN_ERROR = 4
_EVENTS_BEFORE_SILENCE = 2


def _head(answer: Answer | Stream, started: float, extra: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Returns all headers of an answer: those that OpenAI's servers add to each, and the `extra` ones."""
    kind = answer.content_type if isinstance(answer, Answer) else "text/event-stream; charset=utf-8"
    pairs = [
        ("content-type", kind),
        *extra,
        ("cache-control", "no-cache, must-revalidate") if isinstance(answer, Stream) else ("vary", "Origin"),
        ("access-control-expose-headers", "X-Request-ID"),
        ("openai-organization", "org-simulated"),
        ("openai-processing-ms", str(chance.milliseconds_since(started))),
        ("openai-project", "proj_simulated"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "200000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "199968"),
        ("x-ratelimit-reset-requests", "8.64s"),
        ("x-ratelimit-reset-tokens", "9ms"),
        ("x-request-id", f"req_{chance.token(16)}"),
        ("cf-cache-status", "DYNAMIC"),
        ("set-cookie", f"__cf_bm={chance.token(24)}; path=/; HttpOnly; Secure; SameSite=None"),
        ("set-cookie", f"_cfuvid={chance.token(24)}; path=/; HttpOnly; Secure; SameSite=None"),
        ("x-content-type-options", "nosniff"),
        ("server", "cloudflare"),
        ("cf-ray", f"{chance.token(8)}-FRA"),
        ("alt-svc", 'h3=":443"; ma=86400'),
        *answer.headers,
    ]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


def replaced(fault: Fault, request: ReceivedRequest) -> Answer | None:
    """Returns the answer that a fault puts in the place of the real one; None if the fault leaves the real one."""
    if fault.html:
        return Answer(_HTML, 502, "text/html")
    if fault.redirect:
        target = f"http://{request.header('host')}/v1/redirected"
        return Answer(b"", 307, "text/html", (("location", target),))
    if fault.bad_json:
        return Answer(b'{\n  "id": "broken",\n  "object": "chat.completion",\n  "choices": [\n    {"index": 0, "mess')
    return None


def _altered(stream: Stream, fault: Fault) -> tuple[list[bytes], bool]:
    """Applies a fault to a stream: returns the changed events, and whether the connection is cut after them."""
    events = list(stream.events)
    if fault.malformed:
        events.insert(2, _BROKEN_EVENT)
    if fault.error_event:
        events = events[:_EVENTS_BEFORE_AN_ERROR]
        typed = {"type": "error", "sequence_number": len(events), **{k: v for k, v in _ERROR.items() if k != "type"}}
        events.append(typed_event(typed) if stream.dialect == "typed" else bare_event({"error": _ERROR}))
    if fault.cut_event is not None:
        torn = events[fault.cut_event : fault.cut_event + 1]
        return [*events[: fault.cut_event], *(event[: len(event) // 2] for event in torn)], True
    if fault.cut_stream is not None:
        return events[: fault.cut_stream], True
    return events, False


def _chunks(events: list[bytes], fault: Fault) -> Iterator[tuple[bytes, int]]:
    """Yields the chunks of bytes in which the events of a stream are sent, as the fault asks.

    With each comes the number of whole events that have been sent once the chunk has left.
    """
    packer = zlib.compressobj(wbits=31) if fault.gzip else None
    if packer:
        packed = [packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in events]
        events = [*packed[:-1], packed[-1] + packer.flush()] if packed else packed
    if not fault.chunk_bytes:
        yield from ((event, number) for number, event in enumerate(events, 1))
        return
    whole, ends, size, number = b"".join(events), [], 0, 0
    for event in events:
        size += len(event)
        ends.append(size)
    for start in range(0, size, fault.chunk_bytes):
        chunk = whole[start : start + fault.chunk_bytes]
        while number < len(ends) and ends[number] <= start + len(chunk):
            number += 1
        yield chunk, number


class Delivery:
    """The sending of one answer on one connection, as a fault asks; its caller cancels it when the client leaves."""

    def __init__(
        self, connection: Connection, request: ReceivedRequest, fault: Fault, recorder: Recorder, gate: Gate
    ) -> None:
        self._connection = connection
        self._request = request
        self._fault = fault
        self._recorder = recorder
        self._gate = gate
        self._started = time.monotonic()

    async def before_the_head(self) -> bool:
        """Does what a fault asks for before the answer's head is sent, such as waiting; returns whether to go on."""
        if self._fault.cut:
            await self._connection.cut(flush=False)
            return False
        if self._fault.hang:
            await asyncio.get_running_loop().create_future()
        if self._fault.slow:
            await asyncio.sleep(self._fault.slow)
        if self._fault.gate or self._gate.held:
            await self._gate.wait()
        return True

    async def send(self, answer: Answer | Stream) -> None:
        self._recorder.answered(self._request, answer.status if isinstance(answer, Answer) else 200)
        if isinstance(answer, Stream):
            await self._send_stream(answer)
        else:
            await self._send_whole(answer)

    async def _send_whole(self, answer: Answer) -> None:
        body = gzip.compress(answer.body) if self._fault.gzip else answer.body
        extra = [("content-encoding", "gzip")] if self._fault.gzip else []
        extra.append(("content-length", str(len(body))))
        await self._connection.start(answer.status, _head(answer, self._started, extra))
        if self._fault.gate_body:
            await self._connection.write(body[: len(body) // 2], more=True)
            await self._gate.wait()
            body = body[len(body) // 2 :]
        if self._fault.cut_body:
            await self._connection.write(body[: len(body) // 2], more=True)
            await self._connection.cut(flush=True)
            return
        step = self._fault.chunk_bytes or max(len(body), 1)
        *pieces, last = [body[start : start + step] for start in range(0, len(body), step)] or [b""]
        for piece in pieces:
            await self._connection.write(piece, more=True)
            await asyncio.sleep(0)
        self._say_completed()
        await self._connection.write(last, more=False)

    def _say_completed(self) -> None:
        """Records that the answer to the request is complete.

        Called before the last bytes leave, so that a client that has them all finds its request recorded as completed.
        """
        self._recorder.ended(self._request, "completed")

    async def _send_stream(self, stream: Stream) -> None:
        fault, connection = self._fault, self._connection
        extra = [("content-encoding", "gzip")] if fault.gzip else []
        events, dies = _altered(stream, fault)
        await connection.start(200, _head(stream, self._started, extra))
        sent, paused = 0, False
        chunks = list(_chunks(events, fault))
        for index, (chunk, number) in enumerate(chunks):
            await asyncio.sleep(fault.pace if index else 0)
            if not paused and sent >= _EVENTS_BEFORE_SILENCE:
                paused = True
                await self._pause_after_two_events()
            if number != sent:
                sent = number
                self._recorder.progressed(self._request, sent)
            if index == len(chunks) - 1 and not dies:
                self._say_completed()
            await connection.write(chunk, more=True)
        if dies:
            await connection.cut(flush=True)
            return
        self._say_completed()
        await connection.write(b"", more=False)

    async def _pause_after_two_events(self) -> None:
        if self._fault.silent:
            await asyncio.sleep(self._fault.silent)
        if self._fault.gate_stream:
            await self._gate.wait()
