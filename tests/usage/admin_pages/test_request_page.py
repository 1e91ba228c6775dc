"""The page of one request: the phases of its time, its bill, its bodies, and the command that makes it again."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.support.growth import TIMES_LONGER, wait_until_linear
from tests.support.ledger.pages import (
    HOSTILE,
    ISOLATE,
    OVERRIDE,
    ZERO_WIDTH,
    listed,
    make_call,
    make_failure,
    page_of,
    text_of,
)
from tests.support.servers.gateway import SECURITY_KEY, Gateway
from usage.journal_shipping.response_billing import COUNTED_BEFORE
from usage.kept_bodies.redaction import REDACTED
from usage.models import Request
from usage.page_data import call_page, reproduction

pytestmark = pytest.mark.django_db
BASE = "http://127.0.0.1:3002"
LENGTH = 200_000  # characters of a body


def load(request_id: str) -> Request:
    return Request.objects.select_related("body").get(pk=request_id)


def test_it_works(admin: Client) -> None:
    request_id = make_call(
        response_id="resp_77", upstream_request_id="req_88", incoming_request_id="mine-99", user_agent="curl/8",
        client_address="192.0.2.7", tags=["blue"], request_body='{"model":"gpt-4o-mini"}', response_body="hello there",
    )  # fmt: skip
    answer = admin.get(page_of(request_id))

    assert answer.status_code == 200
    seen = text_of(unescape(answer.content.decode()))
    for words in (
        request_id,
        "resp_77",
        "req_88",
        "mine-99",
        "curl/8",
        "192.0.2.7",
        "blue",
        "hello there",
        '"model": "gpt',
    ):
        assert words in seen


def test_a_call_that_is_not_there_is_404(admin: Client) -> None:
    for page in (page_of("01997000-0000-7000-8000-000000000000"), "/admin/usage/request/x/change/"):
        assert admin.get(page).status_code == 404


def test_the_timeline_adds_up() -> None:
    call = load(
        make_call(duration_ms=1000.0, upstream_ms=900.0, overhead_ms=20.0, time_to_first_chunk_ms=400.0, stream=True)
    )
    phases = call_page.timeline(call)

    assert {phase.name: phase.milliseconds for phase in phases} == {
        "received": 80.0, "ours": 20.0, "upstream": 300.0, "stream": 600.0
    }  # fmt: skip
    assert [phase.x for phase in phases] == [0, 80, 100, 400]
    assert sum(phase.width for phase in phases) == 1000


@pytest.mark.parametrize(
    "columns",
    [
        {"upstream_ms": None, "overhead_ms": None},
        {"duration_ms": 0.0, "upstream_ms": 0.0, "overhead_ms": 0.0},
        {"duration_ms": 5.0, "upstream_ms": 50.0, "overhead_ms": 50.0, "time_to_first_chunk_ms": 500.0},
        {"duration_ms": 1000.0, "upstream_ms": 900.0, "overhead_ms": 20.0, "time_to_first_chunk_ms": 1500.0},
        {"time_to_first_chunk_ms": None},
    ],
    ids=str,
)
def test_the_timeline_of_an_odd_call_is_still_one(admin: Client, columns: dict[str, Any]) -> None:
    request_id = make_call(**columns)
    one = load(request_id)
    parts = [phase.milliseconds for phase in call_page.timeline(one)]

    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(one.duration_ms)
    assert admin.get(page_of(request_id)).status_code == 200


def test_the_bill_has_its_items_and_their_sum(admin: Client) -> None:
    request_id = make_call(input_tokens=1000, cached_tokens=200, output_tokens=500)
    items = {item.name: (item.count, item.rate, item.dollars) for item in call_page.bill(load(request_id))}

    assert items == {
        "Input": ("800 tokens", "$0.15 a million", "$0.00012000"),
        "Input, cached": ("200 tokens", "$0.075 a million", "$0.00001500"),
        "Output": ("500 tokens", "$0.6 a million", "$0.00030000"),
    }
    assert "$0.00043500" in text_of(admin.get(page_of(request_id)).content.decode())


def test_the_bill_has_what_hosted_tools_have_used(admin: Client) -> None:
    picture = {"input_tokens": 50, "output_tokens": 1000, "input_tokens_details": {"text_tokens": 50}}
    used = {
        "search_tool": "web_search_preview", "file_searches": 2, "containers": ["4g"],
        "image_tokens": picture, "image_model": "gpt-image-2",
    }  # fmt: skip
    request_id = make_call(
        response_model="gpt-4.1", input_tokens=1000, cached_tokens=None, output_tokens=100, web_searches=1,
        other_usage=used,
    )  # fmt: skip
    items = call_page.bill(load(request_id))

    assert [(item.name, item.count, item.rate, item.dollars, item.kind) for item in items] == [
        ("Input", "1,000 tokens", "$2 a million", "$0.00200000", ""),
        ("Output", "100 tokens", "$8 a million", "$0.00080000", ""),
        ("Web searches", "1", "$0.025 each", "$0.02500000", ""),
        ("File searches", "2", "$0.0025 each", "$0.00500000", ""),
        ("Container with 4 GB", "5 min", "$0.12 for 20 min", "$0.03000000", "estimated"),
        ("Input, gpt-image-2", "50 tokens", "$5 a million", "$0.00025000", ""),
        ("Output, gpt-image-2", "1,000 tokens", "$30 a million", "$0.03000000", ""),
    ]
    page = text_of(admin.get(page_of(request_id)).content.decode())
    assert "$0.09305000" in page
    assert "An estimate: upstream did not state all that was used." in page
    speech = make_call(1, request_model="tts-1", response_model="", input_tokens=None, cached_tokens=None,
                       output_tokens=None, other_usage={"characters": 2000}, usage=None)  # fmt: skip
    [item] = call_page.bill(load(speech))
    assert (item.name, item.count, item.rate, item.dollars) == (
        "Text to speak", "2,000 characters", "$15 a million", "$0.03000000"
    )  # fmt: skip


def test_a_call_that_is_not_billed_and_one_that_goes_on_say_so(admin: Client) -> None:
    nothing = {"input_tokens": None, "cached_tokens": None, "output_tokens": None, "usage": None}
    refused = make_call(usage_source="unknown", outcome="rejected", status=429, **nothing)
    assert "Not billed. The gateway refused the call." in admin.get(page_of(refused)).content.decode()
    queued = make_call(1, usage_source="unknown", response_status="queued", **nothing)
    assert "its usage is counted when it ends" in admin.get(page_of(queued)).content.decode()


def test_a_call_without_a_price_says_why(admin: Client) -> None:
    unknown = admin.get(page_of(make_call(response_model="nobody-knows", request_model=""))).content.decode()
    counted = make_call()
    Request.objects.filter(pk=counted).update(price=COUNTED_BEFORE, cost=0)

    assert "No price is known" in unknown
    assert "counted when it was made" in admin.get(page_of(counted)).content.decode()


def test_from_one_call_to_others_like_it(admin: Client) -> None:
    request_id = make_failure(client_address="192.0.2.7", key_name="red & blue")
    others = [make_failure(1, client_address="192.0.2.7"), make_failure(2, key_name="red & blue"), make_call(3)]
    page = admin.get(page_of(request_id)).content.decode()
    links = re.findall(r'href="/admin/usage/request/\?([^"]*)">(Calls [^<]*|Similar errors)', page)
    found = {name: query for query, name in links}

    def follow(name: str) -> set[str]:
        answer = admin.get(f"/admin/usage/request/?{unescape(found[name])}")
        return {str(call.pk) for call in answer.context["calls"]}

    assert follow("Calls of this key") == {request_id, others[1]}
    assert follow("Calls of this caller") == {request_id}
    assert follow("Similar errors") == {request_id, *others[:2]}


# Bodies


def test_json_is_indented_and_all_else_is_as_it_was(admin: Client) -> None:
    request_id = make_call(request_body='{"a":[1,2],"ü":null}', response_body="data: {not json}")
    asked, answered = call_page.bodies(load(request_id))

    assert asked.text == '{\n  "a": [\n    1,\n    2\n  ],\n  "ü": null\n}'
    assert answered.text == "data: {not json}"
    assert asked.is_open


def test_what_is_hostile_in_a_body_is_inert(admin: Client) -> None:
    body = f"{HOSTILE} {OVERRIDE}{ISOLATE}{ZERO_WIDTH} \x1b[31m \x07 {'</pre>' * 3}"
    request_id = make_call(request_body=json.dumps({"messages": [{"content": body}]}), response_body=body)
    page = admin.get(page_of(request_id)).content.decode()

    assert "<script>alert(1)" not in page
    assert "</pre></pre>" not in page
    assert "&lt;U+202E&gt;&lt;U+2067&gt;&lt;U+200B&gt; &lt;U+001B&gt;[31m" in page
    for mark in (OVERRIDE, ISOLATE, ZERO_WIDTH, "\x1b", "\x07"):
        assert mark not in page


def test_a_megabyte_is_folded_and_takes_no_longer_than_its_length(admin: Client) -> None:
    message = {"role": "user", "content": "word " * 10}
    ids = {
        length: make_call(
            request_body=json.dumps({"messages": [message] * (length // len(json.dumps(message)))}),
            response_body="x" * length, user_agent="u" * 300, error_message="m" * (length // 10),
        )
        for length in (LENGTH // TIMES_LONGER, LENGTH)
    }  # fmt: skip
    page = admin.get(page_of(ids[LENGTH]), {"view": "json"})

    wait_until_linear(lambda length: admin.get(page_of(ids[length])), LENGTH)
    wait_until_linear(lambda length: admin.get(page_of(ids[length]), {"view": "json"}), LENGTH)
    assert not any(body.is_open for body in page.context["bodies"])
    assert len(admin.get("/admin/usage/request/").content) < 100_000


@pytest.mark.parametrize("depth", [10**5])
def test_a_body_as_deep_as_a_well_is_shown_as_it_is(admin: Client, depth: int) -> None:
    request_id = make_call(request_body="[" * depth, response_body='{"a":' * depth)

    assert admin.get(page_of(request_id)).status_code == 200


# To make it again


def test_curl_and_python_have_the_call_and_no_secret() -> None:
    body = {
        "model": "gpt-4o-mini", "security_key": REDACTED, "openai_api_key": REDACTED,
        "messages": [{"role": "user", "content": "it's $(rm -rf /) `x` ü \u202e \"quoted\" \\ back"}],
        "n": None, "b": True,
    }  # fmt: skip
    call = load(make_call(request_body=json.dumps(body)))
    words = shlex.split(reproduction.as_curl(call, BASE).replace("\\\n", ""))
    program = ast.parse(reproduction.as_python(call, BASE))

    del body["security_key"], body["openai_api_key"]
    assert words[:4] == ["curl", "-X", "POST", f"{BASE}/openai"]
    assert "Authorization: Bearer $CHATPROXY_API_KEY" in words
    assert json.loads(words[words.index("-d") + 1]) == body
    [request] = [
        node for node in ast.walk(program) if isinstance(node, ast.Call) and ast.unparse(node.func) == "httpx.request"
    ]
    given = {keyword.arg: keyword.value for keyword in request.keywords}
    assert ast.literal_eval(given["json"]) == body
    assert "os.environ['CHATPROXY_API_KEY']" in ast.unparse(given["headers"])
    for text in (reproduction.as_curl(call, BASE), reproduction.as_python(call, BASE)):
        assert text.isascii()
        assert REDACTED not in text


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"method": "GET", "route": "/openai2/{id}", "response_id": "resp_1"}, [f"curl {BASE}/openai2/resp_1"]),
        ({"method": "DELETE", "route": "/openai2/{id}"}, [f"curl -X DELETE {BASE}/openai2/RESPONSE_ID"]),
        (
            {"route": "/openai/audio/transcriptions",
             "request_body": "security_key: [redacted]\nmodel: whisper-1\nfile: <it's.mp3, audio/mpeg, 1,234 bytes>"},
            ["--form-string model=whisper-1", """-F 'file=@./it'"'"'s.mp3'""", "Supply first: ./it"],
        ),
        ({"request_body": '{"model": "gpt-4o", "input": "long… <5 bytes cut>'}, ["-d @body.json", "only a part"]),
    ],
    ids=["get", "delete", "form", "cut"],
)  # fmt: skip
def test_curl_fits_the_call(columns: dict[str, Any], wanted: list[str]) -> None:
    call = load(make_call(**columns))
    curl = reproduction.as_curl(call, BASE)

    assert all(words in curl for words in wanted), curl
    assert "redacted" not in curl
    ast.parse(reproduction.as_python(call, BASE))


def test_the_curl_runs(gateway: Gateway) -> None:
    """Runs the command in a shell against the server that answered the call."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "it's me"}]}
    curl = reproduction.as_curl(load(make_call(request_body=json.dumps(body))), gateway.url)
    environment = {"CHATPROXY_API_KEY": SECURITY_KEY, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["/bin/sh", "-c", curl], env=environment, capture_output=True, check=True)

    assert json.loads(done.stdout)["object"] == "chat.completion"


def test_one_request_costs_few_queries(admin: Client) -> None:
    request_id = make_call(request_body="{}", response_body="{}")
    with CaptureQueriesContext(connection) as queries:
        assert admin.get(page_of(request_id)).status_code == 200

    assert len(queries) <= 5
    assert listed(admin) == [request_id]
