"""Owns the goals: which figures are to be reached, and where each is found in `results.json`.

B is the cost of a call to an empty Django view, measured in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

Found = dict[str, Any]
CHAT = "/v1/chat/completions"
SPACED = f"{CHAT}, JSON with spaces"  # with an upstream that writes `", "` and `": "` in its JSON


class Goal(NamedTuple):
    """A target for one figure of the benchmarks, with the function (`value`) that computes the figure from the results.

    `value` raises KeyError if the figure has not been measured. `form` is the format in which the figure is printed.
    The goal is reached from `least` to `most`; `target` says that in words.
    """

    figure: str
    target: str
    value: Callable[[Found], float]
    form: str
    most: float = float("inf")
    least: float = float("-inf")

    def reached(self, found: Found) -> tuple[str, str]:
        """Returns the measured figure as text, and "yes" or "no" for whether it reaches the goal.

        The texts are "not measured yet" and "" if the results do not have the figure.
        """
        try:
            value = self.value(found)
        except KeyError:
            return "not measured yet", ""
        return self.form.format(value), "yes" if self.least <= value <= self.most else "**no**"


def line(lines: Iterable[Found], what: str, server: str = "chatproxy") -> Found:
    """Returns, out of lines of benchmark results, the one with the given server and description of the call."""
    return {(one["server"], one["what"]): one for one in lines}[server, what]


def call_in_b(path: str) -> Callable[[Found], float]:
    """Returns a function that finds in the results what a call to `path` costs.

    The cost is a multiple of B, the CPU of a call to an empty Django view.
    """
    return lambda found: line(found["bench"]["calls"], path)["cpu_ms"] / found["bench"]["b_ms"]


def event_in_b(path: str) -> Callable[[Found], float]:
    """Returns a function that finds in the results what relaying an event of a stream of `path` costs.

    The cost is a multiple of B, the CPU of a call to an empty Django view.
    """
    return lambda found: line(found["bench"]["events"], path)["cpu_us"] / found["bench"]["b_ms"] / 1000


def added(path: str, share: str) -> Callable[[Found], float]:
    """Returns a function that finds in the results by how many milliseconds the gateway delays a call to `path`.

    `share` is the percentile, such as `p50`.
    """
    return lambda found: float(line(found["bench"]["latency"], path)[share])


def against_litellm(found: Found) -> float:
    """Returns how many times as much CPU a call costs LiteLLM as it costs chatproxy."""
    calls = found["peers"]["calls"]
    return float(line(calls, CHAT, "LiteLLM")["cpu_ms"] / line(calls, CHAT)["cpu_ms"])


def growth(found: Found) -> float:
    """Returns how many times as much a call costs over a full ledger as over an empty one.

    Both costs are taken as multiples of B, the CPU of a call to an empty Django view, because they are measured an hour
    apart, in which the machine may change.
    """
    empty, full = (ledger["cpu_ms"] / ledger["b_ms"] for ledger in found["growth"]["ledgers"])
    return float(full / empty)


def crowd(name: str) -> Callable[[Found], float]:
    """Returns a function that finds a figure of the benchmark of very many simultaneous streams in the results."""
    return lambda found: float(line(found["bench"]["crowds"], CHAT)[name])


GOALS = (
    Goal("CPU of a chat call, `/openai`", "≤ 0.65 B", call_in_b("/openai"), "{:.2f} B", most=0.65),
    Goal(f"CPU of a chat call, `{CHAT}`", "≤ 0.65 B", call_in_b(CHAT), "{:.2f} B", most=0.65),
    Goal(f"CPU of a relayed event, `{CHAT}`", "≤ 0.05 B", event_in_b(CHAT), "{:.3f} B", most=0.05),
    Goal(f"CPU of a relayed event, `{SPACED}`", "≤ 0.05 B", event_in_b(SPACED), "{:.3f} B", most=0.05),
    Goal("CPU of a relayed event, `/openai2`", "≤ 0.05 B", event_in_b("/openai2"), "{:.3f} B", most=0.05),
    Goal("calls per second per core, against LiteLLM", "≥ 20 times", against_litellm, "{:.1f} times", least=20),
    Goal("added latency at 100 calls/s, `/openai`, p50", "≤ 1 ms", added("/openai", "p50"), "{:.2f} ms", most=1),
    Goal("added latency at 100 calls/s, `/openai`, p99", "≤ 5 ms", added("/openai", "p99"), "{:.2f} ms", most=5),
    Goal(f"added latency at 100 calls/s, `{CHAT}`, p50", "≤ 1 ms", added(CHAT, "p50"), "{:.2f} ms", most=1),
    Goal(f"added latency at 100 calls/s, `{CHAT}`, p99", "≤ 5 ms", added(CHAT, "p99"), "{:.2f} ms", most=5),
    Goal(
        "memory for 1,000 open idle streams",
        "≤ 60 MB",
        lambda found: found["bench"]["open_streams"]["after"] - found["bench"]["open_streams"]["before"],
        "{:.0f} MB",
        most=60,
    ),
    Goal("of 2,000 streams at once, complete", "all", crowd("completed"), "{:,.0f}", least=2000),
    Goal("their events' delay, p99", "≤ 100 ms", crowd("p99"), "{:.0f} ms", most=100),
    Goal(
        "2 workers against 1, by CPU",
        "≥ 1.8 times",
        lambda found: float(found["bench"]["workers"]["by_cpu"]),
        "{:.2f} times",
        least=1.8,
    ),
    Goal(
        "cost of a call over a full ledger, against an empty one",
        "flat (≤ 1.05 times)",
        growth,
        "{:.2f} times",
        most=1.05,
    ),
    Goal(
        "idle memory, all processes",
        "≤ 150 MB",
        lambda found: found["bench"]["idle"]["gateway_mb"] + found["bench"]["idle"]["postgres_mb"],
        "{:.0f} MB",
        most=150,
    ),
    Goal("idle CPU", "≤ 1 %", lambda found: float(found["bench"]["idle"]["cpu_percent"]), "{:.2f} %", most=1),
)
