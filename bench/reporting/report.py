"""Writes the page of results: first the goals, then all figures, measure by measure, then the notes.

The page is text made from `results.json` and `NOTES.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.reporting.goals import ENOUGH, GOALS, Found, line
from bench.reporting.names import BODIES, EMPTY

INTRODUCTION = f"""# Benchmarks

What `make bench`, `make bench-peers`, `make bench-hostility`, `python -m bench.ledger.growth` and
`python -m bench.ledger.pages` found last; the notes at the end are by hand, from `bench/NOTES.md`. One core has the
server and PostgreSQL, the other the load and upstream. CPU is what the operating system accounts to the processes, so
it depends less than calls/s on what else runs on the machine.

**B** is the CPU of a call of Django's stock ASGI handler with an empty view (two middlewares, uvicorn-worker), in the
same run. Ledger, authentication, limits, redaction and metrics are on. The CPU of the gateway is that of all its
processes: master, workers, and the shipping to PostgreSQL. PostgreSQL's own CPU has a column of its own.

Everything is measured in rounds, in which the servers take turns, and a ratio is taken in each round. A figure below is
the median of its rounds, with the lowest and the highest: on a machine that other guests share, the same code differs
from one minute to the next, sometimes by a factor of two. With fewer than {ENOUGH} rounds a figure is not judged.
"""


def render(found: Found, notes: str) -> str:
    parts = [INTRODUCTION, machines(found), table(("figure", "target", "reached", ""), goal_rows(found))]
    if "bench" in found:
        parts += bench(found["bench"])
    if "growth" in found:
        parts += ["## A growing ledger", table(("rows", *CALLS[2:], "B"), growth_rows(found["growth"]["ledgers"]))]
    if "ledger" in found:
        parts += full_ledger(found["ledger"])
    if "peers" in found:
        parts += peers(found["peers"])
    if "hostility" in found:
        parts += hostility(found["hostility"])
    parts += ["## Where, when, with what", table(("", *found), surroundings(found)), notes.strip()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


CALLS = ("server", "what", "calls/s", "CPU ms a call", "PostgreSQL ms", "B", "calls per CPU second", "p50 ms", "p99 ms")
EVENTS = ("server", "what", "events/s", "CPU µs an event", "B")


def machines(found: Found) -> str:
    """Returns a sentence that names the machine, or the machines, on which the figures were measured."""
    names = dict.fromkeys(one["machine"] for one in found.values())
    return f"Measured on: {'; '.join(names)}. What else is known of it stands near the end."


def bench(found: Found) -> Iterator[str]:
    b = line(found["calls"], EMPTY, "B")["cpu_ms"]
    yield f"## Whole answers\n\nB = {b:.3f} ms."
    yield table(CALLS, call_rows([*found["calls"], *found.get("keys", []), *found["large"]], b))
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
    yield table(EVENTS, event_rows(found["events"], b_of_events(found["events"], b)))
    yield "2,000 streams of 2 events a second; milliseconds from write to read."
    yield table(
        ("server", "complete", "p50", "p99"),
        (
            [one["server"], f"{one['completed']:,.0f}", f"{one['p50']:.1f}", f"{one['p99']:.1f}"]
            for one in found["crowds"]
        ),
    )
    yield "## Memory, idleness, workers"
    yield table(("figure", ""), other_rows(found))


def full_ledger(found: Found) -> Iterator[str]:
    yield (
        f"## A ledger of {found['calls'] / 1e6:g} million calls\n\n"
        f"They are of {found['weeks']} weeks and {found['keys']:,} keys. Milliseconds of each page, one at a time and"
        " warm; CPU is that of the gateway and of PostgreSQL together."
    )
    yield table(
        ("page", "p50", "p95", "CPU"),
        ([one["what"], *(f"{one[name]:.0f}" for name in ("p50", "p95", "cpu_ms"))] for one in found["pages"]),
    )
    yield table(("figure", ""), full_ledger_rows(found))


def full_ledger_rows(found: Found) -> Iterator[Sequence[str]]:
    parts = {**found["megabytes"]}
    bodies = parts.pop(BODIES)
    millions = found["calls"] / 1e6
    yield ["disk, a million calls without bodies", f"{sum(parts.values()) / millions:,.0f} MB"]
    yield from ([f"of it {part}", f"{size / millions:,.0f} MB"] for part, size in parts.items())
    yield ["disk, the bodies of a million calls, 2 KB each", f"{bodies / found['bodies'] * 1e6:,.0f} MB"]
    yield ["`ledger verify` since yesterday", f"{found['verify_day']['seconds']:.1f} s"]


def peers(found: Found) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in found["peer_versions"].items())
    b = line(found["calls"], EMPTY, "B")["cpu_ms"]
    yield f"## Peers\n\n{versions}; each on one core, and none with a ledger. B = {b:.3f} ms."
    yield table(CALLS, call_rows(found["calls"], b))
    yield table(EVENTS, event_rows(found["events"], b_of_events(found["events"], b)))


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
        times = [f"{one[share]:.2f}" if share in one else "" for share in ("p50", "p99")]
        yield [one["server"], f"`{one['what']}`", f"{one['calls_per_second']:,.0f}", *in_b, *times]


def b_of_events(lines: Iterable[Found], b: float) -> float:
    """Returns B (the cost of a call to an empty Django view) as it was measured together with the events.

    Returns `b` if it was not, as in older results.
    """
    return next((one["cpu_us"] / 1000 for one in lines if one["server"] == "B"), b)


def event_rows(lines: Iterable[Found], b: float) -> Iterator[Sequence[str]]:
    for one in lines:
        cpu = one["cpu_us"]
        in_b = f"{cpu / b / 1000:.3f}"
        yield [one["server"], f"`{one['what']}`", f"{one['events_per_second']:,.0f}", f"{cpu:.1f}", in_b]


def growth_rows(ledgers: Iterable[Found]) -> Iterator[Sequence[str]]:
    for one in ledgers:
        (row,) = call_rows([{"server": "", "what": "", **one}], one["b_ms"])
        yield [f"{one['rows']:,}", *row[2:], f"{one['b_ms']:.3f} ms"]


def other_rows(found: Found) -> Iterator[Sequence[str]]:
    idle, workers, opened = found["idle"], found["workers"], found["open_streams"]
    yield ["idle, gateway and PostgreSQL", f"{idle['gateway_mb']:.0f} + {idle['postgres_mb']:.0f} MB"]
    yield ["idle, all processes", f"{idle['cpu_percent']:.2f} % of a core"]
    for name, text in (("open_streams", "1,000 open idle streams"), ("after_calls", "20,000 calls later")):
        yield [f"the gateway, {text}", f"{found[name]['before']:.0f} → {found[name]['after']:.0f} MB"]
    yield ["an open stream", f"{(opened['after'] - opened['before']) * 1024 / 1000:.0f} kB"]
    yield ["2 workers against 1, by CPU: calls a CPU second", f"{workers['by_cpu']:.2f} times"]
    yield [
        "2 workers against 1, by the clock: load, upstream and PostgreSQL share the cores",
        f"{workers['by_clock']:.2f} times",
    ]
    yield ["the busier worker's share of the work", f"{workers['share']:.0%}"]
    if "shipping" in found:
        shipping, backlog = found["shipping"], found["backlog"]
        yield ["idle memory of a second worker", f"{workers['memory_mb']:.0f} MB"]
        yield ["rows shipped a second, by the clock", f"{shipping['by_clock']:,.0f}"]
        yield ["rows shipped a second of CPU, Python's and PostgreSQL's", f"{shipping['by_cpu']:,.0f}"]
        yield ["PostgreSQL's part of that CPU", f"{shipping['postgres_share']:.0%}"]
        yield [
            "100,000 waiting calls shipped, while 100 calls a second are served",
            f"{backlog['seconds']:.0f} s; p50 {backlog['p50']:.1f} ms, p99 {backlog['p99']:.1f} ms",
        ]


def surroundings(found: Found) -> Iterator[Sequence[str]]:
    yield ["when", *(one["when"] for one in found.values())]
    yield ["machine", *(one["machine"] for one in found.values())]
    yield ["load average before", *(str(one["load"]) for one in found.values())]
    for name in next(iter(found.values()))["versions"]:
        yield [name, *(one["versions"].get(name, "") for one in found.values())]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
