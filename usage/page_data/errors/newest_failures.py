"""Reads the newest failed calls for "My usage": what somebody asks first is why a call has failed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from usage.models import Request
from usage.number_words import counted
from usage.page_data.call_search.list_sums import read_list_sums
from usage.page_data.filters import ANY_FAILURE, Filters
from usage.page_data.search import find
from usage.sums.ranges import NAMED

MAX_CALLS = 3
MAX_COUNTED = 50  # of a person's calls
RANGE = "day"  # the last 24 hours, in `usage.sums.ranges`


@dataclass(frozen=True)
class NewestFailures:
    """The newest failed calls of a key, or of a person, in the last 24 hours.

    * `calls`: at most `MAX_CALLS` of them, the latest first.
    * `number`: how many were found.
    * `is_whole`: false if there may be more, because the search ended at its limit of time or of calls.
    * `searched_since`: set if the search ran out of time: only the calls since this time have been searched.
    """

    calls: Sequence[Request]
    number: int
    is_whole: bool
    searched_since: datetime | None = None

    @property
    def title(self) -> str:
        """How many calls have failed, as the heading of a page's section."""
        if not self.number:
            return f"No failed calls {self._period}"
        number = counted(self.number, "failed call")
        return f"{number if self.is_whole else f'At least {number}'} {self._period}"

    @property
    def _period(self) -> str:
        if self.searched_since and not self.number:
            return f"since {self.searched_since:%Y-%m-%d %H:%M} UTC"
        return "in the last 24 hours"

    @property
    def query(self) -> str:
        """The query string for the list of the key's calls that selects the failed calls of the last 24 hours."""
        return urlencode({"range": RANGE, "outcome": ANY_FAILURE})


def read_newest_own_failures(key: str, owner: str | None, now: datetime) -> NewestFailures:
    """Reads the newest failed calls of a key in the last 24 hours, for its holder, in a bounded time.

    With `owner`, only calls that were made while the key had this owner.
    """
    since = now - NAMED[RANGE]
    filters = Filters(key=key, owner=owner, outcome=ANY_FAILURE, since=since, with_messages=True, is_own=True)
    page = find(filters, wanted=MAX_CALLS)
    found = read_list_sums(filters, page, now, is_first=True)
    number = max(found.sums.calls if found else 0, len(page.calls))
    return NewestFailures(page.calls, number, found is not None and found.is_whole, page.searched_to)


def read_newest_failures_of_owner(owner: str, keys: Collection[str], now: datetime) -> NewestFailures:
    """Reads the newest failed calls in the last 24 hours that a person's keys have made, in a bounded time.

    Only calls that were made while the person owned the key count. `keys` are the names of the keys that are the
    person's now. At most `MAX_COUNTED` failed calls are looked at.
    """
    filters = Filters(owner=owner, outcome=ANY_FAILURE, since=now - NAMED[RANGE], with_messages=True)
    page = find(filters, wanted=MAX_COUNTED)
    calls = [call for call in page.calls if call.key_name in keys and not call.by_gateway]
    return NewestFailures(calls[:MAX_CALLS], len(calls), page.before is None, page.searched_to)
