"""`make bench`: measures the gateway and, for comparison, nginx and an empty Django view, in about twelve minutes.

`bench.peers` measures other gateways. `bench.ledger.growth` measures calls over a large ledger; this command runs it
only with `--rows`. With fewer rounds than `bench.reporting.goals.ENOUGH`, no goal is judged.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.ledger import backlog, growth, shipper
from bench.measures import calls, crowd, events, footprint, latency, workers
from bench.measures.calls import Subject
from bench.measures.rounds import figures, line
from bench.reporting import results
from bench.reporting.names import (
    BUDGETS,
    BUILT_IN,
    CHAT,
    CROWDED,
    EMPTY,
    FORM,
    IMAGE,
    ONE_AT_A_TIME,
    SIMPLE_CHAT,
    SIMPLE_RESPONSES,
    SIMPLE_TRANSCRIPTIONS,
    SPACED,
    TRANSCRIPTIONS,
)
from bench.stand import nginx
from bench.stand.load import Asked
from bench.stand.processes import SERVER_CORE, allow_many_sockets, pinned
from bench.stand.requests import image, plain, upload
from bench.stand.stand import LIMITS_NOT_REACHED, Server, Stand, gateway_on, stand, upstream, yardstick
from chatproxy.postgres.bundled import BundledPostgres
from tests.support.servers.gateway import SECURITY_KEY

EMBEDDINGS = "/v1/embeddings"
FACES = (CHAT, SIMPLE_CHAT, "/embeddings", EMBEDDINGS)
STREAMS = (CHAT, SPACED, SIMPLE_RESPONSES)
IDLE_SECONDS, LATENCY_SECONDS = 5.0, 5.0
SHIPPED = 20_000  # rows of a round
STARTED = time.monotonic()
BUDGETS_NOT_REACHED = ("--budget-day", "1000000", "--budget-month", "1000000", "--budget-total", "1000000")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--rows", type=int, help="measure over a ledger of so many calls too; 5000000 take many minutes"
    )
    arguments = parser.parse_args()
    allow_many_sockets()
    count = arguments.rounds
    start = results.surroundings()
    found = {**of_answers(count), **of_streams(count), **of_fresh_gateways(count)}
    say("a second worker")
    with nginx.answering() as url:
        found["workers"] = workers.measure(url, count)
    results.note("bench", start, **found, **of_shipping(count))
    if arguments.rows:
        say("a growing ledger")
        growth.run(arguments.rows, count)
    say("bench/RESULTS.md is written")


def of_answers(count: int) -> dict[str, Any]:
    """Runs the benchmarks of calls with unstreamed answers; returns the figures for the results file, by name.

    The upstream is nginx, which answers faster than any server in Python. Everything is measured in `count` rounds,
    except memory after many calls, which is measured once.
    """
    with nginx.answering() as url, nginx.passing_on(url) as proxy, yardstick() as b, stand(url) as it:
        direct = Server("direct", url)
        say("an idle server")
        idle = [footprint.idle(it, IDLE_SECONDS) for _ in range(count)]
        say("plain calls")
        subjects = [Subject(server, path, plain(path, "")) for server in (direct, proxy) for path in (CHAT, EMBEDDINGS)]
        subjects.append(Subject(b, EMPTY, plain(CHAT, "")))
        subjects += [Subject(it.server, path, plain(path, it.server.key), it) for path in FACES]
        subjects.append(Subject(it.server, CROWDED, plain(CHAT, it.server.key), it, calls=2000, connections=64))
        plain_calls = list(calls.lines(subjects, count))
        say("keys")
        keys = list(calls.lines(keys_of(it), count))
        say("added latency")
        late = list(latency.lines(delays(url, proxy, b, it), count, LATENCY_SECONDS))
        say("an hour of calls")
        return {
            "idle": figures(idle),
            "calls": plain_calls,
            "keys": keys,
            "latency": late,
            "after_calls": footprint.after_calls(it)._asdict(),
        }


def keys_of(it: Stand) -> list[Subject]:
    """Returns the calls for a comparison of two keys: the built-in one, and a new one with limits and three budgets.

    The limits and budgets are never reached. With each key, calls are made many at once and one at a time.
    """
    keys = {BUILT_IN: SECURITY_KEY, BUDGETS: it.gateway.make_key("budgets", *LIMITS_NOT_REACHED, *BUDGETS_NOT_REACHED)}
    return [
        subject
        for what, key in keys.items()
        for subject in (
            Subject(it.server, what, plain(CHAT, key), it),
            Subject(it.server, what + ONE_AT_A_TIME, plain(CHAT, key), it, calls=300, connections=1),
        )
    ]


def delays(url: str, proxy: Server, b: Server, it: Stand) -> dict[str, dict[str, Asked]]:
    """Returns the servers and requests for measuring the latency that nginx, the gateway and B add.

    Nginx and the gateway are called on two paths. B is an empty Django view; it is measured separately in each round,
    because its server shares a core with the other servers.
    """
    direct = Asked(url, plain(CHAT, ""))
    passed = {"direct": direct, "nginx": Asked(proxy.url, direct.request)}
    key = it.server.key
    groups = {path: {**passed, it.server.name: Asked(it.server.url, plain(path, key))} for path in (CHAT, SIMPLE_CHAT)}
    return {**groups, EMPTY: {"direct": direct, b.name: Asked(b.url, direct.request)}}


def of_streams(count: int) -> dict[str, Any]:
    """Runs the benchmarks of events and of large request bodies in `count` rounds; returns the figures by name.

    The upstream is `bench.stand.upstream`, because nginx cannot stream events, nor does it read a large body before it
    answers.
    """
    with stand() as it, yardstick() as b, nginx.passing_on(it.upstream) as proxy:
        direct = Server("direct", it.upstream)
        say("events")
        streams = [*events.subjects_of(proxy, (CHAT,)), *events.subjects_of(it.server, STREAMS)]
        relayed = list(events.lines(b, streams, count))
        say("large bodies")
        paths = [(direct, CHAT, TRANSCRIPTIONS), (proxy, CHAT, TRANSCRIPTIONS), (it.server, CHAT, TRANSCRIPTIONS)]
        subjects: list[Subject] = []
        for server, chat, transcriptions in [*paths, (it.server, SIMPLE_CHAT, SIMPLE_TRANSCRIPTIONS)]:
            ledger = it if server is it.server else None
            subjects += [
                Subject(server, chat + IMAGE, image(chat, server.key), ledger, calls=40, connections=4),
                Subject(server, transcriptions + FORM, upload(transcriptions, server.key), ledger, 12, 4),
            ]
        return {"events": relayed, "large": list(calls.lines(subjects, count))}


def of_fresh_gateways(count: int) -> dict[str, Any]:
    """Runs the benchmarks of very many streams in `count` rounds; returns the figures for the results file, by name.

    Each round has a new gateway, because one that has had many streams open before already has the memory for them.
    """
    opened, crowds = [], []
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name, pinned(SERVER_CORE), upstream() as url:
        postgres = BundledPostgres(Path(name))
        postgres.start()
        try:
            say("very many streams")
            alone = [crowd.measure(Server("direct", url), CHAT)]
            for _ in range(count):
                with gateway_on(url, Path(name), postgres) as it:
                    opened.append(footprint.open_streams(it.server, CHAT))
                    crowds.append(crowd.measure(it.server, CHAT))
        finally:
            postgres.stop()
            postgres.delete()
    return {
        "open_streams": figures(opened),
        "crowds": [line("direct", CHAT, alone), line("chatproxy", CHAT, crowds)],
    }


def of_shipping(count: int) -> dict[str, Any]:
    """Runs the benchmarks of the shipper, which writes records into the database, in `count` rounds.

    Returns the figures for the results file, by name.
    """
    say("shipping")
    speeds = shipper.speeds(SHIPPED, count)
    say(f"{backlog.WAITING:,} waiting calls")
    with nginx.answering() as url, stand(url) as it:
        late = [backlog.measure(it, seed=number) for number in range(count)]
    return {"shipping": figures(speeds), "backlog": figures(late)}


def say(what: str) -> None:
    """Prints that the measure `what` begins now, and how many seconds after the start of this command."""
    print(f"{time.monotonic() - STARTED:4.0f} s … {what}", flush=True)


if __name__ == "__main__":
    main()
