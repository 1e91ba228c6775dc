"""The goals of the benchmarks: which figures should be reached, and where each one is in `results.json`.

A figure has one value for each round in which it was measured; ratios are computed for each round. The median is
compared with the goal. B is the cost of a call to an empty Django view, measured in the same rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from bench.reporting.names import (
    BUDGETS,
    BUILT_IN,
    CHAT,
    CROWDED,
    EMPTY,
    FORM,
    IMAGE,
    MANY_STREAMS,
    ONE_AT_A_TIME,
    SIMPLE_CHAT,
    SIMPLE_RESPONSES,
    SIMPLE_TRANSCRIPTIONS,
    SPACED,
    TRANSCRIPTIONS,
)

Found = dict[str, Any]
Rounds = Callable[[Found], Sequence[float]]  # finds a figure in the results: one value for each round
ENOUGH = 5  # rounds; the median of fewer is not judged


class Goal(NamedTuple):
    """A target for one figure of the benchmarks, with the function (`rounds`) that finds the figure in the results.

    `rounds` raises KeyError if the figure has not been measured. The figure is printed in the format `form`, with
    `unit` behind it. The goal is reached from `least` to `most`; `target` says that in words.
    """

    figure: str
    target: str
    rounds: Rounds
    form: str
    unit: str
    most: float = float("inf")
    least: float = float("-inf")

    def reached(self, found: Found) -> tuple[str, str]:
        """Returns the figure as text, and whether it reaches the goal: "yes", "no", or "not judged" with the reason.

        The figure is the median of all rounds, with the lowest and the highest round. If the results do not have it,
        the texts are "not measured yet" and "".
        """
        try:
            values = self.rounds(found)
        except KeyError:
            return "not measured yet", ""
        median = statistics.median(values)
        spread = f" ({min(values):{self.form}} to {max(values):{self.form}})" if len(values) > 1 else ""
        if len(values) < ENOUGH:
            verdict = f"not judged: {len(values)} of {ENOUGH} rounds"
        else:
            verdict = "yes" if self.least <= median <= self.most else "**no**"
        return f"{median:{self.form}} {self.unit}{spread}", verdict


def line(lines: Iterable[Found], what: str, server: str = "chatproxy") -> Found:
    """Returns, out of lines of benchmark results, the one with this server and this description of the call."""
    return {(one["server"], one["what"]): one for one in lines}[server, what]


def measured(table: str, name: str, what: str = "", server: str = "chatproxy", section: str = "bench") -> Rounds:
    """Returns a function that finds the figure `name` in a table of the results.

    The figure is in the line for `server` and `what`; without `what`, the table has no lines but only figures.
    """

    def rounds(found: Found) -> Sequence[float]:
        lines = found[section][table]
        one = line(lines, what, server) if what else lines
        values: Sequence[float] = one["rounds"][name]
        return values

    return rounds


def ratio(this: Rounds, other: Rounds) -> Rounds:
    """Returns a function that finds two figures in the results and divides one by the other, for each round."""
    return lambda found: [a / b for a, b in zip(this(found), other(found), strict=True)]


def difference(this: Rounds, other: Rounds) -> Rounds:
    """Returns a function that finds two figures in the results and subtracts one from the other, for each round."""
    return lambda found: [a - b for a, b in zip(this(found), other(found), strict=True)]


def total(this: Rounds, other: Rounds) -> Rounds:
    """Returns a function that finds two figures in the results and adds them, for each round."""
    return lambda found: [a + b for a, b in zip(this(found), other(found), strict=True)]


def call_in_b(path: str) -> Rounds:
    """Returns a function that finds the cost of a call to `path`, in multiples of one to an empty Django view (B)."""
    return ratio(measured("calls", "cpu_ms", path), measured("calls", "cpu_ms", EMPTY, "B"))


def event_in_b(what: str) -> Rounds:
    """Returns a function that finds the cost of relaying an event of a stream, in multiples of B.

    B is the cost of a call to an empty Django view.
    """
    return ratio(measured("events", "cpu_us", what), measured("events", "cpu_us", EMPTY, "B"))


def delay_in_b(path: str, share: str) -> Rounds:
    """Returns a function that finds the delay of a call to `path` by the gateway, in multiples of that by B.

    B is an empty Django view. `share` is the percentile, such as `p50`.
    """
    return ratio(measured("latency", share, path), measured("latency", share, EMPTY, "B"))


def call_of(peer: str) -> Rounds:
    """Returns a function that finds the cost of a chat call in one of the servers that `bench.peers` measures."""
    return measured("calls", "cpu_ms", CHAT, peer, "peers")


def event_of(peer: str) -> Rounds:
    """Returns a function that finds the cost of relaying an event in one of the servers that `bench.peers` measures."""
    return measured("events", "cpu_us", CHAT + MANY_STREAMS, peer, "peers")


def against_built_in(name: str, besides: str = "") -> tuple[Rounds, Rounds]:
    """Returns two functions that find one figure: for a key with limits and budgets, and for the built-in key."""
    return measured("keys", name, BUDGETS + besides), measured("keys", name, BUILT_IN + besides)


def large(what: str, other: str, server: str = "nginx") -> Rounds:
    """Returns a function that finds how many times as much CPU one large body costs as another on a server.

    `what` and `other` are the bodies; `what` is sent to the gateway, `other` to `server`.
    """
    return ratio(measured("large", "cpu_ms", what), measured("large", "cpu_ms", other, server))


def growth(found: Found) -> Sequence[float]:
    """Computes how many times as much a call costs over a full ledger as over an empty one.

    Both costs are taken as multiples of B (a call to an empty Django view), because they are measured an hour apart, in
    which the machine may change.
    """
    empty, full = (ledger["rounds"]["in_b"] for ledger in found["growth"]["ledgers"])
    return [b / a for a, b in zip(empty, full, strict=True)]


def within(figure: str, rounds: Rounds, share: float) -> Goal:
    """Builds the goal that two figures differ by at most `share` of the smaller one; `rounds` finds their ratio."""
    return Goal(figure, f"within {share:.0%}", rounds, ".2f", "times", most=1 + share, least=1 / (1 + share))


def at_most(figure: str, most: float, unit: str, rounds: Rounds, form: str = ".2f") -> Goal:
    return Goal(figure, f"≤ {most:g} {unit}", rounds, form, unit, most=most)


def at_least(figure: str, least: float, unit: str, rounds: Rounds, form: str = ".2f") -> Goal:
    return Goal(figure, f"≥ {least:,g} {unit}", rounds, form, unit, least=least)


GOALS = (
    at_most(f"CPU of a chat call, `{CHAT}`", 0.45, "B", call_in_b(CHAT)),
    at_most(f"CPU of a chat call, `{SIMPLE_CHAT}`", 0.5, "B", call_in_b(SIMPLE_CHAT)),
    at_most("CPU of a chat call, against ferrogw", 2.2, "times", ratio(call_of("chatproxy"), call_of("ferrogw"))),
    Goal(
        "CPU of a relayed event, against ferrogw",
        "less",
        ratio(event_of("chatproxy"), event_of("ferrogw")),
        ".2f",
        "times",
        most=1,
    ),
    at_least(
        "calls per second per core, against LiteLLM",
        20,
        "times",
        ratio(call_of("LiteLLM"), call_of("chatproxy")),
        ".1f",
    ),
    at_most(f"CPU of a relayed event, `{CHAT}`", 0.025, "B", event_in_b(CHAT), ".3f"),
    at_most(f"CPU of a relayed event, `{SPACED}`", 0.025, "B", event_in_b(SPACED), ".3f"),
    within(
        "CPU of a relayed event, JSON with spaces against compact JSON",
        ratio(measured("events", "cpu_us", SPACED), measured("events", "cpu_us", CHAT)),
        0.1,
    ),
    at_most(f"CPU of a relayed event, `{SIMPLE_RESPONSES}`", 0.025, "B", event_in_b(SIMPLE_RESPONSES), ".3f"),
    at_most(f"CPU of a call, {BUDGETS} against {BUILT_IN}", 1.25, "times", ratio(*against_built_in("cpu_ms"))),
    at_most(
        f"PostgreSQL's CPU of a call, {BUDGETS} against {BUILT_IN}",
        1.5,
        "times",
        ratio(*against_built_in("postgres_ms")),
    ),
    at_most(
        f"latency with {BUDGETS}, one call at a time, p50, longer by",
        0.3,
        "ms",
        difference(*against_built_in("p50", ONE_AT_A_TIME)),
    ),
    *(
        at_most(f"added latency at 100 calls/s, `{path}`, {share}", most, "times B's", delay_in_b(path, share))
        for path in (CHAT, SIMPLE_CHAT)
        for share, most in (("p50", 0.8), ("p99", 1))
    ),
    at_most(
        "latency on 64 connections, as fast as it goes, p99 against p50",
        3,
        "times",
        ratio(measured("calls", "p99", CROWDED), measured("calls", "p50", CROWDED)),
    ),
    at_most(f"CPU of `{CHAT}{IMAGE}`, against nginx", 5, "times", large(CHAT + IMAGE, CHAT + IMAGE)),
    at_most(f"CPU of `{SIMPLE_CHAT}{IMAGE}`, against nginx", 5, "times", large(SIMPLE_CHAT + IMAGE, CHAT + IMAGE)),
    within(
        f"CPU of a 5 MB image, `{SIMPLE_CHAT}` against `{CHAT}`",
        large(SIMPLE_CHAT + IMAGE, CHAT + IMAGE, "chatproxy"),
        0.2,
    ),
    at_most(f"CPU of `{TRANSCRIPTIONS}{FORM}`, against nginx", 2.5, "times", large(*[TRANSCRIPTIONS + FORM] * 2)),
    at_most(
        f"CPU of `{SIMPLE_TRANSCRIPTIONS}{FORM}`, against nginx",
        2.5,
        "times",
        large(SIMPLE_TRANSCRIPTIONS + FORM, TRANSCRIPTIONS + FORM),
    ),
    within(
        f"CPU of a 24 MB form, `{SIMPLE_TRANSCRIPTIONS}` against `{TRANSCRIPTIONS}`",
        large(SIMPLE_TRANSCRIPTIONS + FORM, TRANSCRIPTIONS + FORM, "chatproxy"),
        0.2,
    ),
    at_least("2 workers against 1, by CPU", 1.8, "times", measured("workers", "by_cpu")),
    at_most(
        "idle memory, all processes",
        150,
        "MB",
        total(measured("idle", "gateway_mb"), measured("idle", "postgres_mb")),
        ".0f",
    ),
    at_most("idle CPU, all processes", 0.7, "% of a core", measured("idle", "cpu_percent")),
    at_most("idle memory of a second worker", 60, "MB", measured("workers", "memory_mb"), ".0f"),
    at_least("rows shipped in a second of CPU", 6000, "rows", measured("shipping", "by_cpu"), ",.0f"),
    at_most(
        "until 100,000 waiting calls are shipped while calls are served", 30, "s", measured("backlog", "seconds"), ".0f"
    ),
    at_most("memory for 1,000 open idle streams", 60, "MB", measured("open_streams", "more"), ".0f"),
    Goal(
        "of 2,000 streams at once, complete",
        "all",
        measured("crowds", "completed", CHAT),
        ",.0f",
        "streams",
        least=2000,
    ),
    at_most("of 2,000 streams at once, delay of events, p99", 100, "ms", measured("crowds", "p99", CHAT), ".0f"),
    at_most("cost of a call over a full ledger, against an empty one", 1.05, "times", growth),
    at_most("the slowest page over a full ledger", 300, "ms", measured("slowest", "ms", section="ledger"), ".0f"),
    at_most(
        "`ledger verify` of a day of a full ledger", 10, "s", measured("verify_day", "seconds", section="ledger"), ".1f"
    ),
)
