"""The benchmarks' own parts: what they count, compare and write. What they find is not tested here."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bench import short, turns
from bench.hostility.attacks import MANY_ADDRESSES, Attack, Pieces, head, key_holders, strangers, with_body
from bench.hostility.good_calls import measure
from bench.hostility.run import Row
from bench.hostility.stranger import Stranger
from bench.reporting import report, results
from bench.stand.load import Asked, closed_loop, open_loop
from bench.stand.processes import children, cpu, family, memory
from bench.stand.requests import BODIES, STREAMS, image, plain, post, streamed, upload
from bench.stand.stand import upstream
from bench.stand.streams import count_events, quantile, streams
from bench.turns import Turns


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with upstream() as found:
        yield found


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """Of a server that refuses everything."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "request_bytes",
    [
        plain("/v1/chat/completions", "key"),
        plain("/v1/embeddings", "key"),
        image("/v1/chat/completions", "key", size=100_096),
        upload("/v1/audio/transcriptions", "key", size=100_096),
    ],
    ids=["chat", "embedding", "image", "upload"],
)
def test_closed_loop_ends_with_its_last_answer(url: str, request_bytes: bytes) -> None:
    answers = closed_loop(Asked(url, request_bytes), calls=40, connections=3)

    assert len(answers.milliseconds) == 40
    assert 0 < min(answers.milliseconds) <= max(answers.milliseconds) <= answers.seconds * 1000


def test_open_loop_times_every_call(url: str) -> None:
    target = Asked(url, plain("/v1/chat/completions", "key"))

    found = open_loop([target, target], rate=100, seconds=0.2)

    assert [len(latencies) for latencies in found] == [20, 20]
    assert all(latency > 0 for latencies in found for latency in latencies)


@pytest.mark.parametrize("is_spaced", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_stream_counts_every_event(url: str, path: str, is_spaced: bool) -> None:
    async def run() -> int:
        asked = Asked(url, streamed(path, "key", events=7, rate=100, is_spaced=is_spaced))
        async with streams(asked, count=5, ramp=0.1) as opened:
            await asyncio.gather(*(stream.ended for stream in opened))
            return count_events(opened)

    assert uvloop.run(run()) == 35


def test_an_answer_that_is_no_success_ends_the_run(refusing_url: str) -> None:
    refused = Asked(refusing_url, post("/v1/chat/completions", "key", b"{}"))

    with pytest.raises(SystemExit, match=r"a call failed: answered .* 404 "):
        closed_loop(refused, calls=1)


def test_quantiles() -> None:
    values = [float(number) for number in range(101)]

    assert [quantile(values, share) for share in (0, 0.5, 0.99, 1)] == [0, 50, 99, 100]


def test_the_clock_of_a_process_is_its_cpu_time() -> None:
    before = time.process_time()
    found = cpu(os.getpid())

    assert before <= found <= time.process_time()


def test_family_is_a_process_and_its_children(url: str) -> None:
    assert set(children(os.getpid())) < set(family(os.getpid()))
    assert memory([os.getpid()]) > 1


def test_page_of_results_is_what_its_data_and_notes_say() -> None:
    assert results.PAGE.read_text() == results.page()


def test_every_cost_is_recorded() -> None:
    assert set(json.loads(short.RECORDED.read_text())) == {*short.PATHS, short.EVENT}
    assert {*short.PATHS} <= {*BODIES}
    assert short.PATHS[0] in STREAMS


@pytest.mark.parametrize(
    ("runs", "code"),
    [([1.24], 0), ([1.26, 1.24], 0), ([1.26, 1.27, 1.24], 0), ([1.26, 1.27, 1.28], 1)],
    ids=["within", "once too dear", "twice too dear", "always too dear"],
)
def test_short_form_fails_when_a_cost_is_always_too_dear(
    runs: list[float], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads(short.RECORDED.read_text())
    factors = iter(runs)
    monkeypatch.setattr(sys, "argv", ["short"])
    monkeypatch.setattr(short, "allow_many_sockets", lambda: None)
    monkeypatch.setattr(short, "measure", lambda: {**recorded, "/openai": recorded["/openai"] * next(factors)})

    with pytest.raises(SystemExit) as exit_:
        short.main()

    assert exit_.value.code == code
    assert list(factors) == []
    assert ("/openai costs" in capsys.readouterr().err) == bool(code)


def test_turns_compare_the_costs_of_the_same_round() -> None:
    noisy = Turns("a call", "ms", other=[1.0, 2.0, 4.0], this=[1.1, 2.2, 3.0])

    assert noisy.ratio == pytest.approx(1.1)
    assert noisy.ratio_of_cheapest == pytest.approx(1.1)
    assert turns.table([noisy])[1].split() == [
        "a",
        "call",
        "2.000",
        "ms",
        "2.200",
        "ms",
        *["1.100", "0.750", "to", "1.100", "1.100"],
    ]


@pytest.mark.parametrize(("most", "code"), [("1.2", 0), ("1.05", 1)])
def test_turns_fail_when_the_ratio_is_above_what_is_allowed(
    most: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["turns", ".", "--most", most])
    monkeypatch.setattr(turns, "allow_many_sockets", lambda: None)
    monkeypatch.setattr(turns, "compare", lambda *_: [Turns("a call", "ms", [1.0], [1.1])])

    with pytest.raises(SystemExit) as exit_:
        turns.main()

    assert exit_.value.code == code


def test_turns_refuse_a_directory_that_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["turns", str(tmp_path)])

    with pytest.raises(SystemExit) as exit_:
        turns.main()

    assert exit_.value.code == 2
    assert "is no checkout" in capsys.readouterr().err


SLOWED: dict[str, Any] = {
    **{
        "name": "a",
        "quiet_rate": 100,
        "rate": 80,
        "quiet_p50": 1,
        "p50": 2,
        "quiet_p99": 3,
        "p99": 11,
        "failed": 0,
        "share": 0.1,
    },
    **{"before": 10**8, "peak": 199_999_999, "after": 10**8, "by_design": 0, "disk": 0, "descriptors": 9},
    "attacker": {"bytes_per_second": 12_500_000, "cpu_percent": 3.0},
}


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"rate": 79}, ["rate"]),
        ({"p99": 12}, ["p99"]),
        ({"peak": 2 * 10**8}, ["memory"]),
        ({"peak": 3 * 10**8, "by_design": 128 * 1024 * 1024}, []),
        ({"disk": 20_000_000}, ["disk"]),
        ({"failed": 1}, ["failed calls"]),
    ],
    ids=["held", "rate", "p99", "memory", "by design", "disk", "failed"],
)
def test_an_attack_is_held_when_good_calls_hardly_feel_it(change: dict[str, Any], missed: list[str]) -> None:
    row = Row(**{**SLOWED, **change})

    assert row.faults() == missed
    lines = [{**row._asdict(), "missed": missed}]
    text = "\n".join(report.hostility({"strangers": lines, "key_holders": []}))
    assert ("held |" in text) == (not missed)


