"""Measures how fast all pages are with twenty million calls: `python -m bench.ledger.pages [--rounds 20]`.

It needs only the development requirements: PostgreSQL is the bundled one, in a temporary directory that is removed
afterwards (with `--directory` it is kept, and used again by the next run). Each page is requested over HTTP from the
real server, one at a time: three times to warm up, then once in each of the rounds. It also measures the ledger's size
on the disk, and how long `ledger verify` takes for a day. The figures are written to `bench/results.json` and
`bench/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from bench.ledger.filling.bulk_loading import close_connections, refuse_unfinished, without_safety
from bench.ledger.filling.ledger_rows import fill
from bench.ledger.page_addresses import SampleKeys, exports, pages
from bench.ledger.shipper import cpu_of_tree, set_up
from bench.ledger.space import megabytes
from bench.measures.rounds import figures
from bench.reporting import results
from chatproxy.postgres.bundled import BundledPostgres
from tests.support.servers.gateway import ADMIN_PASSWORD, Gateway, run_gateway

WARM_UP = 3
PAUSE_SECONDS = 0.2  # before each request
VERIFICATIONS = 5
# Makes a key for each key of the ledger that has none, and likewise teams, with budgets near what they have spent.
# Prints the ids of a key that makes many calls, of one that makes few and of a team, and the secret of the first.
ISSUING = """
from datetime import UTC, datetime
from decimal import Decimal
from proxyapi.key_names import comparable
from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from usage.models import TeamDay, UsageDay
from usage.money.spent_and_reserved import spent_by
def missing(model, days, column):
    known = set(model.objects.values_list("name", flat=True))
    names = sorted(set(days.objects.values_list(column, flat=True).distinct()) - known)
    for name, spent in spent_by(column.partition("_")[0], names, datetime.now(UTC).date()).items():
        part = Decimal(len(name) * 7 % 10 + 6) / 10
        budgets = {f"budget_{span}": round(getattr(spent, span) * part + 1, 2) for span in ("day", "month", "total")}
        yield model(name=name, comparable_name=comparable(name), **budgets)
Team.objects.bulk_create(missing(Team, TeamDay, "team"))
teams = {team.name: team for team in Team.objects.all()}
keys = list(missing(AccessKey, UsageDay, "key_name"))
for key in keys:
    number = key.name.rpartition("-")[2]
    key.owner, key.team = "Ada", teams.get(f"group-{int(number) % 50}") if number.isdigit() else None
    key.renew()
