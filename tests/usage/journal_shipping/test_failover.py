"""After a failover, in which the newest rows are lost, the files of the journals that are left are shipped again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.ledger.ledgers import NOON, assert_sums_are_right, begin, call, end, leave, stored
from usage.call_record import CallRecord
from usage.journal.records import frame
from usage.journal_shipping import delivery as delivery_module
from usage.journal_shipping.delivery import Delivery
from usage.journal_shipping.rows import write_rows
from usage.journal_shipping.shipment import JournalShipment
from usage.journal_shipping.shipper import adopt_dead
from usage.models import Request

pytestmark = pytest.mark.django_db(transaction=True)


class Failover:
    """A database that loses the rows written to it until `happen`, as an asynchronous standby does that takes over.

    `at_batch` makes that happen right after the batch of this number. `batches` counts the batches written.
    """

    def __init__(self) -> None:
        self.started_at, self.batches, self.at_batch = NOON, 0, 0
        self._is_over = False

    def happen(self) -> None:
        self._is_over, self.started_at = True, self.started_at + timedelta(hours=1)

    def write(self, rows: Sequence[CallRecord]) -> int:
        self.batches += 1
        written = write_rows(rows) if self._is_over else len(rows)
        if self.batches == self.at_batch:
            self.happen()
        return written


@pytest.fixture
def failover(monkeypatch: pytest.MonkeyPatch) -> Failover:
    failover = Failover()
    monkeypatch.setattr(delivery_module, "write_rows", failover.write)
    monkeypatch.setattr(delivery_module, "database_started_at", lambda: failover.started_at)
    return failover


def assert_has_all(rows: Sequence[dict[str, Any]]) -> None:
    assert [request.outcome for request in stored(*(row["request_id"] for row in rows))] == ["success"] * len(rows)
    assert Request.objects.count() == len(rows)
    assert_sums_are_right()


def test_the_file_of_a_living_process_is_shipped_again(tmp_path: Path, failover: Failover) -> None:
    rows = [call(), call(), call()]
    path = leave(tmp_path, begin(rows[0]), end(rows[0]), begin(rows[1]), end(rows[1]), begin(rows[2]))
    shipment = JournalShipment(Delivery(tmp_path))
    shipment.ship_new([path])
    failover.happen()
    with path.open("ab") as file:
        file.write(frame(end(rows[2])))
    shipment.ship_new([path])
    assert_has_all(rows)
    assert shipment.shipped_bytes == {path.name: path.stat().st_size}


def test_a_finished_file_is_deleted_only_when_the_server_of_now_has_its_rows(
    tmp_path: Path, failover: Failover
) -> None:
    rows, failover.at_batch = [call(), call()], 1
    paths = [leave(tmp_path, end(row), writer=f"writer-{number}") for number, row in enumerate(rows)]
    JournalShipment(Delivery(tmp_path)).ship_new(paths)
    assert [path.exists() for path in paths] == [False, True]
    assert_has_all(rows)


def test_the_journal_of_a_dead_process_is_shipped_again(tmp_path: Path, failover: Failover) -> None:
    rows, failover.at_batch = [call(), call()], 1
    leave(tmp_path, begin(rows[0]), end(rows[0]), begin(rows[1]), end(rows[1]))
    adopt_dead(tmp_path, Delivery(tmp_path))
    assert_has_all(rows)
    assert list(tmp_path.glob("*.journal")) == []


def test_while_the_server_is_the_same_nothing_is_shipped_twice(tmp_path: Path, failover: Failover) -> None:
    failover.happen()
    row = call()
    path = leave(tmp_path, begin(row), end(row))
    shipment = JournalShipment(Delivery(tmp_path))
    for _ in range(3):
        shipment.ship_new([path])
    assert failover.batches == 1
    assert_has_all([row])
