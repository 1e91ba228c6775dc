"""An upstream as fast as Python can be, for benchmarks only: `python -m bench.upstream PORT`.

It answers every POST with one chat completion. One whose body asks for a stream gets `events` chunks, `rate` a
second, by the query (`?events=100&rate=10`), each with the time at which it was written in its `content`.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import Any
from urllib.parse import parse_qs

import uvloop

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
USAGE = b'{"prompt_tokens":12,"completion_tokens":40,"total_tokens":52}'
COMPLETION = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini-2024-07-18",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"' + b"word " * 40 + b'","refusal":null},'
    b'"logprobs":null,"finish_reason":"stop"}],"usage":' + USAGE + b',"service_tier":"default"}'
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(COMPLETION), COMPLETION)
)
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
DONE = b"data: [DONE]\n\n"


class Upstream(asyncio.Protocol):
    """One connection; requests come one after the other, as every client of ours sends them."""

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
        end = self.received.find(b"\r\n\r\n")
        while end >= 0:
            head = bytes(self.received[:end])
            length = LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.received) < whole:
                return
            body = bytes(self.received[end + 4 : whole])
            del self.received[:whole]
            if b'"stream":true' in body:
                self.streaming = asyncio.create_task(self.stream(head))
            else:
                self.transport.write(ANSWER)
            end = self.received.find(b"\r\n\r\n")

    async def stream(self, head: bytes) -> None:
        target = head.split(b" ", 2)[1].decode()
        query = parse_qs(target.partition("?")[2])
        events, pause = int(query["events"][0]), 1 / float(query["rate"][0])
        self.transport.write(STREAM_HEAD)
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in range(events):
            await asyncio.sleep(start + number * pause - loop.time())
            self.write(CHUNK % time.monotonic_ns())
        self.write(LAST)
        self.write(DONE)
        self.transport.write(b"0\r\n\r\n")

    def write(self, event: bytes) -> None:
        self.transport.write(b"%x\r\n%s\r\n" % (len(event), event))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    print(f"upstream on {port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
