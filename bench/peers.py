"""`make bench-peers`: compares the cost of a call and of an event in other gateways, B (empty view) and chatproxy.

All are measured in turns, in the same run. B is an empty Django view.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from bench.measures import calls, events
from bench.measures.calls import Subject
from bench.reporting import results
from bench.reporting.names import CHAT, EMPTY, FEW_STREAMS, MANY_STREAMS
from bench.stand import nginx
from bench.stand.peers.ferrogw import ferrogw
from bench.stand.peers.litellm import litellm
from bench.stand.peers.peer_process import version
from bench.stand.peers.smg import smg
from bench.stand.processes import allow_many_sockets
from bench.stand.requests import plain
from bench.stand.stand import stand, yardstick

EMBEDDINGS = "/v1/embeddings"
PACKAGES = ("litellm", "openai", "smg", "ferrogw")
SLOW_CALLS = 100
SLOW_STREAMS = 10  # with 200, LiteLLM is too slow for single events, and relays several at a time


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    count = parser.parse_args().rounds
    allow_many_sockets()
    start = results.surroundings()
    versions = {package: version(package) for package in PACKAGES}
    results.note("peers", start, peer_versions=versions, calls=calls_of_all(count), events=events_of_all(count))


def calls_of_all(count: int) -> list[dict[str, Any]]:
    """Measures in `count` rounds the cost of a call in an empty Django view (B), other gateways and chatproxy.

    Returns a line of figures for each of them, for the results file.
    """
    with ExitStack() as running:
        url = running.enter_context(nginx.answering())
        b, slow, *fast = (running.enter_context(one) for one in (yardstick(), litellm(url), smg(url), ferrogw(url)))
        it = running.enter_context(stand(url))
        subjects = [Subject(b, EMPTY, plain(CHAT, ""))]
        subjects += [Subject(server, CHAT, plain(CHAT, server.key)) for server in fast]
        for path in (CHAT, EMBEDDINGS):
            subjects.append(Subject(slow, path, plain(path, slow.key), calls=SLOW_CALLS))
            subjects.append(Subject(it.server, path, plain(path, it.server.key), it))
        return list(calls.lines(subjects, count))


def events_of_all(count: int) -> list[dict[str, Any]]:
    """Measures in `count` rounds the cost of relaying an event of a stream in other gateways and chatproxy.

    Returns a line of figures for each of them, for the results file. LiteLLM is measured with few streams; chatproxy
    with few and with many.
    """
    with ExitStack() as running:
        it = running.enter_context(stand())
        b = running.enter_context(yardstick())
        slow, *fast = (running.enter_context(one(it.upstream)) for one in (litellm, smg, ferrogw))
        subjects = [
            *(events.Subject(server, CHAT, CHAT + FEW_STREAMS, streams=SLOW_STREAMS) for server in (slow, it.server)),
            *(events.Subject(server, CHAT, CHAT + MANY_STREAMS) for server in (*fast, it.server)),
        ]
        return list(events.lines(b, subjects, count))


if __name__ == "__main__":
    main()
