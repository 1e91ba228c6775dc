"""How much later a stream's events arrive through the gateway: `python -m bench.stream_delay [--streams 100]`.

Each event carries the time at which upstream wrote it; the delay is to the moment at which a client has read it.
Direct and through the gateway, in one run, with the same client: the difference is the gateway's.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from urllib.parse import urlsplit

import uvloop

from bench.stand import stand
from tests.gateway import SECURITY_KEY

BODY = b'{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"hi"}]}'
STAMP = re.compile(rb'"content":"(\d+)"')


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stream_delay", description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--rate", type=float, default=10.0, help="events a second on each stream")
    arguments = parser.parse_args()
    with stand(MAX_PARALLEL_REQUESTS="10000") as bench:
        for name, url in (("direct", bench.upstream), ("gateway", bench.gateway.url)) * 2:
            first, later = uvloop.run(run(url, arguments.streams, arguments.events, arguments.rate))
            print(f"{name:8} first event ms: {quantiles(first)}   later events ms: {quantiles(later)}")


def quantiles(delays: list[float]) -> str:
    ordered = sorted(delays)
    return "  ".join(f"p{share:g} {ordered[int((len(ordered) - 1) * share / 100)]:.2f}" for share in (50, 95, 99))


async def run(url: str, streams: int, events: int, rate: float) -> tuple[list[float], list[float]]:
    """The delays of the first events and of all later ones, in milliseconds; the streams start over one second."""
    readers = [read_stream(url, events, rate, number / streams) for number in range(streams)]
    delays = await asyncio.gather(*readers)
    return [one[0] for one in delays], [delay for one in delays for delay in one[1:]]


async def read_stream(url: str, events: int, rate: float, wait: float) -> list[float]:
    await asyncio.sleep(wait)
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"POST /v1/chat/completions?events={events}&rate={rate} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
        f"Authorization: Bearer {SECURITY_KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    writer.write(head.encode() + BODY)
    delays: list[float] = []
    while len(delays) < events:
        data = await reader.read(65536)
        now = time.monotonic_ns()
        if not data:
            raise SystemExit(f"a stream ended after {len(delays)} of {events} events")
        delays += [(now - int(stamp)) / 1e6 for stamp in STAMP.findall(data)]
    writer.close()
    return delays


if __name__ == "__main__":
    main()
