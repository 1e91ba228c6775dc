"""Writes numbers for pages: short, and with their unit; a dash for an unknown number."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from decimal import Decimal

from usage.number_words import plural

UNKNOWN = "\N{EN DASH}"
THIN = "\N{NARROW NO-BREAK SPACE}"
LEAST_DOLLARS = Decimal("0.000001")  # what six decimals can show


def count(value: float | None) -> str:
    """Formats a number for a page: 12,345 in full, and from a million on shortened to 1.23 M, G or T.

    None becomes a dash.
    """
    if value is None:
        return UNKNOWN
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{_three_digits(value / size)}{THIN}{unit}"
    return f"{value:,.0f}"


def others(number: int) -> str:
    """Returns the label of a row or line that combines `number` groups, such as "3 others"."""
    return f"{count(number)} {plural(number, 'other')}"


def need_price(calls: int) -> str:
    """Returns how many `calls` lack a price, as a remark on a sum of dollars: "1 needs a price" or "3 need a price"."""
    return f"{count(calls)} {plural(calls, 'needs', 'need')} a price"


def dollars(value: Decimal | None) -> str:
    """Returns dollars as text: $12.34, $0.1234, $0.001234; large sums as $123,456 or $1.23 M. None becomes a dash.

    Less than a millionth of a dollar becomes "under $0.000001"; zero becomes $0.00.
    """
    if value is None:
        return UNKNOWN
    if 0 < value < LEAST_DOLLARS:
        return f"under ${LEAST_DOLLARS}"
    size = abs(value)
    if size >= 100_000:
        return f"${count(float(value))}"
    return f"${value:,.{_decimals(size)}f}"


def call_dollars(value: Decimal | None) -> str:
    """Returns the dollars of one call as text, with six decimals, so that a column is aligned.

    What has no six decimals is written as by `dollars`: None, zero, and less than a millionth of a dollar.
    """
    return dollars(value) if value is None or value < LEAST_DOLLARS else f"${value:,.6f}"


def uncertain_parts(total: Decimal, estimated: Decimal, provisional: Decimal) -> list[str]:
    """Returns the uncertain parts of a sum of dollars as texts, such as "$0.30 estimated"; empty if there are none.

    The texts have as many decimals as the sum `total` has on pages.
    """
    kinds = ((estimated, "estimated"), (provisional, "provisional"))
    return [f"{_part(part, total)} {kind}" for part, kind in kinds if part]


def uncertain(total: Decimal, estimated: Decimal, provisional: Decimal) -> str:
    """Returns a remark on a sum of dollars, such as "of which $0.30 estimated"; "" if the sum is exact."""
    parts = uncertain_parts(total, estimated, provisional)
    return f"of which {' and '.join(parts)}" if parts else ""


def _part(part: Decimal, total: Decimal) -> str:
    """Formats a part of a sum of dollars with as many decimals as the sum itself, `total`, has on pages.

    A part that is too small for these decimals is written as "under $0.01", for example.
    """
    decimals = _decimals(abs(total))
    least = Decimal(1).scaleb(-decimals)
    return f"under ${least}" if part < least else f"${part:,.{decimals}f}"


def _decimals(size: Decimal) -> int:
    """Returns how many decimals an amount of dollars has when it is formatted: 0 to 6, the fewer the larger it is."""
    if size >= 100_000:
        return 0
    return 2 if size >= 1 or not size else 4 if size >= Decimal("0.01") else 6


def duration(milliseconds: float | None) -> str:
    """Formats milliseconds for a page as ms, s, min and s, or h and min, such as "3 min 05 s". None becomes a dash."""
    if milliseconds is None:
        return UNKNOWN
    if milliseconds < 1:
        return f"{milliseconds:.2f}{THIN}ms"
    if milliseconds < 10:
        return f"{milliseconds:.1f}{THIN}ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f}{THIN}ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.{2 if milliseconds < 10_000 else 1}f}{THIN}s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {seconds:02}{THIN}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{THIN}h {minutes:02}{THIN}min"


def time_left(left: timedelta) -> str:
    """Formats the time that is left until an event, at least a minute: "3 h 5 min" or, from a day on, "12 d 4 h"."""
    hours, minutes = divmod(max(1, round(left.total_seconds() / 60)), 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (0 if days else minutes, "min"))
    return " ".join(f"{number}{THIN}{unit}" for number, unit in parts if number)


def period(start: datetime, end: datetime) -> str:
    """Formats a range of time in UTC; a range of whole days as its first and last day, without times.

    Examples are "2026-11-16 to 2026-11-22", "2026-11-16", "2026-11-16 00:00 to 2026-11-21 12:00" and, within a day,
    "2026-11-16 08:00 to 12:00".
    """
    if start.time() == end.time() == time() and start < end:
        first, last = start.date(), (end - timedelta(days=1)).date()
        return f"{first}" if first == last else f"{first} to {last}"
    is_one_day = start.date() == end.date()
    return f"{start:%Y-%m-%d %H:%M} to {end:{'%H:%M' if is_one_day else '%Y-%m-%d %H:%M'}}"


def share(part: float, whole: float) -> str:
    """Returns `part` as a percentage of `whole`, as text; a dash if `whole` is 0."""
    if not whole:
        return UNKNOWN
    percent = 100 * part / whole
    return f"{percent:.{0 if percent >= 10 or percent == 0 else 1 if percent >= 1 else 2}f}{THIN}%"


def size(number: float | None) -> str:
    """Returns a number of bytes as text in bytes, kB, MB or GB (powers of 1000). None becomes a dash."""
    if number is None:
        return UNKNOWN
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if number >= 1000**power:
            return f"{_three_digits(number / 1000**power)}{THIN}{unit}"
    return f"{number:.0f}{THIN}bytes"


def change(value: float, before: float) -> str:
    """Formats the change from `before` to `value` in percent, such as "+20 %"; "" if `before` is 0.

    A change below half a percent is "±0 %". From +1000 % on, the factor is written instead, after a times sign.
    """
    if not before:
        return ""
    percent = 100 * (value - before) / before
    if abs(percent) < 0.5:
        return f"±0{THIN}%"
    if percent >= 1000:
        return f"\N{MULTIPLICATION SIGN}{value / before:,.0f}"
    return f"{percent:+.0f}{THIN}%".replace("-", "\N{MINUS SIGN}")


def change_of_share(value: float, before: float) -> str:
    """Formats the change of a share from `before` to `value` (0 to 1) in percentage points, such as "+1.1 points".

    A change in percent could be mistaken for points. A change below a twentieth of a point is "±0 points"; if both
    shares are 0, the text is empty.
    """
    if not value and not before:
        return ""
    points = round(100 * (value - before), 1)
    if not points:
        return f"±0{THIN}points"
    unit = "point" if abs(points) == 1 else "points"
    return f"{points:+.{0 if abs(points) >= 10 or points == int(points) else 1}f}{THIN}{unit}".replace(
        "-", "\N{MINUS SIGN}"
    )


def _three_digits(value: float) -> str:
    """Returns a number as text with three digits: 1.23, 12.3 or 123."""
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2}f}"
