"""The latency histogram, whose buckets are spaced logarithmically, so that a percentile is within 5 % of the truth.

Bucket 0 ends at 0.01 ms, each further bucket ends at 1.1 times the end of the one before, and the last (from some 15
minutes on) has no end. Percentiles in the first and in the last bucket are not that precise. A histogram is a list of
the number of calls in each bucket, without the zeros after the last bucket that has calls.

A packed histogram also omits the zeros before the first bucket that has calls, which are most of a histogram; its first
item is the number of these zeros. It is empty if there are no calls.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import add

FIRST_END = 0.01  # milliseconds
RATIO = 1.1
LAST = 193
ENDS = [FIRST_END * RATIO**number for number in range(LAST)]


def bucket(milliseconds: float) -> int:
    """Returns the number of the histogram bucket in which a latency is counted."""
    # PostgreSQL computes the same number by `width_bucket(milliseconds, ENDS)`.
    return bisect_right(ENDS, milliseconds)


def pack(counts: Mapping[int, int]) -> list[int]:
    """Makes a packed histogram: the number of the first bucket that has calls, then the calls of this and later ones.

    `counts` maps numbers of buckets to calls. Without calls, the list is empty.
    """
    numbers = [number for number, count in counts.items() if count]
    if not numbers:
        return []
    first = min(numbers)
    packed = [first, *[0] * (max(numbers) - first + 1)]
    for number in numbers:
        packed[number - first + 1] = counts[number]
    return packed


def unpack(packed: Sequence[int]) -> list[int]:
    """Converts a packed histogram, as `pack` makes it, to a plain one."""
    return [*[0] * packed[0], *packed[1:]] if packed else []


def added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Adds up two histograms, bucket by bucket, and returns the result.

    It uses Python's `map`, which is faster than a loop, because a dashboard adds hundreds of histograms.
    """
    if len(one) < len(other):
        one, other = other, one
    return [*map(add, one, other), *one[len(other) :]]


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """Returns a percentile of the latencies in a histogram, in milliseconds; None if the histogram has no calls.

    `share` is the percentile from 0 to 1. The result is off by at most 4.9 %, except in the first and the last bucket.
    """
    # The result is the geometric middle of a bucket, so it is off by at most the factor sqrt(1.1).
    wanted = math.ceil(sum(histogram) * share) or 1
    seen = 0
    for number, count in enumerate(histogram):
        seen += count
        if seen >= wanted:
            return float(FIRST_END * RATIO ** (number - 0.5))
    return None


def is_same(one: float, other: float) -> bool:
    """Returns whether two results of `percentile` are so near that the real latencies may be equal.

    That is the case if they are from the same bucket, or from neighbouring ones.
    """
    return bool(max(one, other) < min(one, other) * RATIO**1.5)
