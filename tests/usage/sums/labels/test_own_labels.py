"""`GET /usage` of a key by label says the same of what only another key has and of what nobody has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.http import QueryDict

from tests.support.ledger.ledgers import call
from usage.journal_shipping.rows import write_rows
from usage.models import LedgerState, Request
from usage.money.row_pricing import Pricer
from usage.sums.labels.label_groups import LabelsUnreadable
from usage.sums.labels.usage_report import read_query, read_usage
from usage.upkeep.label_sums import folding

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 10, 3, 12, tzinfo=UTC)
DAYS = "from=2026-10-01&to=2026-11-01"
# What is asked, with {} for a value or name that another key has, or that nobody has.
ASKED = (
    "end_user={}", "tag={}", "tag=project={}", "tag={}=x", "team={}", "owner={}", "team=mine&tag={}",
    "end_user=mine&tag={}", "group_by=end_user&end_user={}", "group_by=tag:{}", "group_by=tag:{},end_user",
    "group_by=team,day&tag={}", "end_user={}&tag=project", "key={}&group_by=team", "key={}",
    "key={}&group_by=tag:{},end_user", "model={}", "route={}",
)  # fmt: skip


@pytest.fixture
def _two_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of two keys. Of each label, the dearer values of `theirs` have sums, those of `mine` are folded."""
    for name in ("MOST_VALUES", "MOST_TAG_NAMES"):
        monkeypatch.setattr(folding, name, 1)
    theirs: dict[str, Any] = {"team": "theirs", "owner": "theirs", "end_user": "theirs", "output_tokens": 90_000}
    mine: dict[str, Any] = {"team": "mine", "owner": "mine", "end_user": "mine"}
    write_rows(Pricer().priced([
        call(NOON, key_name="theirs", tags=["theirs=theirs", "project=theirs"], **theirs),
        call(NOON, key_name="mine", tags=["project=mine", "own=x"], **mine),
    ]))  # fmt: skip
    folding.fold_labels(NOON + timedelta(days=60))


def answer(query: str, value: str, key: str | None = "mine") -> Any:
    """The answer to the request, or its error, with `?` for the value that was asked for."""
    try:
        found = read_usage(read_query(QueryDict(f"{DAYS}&{query.format(value, value)}"), NOON), key)
    except LabelsUnreadable as fault:
        return str(fault)
    return str(found).replace(value, "?")


@pytest.mark.usefixtures("_two_keys")
@pytest.mark.parametrize("are_pruned", [False, True])
@pytest.mark.parametrize("query", ASKED)
def test_what_others_have_is_as_if_nobody_had_it(query: str, are_pruned: bool) -> None:
    if are_pruned:
        Request.objects.all().delete()
        LedgerState.load()
        LedgerState.objects.update(pruned_before=NOON + timedelta(days=20))
    assert answer(query, "theirs") == answer(query, "nobody")


@pytest.mark.usefixtures("_two_keys")
def test_what_a_key_has_itself_is_said_to_be_complete() -> None:
    assert "incomplete" not in answer("team={}", "mine")
    assert "incomplete" in answer("end_user={}", "mine")  # folded
    assert "incomplete" not in answer("end_user={}", "theirs", None)  # the access token sees all names
    assert "incomplete" in answer("end_user={}", "nobody", None)
