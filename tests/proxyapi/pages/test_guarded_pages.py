"""The pages behind the access token: health checks, the log, the runtime.

They answer once in ten seconds for a whole process. So a server of this file's own is asked once for each of them
(`visits`), and the tests read its answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import pytest
from django.conf import settings
from openai.types.chat import ChatCompletion

from proxyapi.pages.page_headers import PAGE_HEADERS
from tests.simulator.server import Simulator
from tests.simulator.wire.recording import ReceivedRequest
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, UPSTREAM_KEY, Gateway, run_gateway

TOKEN = {"access_token": ACCESS_TOKEN}
GUARDED = ["/log", "/log_errors", "/debug/runtime", "/health", "/health2"]
SECRETS = [UPSTREAM_KEY, SECURITY_KEY, ACCESS_TOKEN]
SYSTEM = {"role": "system", "content": "You are an AI assistant."}
HOSTILE_MODEL = '<script>alert("model")</script>'
HOSTILE_UNKNOWN_MODEL = "gpt-nope'\"><img src=x onerror=alert(1)>"
LONG_QUESTION = "words " * 1500
FILLING = 50


@dataclass
class Visits:
    """The answers of the pages. `rows` are the calls that the log pages saw, oldest first."""

    gateway: Gateway
    rows: list[dict[str, Any]]
    first: dict[str, Any] = field(default_factory=dict)
    again: dict[str, Any] = field(default_factory=dict)
    upstream: dict[str, list[ReceivedRequest]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def visits(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visits]:
    with (
        new_database(gateway_database) as database,
        run_gateway(_simulator.base_url, database, tmp_path_factory.mktemp("pages")) as gateway,
    ):
        visits = Visits(gateway, known_calls(gateway))
        for page in GUARDED:
            _simulator.clear()
            assert gateway.http.get(page, params={"access_token": "wrong"}).status_code == 403  # takes no turn
            visits.first[page] = gateway.http.get(page, params=TOKEN)
            visits.again[page] = gateway.http.get(page, params=TOKEN)
            visits.upstream[page] = _simulator.requests
        yield visits


def known_calls(gateway: Gateway) -> list[dict[str, Any]]:
    for _ in range(FILLING):
        assert gateway.post("/embeddings", {"input": "hi", "dimensions": 1}).status_code == 200
    message = {"role": "user", "content": "hi"}
    calls: list[tuple[str, list[Any]]] = [
        ("gpt-4o-mini", [message]),
        (HOSTILE_MODEL, [message]),
        (HOSTILE_UNKNOWN_MODEL, [message]),
        ("gpt-4o-mini", [{"role": "user", "content": LONG_QUESTION}]),
        ("fault:cut", [message]),
        ("gpt-4o-mini", []),
    ]
    for model, messages in calls:
        gateway.post("/openai", {"model": model, "messages": messages})
    return gateway.rows(at_least=FILLING + len(calls))


def counter(page: str, name: str) -> int:
    """Returns the number beside a name in the table of counters."""
    match = re.search(rf"<th>{name}</th>\s*<td[^>]*>([\d,.]+)(?: ms)?</td>", page)
    assert match, f"no {name} in the page"
    return int(match[1].replace(",", ""))


def listed_ids(page: str) -> list[str]:
    return re.findall(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", page)


def test_a_page_loads_nothing_from_elsewhere_and_is_kept_by_nobody(visits: Visits) -> None:
    for answer in (*map(visits.gateway.http.get, ("/", "/docs")), visits.first["/log"], visits.first["/log_errors"]):
        assert {name: answer.headers[name] for name in PAGE_HEADERS} == PAGE_HEADERS
        assert not re.search(r"<style|<script(?! src=)| style=", answer.text)


@pytest.mark.parametrize("page", GUARDED)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"params": {"access_token": "wrong"}},
        {"params": {"access_token": ""}},
        {"params": {"access_token": SECURITY_KEY}},
        {"params": {"security_key": ACCESS_TOKEN}},
        {"params": {"security_key": SECURITY_KEY}},
        {"headers": {"authorization": "Bearer wrong"}},
        {"headers": {"authorization": f"Bearer {SECURITY_KEY}"}},
        {"headers": {"x-security-key": ACCESS_TOKEN}},
        {"headers": {"cookie": f"access_token={ACCESS_TOKEN}"}},
    ],
    ids=str,
)
def test_without_the_access_token_there_is_nothing_to_see(
    gateway: Gateway, simulator: Simulator, page: str, options: dict[str, Any]
) -> None:
    answer = gateway.http.get(page, **options)

    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("authentication_error", "invalid_key", None)
    assert error["message"] == "Missing or invalid key."
    assert simulator.requests == []


@pytest.mark.parametrize("page", GUARDED)
def test_a_second_call_within_ten_seconds_has_to_wait(visits: Visits, page: str) -> None:
    assert visits.first[page].status_code == 200
    answer = visits.again[page]

    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/json"
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limited")
    assert error["request_id"] == answer.headers["x-proxy-request-id"]


@pytest.mark.parametrize("page", GUARDED)
def test_a_guarded_page_has_no_secret(visits: Visits, page: str) -> None:
    assert not any(secret in visits.first[page].text for secret in SECRETS)


def test_the_access_token_is_not_in_the_log(visits: Visits) -> None:
    printed = visits.gateway.log
    assert [secret for secret in SECRETS if secret in printed] == []


def test_health_asks_upstream_as_chatgpt_does(visits: Visits) -> None:
    answer = visits.first["/health"]

    assert set(answer.json()) == {"role", "id", "parentMessageId", "text", "detail"}
    assert answer.json()["text"]
    [received] = visits.upstream["/health"]  # the one that had to wait asked nothing
    assert (received.method, received.path) == ("POST", "/v1/chat/completions")
    assert received.json == {"model": "gpt-4o-mini", "messages": [SYSTEM, received.json["messages"][1]]}
    assert received.json["messages"][1]["role"] == "user"
    assert received.query == ""


def test_health2_asks_upstream_as_openai_does(visits: Visits) -> None:
    completion = ChatCompletion.model_validate(visits.first["/health2"].json())

    assert completion.choices[0].message.content
    [received] = visits.upstream["/health2"]
    assert (received.method, received.path) == ("POST", "/v1/chat/completions")
    assert set(received.json) == {"model", "messages"}
    assert [message["role"] for message in received.json["messages"]] == ["user"]


@pytest.mark.parametrize("page", ["/health", "/health2"])
def test_a_health_check_is_in_the_ledger(visits: Visits, page: str) -> None:
    row = visits.gateway.row(visits.first[page])

    assert (row["route"], row["key_name"], row["outcome"], row["status"]) == (page, "access token", "success", 200)
    assert row["input_tokens"] > 0
    assert visits.gateway.row(visits.again[page])["error_code"] == "rate_limited"


@pytest.mark.parametrize("page", ["/log", "/debug/runtime", "/log_errors"])
def test_a_page_that_is_not_health_asks_nothing_of_upstream(visits: Visits, page: str) -> None:
    assert visits.upstream[page] == []


@pytest.mark.parametrize("page", ["/log", "/log_errors"])
def test_the_counters_are_those_of_the_calls(visits: Visits, page: str) -> None:
    answer = visits.first[page]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    times = [row["duration_ms"] for row in visits.rows]

    assert counter(answer.text, "Requests") == len(visits.rows) == FILLING + 6
    assert counter(answer.text, "Errors") == 3
    assert counter(answer.text, "Total time") == pytest.approx(sum(times), abs=1)
    assert counter(answer.text, "Average time") == pytest.approx(sum(times) / len(times), abs=1)
    assert counter(answer.text, "Max time") == pytest.approx(max(times), abs=1)
    assert counter(answer.text, "Parallel now") == 0
    assert counter(answer.text, "Max parallel") == 1


@pytest.mark.parametrize("page", ["/log", "/log_errors"])
@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("Max prompt tokens", "input_tokens"),
        ("Max cached tokens", "cached_tokens"),
        ("Max completion tokens", "output_tokens"),
    ],
)
def test_the_most_tokens_are_those_of_the_calls(visits: Visits, page: str, name: str, column: str) -> None:
    most = max(row[column] or 0 for row in visits.rows)

    assert most > 0
    assert counter(visits.first[page].text, name) == most


def test_the_log_lists_the_newest_fifty(visits: Visits) -> None:
    newest = [str(row["request_id"]) for row in visits.rows[-50:]]

    assert listed_ids(visits.first["/log"].text) == newest[::-1]


def test_the_error_log_lists_only_what_failed(visits: Visits) -> None:
    failed = [str(row["request_id"]) for row in visits.rows if row["outcome"] != "success"]
    page = visits.first["/log_errors"].text

    assert listed_ids(page) == failed[::-1]
    for word in (
        "model_not_found",
        "upstream_unreachable",
        "may have been billed",
        "refused by OpenAI",
        "refused by the gateway",
    ):
        assert word.lower() in page.lower()


@pytest.mark.parametrize("page", ["/log", "/log_errors"])
def test_a_hostile_string_is_only_text(visits: Visits, page: str) -> None:
    text = visits.first[page].text

    assert "<script" not in text
    assert "<img" not in text
    assert "gpt-nope&#x27;&quot;&gt;&lt;img src=x onerror=alert(1)&gt;" in text
    if page == "/log":
        assert "&lt;script&gt;alert(&quot;model&quot;)&lt;/script&gt;" in text


def test_no_prompt_is_in_the_log_pages(visits: Visits) -> None:
    assert "words words" not in visits.first["/log"].text + visits.first["/log_errors"].text


def test_the_runtime_names_versions_and_limits(visits: Visits) -> None:
    answer = visits.first["/debug/runtime"]

    assert answer.headers["content-type"] == "application/json"
    facts = answer.json()
    assert facts["version"] == settings.VERSION
    assert facts["packages"]["openai"] == version("openai")
    assert facts["packages"]["django"] == version("django")
    assert facts["limits"]["REQUEST_TIMEOUT"] == 900
    assert facts["limits"]["MAX_PARALLEL_REQUESTS"] == 1000
    assert facts["limits"]["MAX_BODY_BYTES"] == 50 * 1024 * 1024
    assert facts["limits"]["MAX_UPLOAD_BYTES"] == 25 * 1024 * 1024
    assert facts["limits"]["SSE_KEEPALIVE_SECONDS"] == 15
    assert facts["limits"]["DEFAULT_MODEL"] == "gpt-4o-mini"


def test_health_fails_as_upstream_fails(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    gateway = start_gateway()
    bearer = {"authorization": f"Bearer {ACCESS_TOKEN}"}
    simulator.fail_next("status-429")
    refused = gateway.http.get("/health", headers=bearer)
    simulator.fail_next("cut")
    broken = gateway.http.get("/health2", headers=bearer)

    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"  # upstream's words, not our own limit's
    assert gateway.row(refused)["outcome"] == "upstream_error"
    assert broken.status_code == 502
    assert broken.json()["error"]["code"] == "upstream_unreachable"
    assert gateway.row(broken)["outcome"] == "unreachable"
    assert len(simulator.requests) == 2
    for page in ("/log", "/log_errors", "/debug/runtime"):
        answer = gateway.http.head(page, headers=bearer)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
