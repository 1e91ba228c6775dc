"""`make bench`: measures the gateway, and beside it nginx and an empty Django view, in a few minutes.

`bench.peers` measures other gateways. `bench.ledger.growth` measures calls over a large ledger; this command runs it
only with `--rows`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from bench.ledger import growth
from bench.measures import crowd, events, footprint, latency, workers
from bench.measures.calls import Subject, middle, rounds
from bench.measures.events import EventCost
from bench.reporting import results
from bench.reporting.goals import CHAT, SPACED
from bench.stand import nginx
from bench.stand.load import Asked
from bench.stand.processes import allow_many_sockets
from bench.stand.requests import image, plain, upload
from bench.stand.stand import Server, Stand, stand, yardstick

EMBEDDINGS, TRANSCRIPTIONS = "/v1/embeddings", "/v1/audio/transcriptions"
FACES = (CHAT, "/openai", "/embeddings", EMBEDDINGS)
STREAMS = (CHAT, SPACED, "/openai2")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--rows", type=int, help="measure over a ledger of so many calls too; 5000000 take many minutes"
    )
    arguments = parser.parse_args()
    allow_many_sockets()
    start = results.surroundings()
    figures = {**of_answers(arguments.rounds), **of_streams(arguments.rounds)}
    say("a second worker")
    with nginx.answering() as url:
        scaling = workers.measure(url, arguments.rounds)
    figures["workers"] = {"by_clock": scaling.by_clock, "by_cpu": scaling.by_cpu, "share": scaling.share}
    results.note("bench", start, **figures)
    if arguments.rows:
        say("a growing ledger")
        growth.run(arguments.rows, arguments.rounds)
    say("bench/RESULTS.md is written")


def of_answers(count: int) -> dict[str, Any]:
    """Runs the benchmarks of calls whose answers are not streamed; returns the figures by name for the results file.

    The upstream is nginx, which answers faster than any server in Python. Calls are measured in `count` rounds.
    """
    with nginx.answering() as url, nginx.passing_on(url) as (limit, pid), yardstick() as b, stand(url) as it:
        direct, proxy = Server("direct", url, "", []), Server("nginx", limit, "", [pid])
        say("an idle server")
        idle = footprint.idle(it, seconds=20)
        say("plain calls")
        subjects = [Subject(server, path, plain(path, "")) for server in (direct, proxy) for path in (CHAT, EMBEDDINGS)]
        subjects.append(Subject(b, "empty view", plain(CHAT, "")))
        subjects += [Subject(it.server, path, plain(path, it.server.key), it) for path in FACES]
        calls = list(costs(subjects, count))
        say("added latency")
        late = [line for path in (CHAT, "/openai", "/embeddings") for line in added_latency(path, url, limit, it)]
        # B is measured separately, because its server shares a core with the other servers.
        late += latencies({"direct": Asked(url, plain(CHAT, "")), "B": Asked(b.url, plain(CHAT, ""))}, "empty view")
        say("an hour of calls")
        return {
            "idle": idle._asdict(),
            "calls": calls,
            "b_ms": next(line["cpu_ms"] for line in calls if line["server"] == "B"),
            "latency": late,
            "after_calls": footprint.after_calls(it)._asdict(),
        }


def of_streams(count: int) -> dict[str, Any]:
    """Runs the benchmarks of streams and of large request bodies; returns the figures by name for the results file.

    The upstream is `bench.stand.upstream`, because nginx cannot stream events, nor does it read a large body before it
    answers. Large bodies are measured in `count` rounds, events in half as many.
    """
    with stand() as it, nginx.passing_on(it.upstream) as (limit, pid):
        direct, proxy = Server("direct", it.upstream, "", []), Server("nginx", limit, "", [pid])
        say("idle streams")
        open_streams = footprint.open_streams(it.server, CHAT)
        say("events")
        relayed = events_of([(proxy, CHAT), *((it.server, path) for path in STREAMS)], max(count // 2, 1))
        say("very many streams")
        crowds = [
            {"server": server.name, "what": CHAT, **crowd.measure(server, CHAT)._asdict()}
            for server in (direct, it.server)
        ]
        say("large bodies")
        subjects: list[Subject] = []
        for server in (direct, proxy, it.server):
            ledger = it if server is it.server else None
            subjects += [
                Subject(server, f"{CHAT}, 5 MB image", image(CHAT, server.key), ledger, calls=40, connections=4),
                Subject(server, f"{TRANSCRIPTIONS}, 20 MB", upload(TRANSCRIPTIONS, server.key), ledger, 12, 4),
            ]
        return {
            "open_streams": open_streams._asdict(),
            "events": relayed,
            "crowds": crowds,
            "large": list(costs(subjects, count)),
        }


def costs(subjects: list[Subject], count: int) -> Iterator[dict[str, Any]]:
    """Measures in `count` rounds what a call costs each of the servers in `subjects`.

    Yields a line for the results file for each, with the medians of the rounds.
    """
    for subject, found in zip(subjects, rounds(subjects, count), strict=True):
        yield {"server": subject.server.name, "what": subject.what, **middle(found)._asdict()}


def events_of(subjects: Sequence[tuple[Server, str]], count: int) -> list[dict[str, Any]]:
    """Measures in `count` rounds what relaying one event of a stream costs, on each server and path in `subjects`.

    `SPACED` stands for the path `CHAT` with an upstream that writes JSON with spaces. Returns a line for the results
    file for each, with the medians of the rounds.
    """

    def measure(server: Server, what: str) -> list[EventCost]:
        is_spaced = what == SPACED
        return events.measure(server, CHAT if is_spaced else what, seconds=2, slices=2, is_spaced=is_spaced)

    found = [[measure(*subject) for subject in subjects] for _ in range(count)]
    return [
        {"server": server.name, "what": what, **events.middle([cost for one in costs for cost in one])._asdict()}
        for (server, what), costs in zip(subjects, zip(*found, strict=True), strict=True)
    ]


def added_latency(path: str, url: str, limit: str, it: Stand) -> Iterator[dict[str, Any]]:
    """Measures how long a call takes directly, through nginx and through the gateway.

    Yields a line for the results file for each of the three.
    """
    upstream_path = CHAT if path == "/openai" else EMBEDDINGS if path == "/embeddings" else path
    direct = Asked(url, plain(upstream_path, ""))
    through = Asked(it.server.url, plain(path, it.server.key))
    yield from latencies({"direct": direct, "nginx": Asked(limit, direct.request), it.server.name: through}, path)


def latencies(targets: dict[str, Asked], what: str) -> Iterator[dict[str, Any]]:
    """Measures how long a call takes on each target, in turns, and yields a line for the results file for each.

    The line of the first target has its latency; that of every other target has what it adds to the first one's.
    """
    direct, *others = targets.values()
    for name, found in zip(targets, latency.measure(direct, others, seconds=20), strict=True):
        yield {"server": name, "what": what, **found._asdict()}


def say(what: str) -> None:
    """Prints that the measure `what` begins now."""
    print(f"… {what}", flush=True)


if __name__ == "__main__":
    main()