AccessKey.objects.bulk_create(keys)
busy, quiet = (AccessKey.objects.get(name=name) for name in ("team-3", "team-rare"))
print(busy.pk, quiet.pk, teams["group-3"].pk, busy.rotate())
"""


class Shape(NamedTuple):
    """The size of a ledger to measure: its numbers of calls, of weeks, of keys, of calls with bodies, of end users.

    With 16,000 end users, some 10,000 have calls on a working day if there are five million calls in a year. With none,
    calls have no tags either.
    """

    calls: int = 20_000_000
    weeks: int = 52
    keys: int = 2000
    bodies: int = 200_000
    end_users: int = 16_000


class Verification(NamedTuple):
    """How long `ledger verify` took."""

    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger.pages", description=__doc__.partition("\n")[0])
    for name, most in Shape()._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=most)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--directory", type=Path, help="where the database is kept between runs")
    parser.add_argument("--fill-only", action="store_true", help="fill the database, and measure nothing")
    parser.add_argument("--print-only", action="store_true", help="do not write the figures into the results")
    arguments = parser.parse_args()
    shape = Shape(*(getattr(arguments, name) for name in Shape._fields))
    with ExitStack() as stack:
        directory = arguments.directory or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="chatproxy-bench-"))
        )
        directory.mkdir(parents=True, exist_ok=True)
        run(directory, shape, arguments)


def run(directory: Path, shape: Shape, arguments: argparse.Namespace) -> None:
    """Starts PostgreSQL and the gateway with a ledger of the size `shape`, and measures its pages.

    Deletes the database at the end, unless its directory was given as an option.
    """
    start = results.surroundings()
    postgres = BundledPostgres(directory)
    postgres.start()
    try:
        taken = prepare_bundled(directory, postgres, shape)
        if arguments.fill_only:
            return
        data_dir = directory / "data"
        with run_gateway("http://127.0.0.1:9", postgres.url, data_dir, ADMIN_PASSWORD=ADMIN_PASSWORD) as gateway:
            server = int((postgres.cluster / "postmaster.pid").read_text().splitlines()[0])
            found = measure(gateway, arguments.rounds, (gateway.process.pid, server))
        if not arguments.print_only:
            results.note("ledger", start, **shape._asdict(), megabytes=taken, **found)
    finally:
        postgres.stop()
        if arguments.directory is None:
            postgres.delete()


def prepare_bundled(directory: Path, postgres: BundledPostgres, shape: Shape) -> dict[str, float]:
    """Fills the running bundled PostgreSQL like `prepare`; PostgreSQL is not safe from crashes meanwhile.

    Raises SystemExit if the filling was broken off before.
    """
    refuse_unfinished(postgres.url)
    return prepare(directory, postgres.url, shape, without_safety(postgres))


def prepare(
    directory: Path, url: str, shape: Shape, while_filling: AbstractContextManager[None] | None = None
) -> dict[str, float]:
    """Fills a database with all tables and with calls; prints and returns their sizes on the disk, in MB.

    If the database has calls already, no calls are added; but its tables become those of this version. The context
    manager `while_filling` is entered before the filling, and left after it; it may restart PostgreSQL.
    """
    set_up(directory, url)
    from django.db import connection

    from usage.models import Request
    from usage.upkeep.label_sums.combining import combine_labels

    if not Request.objects.exists():
        close_connections()
        with while_filling or nullcontext():
            fill(shape.calls, weeks=shape.weeks, keys=shape.keys, bodies=shape.bodies, end_users=shape.end_users)
            combine_labels()
            _vacuum()
            close_connections()
    combine_labels()
    with connection.cursor() as cursor:
        _vacuum()
        taken = megabytes(cursor)
    print(f"{Request.objects.count():,} rows; MB: {', '.join(f'{name} {size:,.0f}' for name, size in taken.items())}")
    close_connections()
    return taken


def _vacuum() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def measure(gateway: Gateway, rounds: int, processes: tuple[int, ...]) -> dict[str, Any]:
    """Measures all pages, exports and the verification of a day; prints the figures, and returns them for the results.

    `processes` are the gateway and PostgreSQL, whose CPU is measured with the times.
    """
    client = gateway.sign_in()
    keys, key_text = issue_keys(gateway)
    open_my_usage(client, key_text)
    requests: dict[str, Callable[[], None]] = {
        **{name: partial(get, client, address) for name, address in pages(client, keys).items()},
        **{name: partial(get_beginning, client, address) for name, address in exports().items()},
    }
    times, cpu = time_in_rounds(requests, rounds, processes)
    lines = [
        {"what": name, "p50": statistics.median(taken), "p95": p95(taken), "cpu_ms": cpu[name]}
        for name, taken in times.items()
    ]
    print(f"{'':44}{'median':>10}{'p95':>10}{'CPU':>10}  ms")
    for one in lines:
        print(f"{one['what']:44}{one['p50']:>10.0f}{one['p95']:>10.0f}{one['cpu_ms']:>10.0f}")
    slowest = max(times, key=lambda name: statistics.median(times[name]))
    verified = figures([verify_a_day(gateway) for _ in range(VERIFICATIONS)])
    print(f"verify of a day: {verified['seconds']:.1f} s")
    return {"pages": lines, "slowest": {"what": slowest, "rounds": {"ms": times[slowest]}}, "verify_day": verified}


def issue_keys(gateway: Gateway) -> tuple[SampleKeys, str]:
    """Creates the access keys and teams of all keys and teams in the ledger.

    Returns the ids of a key with many calls, of one with few and of a team, and the secret of the first.
    """
    said = gateway.manage("shell", "--no-imports", "-c", ISSUING)
    assert said.returncode == 0, said.stderr
    busy, quiet, team, text = said.stdout.split()
    gateway.wait_until_known(text)
    return SampleKeys(busy, quiet, team), text


def open_my_usage(client: httpx2.Client, text: str) -> None:
    """Signs the admin's browser in to the site My usage as well, with the secret `text` of a key."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/my-usage/").text)
    assert token
    client.post("/my-usage/sign-in", data={"key": text, "csrfmiddlewaretoken": token[1]}).raise_for_status()


def get(client: httpx2.Client, address: str) -> None:
    """Requests a page; a page that gave up waiting for the database (503) counts with the time that it took."""
    answer = client.get(address)
    if answer.status_code != httpx2.codes.SERVICE_UNAVAILABLE:
        answer.raise_for_status()


def get_beginning(client: httpx2.Client, address: str) -> None:
    """Requests an export, and leaves as soon as its first bytes are there."""
    with client.stream("GET", address) as answer:
        answer.raise_for_status()
        assert next(answer.iter_raw())


def time_in_rounds(
    requests: Mapping[str, Callable[[], None]], rounds: int, processes: tuple[int, ...]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Makes all requests in turn, in a few rounds to warm up and then in `rounds` more.

    Returns the times of each, in milliseconds, and the CPU of `processes` that each has taken on average, in
    milliseconds. On a busy machine the CPU is the only figure to trust.
    """
    times: dict[str, list[float]] = {name: [] for name in requests}
    used: dict[str, float] = dict.fromkeys(requests, 0.0)
    for number in range(rounds + WARM_UP):
        for name, request in requests.items():
            time.sleep(PAUSE_SECONDS)  # pages without a login have a pace, and are refused beyond it
            before, started = sum(map(cpu_of_tree, processes)), time.perf_counter()
            request()
            milliseconds = 1000 * (time.perf_counter() - started)
            if number >= WARM_UP:
                times[name].append(milliseconds)
                used[name] += 1000 * (sum(map(cpu_of_tree, processes)) - before) / rounds
    return times, used


def p95(values: list[float]) -> float:
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]


def verify_a_day(gateway: Gateway) -> Verification:
    """Runs `ledger verify` for the calls since the beginning of yesterday, and measures how long it takes.

    Raises:
        AssertionError: the ledger has a fault, so its figures are worthless.
    """
    yesterday = datetime.now(UTC) - timedelta(days=1)
    started = time.perf_counter()
    said = gateway.manage("ledger", "verify", "--since", f"{yesterday:%Y-%m-%d}")
    assert said.returncode == 0, said.stdout + said.stderr
    return Verification(time.perf_counter() - started)


if __name__ == "__main__":
    main()
