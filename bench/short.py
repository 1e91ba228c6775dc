"""Short benchmark for CI: `python -m bench.short [--record]`. Fails if a call or an event of a stream costs more CPU.

The CPU is compared with the costs recorded in `bench/recorded.json`, in multiples of B, the CPU of a call to an empty
Django view. Times by the clock are not compared, because other work on the machine disturbs them more. B is measured in
each round, beside the costs that are divided by it; the median of the rounds counts. If a cost is too high, everything
is measured again, at most twice, and the lower cost counts. `--record` writes the file anew; the commit message for
that change must say why the cost may rise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.measures import calls, events
from bench.measures.calls import Subject
from bench.stand.processes import allow_many_sockets
from bench.stand.requests import plain
from bench.stand.stand import stand, yardstick

RECORDED = Path(__file__).with_name("recorded.json")
TOLERANCE = 1.25
REPETITIONS = 2
ROUNDS, CALLS, STREAMS = 7, 400, 200
PATHS = ("/v1/chat/completions", "/openai", "/embeddings")
EVENT = "an event of /v1/chat/completions"

Costs = dict[str, float]  # in multiples of B, by the description of what was measured


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.short", description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="what is found is what counts from now on")
    arguments = parser.parse_args()
    allow_many_sockets()
    found = measure()
    if arguments.record:
        RECORDED.write_text(json.dumps({what: round(cost, 4) for what, cost in found.items()}, indent=1) + "\n")
        return
    recorded = json.loads(RECORDED.read_text())
    for _ in range(REPETITIONS):
        if too_dear(found, recorded):
            print("once more, since something is too dear:")
            again = measure()
            found = {what: min(cost, again[what]) for what, cost in found.items()}
    complaints = too_dear(found, recorded)
    print(*complaints, sep="\n", file=sys.stderr, end="\n" if complaints else "")
    sys.exit(bool(complaints))


def too_dear(found: Mapping[str, float], recorded: Mapping[str, float]) -> list[str]:
    """Returns a line of text for each measured cost that is more than `TOLERANCE` times the recorded one."""
    return [
        f"{what} costs {cost:.3f} B of CPU: more than {TOLERANCE} times {recorded[what]:.3f} B, the recorded cost"
        for what, cost in found.items()
        if cost > TOLERANCE * recorded[what]
    ]


def measure() -> Costs:
    """Measures in several rounds the costs of a call to each path and of an event; prints and returns the medians.

    They are multiples of B, the CPU of a call to an empty Django view.
    """
    with yardstick() as b, stand() as it:
        empty = Subject(b, "B", plain(PATHS[0], ""), calls=CALLS)
        subjects = [Subject(it.server, path, plain(path, it.server.key), it, CALLS) for path in PATHS]
        calls.rounds([empty, *subjects], 1)  # to warm up
        rounds = [one_round(empty, subjects) for _ in range(ROUNDS)]
    print(f"B = {statistics.median(b_ms for b_ms, _ in rounds):.3f} ms of CPU")
    found = {what: statistics.median(costs[what] for _, costs in rounds) for what in (*PATHS, EVENT)}
    for what, cost in found.items():
        print(f"{what:34} {cost:.3f} B")
    return found


def one_round(empty: Subject, subjects: list[Subject]) -> tuple[float, Costs]:
    """Measures once the costs of a call to each path and of an event.

    Returns B, the CPU of a call to an empty Django view, in milliseconds, and the costs in multiples of B. B is the
    mean of a measure before the others and one after them.
    """
    before = calls.measure(empty).cpu_ms
    found = {subject.what: calls.measure(subject).cpu_ms for subject in subjects}
    (event,) = events.measure(subjects[0].server, PATHS[0], seconds=1.0, count=STREAMS, ramp=0.5)
    found[EVENT] = event.cpu_us / 1000
    b_ms = (before + calls.measure(empty).cpu_ms) / 2
    return b_ms, {what: cost / b_ms for what, cost in found.items()}


if __name__ == "__main__":
    main()
