"""Ranges of time as pages read them, for property tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import reject
from hypothesis import strategies as st

from usage.sums.ranges import LABELS, LONGEST, TimeRange, read_range

NOWS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  the time zone is given
LENGTHS = st.integers(1, 600) | st.integers(1, 10**6) | st.integers(1, int(LONGEST.total_seconds()))


@st.composite
def ranges(draw: st.DrawFn) -> tuple[TimeRange, datetime]:
    """Draws a range as a page reads it, and the time now; it has a name, no end, or an end in the past or future."""
    now = draw(NOWS)
    start = now - timedelta(seconds=draw(LENGTHS))
    end = start + timedelta(seconds=draw(LENGTHS))
    query = {"from": f"{start:%Y-%m-%dT%H:%M:%S}", "to": draw(st.sampled_from(["", f"{end:%Y-%m-%dT%H:%M:%S}"]))}
    try:
        return read_range(draw(st.sampled_from([query, query, *({"range": name} for name in LABELS)])), now), now
    except ValueError:
        reject()
