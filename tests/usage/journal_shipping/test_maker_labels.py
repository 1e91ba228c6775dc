"""The cost of a response is for what its call was for, also if the usage is learnt from a later call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.ledger.ledgers import Row, stored
from tests.support.ledger.response_rows import (
    EXACT,
    assert_sums_are_right,
    cost_of,
    deliver,
    left,
    looked,
    queued,
    seen,
)
from usage.models import LabelTotal, TeamDay

pytestmark = pytest.mark.django_db

LABELS: Any = {"team": "search", "owner": "ann", "end_user": "eve", "session": "talk", "tags": ["project=x", "urgent"]}


def dollars_of(label: str, **columns: str) -> list[object]:
    """Returns the dollars of one day's groups of calls with a label that have cost something."""
    found = LabelTotal.objects.filter(span="day", label=label, cost__gt=0, **columns)
    return list(found.values_list("cost", flat=True))


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("kind", [left, queued])
def test_a_call_that_reads_the_usage_has_the_labels_of_the_one_that_made_it(
    kind: Callable[..., Row], at_once: bool
) -> None:
    made, look = kind(**LABELS), seen(team="another")
    deliver(*([[made, look]] if at_once else [[made], [look]]))
    [row] = stored(look["request_id"])
    assert {name: getattr(row, name) for name in LABELS} == LABELS
    assert [dollars_of("end_user", value="eve"), dollars_of("tag:project", value="x")] == [[cost_of(EXACT)]] * 2
    assert list(TeamDay.objects.filter(cost__gt=0).values_list("team", "cost")) == [("search", cost_of(EXACT))]
    assert_sums_are_right()


def test_it_keeps_its_own_end_user_and_tags() -> None:
    look = seen(end_user="bob", tags=["project=y"])
    deliver([left(**LABELS)], [look])
    [row] = stored(look["request_id"])
    assert (row.end_user, row.session, row.tags) == ("bob", "talk", ["project=y", "urgent"])


def test_a_poll_of_an_older_version_gets_the_team() -> None:
    """It knows of no teams."""
    look = looked()
    deliver([queued(**LABELS)], [look])
    [row] = stored(look["request_id"])
    assert (row.team, row.owner, row.tags) == ("search", "ann", ["background", "project=x", "urgent"])


def test_a_call_that_learns_nothing_new_keeps_its_team() -> None:
    looks = [seen(team="another") for _ in range(2)]
    deliver([queued(**LABELS)], looks[:1], looks[1:])
    assert [row.team for row in stored(*(row["request_id"] for row in looks))] == ["search", "another"]
