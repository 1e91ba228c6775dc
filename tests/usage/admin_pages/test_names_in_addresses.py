"""A link with a name leads to the calls with this name, also if the name reads like a word of the gateway's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from tests.support.ledger.pages import DASHBOARD, ERRORS, REQUESTS, USAGE, listed, make_call, make_failure
from usage.page_data.filters import ANY_DATE, NAMES, Filters, in_address, name_in, read_filters
from usage.page_data.spending.spending_choice import FILTERS, read_choice

ODD = [
    "", "(none)", "(any)", f"gpt-4o-mini{ANY_DATE}", ANY_DATE, "\\", "\\(none)", "\\\\", f"\\{ANY_DATE}", " a ", "a\tb",
    "x" * 200, "\\" * 200, "a&b=c", "%28none%29", "(others)", "Total", "=1", "é", "\u202e",
]  # fmt: skip
GROUPS = ("key", "owner", "team", "end_user", "model", "route")


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_read_as_it_was_written(name: str) -> None:
    assert name_in(in_address(name)) == name
    for column in NAMES:
        filters = Filters(**{column: name})  # type: ignore[arg-type]  # a name of a column of texts
        assert read_filters(filters.as_query(), timezone.now()) == filters
    for column in FILTERS if name else ():
        choice = read_choice(QueryDict(urlencode({column: in_address(name)})), timezone.now())
        assert choice.only == {column: name}
        assert read_choice(QueryDict(choice.as_query()), timezone.now()).only == choice.only


def test_an_empty_text_is_no_filter_and_a_model_may_have_any_date() -> None:
    assert name_in("") is None
    query = {"model": f"gpt-4o{ANY_DATE}"}
    assert read_filters(query, timezone.now()).as_query() == query


class CountedLinks(HTMLParser):
    """HTML parser that collects the links to the list of requests whose text is a number of calls."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[int, dict[str, str]]] = []
        self._query: dict[str, str] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        address = urlsplit(dict(attributes).get("href") or "")
        query = dict(parse_qsl(address.query)) if tag == "a" and address.path == REQUESTS else None
        self._query = None if query is None or "status" in query else query  # a status reads like a number of calls

    def handle_data(self, data: str) -> None:
        if self._query is not None and (number := re.fullmatch(r"(?:All )?([0-9]+)(?: calls?)?", data.strip())):
            self.found.append((int(number[1]), self._query))


def rows_of_dashboard(page: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the number of calls of each row of the dashboard's tables, with the query parameters of the row's link."""
    for href, calls in re.findall(rf'<a href="{REQUESTS}\?([^"]*)"[^>]*>[^<]*</a>.*?<td class="n">(\d+)</td>', page):
        yield int(calls), dict(parse_qsl(href.replace("&amp;", "&")))


@pytest.mark.django_db
def test_a_link_leads_to_as_many_calls_as_its_page_counts(admin: Client) -> None:
    names = ("(none)", f"gpt-4o-mini{ANY_DATE}", "\\x", "")
    for number, name in enumerate(names, 1):
        for _ in range(number):
            columns = {"key_name": name, "team": name, "owner": name, "end_user": name, "route": name or "/openai"}
            make_call(1, response_model=name, request_model=name, tags=["=x"], **columns)
            make_failure(1, error_code=name, request_model=name, **columns)
    make_call(1), make_call(1, response_model="gpt-4o-mini")

    pages = [DASHBOARD, ERRORS, *(f"{USAGE}?by={group}" for group in GROUPS), f"{USAGE}?by=key&then=model"]
    pages += [f"{USAGE}?by=model&{group}={quote(in_address(name))}" for group in GROUPS for name in names[:3]]
    checked = 0
    for address in pages:
        page = admin.get(address).content.decode()
        found = [*CountedLinks(page).found, *(rows_of_dashboard(page) if address == DASHBOARD else ())]
        for calls, query in found:
            assert len(listed(admin, **query)) == calls, (address, query)
        checked += len(found)
    assert checked > 80
    assert "by=tag%3A" not in admin.get(DASHBOARD).content.decode()
