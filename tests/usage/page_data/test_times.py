"""Times on pages are written in UTC, in one format; how long something takes until it happens, in its largest units."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from usage.money.spent_and_reserved import Spent
from usage.page_data.formatting import THIN, time_left
from usage.page_data.key_summary import budget_bars
from usage.templatetags.page_filters import moment

AT = datetime(2026, 11, 30, 14, 7, 42, 123_999, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ("minute", "2026-11-30 13:07"),
        ("second", "2026-11-30 13:07:42"),
        ("millisecond", "2026-11-30 13:07:42.123"),
        ("clock", "13:07:42"),
    ],
)
def test_a_time_is_written_in_utc(shown: str, text: str) -> None:
    assert moment(AT, shown) == (
        f'<time datetime="2026-11-30T13:07:42.123+00:00" data-shown="{shown}">{text}</time>'
    )  # fmt: skip


def test_a_time_names_its_zone_in_a_sentence() -> None:
    assert moment(AT, "minute UTC").endswith('13:07</time> <span class="cp-zone-name">(UTC)</span>')
    assert moment(None) == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(seconds=5), "1 min"),
        (timedelta(hours=3, minutes=5), "3 h 5 min"),
        (timedelta(hours=3), "3 h"),
        (timedelta(days=1), "1 d"),
        (timedelta(days=12, hours=4, minutes=20), "12 d 4 h"),
    ],
)
def test_the_time_that_is_left(left: timedelta, text: str) -> None:
    assert time_left(left).replace(THIN, " ") == text


def test_budgets_say_when_they_begin_anew() -> None:
    spent = Spent(day=Decimal(1), month=Decimal(2), total=Decimal(3), held=Decimal(0))
    budgets = {"day": Decimal(5), "month": Decimal(5), "total": Decimal(5)}
    bars = budget_bars(spent, budgets, datetime(2026, 12, 30, 20, 55, tzinfo=UTC))
    assert [bar.resets.replace(THIN, " ") for bar in bars] == ["3 h 5 min", "1 d 3 h", ""]
