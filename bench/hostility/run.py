"""Measures well-behaved calls during attacks: `python -m bench.hostility.run [--only WORD] [--rounds 3]`.

The gateway has one worker, which shares a core with PostgreSQL; upstream, the good client and the attacker
(`bench.hostility.stranger`) share the other core. In each round, good calls are measured first without the attack
("quiet"), then with it. The median of the rounds counts; for memory and disk, the worst round. DATA_DIR and TMPDIR are
on a small tmpfs if this process may mount one, so that everything that an attack writes shows as lost free space.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from bench.hostility import good_calls
from bench.hostility.attacks import Attack, key_holders, strangers
from bench.hostility.good_calls import Good
from bench.reporting import results
from bench.stand.load import Asked
from bench.stand.processes import LOAD_CORE, SERVER_CORE, allow_many_sockets, cpu_of, pinned
from bench.stand.requests import MIB, plain
from bench.stand.stand import Stand, gateway_on, upstream
from chatproxy.configuration import setting_reader
from chatproxy.postgres.bundled import BundledPostgres

CHAT = "/v1/chat/completions"
DESCRIPTORS = 2200  # that the gateway may open: as many as docs/settings.md demands for 1,000 parallel calls
FEW_DESCRIPTORS = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh")
AS_SHIPPED = {"INVALID_KEYS_PER_MINUTE": "", "MAX_PARALLEL_REQUESTS": ""}  # the defaults; tests set higher limits
DISK = 900 * MIB
MEASURED_SECONDS = 6.0
SETTLING_SECONDS = 1.0
SAMPLE_SECONDS = 0.05
LEAST_RATE, MOST_P99, MOST_MEMORY, MOST_DISK = 0.8, 4.0, 100_000_000, 16 * MIB
LIMITED = ("--requests-per-minute", "60")


class Watched(NamedTuple):
    """The resources of a worker that an attack has used: memory in bytes (before, and at its peak), disk, and files.

    `disk`: by how many bytes the free space shrank at most. `descriptors`: the most file descriptors that were open.
    """

    before: int
    peak: int
    disk: int
    descriptors: int


class Row(NamedTuple):
    """The figures of one attack, as they are printed in the results.

    Times are in milliseconds, rates in calls a second, sizes in bytes. `quiet_…` are the figures of good calls without
    the attack. `share` is the part of a core that the worker spends on the attack alone; of all figures it depends
    least on what else the machine does. `by_design` is the part of the memory that the server is meant to use.
    `attacker` is the attacker's report of what it did.
    """

    name: str
    quiet_rate: float
    rate: float
    quiet_p50: float
    p50: float
    quiet_p99: float
    p99: float
    share: float
    failed: int
    before: int
    peak: int
    after: int
    by_design: int
    disk: int
    descriptors: int
    attacker: dict[str, Any]

    def faults(self) -> list[str]:
        """Returns the names of the goals that the server missed during this attack; an empty list if it missed none."""
        tests = {
            "rate": self.rate < LEAST_RATE * self.quiet_rate,
            "p99": self.p99 >= MOST_P99 * self.quiet_p99,
            "memory": self.peak - self.before >= MOST_MEMORY + self.by_design,
            "disk": self.disk > MOST_DISK,
            "failed calls": self.failed > 0,
        }
        return [name for name, is_missed in tests.items() if is_missed]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostility.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="attacks whose name has this word; bench/RESULTS.md stays as it is")
    parser.add_argument("--checkout", type=Path, default=setting_reader.BASE_DIR, help="of the code that is attacked")
    arguments = parser.parse_args()
    allow_many_sockets()
    start = results.surroundings()
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, attacks in (("strangers", strangers()), ("key_holders", key_holders(""))):
        rows = [
            on_its_own_gateway(
                arguments.checkout.resolve(), attack, number, arguments.rounds, has_key=kind == "key_holders"
            )
            for number, attack in enumerate(attacks)
            if arguments.only in attack.name
        ]
        found[kind] = [{**row._asdict(), "missed": row.faults()} for row in rows]
    if not arguments.only and arguments.checkout == setting_reader.BASE_DIR:
        results.note("hostility", start, **found)


def on_its_own_gateway(checkout: Path, attack: Attack, number: int, rounds: int, *, has_key: bool) -> Row:
    """Starts a new gateway, and measures one attack on it; an older one would still have earlier attacks' memory."""
    with gateway(checkout) as (it, places):
        key = it.gateway.make_key(f"limited-{number}", *LIMITED) if has_key else ""
        return measure(it, places, attack, number, key, rounds)


@contextmanager
def gateway(checkout: Path) -> Iterator[tuple[Stand, list[Path]]]:
    """Runs a gateway that may open few files until the `with` block ends; yields it and the directories it fills."""
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name, pinned(SERVER_CORE), small_disk(name) as disk:
        postgres = BundledPostgres(Path(name))
        postgres.start()
        (disk / "tmp").mkdir()
        try:
            with (
                upstream() as url,
                gateway_on(
                    url, disk / "data", postgres, checkout, FEW_DESCRIPTORS, TMPDIR=str(disk / "tmp"), **AS_SHIPPED
                ) as it,
            ):
                yield it, [disk / "data", disk / "tmp"]
        finally:
            postgres.stop()
            postgres.delete()


