"""No page fails because of a parameter in its address: a number that is none, is too large, or is given twice."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.utils.datastructures import MultiValueDict

from tests.support.callers.roles import SUPERUSER, browser_of, person
from tests.usage.admin_pages import test_roles

pytestmark = pytest.mark.django_db
ids = test_roles.ids  # a fixture
ODD = ["abc", "9" * 5000, "1\0", ["-1", "²"]]
# The other pages are forms and pages of one row, which read no numbers from their address.
OF_ROWS = ("_add", "_change", "_delete", "_history", "(short)", "logout", "_test_message", "rotate", "revoke")
PAGES = [page for page in test_roles.TABLE if not page.endswith(OF_ROWS)]
OWN_PAGES = {"index", "dashboard_data", "needed_prices", "usage_report", "export_usage", "errors", "names", "in_order",
             "export_requests", "export_errors", "usage_request_changelist"}  # fmt: skip
OF_DJANGOS_LISTS = {"p", "o", "q", "e", "all", "_to_field"}  # they copy all parameters before they read them
ACCEPTED = (200, 301, 302, 400, 403, 404, 405)


def read_names(client: Client, page: str, path: str) -> set[str]:
    """Returns the names of all parameters that a page reads from its address, and those of every list of Django's."""
    found: set[object] = set(OF_DJANGOS_LISTS if page.endswith("_changelist") else ())
    read = MultiValueDict.__getitem__, MultiValueDict.getlist

    def get(query: Any, name: Any) -> Any:
        found.add(name)
        return read[0](query, name)

    def getlist(query: Any, name: Any, default: Any = None) -> Any:
        found.add(name)
        return read[1](query, name, default)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MultiValueDict, "__getitem__", get)
        patch.setattr(MultiValueDict, "getlist", getlist)
        client.get(path, {"s": "a"})
    return {name for name in found if isinstance(name, str)}


def test_the_names_that_a_page_reads_are_found() -> None:
    assert {"s", "page"} <= read_names(browser_of(person(SUPERUSER)), "search", "/admin/search/")


@pytest.mark.parametrize("page", PAGES)
def test_an_odd_parameter_is_not_our_fault(ids: dict[str, Any], page: str) -> None:
    client = browser_of(person(SUPERUSER))
    client.raise_request_exception = False
    path = test_roles.pages(ids)[page]
    names = sorted(read_names(client, page, path))
    # The gateway's own pages ignore what they cannot read; those of Django and of the theme stop at the first fault.
    together = [names] if page in OWN_PAGES else [[name] for name in names]
    failed = {}
    for some in together:
        for values in ODD:
            query = urlencode({"s": "a", **dict.fromkeys(some, values)}, doseq=True)
            status = client.get(f"{path}{'&' if '?' in path else '?'}{query}").status_code
            if status not in ACCEPTED:
                failed[str(some), str(values)[:40]] = status
    assert failed == {}
