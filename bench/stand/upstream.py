"""A stand-in for OpenAI's API, for benchmarks only, as fast as Python can be: `python -m bench.stand.upstream PORT`.

It answers every POST by its path, after it has read the whole body. If the body asks for a stream, the field `user` has
the number of events and the number per second (`bench.stand.requests.streamed`). The text of each event is the time at
which it was written. JSON is compact, as OpenAI writes it, unless the field asks for spaces, as Python's `json.dumps`
writes them.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any, NamedTuple

import uvloop

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
PACE = re.compile(rb'"user": ?"(\d+) events, ([\d.]+) a second(, spaced)?"')
USAGE = b'{"prompt_tokens":12,"completion_tokens":40,"total_tokens":52}'
COMPLETION = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini-2024-07-18",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"' + b"word " * 40 + b'","refusal":null},'
    b'"logprobs":null,"finish_reason":"stop"}],"usage":' + USAGE + b',"service_tier":"default"}'
)
EMBEDDING = (
    b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":['
    + b",".join(b"%.8f" % ((number * 7919 % 2000 - 1000) / 30_000) for number in range(1536))
    + b']}],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}'
)
TRANSCRIPT = b'{"text":"' + b"word " * 40 + b'","usage":{"type":"duration","seconds":600}}'
ANSWERS = {b"embeddings": EMBEDDING, b"transcriptions": TRANSCRIPT}  # by the last segment of the path
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\ncontent-length: %d\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,'
    b'"model":"gpt-4o-mini-2024-07-18","service_tier":"default","choices":[{"index":0,'
    b'"delta":{"content":"%d"},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
)
LAST = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1760000000,'
    b'"model":"gpt-4o-mini-2024-07-18","service_tier":"default","choices":[],"usage":' + USAGE + b"}\n\n"
)
RESPONSE = (
    b'"response":{"id":"resp_bench","object":"response","created_at":1760000000,"status":"%s","error":null,'
    b'"model":"gpt-4o-mini-2024-07-18","output":[],"service_tier":"default","usage":%s}}\n\n'
)
CREATED = b'event: response.created\ndata: {"type":"response.created","sequence_number":0,' + RESPONSE % (
    b"in_progress",
    b"null",
)
DELTA = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":1,'
    b'"item_id":"msg_bench","output_index":0,"content_index":0,"delta":"%d","logprobs":[]}\n\n'
)
COMPLETED = b'event: response.completed\ndata: {"type":"response.completed","sequence_number":2,' + RESPONSE % (
    b"completed",
    b'{"input_tokens":12,"output_tokens":40,"total_tokens":52}',
)


class Shape(NamedTuple):
    """The events of one kind of stream that the stand-in for OpenAI's API sends.

    `first` are the events at the beginning, `each` is the one that is repeated, with the time in its text, and `last`
    are the events at the end.
    """

    first: tuple[bytes, ...]
    each: bytes
    last: tuple[bytes, ...]


STREAMS = {
    b"completions": Shape((), CHUNK, (LAST, b"data: [DONE]\n\n")),
    b"responses": Shape((CREATED,), DELTA, (COMPLETED,)),
}


def spaced(event: bytes) -> bytes:
    """Rewrites an event's JSON with spaces, as Python's `json.dumps` writes it."""
    head, _, data = event.rstrip().rpartition(b"data: ")
    return event if data == b"[DONE]" else b"%bdata: %b\n\n" % (head, json.dumps(json.loads(data)).encode())


SPACED_STREAMS = {
    name: Shape(tuple(map(spaced, shape.first)), spaced(shape.each), tuple(map(spaced, shape.last)))
    for name, shape in STREAMS.items()
}


class Upstream(asyncio.Protocol):
    """One client's connection to the stand-in for OpenAI's API, which answers its requests one after the other.

    It expects no request before the last one is answered, since no client of the benchmarks sends one so early.
    """

    transport: Any
    streaming: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.received = bytearray()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.streaming is not None:
            self.streaming.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n", 0, 16384)
        while end >= 0:
            head = bytes(self.received[:end])
            if b"chunked" in head:  # a form, which the gateway passes on while it arrives
                if not self.received.endswith(b"\r\n0\r\n\r\n"):
                    return
                whole = len(self.received)
            else:
                length = LENGTH.search(head)
                whole = end + 4 + (int(length[1]) if length else 0)
                if len(self.received) < whole:
                    return
            start = bytes(self.received[end + 4 : min(whole, end + 1024)])
            del self.received[:whole]
            self.answer(head.split(b" ", 2)[1].rpartition(b"/")[2], start)
            end = self.received.find(b"\r\n\r\n", 0, 16384)

    def answer(self, name: bytes, body: bytes) -> None:
        """Sends the answer to a request: a stream if its body asks for one, else the fixed answer of its path.

        `name` is the last segment of the path; `body` is the beginning of the body.
        """
        pace = PACE.search(body)
        if pace:
            shape = (SPACED_STREAMS if pace[3] else STREAMS)[name]
            self.streaming = asyncio.create_task(self.stream(shape, int(pace[1]), 1 / float(pace[2])))
        else:
            answer = ANSWERS.get(name, COMPLETION)
            self.transport.write(HEAD % len(answer) + answer)

    async def stream(self, shape: Shape, events: int, pause: float) -> None:
        """Sends a streamed answer of `events` events, one every `pause` seconds.

        The events `first` of `shape` are sent before these, and the events `last` after them.
        """
        self.transport.write(STREAM_HEAD)
        for event in shape.first:
            self.write(event)
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in range(events):
            await asyncio.sleep(start + number * pause - loop.time())
            self.write(shape.each % time.monotonic_ns())
        for event in shape.last:
            self.write(event)
        self.transport.write(b"0\r\n\r\n")

    def write(self, event: bytes) -> None:
        """Sends one event to the client, as a chunk of its own."""
        self.transport.write(b"%x\r\n%s\r\n" % (len(event), event))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    print(f"upstream on {port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
