"""Makes the links between the pages of a list of calls: on to older calls, and back to newer ones.

A page knows only the request id below which it begins. So a link to older calls also has the beginnings of the pages
before, by which one comes back page by page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID

BEGINNING, PAGES_BEFORE = "before", "pages"  # query parameters
FIRST = "first"  # stands for the beginning of the first page, which has no request id
MAX_PAGES = 20  # that one can go back; an address has room for so many ids
SEPARATOR = "."


class PageLinks(NamedTuple):
    """The query strings of the next page with newer calls and of the next page with older ones.

    `newer` is None on the first page, and on a page that was opened by a link from elsewhere. An empty `newer` means
    the first page of the list without filters. `older` is empty if there is no older page.
    """

    newer: str | None
    older: str


def page_links(query: Mapping[str, str], address: Mapping[str, str], next_before: UUID | None) -> PageLinks:
    """Returns the links from one page of a list of calls to the next pages with newer and with older calls.

    * `query`: the filters of the list.
    * `address`: the query parameters of the page's own URL.
    * `next_before`: the request id below which the page with older calls begins; None if there is no such page.
    """
    here = address.get(BEGINNING)
    behind = _pages_before(address.get(PAGES_BEFORE, "")) if here else []
    newer = _link(query, behind[-1], behind[:-1]) if behind else None
    knows_way = bool(behind) or not here
    path = [*behind, here or FIRST][-MAX_PAGES:] if knows_way else []
    return PageLinks(newer, _link(query, str(next_before), path) if next_before else "")


def _link(query: Mapping[str, str], beginning: str, behind: list[str]) -> str:
    """Returns the query string for a link to one page of a list of calls; `query` has the filters of the list.

    `beginning` is the request id below which the page begins, or `FIRST` for the page with the newest calls. `behind`
    has the beginnings of the pages with newer calls, the first page first.
    """
    if beginning == FIRST:
        return urlencode(query)
    found = {**query, BEGINNING: beginning}
    return urlencode({**found, PAGES_BEFORE: SEPARATOR.join(behind)} if behind else found)


def _pages_before(text: str) -> list[str]:
    """Splits a query parameter into the beginnings of pages (request ids, or `FIRST`), the first page first.

    At most the last `MAX_PAGES` are returned. The result is empty if one of these is anything else.
    """
    found = text.split(SEPARATOR)[-MAX_PAGES:]
    return found if all(one == FIRST or _is_id(one) for one in found) else []


def _is_id(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False
