"""The measures: which lines and figures they write into the results, out of what servers show."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from uuid_utils import uuid7

from bench.ledger import shipper
from bench.ledger.shipper import Speed
from bench.measures import calls, events, latency, workers
from bench.measures.calls import Cost, Subject
from bench.measures.workers import Turn
from bench.reporting.names import CHAT, EMPTY, SPACED
from bench.stand.load import Asked
from bench.stand.peers import peer_process
from bench.stand.peers.peer_process import peer
from bench.stand.requests import plain
from bench.stand.stand import Server, upstream
from tests.chaos.processes import is_alive
from tests.support.servers.gateway import free_port
from usage.kept_bodies.body_excerpts import truncate

PROGRAM = """#!{python}
import http.server, os, subprocess, sys
http.server.SimpleHTTPRequestHandler.log_message = lambda *_: None
subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
open("health", "w").write(os.environ["WORD"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that answers at once, and whose CPU is this process's."""
    with upstream() as url:
        yield Server("B", url, root=os.getpid())


def test_a_server_is_all_its_processes_that_are_alive_now(server: Server) -> None:
    before = server.pids
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert set(server.pids) == {*before, process.pid}

    assert set(server.pids) == set(before)
    assert Server("direct", server.url).pids == []


def test_calls_have_a_cost_and_latencies(server: Server) -> None:
    subjects = [Subject(server, what, plain(CHAT, ""), calls=20, connections=2) for what in ("a", "b")]

    first, second = calls.lines(subjects, count=2)

    assert (first["server"], first["what"], second["what"]) == ("B", "a", "b")
    assert set(first["rounds"]) == set(Cost._fields)
    assert all(len(values) == 2 for values in first["rounds"].values())
    assert 0 < first["p50"] <= first["p99"]
    assert first["postgres_ms"] == 0 < first["cpu_ms"]


def test_events_stand_beside_a_call_of_b_in_the_same_rounds(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "CALLS_OF_B", 20)
    subjects = [one._replace(streams=4) for one in events.subjects_of(server, (CHAT, SPACED))]

    b, *lines = events.lines(server, subjects, count=1, seconds=0.2)

    assert [(one.path, one.is_spaced) for one in subjects] == [(CHAT, False), (CHAT, True)]
    assert [(one["server"], one["what"]) for one in (b, *lines)] == [("B", EMPTY), ("B", CHAT), ("B", SPACED)]
    assert all(len(one["rounds"]["cpu_us"]) == 1 for one in (b, *lines))
    assert all(one["events_per_second"] > 0 for one in (b, *lines))


def test_latency_is_the_first_targets_own_and_what_the_others_add(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def open_loop(targets: list[Asked], _rate: float, _seconds: float) -> list[list[float]]:
        made.append(len(targets))
        return [[1.0 + 2.0 * number] * 10 for number in range(len(targets))]

    monkeypatch.setattr(latency, "open_loop", open_loop)
    asked = Asked(server.url, plain(CHAT, ""))
    groups = {CHAT: {"direct": asked, "nginx": asked, "chatproxy": asked}, EMPTY: {"direct": asked, "B": asked}}

    lines = list(latency.lines(groups, count=2, seconds=1))

    assert made == [3, 2, 2, 3]
    assert [(one["what"], one["server"], one["p99"], one["rounds"]["p50"]) for one in lines] == [
        (CHAT, "direct", 1, [1, 1]),
        (CHAT, "nginx", 2, [2, 2]),
        (CHAT, "chatproxy", 4, [4, 4]),
        (EMPTY, "direct", 1, [1, 1]),
        (EMPTY, "B", 2, [2, 2]),
    ]


def test_two_workers_are_compared_by_clock_cpu_share_and_memory() -> None:
    one, two = Turn(Cost(1000, 0.8, 0, 1, 2), [0.8]), Turn(Cost(1700, 1.0, 0, 1, 2), [0.6, 0.4])

    assert workers.compared(one, two, 55.0) == (1.7, 1.6, 0.6, 55.0)


def test_bodies_of_the_bench_say_how_much_of_them_is_missing() -> None:
    """As those that the ledger has cut; else pages and searches would be measured with others."""
    chance, are_cut = random.Random(1), set()
    for _ in range(200):
        _, end = shipper.records(str(uuid7()), datetime.now(UTC), chance)
        for part in ("request", "response"):
            body, size = end[f"{part}_body"], end[f"{part}_bytes"]
            start, _, remark = body.partition("…")
            are_cut.add(bool(remark))
            assert body == truncate(start.encode() + b"x" * (size - len(start)), shipper.KEPT_BYTES, 0)
    assert are_cut == {False, True}


def test_speeds_of_shipping_come_from_a_process_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Speed(5000.0, 6000.0, 0.4)

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[-5:] == ["--calls", "20", "--rounds", "2", "--json"]
        return subprocess.CompletedProcess(command, 0, stdout=f"words\n{json.dumps([speed, speed])}\n")

    monkeypatch.setattr(subprocess, "run", run)

    assert shipper.speeds(20, 2) == [speed, speed]


def test_a_peer_runs_until_the_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gateway"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o700)
    monkeypatch.setattr(peer_process, "BIN", tmp_path)
    port = free_port()

    with peer(Server("a", f"http://127.0.0.1:{port}", "key"), "/health", ["gateway", str(port)], {"WORD": "x"}) as it:
        assert (it.name, it.key, len(it.pids)) == ("a", "key", 2)
        assert is_alive(it.pids[0])

    assert it.root is not None
    assert not is_alive(it.root)
