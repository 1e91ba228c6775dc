"""Errors about different parameters of a request are different groups; a mark on one of them is of that one alone."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils import timezone

from tests.support.ledger.pages import ERRORS, REQUESTS, error_groups, make_failure, page_of, pieces_of
from usage.models import ErrorState, KnownError
from usage.page_data.errors.error_marks import mark, unmark
from usage.sums import summed_names
from usage.sums.summed_names import OTHER_CODE

pytestmark = pytest.mark.django_db
REFUSED = {"outcome": "upstream_error", "status": 400, "error_type": "invalid_request_error", "error_code": ""}


def test_errors_about_different_parameters_are_apart(admin: Client) -> None:
    made = {}
    for outcome, code in (("upstream_error", ""), ("rejected", "invalid_value")):
        for name in ("model", "temperature", ""):
            columns = {**REFUSED, "outcome": outcome, "error_code": code, "error_param": name}
            made[outcome, name] = make_failure(3, **{**columns, "error_message": "It is not valid."})
    groups = error_groups(admin)

    assert {(group.kind.outcome, group.parameter): str(group.sample_id) for group in groups} == made
    for group in groups:
        calls = admin.get(REQUESTS, group.filters).context["page"].calls
        assert [str(call.pk) for call in calls] == [str(group.sample_id)]
        same = admin.get(page_of(str(group.sample_id))).context["same_error"]
        assert [str(call.pk) for call in admin.get(f"{REQUESTS}?{same}").context["page"].calls] == [
            str(group.sample_id)
        ]
    page = admin.get(ERRORS).content.decode()
    assert page.count('<code dir="auto">temperature</code>') == 2
    assert '"parameter":"temperature"' in b"".join(pieces_of(admin.get(f"{ERRORS}export.json"))).decode()


def test_calls_from_before_keep_their_group_and_its_mark(admin: Client) -> None:
    refused = {**REFUSED, "outcome": "rejected", "error_code": "invalid_value"}
    make_failure(3, **refused)
    [before] = error_groups(admin)
    KnownError.objects.create(
        outcome="rejected", error_code="invalid_value", state="known", marked_by="root", marked_at=timezone.now()
    )
    make_failure(2, **refused, error_param="model")
    groups = {group.parameter: group for group in error_groups(admin)}

    assert groups[""].kind == before.kind
    assert groups[""].calls == groups["model"].calls == 1
    assert {group.state for group in groups.values()} == {"known"}  # the mark is of all errors with the code
    mark(before.kind, ErrorState.RESOLVED, "mended", "root")  # of that group alone
    assert {group.parameter: group.state for group in error_groups(admin)} == {"": "resolved", "model": "known"}


@pytest.mark.parametrize("outcome", ["upstream_error", "rejected"])
@pytest.mark.parametrize("code", ["invalid_value", "with#sign", ""])
def test_a_mark_of_errors_without_a_parameter_is_of_no_others(admin: Client, outcome: str, code: str) -> None:
    columns = {**REFUSED, "outcome": outcome, "error_code": code, "error_message": ""}
    make_failure(3, **columns)
    make_failure(2, **columns, error_param="model")
    [without] = [group for group in error_groups(admin) if not group.parameter]
    assert not without.kind.message
    mark(without.kind, ErrorState.KNOWN, "we know", "root")
    assert {group.parameter: group.state for group in error_groups(admin)} == {"": "known", "model": "new"}
    unmark(without.kind)
    assert {group.state for group in error_groups(admin)} == {"new"}


def test_a_group_of_several_parameters_names_none(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes and messages beyond the limit of new ones a day are counted together."""
    make_failure(4, **REFUSED, error_message="", error_param="")
    monkeypatch.setattr(summed_names, "MOST_NEW", 0)
    make_failure(3, **REFUSED, error_message="It is not valid.", error_param="temperature")
    make_failure(2, **{**REFUSED, "error_code": "made_up", "error_message": "Nor is this."}, error_param="model")
    groups = {group.kind.error_code: group for group in error_groups(admin)}

    assert groups.keys() == {"", OTHER_CODE}
    assert {group.parameter for group in groups.values()} == {""}
    assert groups[OTHER_CODE].message == ""
    assert '<code dir="auto">' not in admin.get(ERRORS).content.decode()
