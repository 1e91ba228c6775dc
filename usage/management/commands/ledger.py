"""`python manage.py ledger …`: shows the state of the ledger, checks that it is complete, and repairs it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypedDict, Unpack

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection

from usage.database.clock import ClocksDiffer
from usage.database.partitions import is_locked
from usage.database.time_limits import without_time_limits
from usage.journal import segments
from usage.journal.undelivered import DAMAGED, DEAD_LETTERS, NEWER, PRUNED, read_letter
from usage.journal_shipping.delivery import GaveUp
from usage.journal_shipping.shipper import replay
from usage.live.shipping_state import no_shipper_runs
from usage.live.worker_files import leave_counts
from usage.models import LedgerState, Request
from usage.number_words import counted
from usage.sums.ranges import read_moment
from usage.upkeep import retention
from usage.upkeep.label_sums.combining import combine_labels
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.repricing import reprice, set_missing_kinds
from usage.upkeep.verify import find_faults, is_of_newer_version

# Records that could not be written to the database, by the file in which they are kept: a record, and what to know.
SET_ASIDE = {
    DEAD_LETTERS: ("dead letter", ", which `ledger replay` tries again"),
    DAMAGED: ("damaged record", f", in {DAMAGED}"),
    NEWER: ("record", " of a newer version, which `ledger replay` of that version writes"),
}

MOST_CONNECTIONS = 8  # a command has a pool of so many


class Options(TypedDict, total=False):
    """The parsed options of `manage.py ledger`; an option is present only if the chosen action has it."""

    action: str
    yes: bool
    since: datetime | None
    parallel: int
    all: bool


class Command(BaseCommand):
    help = "Shows, proves and repairs the ledger."
    requires_system_checks = ()  # they would load the admin, which takes as long as all else of a start

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("status", help="show what waits in the journal and what could not be written")
        verification = actions.add_parser("verify", help="prove that rows, sums and journal agree; exit code 1 if not")
        verification.add_argument("--since", type=_day, help="check this day, YYYY-MM-DD (UTC), and later ones only")
        verification.add_argument(
            "--parallel", type=_connections, default=2, help="checks that run at the same time, 1 to 8; default: 2"
        )
        actions.add_parser("replay", help="ship what dead processes have left, and try the dead letters again")
        actions.add_parser("deadletter", help="list the calls that the database refused")
        actions.add_parser("sum", help="compute all sums again: after an update, once no old code runs")
        pruning = actions.add_parser(
            "prune", help="delete rows older than RETENTION_DAYS and bodies older than BODY_RETENTION_DAYS, now"
        )
        pruning.add_argument(
            "--yes", action="store_true", help="delete all of them at once, even if they are of more than a month"
        )
        repricing = actions.add_parser("reprice", help="compute the cost of calls again, with today's price table")
        repricing.add_argument("--since", type=_day, required=True, help="first day, YYYY-MM-DD (UTC)")
        repricing.add_argument("--all", action="store_true", help="also price again calls that have a price")

    def handle(self, *_args: object, **options: Unpack[Options]) -> None:
        """Runs the chosen action of `manage.py ledger`, such as `status`, by the method of the same name."""
        self.journal: Path = settings.DATA_DIR / "journal"
        with without_time_limits():
            getattr(self, options["action"])(options)

    def status(self, _options: Options) -> None:
        """Prints the state of the ledger, one value a line, such as the size of the journals and the newest call."""
        waiting = sum(path.stat().st_size for path in self.journal.glob("*.journal"))
        newest = Request.objects.order_by("-request_id").values_list("started_at", flat=True).first()
        lines = {
            "journal": self.journal,
            "journals of processes": len(segments.writers(self.journal)),
            "bytes in the journal": f"{waiting:,}",
            "damaged records set aside": _count_lines(self.journal / DAMAGED),
            "records older than pruned": _count_lines(self.journal / PRUNED),
            "records of newer versions": _count_lines(self.journal / NEWER),
            "dead letters": _count_lines(self.journal / DEAD_LETTERS),
            "newest call in the table": newest or "none",
            "last pruned": LedgerState.load().pruned_at or "never",
        }
        for name, value in lines.items():
            self.stdout.write(f"{name:<28}{value}")

    def verify(self, options: Options) -> None:
        """Checks the ledger and prints each fault; exits with status 1 if there is a fault.

        Also prints how many records are set aside in files, which are no faults, and whether a newer version may be the
        cause of faults. What is checked goes to the standard error: DATA_DIR, the database and, on a terminal, the name
        of the running check.
        """
        database = connection.settings_dict
        place = f" on {database['HOST']}" if database["HOST"] else ""
        self.stderr.write(f"checking DATA_DIR {settings.DATA_DIR} and database {database['NAME']}{place}", str)
        progress = self.show_progress if self.stderr.isatty() else lambda _: None
        faults = 0
        for fault in find_faults(self.journal, options["since"], progress, options["parallel"]):
            progress("")
            self.stdout.write(fault)
            faults += 1
        progress("")
        for name, (record, what) in SET_ASIDE.items():
            if count := _count_lines(self.journal / name):
                self.stdout.write(f"beside the ledger: {counted(count, record)}{what}")
        self.stdout.write(counted(faults, "fault") if faults else "the ledger is whole")
        if faults:
            if is_of_newer_version():
                self.stdout.write(
                    "a newer version of chatproxy has migrated this database, and rows that it wrote may be among "
                    "these faults: verify with the newer version"
                )
            sys.exit(1)

    def show_progress(self, check: str) -> None:
        """Shows the name of the running check on the terminal; an empty text clears the line."""
        self.stderr.write(f"\r\x1b[K{f'checking {check} …' if check else ''}", style_func=str, ending="")
        self.stderr.flush()

    def replay(self, _options: Options) -> None:
        """Tries again to write the records to the database that could not be written before; prints the results.

        These are the dead letters (rows that the database has refused), the records of newer versions, and the journals
        of processes that have ended. While a shipper (which copies journals to the database) runs, the journals are
        left to it. Prints how many records were written, and how many are left.

        Raises:
            CommandError: the database cannot be reached.
        """
        try:
            with no_shipper_runs() as adopts:
                delivery = replay(self.journal, adopts=adopts)
        except GaveUp:
            raise CommandError("the database is away") from None
        self.stdout.write(
            f"delivered {counted(delivery.delivered, 'record')};"
            f" {counted(delivery.dead_letters, 'dead letter remains', 'dead letters remain')}"
        )
        if delivery.damaged:
            self.stdout.write(f"{counted(delivery.damaged, 'damaged record')} in {self.journal / DAMAGED}")
        if delivery.newer:
            self.stdout.write(f"{counted(delivery.newer, 'record')} of a newer version in {self.journal / NEWER}")

    def deadletter(self, _options: Options) -> None:
        """Prints request id, start time and database error of each dead letter: a row that the database has refused.

        For a letter that cannot be read, prints its length instead.
        """
        path = self.journal / DEAD_LETTERS
        for line in path.read_bytes().splitlines() if path.exists() else []:
            letter = read_letter(line)
            if letter is None:
                self.stdout.write(f"a line of {len(line)} bytes that cannot be read; a replay sets it aside")
                continue
            reason = str(letter.get("fault", "")).partition("\n")[0]
            self.stdout.write(f"{letter['request_id']}  {letter.get('started_at', '')}  {reason}")

    def sum(self, _options: Options) -> None:
        """Computes the sums of calls again from the calls' rows, as far as these still exist, and corrects wrong sums.

        Also marks estimated costs that an earlier release left unmarked, and computes the sums of past days and months
        by all labels together (end user and tags) anew. Prints how many hours had wrong sums, and how many costs were
        not marked.
        """
        # Older versions have left some estimated costs unmarked.
        marked = set_missing_kinds()
        mended = rebuild_totals()
        combine_labels(anew=True)
        self.stdout.write(
            f"added up; {counted(mended, 'hour was', 'hours were')} wrong,"
            f" {counted(marked, 'estimated cost was', 'estimated costs were')} not marked"
        )

    def prune(self, options: Options) -> None:
        """Deletes calls that are older than RETENTION_DAYS, and bodies that are older than BODY_RETENTION_DAYS.

        Prints how many were deleted. One run deletes the calls of at most one month, or of `PRUNED_AT_ONCE` where a
        table is not divided by month, and says whether older ones are left. With `--yes`, one run deletes all of them.

        Raises:
            CommandError: this machine's clock differs from the database's, or another transaction keeps the tables
                locked.
        """
        try:
            pruned = retention.prune(all_at_once=options["yes"])
        except ClocksDiffer as fault:
            raise CommandError(str(fault)) from None
        except OperationalError as error:
            if not is_locked(error):
                raise
            raise CommandError(
                "a dump, an export or a long query uses the tables; try again when it has ended"
            ) from None
        self.stdout.write(f"pruned {pruned.text}")
        if pruned.is_more_due:
            days = retention.PRUNED_AT_ONCE.days
            self.stdout.write(
                f"more is past its time; at most a month, or {days} days, go at once, and all of it with --yes"
            )

    def reprice(self, options: Options) -> None:
        """Computes the costs of stored calls again by the present prices; prints how many costs have changed.

        It includes calls since the day `--since` that have no cost yet; with `--all`, also those that have one. If the
        changes cannot be stored for `/metrics`, it prints an error.
        """
        since = options["since"]
        assert since is not None  # noqa: S101  (the parser requires it)
        changed = reprice(since, unpriced_only=not options["all"])
        self.stdout.write(f"repriced {counted(changed, 'call')}")
        try:
            leave_counts()
        except OSError as error:
            self.stderr.write(f"/metrics does not know of it: {error}")


def _day(text: str) -> datetime:
    """Parses a day in ISO 8601, such as 2026-12-31, and returns the beginning of that day in UTC.

    Raises:
        ArgumentTypeError: the text is not a day between 1971 and 2200.
    """
    try:
        return read_moment(date.fromisoformat(text).isoformat(), datetime.now(UTC))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day between 1971 and 2200, as 2026-12-31") from None


def _connections(text: str) -> int:
    """Parses a number of connections to the database, from 1 to `MOST_CONNECTIONS`.

    Raises:
        ArgumentTypeError: the text is not such a number.
    """
    if text not in map(str, range(1, MOST_CONNECTIONS + 1)):
        raise ArgumentTypeError(f"{text[:40]!r} is not a number from 1 to {MOST_CONNECTIONS}")
    return int(text)


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
