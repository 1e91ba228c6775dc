"""The command line: `python -m tests.chaos [--short] [--seed N] [--only NAME]`; exit code 1 if a book disagrees."""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos import latency
from tests.chaos.books import COLUMNS, compare, read_books
from tests.chaos.faults import FAULTS, ON_A_SMALL_DISK, Fault
from tests.chaos.lab import Lab, running_lab
from tests.chaos.load import Load

LONGEST = {True: 300.0, False: 1200.0}  # seconds; then it is given up
SHOWN = 10  # offenders
KEPT_LOG = Path(tempfile.gettempdir()) / "chatproxy-chaos.log"


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (a command of the console)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="less than a minute")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="of what is left to chance")
    parser.add_argument("--only", action="append", default=[], help="a fault's name; may be given again")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended also then
    say(f"seed {arguments.seed}")
    with running_lab() as lab:
        faults = [fault for fault in FAULTS if is_wanted(fault, arguments, lab)]
        return asyncio.run(run(lab, faults, short=arguments.short, seed=arguments.seed))


def is_wanted(fault: Fault, arguments: argparse.Namespace, lab: Lab) -> bool:
    if arguments.only and fault.name not in arguments.only:
        return False
    if fault.happen in ON_A_SMALL_DISK and not lab.has_tmpfs:
        say(f"{fault.name}: left out, a small file system can only be mounted by root")
        return False
    return bool(arguments.only) or not (fault.full_only and arguments.short)


async def run(lab: Lab, faults: list[Fault], *, short: bool, seed: int) -> int:
    load = Load(lab.server.url, seed)
    async with asyncio.timeout(LONGEST[short]), load.running():
        await asyncio.sleep(1 if short else 5)
        for fault in faults:
            load.phase = fault.name
            began = time.monotonic()
            remark = await asyncio.to_thread(fault.happen, lab, short)
            say(f"{fault.name}: {time.monotonic() - began:.1f} s{'; ' + remark if remark else ''}")
        latencies = await latency.measure(lab, load, rounds=2 if short else 10, seconds=1 if short else 2)
        load.phase = "afterwards"
        await asyncio.sleep(1)
    return await asyncio.to_thread(judge, lab, load, faults, latencies)


def judge(lab: Lab, load: Load, faults: list[Fault], latencies: latency.Latencies) -> int:
    unnoticed = {fault.name for fault in faults if fault.unnoticed} | {latency.PHASE, "calm", "afterwards"}
    lines, offenders = compare(read_books(lab, load.book, unnoticed))
    say("\n" + table(lines))
    say(f"\n{latencies}")
    verified = lab.server.manage("ledger", "verify")
    say(verified.stdout.strip() or verified.stderr.strip())
    if verified.returncode != 0:
        offenders.append("`manage.py ledger verify` finds faults")
    if latencies.p50_ratio > latency.MOST:
        offenders.append("callers wait for the database")
    offenders += [f"in the server's log: {trace}" for trace in lab.server.tracebacks()]
    if (lab.journal / "deadletter.log").exists():
        offenders.append("there are dead letters")
    for offender in offenders[:SHOWN]:
        say(f"\nOFF: {offender}")
    if offenders:
        shutil.copy(lab.server.log, KEPT_LOG)
        say(f"\nthe server's log: {KEPT_LOG}")
    say(f"\n{len(offenders)} things are off" if offenders else "\nthe three books agree")
    return 1 if offenders else 0


def table(lines: dict[str, Counter[str]]) -> str:
    total: Counter[str] = sum(lines.values(), Counter())
    head = f"{'':<24}" + "".join(f"{name:>12}" for name in COLUMNS)
    rows = [
        f"{name:<24}" + "".join(f"{counts[column]:>12}" for column in COLUMNS)
        for name, counts in [*lines.items(), ("total", total)]
    ]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    sys.exit(main())
