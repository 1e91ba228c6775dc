"""Owns the page of results: the goals first, then all figures, measure by measure, then the notes.

It is text that is made from `results.json` and `NOTES.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.reporting.goals import GOALS, Found

INTRODUCTION = """# Benchmarks

What `make bench`, `make bench-peers`, `make bench-hostility` and `python -m bench.ledger.growth` found last; the notes
at the end are by hand, from `bench/NOTES.md`. One core has the server and PostgreSQL, the other the load and upstream.
CPU is what the operating system accounts to the processes, so it depends less than calls/s on what else runs on the
machine.

**B** is the CPU of a call of Django's stock ASGI handler with an empty view (two middlewares, uvicorn-worker), in the
same run: milliseconds are this machine's, ratios to B hold on others. Ledger, authentication, limits, redaction and
metrics are on. The shipping of a call to PostgreSQL is in its CPU; PostgreSQL's own CPU has a column of its own.
"""


def render(found: Found, notes: str) -> str:
    parts = [INTRODUCTION, table(("figure", "target", "reached", ""), goal_rows(found))]
    if "bench" in found:
        parts += bench(found["bench"])
    if "growth" in found:
        parts += ["## A growing ledger", table(("rows", *CALLS[2:], "B"), growth_rows(found["growth"]["ledgers"]))]
    if "peers" in found:
        parts += peers(found["peers"])
    if "hostility" in found:
        parts += hostility(found["hostility"])
    parts += ["## Where, when, with what", table(("", *found), surroundings(found)), notes.strip()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


CALLS = ("server", "what", "calls/s", "CPU ms a call", "PostgreSQL ms", "B", "calls per CPU second")
EVENTS = ("server", "what", "events/s", "CPU µs an event", "B")


def bench(found: Found) -> Iterator[str]:
    b = found["b_ms"]
    yield f"## Whole answers\n\nB = {b:.3f} ms."
    yield table(CALLS, call_rows([*found["calls"], *found["large"]], b))
    yield (
        "## Latency at 100 calls a second\n\nMilliseconds: direct's own, and what the others add to it."
        " B, which asks no upstream, is measured by itself."
    )
    yield table(
        ("server", "what", "p50", "p95", "p99"),
        (
            [one["server"], f"`{one['what']}`", *(f"{one[p]:.2f}" for p in ("p50", "p95", "p99"))]
            for one in found["latency"]
        ),
    )
    yield "## Streams\n\n200 streams of 50 events a second, one event a chunk."
    yield table(EVENTS, event_rows(found["events"], b))
    yield "2,000 streams of 2 events a second, begun within ten seconds; milliseconds from write to read."
    yield table(
        ("server", "complete", "p50", "p99"),
        ([one["server"], f"{one['completed']:,}", f"{one['p50']:.1f}", f"{one['p99']:.1f}"] for one in found["crowds"]),
    )
    yield "## Memory, idleness, workers"
    yield table(("figure", ""), other_rows(found))


def peers(found: Found) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in found["peer_versions"].items())
    yield f"## Peers\n\n{versions}, one worker, a master key and no ledger. B = {found['b_ms']:.3f} ms."
    yield table(CALLS, call_rows(found["calls"], found["b_ms"]))
    yield table(EVENTS, event_rows(found["events"], found["b_ms"]))


HOSTILITY = (
    *(
        "attack",
        "calls/s",
        "p50 ms",
        "p99 ms",
        "worker's CPU for it",
        "failed",
        "memory, MB",
        "of it by design",
        "disk lost, MB",
    ),
    *("descriptors", "attacker, MB/s", "its CPU", ""),
)


def hostility(found: Found) -> Iterator[str]:
    yield (
        "## Hostility\n\nGood calls, quiet → attacked, medians of rounds in turns; memory of the worker, before → at"
        " its worst. The attacker has a line of 100 Mbit/s, and one core with upstream and the good caller. Held: at"
        " least 80 % of the calls a second, p99 below four times the quiet one, less than 100 MB of memory more (and"
        " what STRANGER_BYTES holds by design), the disk as it was, no call failed."
    )
    for kind, title in (("strangers", "Strangers"), ("key_holders", "With a valid key that has limits")):
        yield f"### {title}"
        yield table(HOSTILITY, hostility_rows(found[kind]))


def hostility_rows(lines: Iterable[Found]) -> Iterator[Sequence[str]]:
    for one in lines:
        yield [
            one["name"],
            *(
                f"{one[f'quiet_{name}']:{form}} → {one[name]:{form}}"
                for name, form in (("rate", ",.0f"), ("p50", ".1f"))
            ),
            f"{one['quiet_p99']:.1f} → {one['p99']:.1f}",
            f"{one['share']:.0%}",
            str(one["failed"]),
            f"{one['before'] / 1e6:.0f} → {one['peak'] / 1e6:.0f}",
            f"{one['by_design'] / 1e6:.0f}",
            f"{one['disk'] / 1e6:.0f}",
            f"{one['descriptors']:,}",
            f"{one['attacker']['bytes_per_second'] / 1e6:.1f}",
            f"{one['attacker']['cpu_percent']:.0f} %",
            f"**missed: {', '.join(one['missed'])}**" if one["missed"] else "held",
        ]


def goal_rows(found: Found) -> Iterator[Sequence[str]]:
    for goal in GOALS:
        yield [goal.figure, goal.target, *goal.reached(found)]


def call_rows(lines: Iterable[Found], b: float) -> Iterator[Sequence[str]]:
    for one in lines:
        cpu = one["cpu_ms"]
        in_b = [f"{cpu:.3f}", f"{one['postgres_ms']:.3f}", f"{cpu / b:.2f}", f"{1000 / cpu:,.0f}"] if cpu else [""] * 4
        yield [one["server"], f"`{one['what']}`", f"{one['calls_per_second']:,.0f}", *in_b]


def event_rows(lines: Iterable[Found], b: float) -> Iterator[Sequence[str]]:
    for one in lines:
        cpu = one["cpu_us"]
        yield [
            one["server"],
            f"`{one['what']}`",
            f"{one['events_per_second']:,.0f}",
            f"{cpu:.1f}",
            f"{cpu / b / 1000:.3f}",
        ]


def growth_rows(ledgers: Iterable[Found]) -> Iterator[Sequence[str]]:
    for one in ledgers:
        (row,) = call_rows([{"server": "", "what": "", **one}], one["b_ms"])
        yield [f"{one['rows']:,}", *row[2:], f"{one['b_ms']:.3f} ms"]


def other_rows(found: Found) -> Iterator[Sequence[str]]:
    idle, workers = found["idle"], found["workers"]
    yield ["idle, gateway and PostgreSQL", f"{idle['gateway_mb']:.0f} + {idle['postgres_mb']:.0f} MB"]
    yield ["idle, all processes", f"{idle['cpu_percent']:.2f} % of a core"]
    for name, text in (
        ("open_streams", "worker and shipper, 1,000 open idle streams"),
        ("after_calls", "worker and shipper, 20,000 calls later"),
    ):
        yield [text, f"{found[name]['before']:.0f} → {found[name]['after']:.0f} MB"]
    opened = found["open_streams"]
    yield ["an open stream", f"{(opened['after'] - opened['before']) * 1024 / 1000:.0f} kB"]
    yield ["2 workers against 1, by CPU: calls a CPU second", f"{workers['by_cpu']:.2f} times"]
    yield [
        "2 workers against 1, by the clock: load, upstream and PostgreSQL share the cores",
        f"{workers['by_clock']:.2f} times",
    ]
    yield ["the busier worker's share of the work", f"{workers['share']:.0%}"]


def surroundings(found: Found) -> Iterator[Sequence[str]]:
    yield ["when", *(one["when"] for one in found.values())]
    yield ["machine", *(one["machine"] for one in found.values())]
    yield ["load average before", *(str(one["load"]) for one in found.values())]
    for name in next(iter(found.values()))["versions"]:
        yield [name, *(one["versions"].get(name, "") for one in found.values())]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
