"""What a backup brings back: no empty ledger in the place of a missing one, no call that counts twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from pytest_django.fixtures import Settings

from chatproxy.postgres.binaries import BundledPostgresError
from chatproxy.postgres.bundled import BundledPostgres
from tests.support.ledger.ledgers import assert_sums_are_right, begin, call, end, leave, letters, ship, stored_sums
from tests.support.ledger.months import months
from usage.journal.undelivered import DEAD_LETTERS, PRUNED
from usage.journal_shipping.delivery import Delivery
from usage.journal_shipping.shipper import adopt_dead, replay
from usage.models import Request
from usage.upkeep.retention import prune

NOW = datetime.now(UTC)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "data"
    made.mkdir()
    yield made
    for path in (made, tmp_path / "copy"):
        if path.exists():
            postgres = BundledPostgres(path)
            postgres.stop()
            postgres.delete()


def link_nowhere(path: Path) -> None:
    path.symlink_to("/var/lib/chatproxy/0123456789abcdef")


def link_to_nothing_of_ours(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))


def link_to_an_empty_directory(path: Path) -> None:
    path.with_name("elsewhere").mkdir()
    path.symlink_to(path.with_name("elsewhere"))


def link_that_is_relative(path: Path) -> None:
    path.symlink_to("../gone")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def half_a_cluster(path: Path) -> None:
    (path / "base").mkdir(parents=True)


LEFT: list[Callable[[Path], None]] = [
    link_nowhere, link_to_nothing_of_ours, link_to_an_empty_directory, link_that_is_relative, link_to_itself,
    half_a_cluster,
]  # fmt: skip


@pytest.mark.parametrize("left", LEFT)
def test_a_ledger_that_is_missing_is_not_begun_anew(data_dir: Path, left: Callable[[Path], None]) -> None:
    left(data_dir / "postgres")
    before = sorted(data_dir.rglob("*"))
    with pytest.raises(BundledPostgresError, match="to begin with an empty ledger") as refused:
        BundledPostgres(data_dir).start()
    assert "\n" not in str(refused.value)
    assert sorted(data_dir.rglob("*")) == before
    path = data_dir / "postgres"
    path.unlink() if path.is_symlink() else shutil.rmtree(path)
    BundledPostgres(data_dir)._check_is_ours()  # the way out that the words say: a start would begin one


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's database is elsewhere")
def test_a_copy_of_the_data_directory_without_its_database_is_refused(data_dir: Path, tmp_path: Path) -> None:
    postgres = BundledPostgres(data_dir)
    postgres.start()
    postgres.stop()
    copy = tmp_path / "copy"
    shutil.copytree(data_dir, copy, symlinks=True)
    moved = postgres.cluster.with_name("moved")
    postgres.cluster.rename(moved)  # as on another machine
    with pytest.raises(BundledPostgresError, match="where there is no database"):
        BundledPostgres(copy).start()
    moved.rename(postgres.cluster)
    BundledPostgres(copy).start()


@pytest.fixture
def _short(settings: Settings, transactional_db: None) -> Iterator[None]:
    """Rows are kept for ten days, to the day: they are in no month's partition."""
    settings.RETENTION_DAYS = 10
    with months():
        yield


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_short", "impatient_shipper")
@pytest.mark.parametrize("with_begins", [True, False])
def test_a_journal_is_not_shipped_again_after_its_rows_were_pruned(tmp_path: Path, with_begins: bool) -> None:
    rows = [call(NOW - timedelta(days=days, minutes=1)) for days in (1, 9, 10, 11, 20, 300)]
    open_call = call(NOW - timedelta(days=50))
    records = [record(row) for row in rows for record in ([begin, end] if with_begins else [end])]
    path = leave(tmp_path, *records, begin(open_call))
    backup = path.read_bytes()
    adopt_dead(tmp_path, Delivery(tmp_path))
    assert prune(all_at_once=True).rows == 5
    sums = stored_sums()
    for _ in range(2):
        path.write_bytes(backup)
        adopt_dead(tmp_path, Delivery(tmp_path))
        assert stored_sums() == sums
        assert Request.objects.count() == 2
        assert list(tmp_path.glob("*.journal")) == []
    kept = (tmp_path / PRUNED).read_bytes()
    assert kept.count(b"\n") == 2 * 5
    assert all(row["request_id"].encode() in kept for row in (*rows[2:], open_call))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_short", "impatient_shipper")
def test_what_was_never_pruned_is_shipped_however_old(tmp_path: Path) -> None:
    ship(tmp_path, end(call(NOW - timedelta(days=400))))
    assert Request.objects.count() == 1
    assert_sums_are_right()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_short", "impatient_shipper")
def test_a_dead_letter_of_before_is_not_shipped_again(tmp_path: Path) -> None:
    poison = call(NOW - timedelta(days=30), error_message="a\0")
    ship(tmp_path, end(poison))
    [letter] = letters(tmp_path)
    sums = stored_sums()
    assert prune(all_at_once=True).rows == 1
    (tmp_path / DEAD_LETTERS).write_bytes(orjson.dumps({**letter, "error_message": "a"}) + b"\n")
    replay(tmp_path)
    assert stored_sums() == sums
    assert Request.objects.count() == 0
