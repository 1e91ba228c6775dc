"""What a call costs while the ledger is empty, and while it has millions of rows.

Run by `python -m bench.ledger.growth [--rows 5000000]`, or at the end of `make bench ARGS="--rows 5000000"`: to fill
the ledger takes many minutes. The figures are written to `bench/results.json` and `bench/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.ledger.pages import prepare
from bench.measures.calls import Cost, Subject, middle, rounds
from bench.reporting import results
from bench.stand import nginx
from bench.stand.processes import SERVER_CORE, allow_many_sockets, pinned
from bench.stand.requests import plain
from bench.stand.stand import gateway_on, yardstick
from chatproxy.postgres.bundled import BundledPostgres

PATH = "/v1/chat/completions"


class Ledger(NamedTuple):
    """The cost of a call (`cost`) while the ledger has `rows` rows.

    `b_ms` is what a call of the yardstick B, an empty Django view, cost in the same rounds: milliseconds of CPU.
    """

    rows: int
    cost: Cost
    b_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", type=Path, help="a full ledger that was kept by bench.ledger.pages")
    arguments = parser.parse_args()
    allow_many_sockets()
    run(arguments.rows, arguments.rounds, arguments.directory)


def run(rows: int, count: int, kept: Path | None = None) -> None:
    """Measures what a call costs over an empty ledger and over one of `rows` rows.

    Writes both costs into the results file. `kept` is the directory of a full ledger from an earlier run, which is used
    again.
    """
    start = results.surroundings()
    found = [measure(0, count), measure(rows, count, kept)]
    results.note("growth", start, ledgers=[{"rows": one.rows, "b_ms": one.b_ms, **one.cost._asdict()} for one in found])


def measure(rows: int, count: int, kept: Path | None = None) -> Ledger:
    """Measures what a call costs over a ledger of `rows` rows, on a PostgreSQL of its own; returns the cost.

    The database is filled before and deleted afterwards, unless it is in the directory `kept`: then it is used as it
    is.
    """
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name, pinned(SERVER_CORE):
        directory = kept or Path(name)
        postgres = BundledPostgres(directory)
        postgres.start()
        try:
            if rows:
                prepare(directory, postgres.url, rows)
            return over(postgres, directory / "data", rows, count)
        finally:
            postgres.stop()
            if kept is None:
                postgres.delete()


def over(postgres: BundledPostgres, directory: Path, rows: int, count: int) -> Ledger:
    """Measures what a call costs on a gateway with this database, and on B, an empty Django view, in `count` rounds.

    Returns both costs, with the number of rows in the ledger.
    """
    with nginx.answering() as url, yardstick() as b, gateway_on(url, directory, postgres) as it:
        subjects = [Subject(b, PATH, plain(PATH, "")), Subject(it.server, PATH, plain(PATH, it.server.key), it)]
        b_costs, costs = rounds(subjects, count)
        return Ledger(rows, middle(costs), middle(b_costs).cpu_ms)


if __name__ == "__main__":
    main()
