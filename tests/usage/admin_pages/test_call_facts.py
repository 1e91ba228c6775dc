"""What the pages say of one call's dollars, counts and failure: how certain they are, and what is known."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.support.ledger.pages import REQUESTS, listed, make_call, page_of, text_of
from usage.journal_shipping.response_billing import COUNTED_BEFORE
from usage.models import Request
from usage.money.unbilled import COUNTED_AT_END, NOT_BILLED, NOT_COUNTED
from usage.page_data import call_page
from usage.sums.summed_names import UNKNOWN_MODEL

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"cost_kind": "exact"}, "usage exact, cost exact"),
        ({"cost_kind": "estimated", "usage_source": "estimated"}, "usage estimated, cost estimated"),
        ({"cost_kind": "provisional"}, "usage exact, cost provisional"),
        ({"price": COUNTED_BEFORE, "cost": 0}, "counted elsewhere"),
        ({"price": COUNTED_AT_END, "cost": None, "cost_kind": ""}, "counted when it ends"),
        ({"price": {"source": NOT_BILLED, "note": "An error."}, "cost": 0}, "not billed"),
        ({"price": {"source": NOT_COUNTED, "note": "?"}, "cost": 0, "cost_kind": "estimated"}, "not counted"),
        ({"price": None, "cost": None, "cost_kind": ""}, "needs a price"),
    ],
)
def test_the_bill_says_how_certain_it_is(admin: Client, columns: dict[str, Any], said: str) -> None:
    request_id = make_call()
    Request.objects.filter(pk=request_id).update(**columns)
    page = text_of(admin.get(page_of(request_id)).content.decode())
    assert f"Bill {said} " in page
    remark = call_page.cost_remark(Request.objects.get(pk=request_id))
    assert not remark or remark in said
    assert (remark or "$") in text_of(admin.get(REQUESTS).content.decode())


@pytest.mark.parametrize(
    ("columns", "title", "text"),
    [
        ({"outcome": "client_cancelled", "status": None, "duration_ms": 259.0, "response_bytes": 1600},
         "Caller left after 259 ms (1.60 kB sent)", ""),
        ({"outcome": "client_cancelled", "status": None, "duration_ms": 404.0, "response_bytes": 0,
          "error_message": "The caller left after 404 ms; the call went on upstream for its usage."},
         "Caller left after 404 ms (nothing sent)", "The caller left after 404 ms; the call went on upstream"),
        ({"outcome": "upstream_error", "status": 500, "response_bytes": 9, "response_body": "Oh dear\nline 2"},
         "OpenAI failed", "Status 500, 9 bytes sent, and no error message. Oh dear"),
        ({"outcome": "upstream_error", "status": 200, "stream": True, "error_code": "", "response_bytes": 9},
         "Stream failed", "Status 200, 9 bytes sent, and no error message."),
        ({"outcome": "timeout", "status": 504, "error_code": "slow", "error_message": "Too long."},
         "slow", "Too long."),
    ],
)  # fmt: skip
def test_a_failed_call_says_what_is_known(admin: Client, columns: dict[str, Any], title: str, text: str) -> None:
    request_id = make_call(**columns)
    page = text_of(admin.get(page_of(request_id)).content.decode().replace("\N{NARROW NO-BREAK SPACE}", " "))
    assert title in page
    assert text in page


def test_an_estimate_and_a_limit_of_the_gateway_are_marked(admin: Client) -> None:
    request_id = make_call(usage_source="estimated", output_limit=2000, request_model="gpt-4o-mini")
    for address in (page_of(request_id), REQUESTS):
        page = admin.get(address).content.decode().replace("\N{NARROW NO-BREAK SPACE}", " ")
        assert '<abbr title="estimated: upstream did not state it">≈</abbr> 1,000' in page
        assert '<abbr title="estimated: upstream did not state it">≈</abbr> 500' in page
    page = text_of(admin.get(page_of(request_id)).content.decode())
    assert "Output limit 2,000 tokens (added by the gateway)" in page
    assert "Model gpt-4o-mini-2024-07-18 (requested: gpt-4o-mini)" in page
    assert "≈" not in admin.get(page_of(make_call(usage_source="estimated", input_tokens=None, output_tokens=None,
                                                  audio_seconds=1.0))).content.decode()  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"outcome": "rejected", "status": 403, "response_bytes": 0}, "\N{EN DASH}"),
        ({"outcome": "timeout", "status": 504, "response_bytes": 0}, "\N{EN DASH}"),
        ({"outcome": "timeout", "status": 200, "response_bytes": 1600}, "1.60\N{NARROW NO-BREAK SPACE}kB"),
        ({"outcome": "success", "status": 200, "response_bytes": 0}, "0\N{NARROW NO-BREAK SPACE}bytes"),
    ],
)  # fmt: skip
def test_an_answer_of_the_gateway_has_no_measured_size(columns: dict[str, Any], said: str) -> None:
    assert call_page.response_size(Request(**columns)) == said


def test_a_call_that_was_refused_without_a_model_does_not_say_what_its_body_asked_for(admin: Client) -> None:
    refused = {"outcome": "rejected", "status": 415, "error_code": "unsupported_media_type", "response_model": ""}
    page = text_of(admin.get(page_of(make_call(request_model="", **refused))).content.decode())

    assert "(refused, model not known)" in page
    assert "Streamed \N{EN DASH} (not known)" in page
    assert "Streamed no" in text_of(admin.get(page_of(make_call(request_model="gpt-4o", **refused))).content.decode())


def test_the_size_of_a_stream_is_that_of_its_events(admin: Client) -> None:
    page = text_of(admin.get(page_of(make_call(stream=True, response_bytes=282_000))).content.decode())
    assert "kB as events" in page


def test_a_body_that_was_cut_is_not_offered_as_a_whole_one(admin: Client) -> None:
    whole, cut = '{"input": "hi"}', '{"input": "hi\u2026 <3,000 bytes cut>'
    for body, name, words in (
        (whole, "request-{}.txt", "Download: "),
        (cut, "request-{}-cut.txt", "Download what was"),
    ):
        request_id = make_call(request_body=body)
        assert words in text_of(admin.get(page_of(request_id)).content.decode())
        answer = admin.get(reverse("pages:download_body", args=[request_id, "request"]))
        assert answer["Content-Disposition"].endswith(name.format(request_id))


def test_a_call_that_is_in_the_sums_of_unknown_models_says_so(admin: Client) -> None:
    call_id = make_call(response_model="", request_model="gpt-4o-typo", outcome="upstream_error", status=404)
    assert listed(admin, model=UNKNOWN_MODEL) == [call_id]
    page = admin.get(page_of(call_id)).content.decode()
    assert "gpt-4o-typo (in sums: unknown model" in text_of(page)
    assert "?model=%28unknown+model%29" in page
    assert "in sums" not in text_of(admin.get(page_of(make_call())).content.decode())
