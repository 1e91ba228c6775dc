"""Measures the disk and CPU that stored bodies take: `python -m bench.ledger.kept_bodies [--calls 20000]`.

The bodies are chats made of this project's documentation, in sizes like those of real calls: half of the requests are
below 3 kB, one in twenty is above 40 kB; half of the answers are below 1.2 kB. They are stored like those in
`usage_requestbody`, with each size limit and each compression that the server has. The server is the bundled PostgreSQL
in a temporary directory, which has no lz4, or the one at `--url`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from pathlib import Path

import psycopg

from chatproxy.configuration.setting_reader import BASE_DIR
from chatproxy.postgres.bundled import BundledPostgres

LIMITS = (16 * 1024, 256 * 1024)
BATCH = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger.kept_bodies", description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--url", help="a database to measure in; its table `body` is replaced")
    options = parser.parse_args()
    if options.url:
        _measure_all(options.url, options.calls)
        return
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)  # noqa: S103  (PostgreSQL runs as another user when this runs as root)
        server = BundledPostgres(Path(directory))
        server.start()
        try:
            _measure_all(server.url, options.calls)
        finally:
            server.stop()


def _measure_all(url: str, calls: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        [offered] = connection.execute(
            "SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'"
        ).fetchone() or [[]]
        for limit in LIMITS:
            for compression in offered:
                _measure(connection, calls, limit, compression)


def _measure(connection: psycopg.Connection, calls: int, limit: int, compression: str) -> None:
    """Stores the bodies of `calls` calls, and prints how much disk space and CPU a million such calls would take."""
    connection.execute(
        "DROP TABLE IF EXISTS body; CREATE TABLE body (request_id uuid PRIMARY KEY,"
        f" request_body text COMPRESSION {compression} NOT NULL, response_body text COMPRESSION {compression} NOT NULL)"
    )
    [pid] = connection.execute("SELECT pg_backend_pid()").fetchone() or [0]
    chance = random.Random(1)
    paragraphs = _paragraphs()
    written, seconds = 0, 0.0
    for start in range(0, calls, BATCH):
        rows = [
            (_chat(chance, paragraphs, 3000, 1.6)[:limit], _chat(chance, paragraphs, 1200, 1.0)[:limit])
            for _ in range(min(BATCH, calls - start))
        ]
        written += sum(len(body) for row in rows for body in row)
        before = _cpu_seconds(pid)
        connection.execute(
            "INSERT INTO body SELECT gen_random_uuid(), * FROM unnest(%s::text[], %s::text[])",
            [list(column) for column in zip(*rows, strict=True)],
        )
        seconds += _cpu_seconds(pid) - before
    [size] = connection.execute("SELECT pg_total_relation_size('body')").fetchone() or [0]
    print(
        f"limit {limit // 1024} KiB, {compression}: {written / calls / 1000:.1f} kB a call, "
        f"{size / calls / 1000:.2f} GB and {seconds / calls * 1e6:.0f} s of PostgreSQL's CPU per million calls"
        f" ({seconds / calls * 1e6:.0f} µs each)"
    )


def _paragraphs() -> list[str]:
    paths = sorted((BASE_DIR / "docs").glob("*.md"))
    return [text for path in paths for text in path.read_text().split("\n\n") if len(text) > 80]


def _chat(chance: random.Random, paragraphs: list[str], median: float, spread: float) -> str:
    """Returns the body of a chat of about `median` bytes, in JSON; sizes are spread lognormally."""
    size = min(int(chance.lognormvariate(0, spread) * median), 2_000_000)
    messages: list[dict[str, str]] = []
    while (room := size - sum(len(message["content"]) for message in messages)) > 0:
        text = "\n\n".join(chance.choices(paragraphs, k=1 + room // 3000))
        messages.append({"role": chance.choice(("user", "assistant")), "content": text[:room]})
    return json.dumps({"model": "gpt-4.1", "messages": messages})


def _cpu_seconds(pid: int) -> float:
    """Returns the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
