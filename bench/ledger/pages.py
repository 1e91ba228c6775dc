"""How fast the admin's pages are over a full ledger: `python -m bench.ledger.pages [--rows 5000000] [--rounds 40]`.

It needs only the development requirements: PostgreSQL is the bundled one, in a temporary directory that is removed
afterwards (with `--directory` it is kept, and used again by the next run). Each page is requested over HTTP from the
real server, one at a time: three times to warm up, then once in each of the rounds.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import httpx2

from bench.ledger.ledger_rows import RARE_KEY, RARE_MODEL, fill
from bench.ledger.shipper import cpu_of_tree, set_up
from chatproxy.postgres.bundled import BundledPostgres
from tests.support.servers.gateway import ACCESS_TOKEN, ADMIN_PASSWORD, Gateway, run_gateway

WARM_UP = 3
REQUESTS = "/admin/usage/request/"
KEYS = "/admin/proxyapi/accesskey/"
# Makes a key for each team of the ledger, with budgets near what the team has spent, and keys that were never used, so
# that there are more than a page of the list shows. Prints the id and the secret of the key team-3.
ISSUING = """
from datetime import UTC, datetime
from decimal import Decimal
from proxyapi.models import AccessKey
from usage.money.spent_and_reserved import spent_by
names = [f"team-{number}" for number in range(20)] + ["team-rare"] + [f"new-{number}" for number in range(60)]
missing = set(names) - set(AccessKey.objects.values_list("name", flat=True))
for name, spent in spent_by(sorted(missing), datetime.now(UTC).date()).items():
    part = Decimal(len(name) * 7 % 10 + 6) / 10
    budgets = {span: round(getattr(spent, span) * part + 1, 2) for span in ("day", "month", "total")}
    AccessKey.objects.issue(name, owner="Ada", **{f"budget_{span}": budget for span, budget in budgets.items()})
key = AccessKey.objects.get(name="team-3")
print(key.pk, key.rotate())
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger.pages", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--directory", type=Path, help="where the database is kept between runs")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        directory = arguments.directory or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="chatproxy-bench-"))
        )
        directory.mkdir(parents=True, exist_ok=True)
        run(directory, arguments.rows, arguments.rounds, keep=arguments.directory is not None)


def run(directory: Path, rows: int, rounds: int, *, keep: bool) -> None:
    """Starts PostgreSQL and the gateway over a ledger of `rows` rows, and measures how fast all pages are.

    Deletes the database at the end unless `keep` is set.
    """
    postgres = BundledPostgres(directory)
    postgres.start()
    try:
        prepare(directory, postgres.url, rows)
        data_dir = directory / "data"
        with run_gateway("http://127.0.0.1:9", postgres.url, data_dir, ADMIN_PASSWORD=ADMIN_PASSWORD) as gateway:
            client = gateway.sign_in()
            key_id, key_text = issue_keys(gateway)
            open_my_usage(client, key_text)
            server = int((postgres.cluster / "postmaster.pid").read_text().splitlines()[0])
            measure(client, pages(client, key_id), rounds, (gateway.process.pid, server))
    finally:
        postgres.stop()
        if not keep:
            postgres.delete()


def prepare(directory: Path, url: str, rows: int) -> None:
    """Fills a database with all tables, `rows` rows and all indexes; prints their sizes.

    A database that has rows already gets no more.
    """
    set_up(directory, url)
    from django.db import connection, connections

    from usage.models import Request

    if not Request.objects.exists():
        fill(rows)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute(
            "SELECT reltuples::bigint, pg_size_pretty(pg_table_size(oid)), pg_size_pretty(pg_indexes_size(oid))"
            " FROM pg_class WHERE relname = 'usage_request'"
        )
        count, table, indexes = cursor.fetchone()
    print(f"{count:,} rows: {table}, indexes {indexes}")
    connections.close_all()
    cast(Any, connections["default"]).pool.close()


def issue_keys(gateway: Gateway) -> list[str]:
    """Makes a key for each team in the ledger, and some more; returns the id and the secret of the key `team-3`."""
    said = gateway.manage("shell", "--no-imports", "-c", ISSUING)
    assert said.returncode == 0, said.stderr
    key_id, text = said.stdout.split()
    gateway.wait_until_known(text)
    return [key_id, text]


