"""`make bench-peers`: what a call and an event cost LiteLLM, beside B (an empty Django view) and chatproxy.

All are measured in the same run.
"""

from __future__ import annotations

import argparse
from typing import Any

from bench.measures import events
from bench.measures.calls import Subject, middle, rounds
from bench.reporting import results
from bench.stand import nginx
from bench.stand.litellm import litellm, versions
from bench.stand.processes import allow_many_sockets
from bench.stand.requests import plain
from bench.stand.stand import Server, stand, yardstick

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
CALLS, SLOW_CALLS = 1000, 100
SLOW_STREAMS = 10  # with 200, LiteLLM is too slow for single events, and relays several at a time


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    allow_many_sockets()
    start = results.surroundings()
    results.note("peers", start, peer_versions=versions(), **calls(arguments.rounds), events=streams())


def calls(count: int) -> dict[str, Any]:
    """Measures in turns what a call costs B (an empty Django view), LiteLLM and chatproxy.

    Returns the figures by name for the results file.
    """
    with nginx.answering() as url, yardstick() as b, litellm(url) as peer, stand(url) as it:
        subjects = [Subject(b, "empty view", plain(CHAT, ""), calls=CALLS)]
        for path in (CHAT, EMBEDDINGS):
            subjects.append(Subject(peer, path, plain(path, peer.key), calls=SLOW_CALLS))
            subjects.append(Subject(it.server, path, plain(path, it.server.key), it, CALLS))
        found = [middle(costs) for costs in rounds(subjects, count)]
    lines = [
        {"server": subject.server.name, "what": subject.what, **cost._asdict()}
        for subject, cost in zip(subjects, found, strict=True)
    ]
    return {"b_ms": found[0].cpu_ms, "calls": lines}


def streams() -> list[dict[str, Any]]:
    """Measures what relaying an event costs LiteLLM and chatproxy, each on 10 streams.

    Measures chatproxy on 200 streams as well. Returns a line for the results file for each of the three.
    """
    with stand() as it, litellm(it.upstream) as peer:
        return [
            event_line(peer, SLOW_STREAMS),
            event_line(it.server, SLOW_STREAMS),
            event_line(it.server, events.STREAMS),
        ]


def event_line(server: Server, count: int) -> dict[str, Any]:
    """Measures what relaying an event costs `server`, on `count` streams at once.

    Returns a line for the results file.
    """
    cost = events.middle(events.measure(server, CHAT, seconds=2, slices=5, count=count))
    return {"server": server.name, "what": f"{CHAT}, {count} streams", **cost._asdict()}


if __name__ == "__main__":
    main()
