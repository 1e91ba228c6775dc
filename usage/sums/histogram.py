"""Owns the latency histogram: log-spaced buckets, so that a percentile is within 5 % of the truth.

Bucket 0 ends at 0.01 ms, each further bucket ends at 1.1 times the end of the one before, and the last (from some 15
minutes on) has no end. Percentiles in the first and in the last bucket are not that precise. A histogram is a list of
the number of calls in each bucket, without the zeros after the last bucket that has calls.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

FIRST_END = 0.01  # milliseconds
RATIO = 1.1
LAST = 193
ENDS = [FIRST_END * RATIO**number for number in range(LAST)]


def bucket(milliseconds: float) -> int:
    """Returns the number of the histogram bucket to which a latency belongs.

    PostgreSQL computes the same number by `width_bucket(milliseconds, ENDS)`.
    """
    return bisect_right(ENDS, milliseconds)


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """Returns a percentile of the latencies in a histogram, in milliseconds; None for a histogram without calls.

    `share` is the percentile as a number from 0 to 1: that share of the calls took no longer. The result is the
    geometric middle of a bucket, so it is off by at most the factor sqrt(1.1), that is 4.9 %.
    """
    wanted = math.ceil(sum(histogram) * share) or 1
    seen = 0
    for number, count in enumerate(histogram):
        seen += count
        if seen >= wanted:
            return float(FIRST_END * RATIO ** (number - 0.5))
    return None