@contextmanager
def small_disk(directory: str) -> Iterator[Path]:
    """Yields a directory on a small tmpfs, or an ordinary directory if this process may not mount a tmpfs."""
    disk = Path(directory) / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)],  # noqa: S607  (mount(8), as found)
            check=False,
            capture_output=True,
        ).returncode
    )
    try:
        yield disk
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)  # noqa: S607  (umount(8), as found)


def measure(it: Stand, places: Sequence[Path], attack: Attack, number: int, key: str, rounds: int) -> Row:
    """Measures a well-behaved client's calls without and with an attack, in turns; prints and returns the figures."""
    asked = Asked(it.server.url, plain(CHAT, it.server.key))
    workers = it.gateway.worker_pids
    quiet: list[Good] = []
    attacked: list[Good] = []
    watched: list[Watched] = []
    said: list[dict[str, Any]] = []
    shares: list[float] = []
    for _ in range(rounds):
        quiet.append(good_calls.measure(asked, MEASURED_SECONDS))
        with watching(workers[0], places) as sampled, stranger(number, it.server.url, attack.lead, key) as words:
            shares.append(share_of_a_core(workers, attack.lead))
            attacked.append(good_calls.measure(asked, MEASURED_SECONDS))
        watched.append(sampled[0])
        said.append(words[0])
        time.sleep(SETTLING_SECONDS)
    row = Row(
        name=attack.name,
        **{f"quiet_{name}": middle(quiet, field) for name, field in FIELDS.items()},
        **{name: middle(attacked, field) for name, field in FIELDS.items()},
        share=statistics.median(shares),
        failed=sum(good.failed for good in attacked),
        before=watched[0].before,
        peak=watched[0].before + max(one.peak - one.before for one in watched),
        after=memory(workers[0]),
        by_design=attack.memory,
        disk=max(one.disk for one in watched),
        descriptors=max(one.descriptors for one in watched),
        attacker=said[-1],
    )
    print(as_text(row), flush=True)
    return row


def share_of_a_core(pids: Sequence[int], seconds: float) -> float:
    """Waits for `seconds`, and returns the share of a core that the processes used in the second half of that time."""
    time.sleep(seconds / 2)
    cpu, start = cpu_of(pids), time.monotonic()
    time.sleep(seconds / 2)
    return (cpu_of(pids) - cpu) / (time.monotonic() - start)


FIELDS = {"rate": "calls_per_second", "p50": "p50", "p99": "p99"}


def middle(found: Sequence[Good], field: str) -> float:
    """Returns the median, over several results, of the figure called `field`."""
    return float(statistics.median(getattr(good, field) for good in found))


@contextmanager
def stranger(number: int, url: str, lead: float, key: str) -> Iterator[list[dict[str, Any]]]:
    """Runs a process that attacks the server; at the end of the `with` block, the yielded list has its report."""
    seconds = lead + MEASURED_SECONDS + 1
    command = [
        sys.executable,
        "-m",
        "bench.hostility.stranger",
        str(number),
        url,
        str(seconds),
        *([key] if key else []),
    ]
    words: list[dict[str, Any]] = []
    with pinned(LOAD_CORE), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield words
        words.append(json.loads(process.stdout.read()))


@contextmanager
def watching(pid: int, places: Sequence[Path]) -> Iterator[list[Watched]]:
    """Watches a process's memory and disk space; after the `with` block, the yielded list has the worst values."""
    before, free = memory(pid), free_bytes(places)
    worst = {"peak": before, "disk": 0, "descriptors": 0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            worst["peak"] = max(worst["peak"], memory(pid))
            worst["disk"] = max(worst["disk"], free - free_bytes(places))
            worst["descriptors"] = max(worst["descriptors"], len(os.listdir(f"/proc/{pid}/fd")))

    thread = threading.Thread(target=watch)
    thread.start()
    found: list[Watched] = []
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.append(Watched(before, **worst))


def memory(pid: int) -> int:
    """Returns the bytes of memory that a process uses (its resident set size)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def free_bytes(places: Sequence[Path]) -> int:
    """Returns the number of free bytes on the fullest of the disks that have these directories.

    Directories that do not exist are ignored.
    """
    found = []
    for place in places:
        with suppress(FileNotFoundError):
            disk = os.statvfs(place)
            found.append(disk.f_bavail * disk.f_frsize)
    return min(found)


def as_text(row: Row) -> str:
    line = row.attacker["bytes_per_second"] / 1e6
    return (
        f"{row.name}\n"
        f"    calls/s {row.quiet_rate:.0f} → {row.rate:.0f}, p50 {row.quiet_p50:.1f} → {row.p50:.1f} ms,"
        f" p99 {row.quiet_p99:.1f} → {row.p99:.1f} ms, failed {row.failed},"
        f" worker's CPU for the attack {row.share:.0%}\n"
        f"    memory {row.before / 1e6:.0f} → {row.peak / 1e6:.0f} → {row.after / 1e6:.0f} MB,"
        f" disk lost {row.disk / 1e6:.0f} MB, descriptors {row.descriptors}\n"
        f"    the attacker: {line:.1f} MB/s, {row.attacker['connections']} connections, {row.attacker['requests']}"
        f" requests, CPU {row.attacker['cpu_percent']:.0f} %, answers {row.attacker['answers']}\n"
        f"    {'missed: ' + ', '.join(row.faults()) if row.faults() else 'held'}"
    )


if __name__ == "__main__":
    main()
