"""`manage.py ledger`: what each action says, and its exit code."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import NOON, begin, call, end, leave, ship
from tests.support.ledger.months import months
from usage.journal.writer import Journal
from usage.models import LedgerState, ModelPrice, Request
from usage.upkeep import verify

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(verify, "SHIPPING_SECONDS", 0.0)
    (tmp_path / "journal").mkdir()
    return tmp_path / "journal"


def ledger(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("ledger", *arguments, stdout=out)
    return out.getvalue().splitlines()


def facts() -> dict[str, str]:
    return {line[:28].strip(): line[28:] for line in ledger("status")}


def test_status_of_a_new_ledger(journal: Path) -> None:
    journal.rmdir()
    assert facts() == {
        "journal": str(journal),
        "journals of processes": "0",
        "bytes in the journal": "0",
        "damaged records set aside": "0",
        "records older than pruned": "0",
        "records of newer versions": "0",
        "dead letters": "0",
        "newest call in the table": "none",
        "last pruned": "never",
    }


def test_status(journal: Path) -> None:
    ship(journal, end(call()), end(call(input_tokens=-1)), b"damaged\rin\x85two\n")
    LedgerState.objects.create(pk=1, pruned_at=NOON)
    path = leave(journal, end(call(response_body="x" * 2000)))
    living = Journal(journal, reserve_bytes=0)
    living.open()
    try:
        assert facts() == {
            "journal": str(journal),
            "journals of processes": "2",
            "bytes in the journal": f"{path.stat().st_size:,}",
            "damaged records set aside": "1",
            "records older than pruned": "0",
            "records of newer versions": "0",
            "dead letters": "1",
            "newest call in the table": "2026-11-01 12:00:00+00:00",
            "last pruned": "2026-11-01 12:00:00+00:00",
        }
    finally:
        living.close()


def test_verify(journal: Path) -> None:
    row = call()
    ship(journal, end(row))
    assert ledger("verify") == ["the ledger is whole"]
    Request.objects.update(status=500)
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("ledger", "verify", stdout=out)
    assert ended.value.code == 1
    assert out.getvalue() == f"row {row['request_id']} was changed after it was written\n1 fault\n"


def test_verify_of_some_days(journal: Path) -> None:
    ship(journal, end(call()))
    Request.objects.update(status=500)
    assert ledger("verify", "--since", "2026-11-02") == ["the ledger is whole"]
    with pytest.raises(SystemExit):
        ledger("verify", "--since", "2026-11-01")


@pytest.fixture
def newer_database() -> Iterator[None]:
    """The database has a migration that this version does not know."""
    migration = ("usage", "9999_of_a_newer_version")
    MigrationRecorder(connection).record_applied(*migration)
    yield
    MigrationRecorder(connection).record_unapplied(*migration)


@pytest.mark.usefixtures("newer_database")
def test_after_a_downgrade_verify_says_that_rows_of_the_newer_version_may_look_changed(
    journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ship(journal, end(call()))
    assert ledger("verify") == ["the ledger is whole"]
    Request.objects.update(digest="0" * 32)  # as a digest over a column that this version does not know
    with pytest.raises(SystemExit):
        call_command("ledger", "verify")
    assert capsys.readouterr().out.endswith("faults: verify with the newer version\n")


def test_verify_mentions_what_could_not_be_written(journal: Path) -> None:
    ship(journal, end(call()), end(call(input_tokens=-1)), b"damaged\n")
    assert ledger("verify") == [
        "beside the ledger: 1 dead letter, which `ledger replay` tries again",
        "beside the ledger: 1 damaged record, in damaged.log",
        "the ledger is whole",
    ]


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_verify_shows_its_progress_on_a_terminal(journal: Path) -> None:
    terminal = Terminal()
    call_command("ledger", "verify", stdout=StringIO(), stderr=terminal)
    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown[1].startswith("checking rows (1 of ")
    assert shown[-1] == ""
    out = StringIO()
    call_command("ledger", "verify", stdout=StringIO(), stderr=out)
    assert out.getvalue().startswith("checking DATA_DIR")
    assert out.getvalue().count("\n") == 1


def test_replay(journal: Path) -> None:
    poison = call(input_tokens=-1)
    ship(journal, end(poison))
    leave(journal, *(end(call()) for _ in range(3)))
    assert ledger("replay") == ["delivered 4 records; 1 dead letter remains"]
    assert Request.objects.count() == 4


def test_a_replay_beside_a_shipper_leaves_the_journals_of_dead_processes_to_it(journal: Path) -> None:
    """The shipper would take a journal that the replay has locked for that of a living process."""
    ship(journal, end(call(input_tokens=-1)))
    left = leave(journal, end(call()))
    with (journal.parent / "shipper.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ledger("replay") == ["delivered 1 record; 1 dead letter remains"]
        assert left.exists()
    assert ledger("replay") == ["delivered 2 records; 1 dead letter remains"]
    assert not left.exists()


def test_replay_without_a_database(journal: Path) -> None:
    leave(journal, end(call()))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE usage_request RENAME TO away")
    try:
        with pytest.raises(CommandError, match="the database is away"):
            ledger("replay")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO usage_request")
    assert ledger("replay") == ["delivered 1 record; 0 dead letters remain"]


def test_deadletter(journal: Path) -> None:
    assert ledger("deadletter") == []
    row = call(response_id="secret" * 40)
    ship(journal, end(row), begin(call()))
    (line,) = ledger("deadletter")
    assert line == f"{row['request_id']}  2026-11-01T12:00:00+00:00  value too long for type character varying(200)"


@pytest.mark.parametrize("number", ["0", "9", "two", "٣", "9" * 5000])
def test_verify_refuses_a_number_of_connections_that_it_cannot_have(number: str) -> None:
    with pytest.raises(CommandError, match="--parallel"):
        ledger("verify", "--parallel", number)


@pytest.mark.parametrize("number", ["1", "2", "8"])
def test_verify_finds_the_same_with_any_number_of_connections(journal: Path, number: str) -> None:
    ship(journal, *(end(call()) for _ in range(3)))
    Request.objects.update(method="PUT")
    with pytest.raises(SystemExit):
        ledger("verify", "--parallel", number)


def test_prune(journal: Path, settings: Settings) -> None:
    settings.RETENTION_DAYS, settings.BODY_RETENTION_DAYS = 10, 3
    now = datetime.now(UTC)
    with months():  # in no month's partition, rows go by the day
        ship(journal, *(end(call(now - timedelta(days=days), request_body="x")) for days in (1, 5, 11, 12)))
        assert ledger("prune", "--yes") == ["pruned 2 rows and 3 bodies"]
        assert ledger("prune") == ["pruned 0 rows and 0 bodies"]
        assert ledger("verify") == ["the ledger is whole"]


def test_reprice(journal: Path) -> None:
    ship(journal, end(call(response_model="ours")), end(call()))
    ModelPrice.objects.create(model="*", valid_from=datetime(2020, 1, 1, tzinfo=UTC), input=1, output=1)
    assert ledger("reprice", "--since", "2026-11-02") == ["repriced 0 calls"]
    assert ledger("reprice", "--since", "2026-11-01") == ["repriced 1 call"]
    assert ledger("reprice", "--since", "2026-11-01", "--all") == ["repriced 1 call"]


@pytest.mark.parametrize("action", ["verify", "reprice"])
@pytest.mark.parametrize("day", ["0001-01-01", "1970-12-31", "2201-01-01", "9999-12-31", "2026-02-29", "2026-13-01"])
def test_a_day_that_no_call_can_have_is_refused(action: str, day: str) -> None:
    with pytest.raises(CommandError, match="is not a day between 1971 and 2200"):
        ledger(action, "--since", day)


@pytest.mark.parametrize("day", ["1971-01-01", "2200-12-31"])
def test_the_first_and_the_last_day_can_be_given(journal: Path, day: str) -> None:
    assert ledger("verify", "--since", day) == ["the ledger is whole"]
    assert ledger("reprice", "--since", day) == ["repriced 0 calls"]


@pytest.mark.parametrize("arguments", [[], ["reprice"], ["reprice", "--since", "yesterday"], ["explode"]])
def test_a_wrong_call_says_so(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        ledger(*arguments)
