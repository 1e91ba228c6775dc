"""Which headers pass up and down, whatever they are."""

from __future__ import annotations

import re
from pathlib import Path

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.upstream.passed_headers import pass_down, pass_up, separate_by_key

PASSING = ["content-type", "x-a", "x_a", "x-b", "openai-beta", "user-agent", "accept", "connectionx", "xcookie"]
STAYING = [
    "authorization", "cookie", "x-security-key", "api-key", "host", "content-length", "transfer-encoding", "connection",
    "keep-alive", "te", "upgrade", "expect", "accept-encoding", "x-forwarded-for", "x-forwarded-anything", "forwarded",
    "via", "sec-fetch-mode", "cf-ray", "origin", "x-proxy-tags", "x-proxy-anything", "x-http-method-override",
    "x-original-url", "x_forwarded_for", "transfer_encoding", "content_type", "openai_project", "x_rewrite-url",
]  # fmt: skip
values = st.one_of(st.binary(max_size=12), st.text(max_size=6).map(str.encode)).filter(
    lambda value: not set(value) & set(b"\r\n\0")
)
up = st.lists(st.tuples(st.sampled_from(PASSING + STAYING), values))
DOWN = [
    "OpenAI-Version", "x-request-id", "X-RateLimit-Limit-Tokens", "Retry-After-Ms", "Set-Cookie", "server",
    "Connection", "x-openai", "CF-Ray", "location", "Allow", "LINK", "x-location",
]  # fmt: skip


PASSED = {
    "openai-version", "x-request-id", "x-ratelimit-limit-tokens", "retry-after-ms", "location", "allow", "link",
}  # fmt: skip


@given(up)
def test_what_passes_up_passes_in_its_order_and_whole(pairs: list[tuple[str, bytes]]) -> None:
    sent = [(name.encode(), value) for name, value in pairs if name != "connection"]
    passed = list(pass_up(sent).items())

    assert [name for name, _ in passed] == [name for name, _ in pairs if name in PASSING]
    for (_, text), (_, value) in zip(passed, [pair for pair in pairs if pair[0] in PASSING], strict=True):
        written = text.encode()  # as it is written: a lone surrogate would raise
        assert written == value or b"?" in written


@given(up, st.sets(st.sampled_from(PASSING)))
def test_what_a_connection_lists_stays(pairs: list[tuple[str, bytes]], listed: set[str]) -> None:
    line = (b"connection", ", ".join(name.title() for name in listed).encode())
    passed = pass_up([*((name.encode(), value) for name, value in pairs if name != "connection"), line])

    assert not {name.lower() for name in passed} & (listed | set(STAYING))


@given(
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), st.text(max_size=9), st.text(max_size=9)
)
def test_no_key_gets_the_answer_to_another_ones_request(value: str, ann: str, bob: str) -> None:
    """The same text is one text for a key, in each try, and another one for each other key."""
    sent = [(b"x-a", b"1"), (b"idempotency-key", value.encode()), (b"x-idempotency-key", value.encode())]
    passed: dict[str, str] = {}
    for name in (ann, bob, ann):
        headers = pass_up([*sent, (b"idempotency_key", value.encode())])
        separate_by_key(headers, name)
        assert list(headers) == ["x-a", "Idempotency-Key", "X-Idempotency-Key"]
        assert passed.setdefault(name, headers["idempotency-key"]) == headers["x-idempotency-key"]
    assert len({*passed.values(), value}) == len({ann, bob}) + 1


@given(st.lists(st.tuples(st.sampled_from(DOWN), st.text(max_size=8))))
def test_only_what_is_listed_passes_down(pairs: list[tuple[str, str]]) -> None:
    passed = pass_down(pairs)

    assert passed.keys() <= PASSED
    assert all(value.isascii() and (value.isprintable() or "\t" in value) for value in passed.values())


def test_a_repeated_one_is_joined() -> None:
    assert pass_down([("Cache-Control", "no-cache"), ("cache-control", "no-store")]) == {
        "cache-control": "no-cache, no-store"
    }


SDK = "".join(path.read_text() for path in Path(openai.__file__).parent.rglob("*.py"))
READ_BY_CODEX = {  # in codex-rs/codex-api
    "openai-model", "x-codex-primary-used-percent", "x-codex-turn-state", "x-models-etag", "x-reasoning-included",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", sorted({*re.findall(r'response(?:\.|_)headers\.get\("([\w-]+)"', SDK), *READ_BY_CODEX})
)
def test_what_clients_read_passes_down(name: str) -> None:
    assert pass_down([(name.title(), "1")]) == {name: "1"}
