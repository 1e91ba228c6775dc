"""Journals of other versions of chatproxy: an older one is shipped, a newer one is kept until somebody can read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ledger.ledgers import begin, call, end, ship, stored
from usage import call_record
from usage.call_record import RECORD_VERSION
from usage.journal.records import frame
from usage.journal.undelivered import DAMAGED, NEWER, NEWER_RETRIED
from usage.journal_shipping.shipper import replay
from usage.models import Request

pytestmark = pytest.mark.django_db
NEXT = RECORD_VERSION + 1


def test_a_journal_without_a_version_is_shipped(tmp_path: Path) -> None:
    row = call()
    ship(tmp_path, begin(row), end(row))
    (request,) = stored(row["request_id"])
    assert request.outcome == "success"
    assert {request.team, request.owner, request.end_user, request.session} == {""}  # it had none of these fields
    assert not (tmp_path / NEWER).exists()


def test_a_newer_record_is_kept_and_its_call_has_a_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    newer, known = call(), call()
    ship(tmp_path, {**end(newer), "version": NEXT, "input_tokens": {"text": 5}}, {**end(known), "version": 2})
    guess, whole = stored(newer["request_id"], known["request_id"])
    assert (guess.outcome, whole.outcome) == ("interrupted", "success")
    assert (tmp_path / NEWER).read_bytes().count(b"\n") == 1
    assert not list(tmp_path.glob("*.journal"))
    assert "written by a newer version" in caplog.text


def test_a_replay_ships_what_this_version_can_read_by_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = call(), call()
    ship(tmp_path, {**begin(first), "version": NEXT}, {**end(first), "version": NEXT})
    ship(tmp_path, {**end(second), "version": NEXT + 1})
    assert replay(tmp_path).newer == 3  # nothing is lost by trying too early
    monkeypatch.setattr(call_record, "RECORD_VERSION", NEXT)  # the update
    assert replay(tmp_path).newer == 1
    assert [row.outcome for row in stored(first["request_id"], second["request_id"])] == ["success", "interrupted"]
    assert Request.objects.count() == 2
    assert (tmp_path / NEWER).read_bytes().count(b"\n") == 1
    assert not (tmp_path / NEWER_RETRIED).exists()


def test_a_damaged_line_before_a_newer_record_is_counted_once(tmp_path: Path) -> None:
    torn, newer = call(), call()
    ship(tmp_path, frame(end(torn))[:-1] + frame({**end(newer), "version": NEXT}))
    assert [row.outcome for row in stored(torn["request_id"], newer["request_id"])] == ["interrupted"] * 2
    for _ in range(2):
        tried = replay(tmp_path)
        assert (tried.newer, tried.damaged) == (1, 0)
    assert (tmp_path / DAMAGED).read_bytes().count(b"\n") == 1