def open_my_usage(client: httpx2.Client, text: str) -> None:
    """Signs the admin's browser in to the site My usage as well, with the secret `text` of a key."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/my-usage/").text)
    assert token
    client.post("/my-usage/sign-in", data={"key": text, "csrfmiddlewaretoken": token[1]}).raise_for_status()


def pages(client: httpx2.Client, key_id: str) -> dict[str, str]:
    """Returns the addresses of all web pages to measure, by the description that is printed for each."""
    listing = client.get(REQUESTS).text
    one = re.search(r"request/([0-9a-f-]{36})/change", listing)
    older = re.search(r'href="\?([^"]*before=[^"]*)"', client.get(f"{REQUESTS}?to=2999-01-01T00:00&key=team-3").text)
    assert one
    assert older
    lists = {
        "newest": {},
        "a key": {"key": "team-3"},
        "a rare key": {"key": RARE_KEY},
        "a rare model": {"model": RARE_MODEL},
        "a model": {"model": "gpt-4.1-2025-04-14"},
        "a key that never had that model": {"key": "team-3", "model": RARE_MODEL},
        "a route": {"route": "/v1/embeddings"},
        "failed": {"outcome": "failed"},
        "timeouts": {"outcome": "timeout"},
        "status 429": {"status": "429"},
        "status 418, none": {"status": "418"},
        "streamed": {"stream": "yes"},
        "cost above $1": {"cost": "1"},
        "cost above $100, none": {"cost": "100"},
        "slower than a minute": {"slower": "60"},
        "last hour": {"range": "hour"},
        "a key's failures, streamed": {"key": "team-3", "outcome": "failed", "stream": "yes"},
        "text: an error": {"q": "took longer"},
        "text: nobody": {"q": "nobody-has-said-this"},
        "text: a key": {"q": "team-rar"},
        "an incoming id": {"q": "needle-in-the-hay"},
        "a request id": {"q": one[1]},
    }
    return {
        **{f"dashboard, {name}": f"/admin/?range={name}" for name in ("hour", "day", "week", "month")},
        "dashboard's JSON, day": "/admin/usage/dashboard.json?range=day",
        **{f"requests, {name}": f"{REQUESTS}?{urlencode(query)}" for name, query in lists.items()},
        "requests, second page of a key": f"{REQUESTS}?{older[1].replace('&amp;', '&')}",
        "one request": f"{REQUESTS}{one[1]}/change/",
        **{f"errors, {name}": f"/admin/usage/errors/?range={name}" for name in ("hour", "day", "week", "month")},
        "keys": KEYS,
        "keys, searched": f"{KEYS}?q=team",
        "a key": f"{KEYS}{key_id}/change/",
        **{f"a key's usage, {name}": f"{KEYS}{key_id}/usage/?range={name}" for name in ("day", "week", "month")},
        **{f"My usage, {name}": f"/my-usage/?range={name}" for name in ("day", "month")},
        "My usage's JSON, day": "/my-usage/data?range=day",
        "/usage, month by day and model": f"/usage?range=month&group_by=day,model&access_token={ACCESS_TOKEN}",
        "/metrics": f"/metrics?access_token={ACCESS_TOKEN}",
        "/": "/",
    }


def measure(client: httpx2.Client, addresses: dict[str, str], rounds: int, processes: tuple[int, ...]) -> None:
    """Requests every page in turn; prints the median and 95th percentile of its time, and the CPU that it took.

    The CPU is that of the gateway and of PostgreSQL (`processes`); on a busy machine it is the only figure to trust.
    """
    times: dict[str, list[float]] = {name: [] for name in addresses}
    used: dict[str, float] = dict.fromkeys(addresses, 0.0)
    for number in range(rounds + WARM_UP):
        for name, address in addresses.items():
            before, started = sum(map(cpu_of_tree, processes)), time.perf_counter()
            answer = client.get(address)
            milliseconds = 1000 * (time.perf_counter() - started)
            answer.raise_for_status()
            if number >= WARM_UP:
                times[name].append(milliseconds)
                used[name] += sum(map(cpu_of_tree, processes)) - before
    print(f"{'':44}{'median':>10}{'p95':>10}{'CPU':>10}  ms")
    for name, taken in times.items():
        p95 = sorted(taken)[math.ceil(len(taken) * 0.95) - 1]
        print(f"{name:44}{statistics.median(taken):>10.0f}{p95:>10.0f}{1000 * used[name] / rounds:>10.0f}")


if __name__ == "__main__":
    main()
