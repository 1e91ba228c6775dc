"""Measures the cost of a call while the ledger is empty, and while it has millions of rows.

Run it by `python -m bench.ledger.growth [--rows 5000000]`, or at the end of `make bench ARGS="--rows 5000000"`; filling
the ledger takes many minutes. The figures are written to `bench/results.json` and `bench/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench.ledger.pages import Shape, prepare_bundled
from bench.measures.calls import Subject, rounds
from bench.measures.rounds import figures
from bench.reporting import results
from bench.stand import nginx
from bench.stand.processes import SERVER_CORE, allow_many_sockets, pinned
from bench.stand.requests import plain
from bench.stand.stand import gateway_on, yardstick
from chatproxy.postgres.bundled import BundledPostgres

PATH = "/v1/chat/completions"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", type=Path, help="a full ledger that was kept by bench.ledger.pages")
    arguments = parser.parse_args()
    allow_many_sockets()
    run(arguments.rows, arguments.rounds, arguments.directory)


def run(rows: int, count: int, kept: Path | None = None) -> None:
    """Measures the cost of a call with an empty ledger, and with one of `rows` rows; writes both to the results file.

    `kept` is the directory of a full ledger from an earlier run, which is used again.
    """
    start = results.surroundings()
    results.note("growth", start, ledgers=[measure(0, count), measure(rows, count, kept)])


def measure(rows: int, count: int, kept: Path | None = None) -> dict[str, Any]:
    """Measures the cost of a call with a ledger of `rows` rows, in a new PostgreSQL; returns a line for the results.

    The database is filled before and deleted afterwards, unless it is in the directory `kept`; then it is used
    unchanged.
    """
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name, pinned(SERVER_CORE):
        directory = kept or Path(name)
        postgres = BundledPostgres(directory)
        postgres.start()
        try:
            if rows:
                prepare_bundled(directory, postgres, Shape(rows))
            return {"rows": rows, **over(postgres, directory / "data", count)}
        finally:
            postgres.stop()
            if kept is None:
                postgres.delete()


def over(postgres: BundledPostgres, directory: Path, count: int) -> dict[str, Any]:
    """Measures in `count` rounds the cost of a call in a gateway with this database, and in an empty Django view (B).

    Returns the figures of the gateway. With them are the cost of a call to B (`b_ms`) and, for each round, the
    gateway's cost in multiples of B's (`in_b`).
    """
    with nginx.answering() as url, yardstick() as b, gateway_on(url, directory, postgres) as it:
        subjects = [Subject(b, PATH, plain(PATH, "")), Subject(it.server, PATH, plain(PATH, it.server.key), it)]
        b_costs, costs = rounds(subjects, count)
    found = figures(costs)
    found["rounds"]["in_b"] = [cost.cpu_ms / b_cost.cpu_ms for cost, b_cost in zip(costs, b_costs, strict=True)]
    return {"b_ms": statistics.median(cost.cpu_ms for cost in b_costs), **found}


if __name__ == "__main__":
    main()
