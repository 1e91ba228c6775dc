"""An error on the errors page is marked as known or as resolved, by those who may; one that comes back says so."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from tests.support.ledger.ledgers import call, call_id
from tests.support.ledger.pages import (
    ERRORS,
    HOSTILE,
    error_groups,
    make_failure,
    make_upstream_failure,
    pieces_of,
    text_of,
)
from usage.journal_shipping.rows import write_rows
from usage.models import KnownError
from usage.page_data.errors.error_groups import MAX_GROUPS

pytestmark = pytest.mark.django_db
MARK = "/admin/usage/errors/mark/"
KIND = {"kind": '["timeout", "upstream_timeout", ""]'}
KNOWN = {**KIND, "do": "known"}


def test_an_error_is_marked_as_known_and_forgotten_again(admin: Client) -> None:
    make_failure()
    make_failure(error_code="new")
    answer = admin.post(MARK, {**KNOWN, "note": f"Slow days. {HOSTILE}", "query": "range=day&state=all"})

    assert answer.status_code == 302
    assert answer["Location"] == f"{ERRORS}?range=day&state=all"
    known = KnownError.objects.get()
    assert (known.note, known.marked_by) == (f"Slow days. {HOSTILE}", "root")
    assert [group.kind.error_code for group in error_groups(admin, state="known")] == ["upstream_timeout"]
    assert [group.kind.error_code for group in error_groups(admin, state="new")] == ["new"]
    page = admin.get(ERRORS).content.decode()
    assert "Slow days." in page
    assert "<script>alert(1)" not in page
    admin.post(MARK, {**KNOWN, "note": "Better now."})
    assert (KnownError.objects.get().note, KnownError.objects.get().state) == ("Better now.", "known")
    admin.post(MARK, {**KIND, "do": "forget"})
    assert not KnownError.objects.exists()


def test_a_resolved_error_that_comes_back_says_so(admin: Client) -> None:
    make_upstream_failure(5, "Bad 1")
    kind = error_groups(admin)[0].kind
    admin.post(MARK, {"kind": kind.as_text(), "note": "Mended.", "do": "resolved"})

    assert [group.has_returned for group in error_groups(admin, state="resolved")] == [False]
    assert error_groups(admin, state="new") == []
    assert "Resolved: Mended." in text_of(admin.get(ERRORS).content.decode())
    make_upstream_failure(0, "Another")
    assert [group.kind == kind for group in error_groups(admin, state="new")] == [False]
    make_upstream_failure(-1, "Bad 2")
    [again] = [group for group in error_groups(admin, state="new") if group.kind == kind]
    assert again.has_returned
    assert error_groups(admin, state="resolved") == []
    assert "It was resolved, and came back: Mended." in text_of(admin.get(ERRORS).content.decode())


def test_a_mark_without_a_message_is_of_all_messages_of_its_code(admin: Client) -> None:
    """Marks of older code have none, and several of them may be of one kind: the newest counts."""
    make_upstream_failure(5, "Bad 1")
    kind = error_groups(admin)[0].kind
    for status, state, day in ((500, "known", 2), (0, "resolved", 1)):
        KnownError.objects.create(
            outcome=kind.outcome, error_code=kind.error_code, status=status, model="", route="", state=state,
            note=f"{day} days ago", marked_by="root", marked_at=timezone.now() - timedelta(days=day),
        )  # fmt: skip

    [group] = error_groups(admin)
    assert group.kind.message
    assert group.known
    assert (group.known.note, group.has_returned) == ("1 days ago", True)
    admin.post(MARK, {"kind": kind.as_text(), "do": "forget"})
    assert not KnownError.objects.exists()


def test_a_rare_error_of_a_state_is_listed_beside_many_frequent_ones(admin: Client) -> None:
    frequent = [f"frequent-{number}" for number in range(MAX_GROUPS)]
    now = datetime.now(UTC)
    write_rows([
        call(now, request_id=call_id(now, 100 * times + number), outcome="timeout", status=504, error_code=code)
        for number, code in enumerate(frequent) for times in range(2)
    ])  # fmt: skip
    marked = {"outcome": "timeout", "marked_at": now - timedelta(hours=1)}
    KnownError.objects.bulk_create(KnownError(error_code=code, state="known", **marked) for code in frequent)
    KnownError.objects.create(error_code="back", state="resolved", **marked)
    for code in ("new", "back", "gone"):
        make_failure(error_code=code)
    KnownError.objects.create(
        outcome="timeout", error_code="gone", state="resolved", marked_at=now + timedelta(hours=1)
    )

    def codes(state: str) -> list[str]:
        return sorted(group.kind.error_code for group in error_groups(admin, state=state))

    assert codes("new") == ["back", "new"]
    assert codes("resolved") == ["gone"]
    assert codes("known") == codes("all") == sorted(frequent)
    export = json.loads(b"".join(pieces_of(admin.get(f"{ERRORS}export.json", {"state": "new"}))))
    assert sorted((row["error_code"], row["state"]) for row in export) == [("back", "returned"), ("new", "new")]


def test_the_pages_own_form_marks_its_group(admin: Client) -> None:
    make_failure(request_model="", error_code="", key_name="k")
    page = admin.get(ERRORS).content.decode()
    [form] = re.findall(r'<form class="cp-mark".*?</form>', page, flags=re.S)
    fields = {name: unescape(value) for name, value in re.findall(r'<input[^>]*name="(\w+)" value="([^"]*)"', form)}
    admin.post(MARK, {**fields, "note": "seen", "do": "known"})

    assert [group.known.note for group in error_groups(admin) if group.known] == ["seen"]


@pytest.mark.parametrize(
    "kind",
    ["", "{", "[]", '["timeout", 504, ""]', f'["timeout", "{"x" * 201}", ""]', '["x", "", ""]', "[" * 10**5,
     '["timeout", "a", "b", "c"]', '["timeout", "a", "0123456789abc"]',
     '["timeout", "\\u0000", ""]', '["timeout", "", "\\ud800"]'],
)  # fmt: skip
def test_what_is_no_kind_of_error_is_not_marked(admin: Client, kind: str) -> None:
    assert admin.post(MARK, {"kind": kind, "do": "known"}).status_code == 302

    assert not KnownError.objects.exists()


@pytest.mark.parametrize("do", [{}, {"do": ""}, {"do": "new"}, {"do": "Known"}], ids=str)
def test_what_is_no_mark_is_not_stored(admin: Client, do: dict[str, str]) -> None:
    make_failure()
    assert "Nothing was marked" in admin.post(MARK, {**KIND, **do}, follow=True).content.decode()
    assert not KnownError.objects.exists()


def test_only_who_may_marks(admin: Client) -> None:
    make_failure()
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_request"))
    client = Client()
    client.force_login(viewer)
    client.post(MARK, KNOWN)

    assert "upstream_timeout" in client.get(ERRORS).content.decode()
    assert "Mark as known" not in client.get(ERRORS).content.decode()
    assert not KnownError.objects.exists()
    assert admin.get(MARK).status_code == 405


def test_the_way_back_stays_here(admin: Client) -> None:
    answer = admin.post(MARK, {**KNOWN, "query": "//evil.example/\r\nx: y"})

    assert answer["Location"].startswith(f"{ERRORS}?")
    assert "\n" not in answer["Location"]
