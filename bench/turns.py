"""Compares the CPU of a call in two checkouts, in turns: `python -m bench.turns OTHER [--rounds 7]`.

Both servers run at the same time on one core, each with its own PostgreSQL, DATA_DIR and key, all new. One process with
the clients measures the servers alternately, and a round begins with the server that was last in the round before. So
disturbances of the machine, and changes over time, affect both alike. A round gives one ratio, this checkout's cost
divided by the other's; the median of the rounds counts. With `--most 1.02` the exit code is 1 if a median is above
1.02.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.measures import calls, events
from bench.measures.calls import Subject
from bench.stand.processes import allow_many_sockets
from bench.stand.requests import plain
from bench.stand.stand import Stand, stand, upstream

CHAT = "/v1/chat/completions"
PATHS = (CHAT, "/openai")
CALLS, STREAMS = 2000, 200


class Turns(NamedTuple):
    """The costs of one kind of call, or of an event, in two checkouts of this project, one figure for each round.

    `unit` is the unit of the figures.
    """

    what: str
    unit: str
    other: list[float]
    this: list[float]

    @property
    def ratios(self) -> list[float]:
        """The cost in this checkout divided by the cost in the other checkout, for each round of the comparison."""
        return [this / other for other, this in zip(self.other, self.this, strict=True)]

    @property
    def ratio(self) -> float:
        """The median, over all rounds, of the cost in this checkout divided by the cost in the other."""
        return statistics.median(self.ratios)

    @property
    def ratio_of_cheapest(self) -> float:
        """The lowest cost of any round in this checkout, divided by the lowest cost in the other checkout.

        Disturbances can only add CPU, so the lowest costs are the most reliable.
        """
        return min(self.this) / min(self.other)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.turns", description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=Path, help="the directory of another checkout")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=CALLS, help="calls of each kind in a turn")
    parser.add_argument("--most", type=float, help="the highest median ratio that is no failure")
    arguments = parser.parse_args()
    other = arguments.other.resolve()
    if not (other / "manage.py").is_file():
        parser.error(f"{other} is no checkout: it has no manage.py")
    allow_many_sockets()
    found = compare(other, arguments.rounds, arguments.calls)
    print(*table(found), sep="\n")
    sys.exit(arguments.most is not None and any(turns.ratio > arguments.most for turns in found))


def compare(other: Path, rounds: int, number: int = CALLS) -> list[Turns]:
    """Measures the costs of a call and of an event in this checkout and in the checkout `other`, in turns.

    Starts both servers, and returns the costs in each of the `rounds` rounds, for each kind of call and for an event.
    """
    with ExitStack() as running:
        url = running.enter_context(upstream())
        stands = [running.enter_context(stand(url, checkout=other)), running.enter_context(stand(url))]
        measures: list[tuple[str, str, Callable[[Stand], float]]] = [
            *((path, "ms", call_cost(path, number)) for path in PATHS),
            (f"an event of {CHAT}", "µs", event_cost),
            ("the same, JSON with spaces", "µs", partial(event_cost, is_spaced=True)),
        ]
        for _, _, measure in measures:
            for one in stands:
                measure(one)  # to warm up
        found = [Turns(what, unit, [], []) for what, unit, _ in measures]
        for turn in range(rounds):
            print(f"… round {turn + 1} of {rounds}", flush=True)
            for turns, (_, _, measure) in zip(found, measures, strict=True):
                sides = list(zip(stands, (turns.other, turns.this), strict=True))
                for one, costs in sides if turn % 2 == 0 else reversed(sides):
                    costs.append(measure(one))
    return found


def call_cost(path: str, number: int) -> Callable[[Stand], float]:
    """Returns a function that measures the cost of a call to `path` in a gateway, as the mean of `number` calls.

    The function returns milliseconds of the gateway's CPU, including the writing of the call to PostgreSQL.
    """

    def measure(one: Stand) -> float:
        return calls.measure(Subject(one.server, path, plain(path, one.server.key), one, number)).cpu_ms

    return measure


def event_cost(one: Stand, *, is_spaced: bool = False) -> float:
    """Measures the cost of relaying one event in a gateway that has many streams open at once.

    Returns microseconds of the gateway's CPU. With `is_spaced`, upstream writes JSON with spaces.
    """
    (cost,) = events.measure(one.server, CHAT, seconds=2.0, count=STREAMS, ramp=0.5, is_spaced=is_spaced)
    return cost.cpu_us


def table(found: Sequence[Turns]) -> list[str]:
    """Formats the comparison for printing, as lines of text: one for each kind of call, and one for an event.

    A line has the median costs, the median, lowest and highest ratio of the rounds, and the ratio of the lowest costs.
    """
    lines = [f"{'':34}{'other':>11}{'this':>11}{'ratio':>8}   {'of all rounds':16}of the cheapest rounds"]
    for turns in found:
        medians = "".join(f"{statistics.median(costs):>8.3f} {turns.unit}" for costs in (turns.other, turns.this))
        spread = f"{min(turns.ratios):.3f} to {max(turns.ratios):.3f}"
        lines.append(f"{turns.what:34}{medians}{turns.ratio:>8.3f}   {spread:16}{turns.ratio_of_cheapest:.3f}")
    return lines


if __name__ == "__main__":
    main()
