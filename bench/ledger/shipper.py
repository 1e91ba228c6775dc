"""Measures how fast journals are shipped, on one core: `python -m bench.ledger.shipper [--calls 100000] [--rounds 1]`.

It needs only this project's requirements: PostgreSQL is the bundled one, in a temporary directory that is removed
afterwards. Each call has a begin and an end record, with 2 KB of bodies at most. The product's own code writes them to
the database, from the reading of the segments to the commit, with pricing, digests, bodies and sums.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

from bench.stand.processes import SERVER_CORE, pinned
from chatproxy.configuration import setting_reader
from chatproxy.postgres.bundled import BundledPostgres

SEGMENT_CALLS = 4000
KEPT_BYTES = 1024  # of each body
MODELS = ("gpt-4o-mini-2024-07-18", "gpt-4.1-2025-04-14", "gpt-5-2025-08-07", "o4-mini-2025-04-16")
ROUTES = ("/openai", "/openai2", "/v1/chat/completions", "/v1/responses", "/v1/embeddings")
WORDS = (
    "quick",
    "brown",
    "foxes",
    "jump",
    "over",
    "lazy",
    "dogs",
    "while",
    "seven",
    "wizards",
    "judge",
    "their",
    "vows",
)


class Speed(NamedTuple):
    """How fast a journal was written into the tables: rows per second by the clock, and per second of CPU.

    The CPU is that of Python and of PostgreSQL; `postgres_share` is PostgreSQL's part of it.
    """

    by_clock: float
    by_cpu: float
    postgres_share: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger.shipper", description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="print where Python's time goes")
    parser.add_argument("--json", action="store_true", help="print the figures of all rounds as JSON, for bench itself")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name, pinned(SERVER_CORE):
        found = run(Path(name), arguments.calls, arguments.rounds, profile=arguments.profile)
    for speed in found:
        print(
            f"{speed.by_clock:,.0f} rows a second, {speed.by_cpu:,.0f} a second of CPU,"
            f" PostgreSQL's part of the CPU is {speed.postgres_share:.0%}"
        )
    if arguments.json:
        print(json.dumps(found))


def speeds(calls: int, rounds: int) -> list[Speed]:
    """Measures in each of several rounds how fast a journal of `calls` calls gets into the tables.

    This runs in a process of its own, which has Django loaded with settings of its own.
    """
    command = [sys.executable, "-m", "bench.ledger.shipper", "--calls", str(calls), "--rounds", str(rounds), "--json"]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [Speed(*figures) for figures in json.loads(said.splitlines()[-1])]


def run(directory: Path, calls: int, rounds: int, *, profile: bool) -> list[Speed]:
    """Measures, in each round, how fast a new journal of `calls` calls gets into a new PostgreSQL."""
    postgres = BundledPostgres(directory)
    postgres.start()
    try:
        set_up(directory, postgres.url)
        found: list[Speed] = []
        for number in range(rounds):
            journal = directory / "journal"
            write_journal(journal, calls, seed=number)
            server = int((postgres.cluster / "postmaster.pid").read_text().splitlines()[0])
            theirs, started, ours = cpu_of_tree(server), time.perf_counter(), cpu_of_us()
            ship(journal, profile=profile)
            seconds, ours = time.perf_counter() - started, cpu_of_us() - ours
            theirs = cpu_of_tree(server) - theirs
            found.append(Speed(calls / seconds, calls / (ours + theirs), theirs / (ours + theirs)))
        assert_whole(calls * rounds)
        return found
    finally:
        postgres.stop()
        postgres.delete()


def set_up(directory: Path, url: str, *migrations: str) -> None:
    """Loads Django for the database at `url`, and creates the database's tables.

    `migrations` is an app and the name of one of its migrations: then only the tables up to that migration are created.
    """
    for setting in setting_reader.SETTINGS:
        os.environ.pop(setting.name, None)
    os.environ |= {setting_reader.NO_ENV_FILES: "1", "DATA_DIR": str(directory), "DATABASE_URL": url}
    os.environ["DJANGO_SETTINGS_MODULE"] = "chatproxy.settings"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", *migrations, verbosity=0)


def write_journal(journal: Path, calls: int, seed: int) -> None:
    """Writes the records of `calls` made-up calls into journal files, as a worker that has died leaves them.

    Another `seed` makes other calls.
    """
    from uuid_utils import uuid7

    from usage.journal.records import frame

    journal.mkdir(mode=0o700, exist_ok=True)
    writer, chance = uuid7(), random.Random(seed)
    start = datetime.now(UTC) - timedelta(hours=3)
    for number in range(0, calls, SEGMENT_CALLS):
        lines: list[bytes] = []
        for nth in range(number, min(number + SEGMENT_CALLS, calls)):
            begin, end = records(str(uuid7()), start + timedelta(hours=3) * nth / calls, chance)
            lines += [frame(begin), frame(end)]
        (journal / f"{writer}.{number // SEGMENT_CALLS + 1:08d}.journal").write_bytes(b"".join(lines))


def records(request_id: str, moment: datetime, chance: random.Random) -> tuple[Any, Any]:
    """Makes the begin and the end record of a made-up call at the time `moment`."""
    team = chance.randrange(20)
    model, route = MODELS[(team + (chance.random() < 0.2)) % len(MODELS)], ROUTES[team % len(ROUTES)]
    tokens = {"prompt_tokens": chance.randrange(20, 4000), "completion_tokens": chance.randrange(1, 1500)}
    duration = round(chance.lognormvariate(7, 1), 3)
    request_bytes, response_bytes = chance.randrange(200, 20_000), chance.randrange(500, 8000)
    facts = {
        "request_id": request_id,
        "incoming_request_id": "",
        "key_name": f"team-{team}",
        "method": "POST",
        "route": route,
        "request_model": model[:-11],
        "stream": chance.random() < 0.5,
        "started_at": moment,
        "request_bytes": request_bytes,
        "client_address": f"10.0.{chance.randrange(256)}.{chance.randrange(256)}",
        "user_agent": "OpenAI/Python 2.9.0",
    }
    failed = chance.random() < 0.02
    end = {
        **facts,
        "upstream_request_id": f"req_{chance.getrandbits(128):032x}",
        "response_id": "" if failed else f"chatcmpl-{chance.getrandbits(128):032x}",
        "response_model": "" if failed else model,
        "service_tier": "default",
        "status": 429 if failed else 200,
        "outcome": "upstream_error" if failed else "success",
        "error_type": "rate_limit_error" if failed else "",
        "error_code": "rate_limit_exceeded" if failed else "",
        "error_message": "Rate limit reached." if failed else "",
        "duration_ms": duration,
        "time_to_first_chunk_ms": round(duration / 3, 3),
        "upstream_ms": round(duration - 2, 3),
        "overhead_ms": 2.0,
        "response_bytes": response_bytes,
        "input_tokens": tokens["prompt_tokens"],
        "output_tokens": tokens["completion_tokens"],
        "cached_tokens": 0,
        "usage": {**tokens, "total_tokens": sum(tokens.values()), "prompt_tokens_details": {"cached_tokens": 0}},
        "usage_source": "exact",
        "request_body": text(chance, request_bytes),
        "response_body": text(chance, response_bytes),
    }
    return {"kind": "begin", **facts}, {"kind": "end", **end}


def text(chance: random.Random, size: int) -> str:
    """Makes a body of `size` bytes from random English words, as the ledger stores it if `LOG_BODY_BYTES` is 1024."""
    kept = " ".join(chance.choices(WORDS, k=KEPT_BYTES // 5 + 1))[: min(size, KEPT_BYTES)]
    return kept if size <= KEPT_BYTES else f"{kept}… <{size - KEPT_BYTES:,} bytes cut>"


def ship(journal: Path, *, profile: bool) -> None:
    """Writes all records of the journal to PostgreSQL; with `profile`, prints in which functions the time was spent."""
    from usage.journal_shipping.delivery import Delivery
    from usage.journal_shipping.shipper import adopt_dead

    if not profile:
        adopt_dead(journal, Delivery(journal))
        return
    import cProfile

    profiler = cProfile.Profile()
    profiler.runcall(adopt_dead, journal, Delivery(journal))
    profiler.print_stats("tottime")


def assert_whole(calls: int) -> None:
    """Checks that the ledger's rows, bodies and sums each count exactly `calls` calls; else ends the run with an error.

    So no speed is printed for a shipper that has lost something.
    """
    from django.db import connection, connections

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM usage_request), (SELECT count(*) FROM usage_requestbody),"
            " (SELECT sum(calls) FROM usage_usagehour), (SELECT sum(calls) FROM usage_usageday)"
        )
        found = set(cursor.fetchone())
    connections.close_all()
    cast(Any, connections["default"]).pool.close()
    if found != {calls}:
        raise SystemExit(f"the ledger is not whole: {found} where {calls} were expected")


def cpu_of_us() -> float:
    """Returns the CPU seconds that this process has used since its start."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_of_tree(pid: int) -> float:
    """Returns the CPU seconds that a process and its children have used since their start.

    Children that have ended are included (proc(5)).
    """
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if path.parent.name == str(pid):
            ticks += sum(map(int, fields[11:15]))
        elif fields[1] == str(pid):
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