@pytest.mark.parametrize("attack", [*strangers(), *key_holders("key")], ids=lambda attack: attack.name)
def test_an_attack_has_what_its_requests_announce(attack: Attack) -> None:
    assert 1 <= attack.addresses <= MANY_ADDRESSES
    for pieces in attack.requests:
        first, _, rest = b"".join(pieces[:2]).partition(b"\r\n\r\n")
        announced = [line for line in first.split(b"\r\n") if line.lower().startswith(b"content-length: ")]
        sent = sum(map(len, pieces)) - len(first) - 4
        if b"chunked" not in first and announced and attack.then != "hold":
            assert sent == int(announced[0].split()[1]), rest[:100]


@pytest.mark.parametrize("then", ["again", "same", "hold", "stay"])
def test_a_stranger_sends_on_every_connection_until_its_time_is_over(url: str, then: Any) -> None:
    requests: tuple[Pieces, ...] = (with_body("POST", "/v1/chat/completions", b"{}"), (head("POST", "/"),))

    said = uvloop.run(Stranger(Attack("a", requests, connections=3, then=then, addresses=2), url).run(0.3))

    assert said["connections"] >= 3
    assert said["answers"]["200"] >= 3
    assert (said["connections"] > 3) == (then == "again")


def test_good_calls_that_fail_are_counted(url: str, refusing_url: str) -> None:
    good = measure(Asked(url, plain("/v1/chat/completions", "key")), seconds=0.4)
    refused = measure(Asked(refusing_url, plain("/v1/chat/completions", "key")), seconds=0.4)

    assert (good.failed, refused.calls_per_second) == (0, 0)
    assert good.calls_per_second > 0
    assert 0 < good.p50 <= good.p99
    assert refused.failed >= 20
