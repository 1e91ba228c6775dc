"""What a call can cost at most: worked out by hand, and never below what the simulated OpenAI says it has cost.

Over 300 lines, since it is a table of requests with costs worked out by hand.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.bodies.json_body import JSONBody
from proxyapi.exceptions import BadRequest, RouteNotAllowed
from proxyapi.keys.credentials import Credentials
from proxyapi.limits.budgets import price_of
from proxyapi.limits.cost_ceiling import (
    DEAREST_IMAGE_TOKENS,
    FRAME_TOKENS,
    SUPPOSED_SEARCHES,
    SUPPOSED_TOKENS,
    CostCeiling,
    ceiling_of,
    output_ceiling,
)
from proxyapi.limits.output_limits import OutputLimit
from proxyapi.limits.request_content import Form, most_tokens
from proxyapi.routes import FAMILIES, find_route
from proxyapi.upstream.request import UpstreamRequest
from tests.simulator.content.tokens import estimate_chat_prompt_tokens
from tests.simulator.server import Simulator
from tests.support.servers.gateway import Gateway
from usage.answers.tool_use import MOST_PICTURE_TOKENS
from usage.custom_prices import CustomPrice
from usage.ledger import ledger
from usage.money.billing import MaxUsage, highest_cost
from usage.money.unbilled import ADMINISTRATION, FREE_FAMILIES, FREE_ROUTES, is_free

NOW = datetime(2026, 11, 1, tzinfo=UTC)
HI = [{"role": "user", "content": "hi"}]
IMAGE = "data:image/png;base64," + base64.b64encode(bytes(30_000)).decode()


def most_of(path: str, body: dict[str, Any] | Form) -> MaxUsage:
    ceiling = ceiling_at(path, body if isinstance(body, Form) else JSONBody.parse(json.dumps(body).encode()))
    assert ceiling is not None
    return ceiling.max_usage


def ceiling_at(path: str, body: JSONBody | Form | None, method: str = "POST") -> CostCeiling | None:
    return ceiling_of(method, find_route(path), body)


def cost(ceiling: CostCeiling | None) -> Decimal:
    assert ceiling is not None
    (model,), (tier,) = ceiling.models, ceiling.tiers
    dollars = highest_cost(model, tier, datetime.now(UTC), ceiling.max_usage, [])
    assert dollars is not None
    return dollars


@pytest.mark.parametrize("limits", [{}, {"n": 2}, {"max_completion_tokens": 7, "n": 2}, {"model": "gpt-5"}])
@pytest.mark.parametrize("content", ["hi", [{"text": "hi"}], [{"text": "hi", "type": "text"}]])
@pytest.mark.parametrize("path", ["/chat/completions", "/responses"])
def test_a_request_of_text_alone_is_counted_as_others_are(path: str, content: object, limits: dict[str, Any]) -> None:
    """It is counted by a shorter way, which `modalities` bars, whatever they are."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}], **limits}
    longer = {**body, "modalities": ["text"]}
    text, longer_text = (most_tokens(json.dumps(one).encode()) for one in (body, longer))

    assert most_of(path, body) == replace(most_of(path, longer), input_tokens=text + FRAME_TOKENS)
    assert most_of(path, longer).input_tokens == longer_text + FRAME_TOKENS


@pytest.mark.parametrize(
    "members",
    [
        {"Model": "o1-pro"},
        {"models": ["o1-pro"]},
        {"fallbacks": [{"gpt-4o-mini": ["o1-pro"]}]},
        {"tools": [{"type": "image_generation", "model": "o1-pro"}]},
        {"tools": [{"type": "image_generation", "svg": {"model": "o1-pro"}}]},
    ],
)
def test_every_model_that_may_run_is_priced(members: dict[str, Any]) -> None:
    body = json.dumps({"model": "gpt-4o-mini", "input": "hi", "metadata": {"model": "x"}, **members}).encode()
    ceiling = ceiling_at("/responses", JSONBody.parse(body))

    assert ceiling is not None
    assert ceiling.models == {"gpt-4o-mini", "o1-pro"}


def test_the_members_that_have_been_read_are_used() -> None:
    """What goes upstream is not parsed again; only its size counts."""
    request = UpstreamRequest("POST", "/responses", Credentials("sk-x"), deadline=0.0, content=b"{" * 1000)
    request.json = JSONBody.written(request.content or b"", {"model": "gpt-4o", "max_output_tokens": 7})
    ceiling = ceiling_of(request.method, request.route, request.json)

    assert ceiling is not None
    assert ceiling.models == {"gpt-4o"}
    assert ceiling.max_usage == MaxUsage(input_tokens=1000 + FRAME_TOKENS, output_tokens=7)


@pytest.mark.parametrize(
    ("members", "outputs", "answers"),
    [
        ({"prompt": "hi", "max_tokens": 7}, 7, 1),
        ({"prompt": "hi", "max_tokens": 7, "n": 2, "best_of": 3}, 21, 3),
        ({"prompt": ["a", "b"], "max_tokens": 7}, 14, 2),
        ({"prompt": [1, 2, 3], "max_tokens": 7}, 7, 1),
        ({"prompt": [[1, 2], [3], [4]], "max_tokens": 7}, 21, 3),
        ({"prompt": "hi"}, 4096, 1),
    ],
)
def test_a_completion_of_the_old_kind(members: dict[str, Any], outputs: int, answers: int) -> None:
    body = {"model": "gpt-3.5-turbo-instruct", **members}
    text = most_tokens(json.dumps(body).encode())

    assert most_of("/completions", body) == MaxUsage(text + FRAME_TOKENS, output_tokens=outputs, answers=answers)


@pytest.mark.parametrize("path", ["/videos", "/evals/eval_1/runs", "/agents/sessions", "/realtime/client_secrets"])
def test_what_is_not_counted_is_not_for_a_key_with_a_budget(path: str) -> None:
    with pytest.raises(RouteNotAllowed, match="is not counted"):
        ceiling_at(path, JSONBody.parse(b'{"model": "gpt-4o-mini"}'))


@pytest.mark.parametrize("path", ["/skills", "/vaults", "/evals", "/webhook_endpoints/x/test", "/projects/x/roles"])
def test_what_is_free_is(path: str) -> None:
    assert ceiling_at(path, JSONBody.parse(b"{}")) is None


def test_every_model_of_a_form_is_priced() -> None:
    ceiling = ceiling_at("/images/edits", Form({"model": ["gpt-image-1"], "svg[model]": ["o1-pro"]}, [100]))

    assert ceiling is not None
    assert ceiling.models == {"gpt-image-1", "o1-pro"}


def test_it_works() -> None:
    body = json.dumps({"model": "gpt-4o-mini", "messages": HI, "max_completion_tokens": 1000, "n": 2}).encode()
    ceiling = ceiling_at("/chat/completions", JSONBody.parse(body))
    limit = OutputLimit("max_completion_tokens", (("max_completion_tokens", 1000),), answers=2)
    usage = MaxUsage(78 + FRAME_TOKENS, output_tokens=2000, answers=2)
    assert ceiling == CostCeiling(frozenset({"gpt-4o-mini"}), frozenset({""}), usage, limit)
    # 0.15 and 0.60 dollars per million: of 112 bytes 68 are small letters and spaces, which makes 78 tokens, and 64
    assert len(body) == 112
    assert cost(ceiling) == Decimal("0.00122130")


# The densities that were measured with o200k_base, in bytes a token.
DENSE = {
    "digits": ("1,0," * 500, 1.0),
    "base64": (base64.b64encode(Random(1).randbytes(3000)).decode(), 1.45),
    "hex": (Random(2).randbytes(2000).hex(), 1.76),
    "ASCII": ("".join(Random(3).choices([chr(code) for code in range(32, 127)], k=4000)), 1.35),
    "a rare script": ("\u1c5a\u1c5b\u1c5c" * 500, 1.01),
    "English": ("the quick brown fox jumps over the lazy dog " * 90, 4.0),
}


@pytest.mark.parametrize("kind", DENSE)
def test_no_kind_of_text_has_more_tokens_than_it_is_thought_to(kind: str) -> None:
    text, bytes_per_token = DENSE[kind]
    size = len(text.encode())
    assert size / bytes_per_token - 1 <= most_tokens(text.encode())
    assert most_tokens(text.encode()) <= size
    if kind == "English":
        assert most_tokens(text.encode()) == size // 2


def test_a_limit_that_upstream_may_read_as_none_is_none() -> None:
    body = JSONBody.parse(b'{"model": "gpt-4o", "max_tokens": 5, "max_tokens": null}')
    ceiling = ceiling_at("/chat/completions", body)
    assert ceiling is not None
    assert ceiling.max_usage.output_tokens == 16_384
    assert ceiling.adjustable is None


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gpt-4o-mini-2024-07-18", 16_384), ("gpt-4.1", 32_768), ("gpt-4", 8192), ("gpt-4-turbo", 4096),
        ("gpt-5-mini", 128_000), ("gpt-5-pro", 272_000), ("GPT-5-chat-latest", 16_384), ("o3", 100_000),
        ("ft:gpt-3.5-turbo-0125:us::x", 4096), ("somebody-else", 131_072), ("", 131_072),
    ],
)  # fmt: skip
def test_without_a_limit_the_output_is_the_models_own(model: str, tokens: int) -> None:
    assert output_ceiling(model) == tokens
    assert most_of("/responses", {"model": model, "input": "hi"}).output_tokens == tokens


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [
        ({"max_tokens": 5}, 5), ({"max_tokens": 5, "max_completion_tokens": 7}, 7), ({"max_tokens": None}, 16_384),
        ({"max_tokens": 0}, 16_384), ({"max_tokens": -1}, 16_384), ({"max_tokens": True}, 16_384),
        ({"max_tokens": "9"}, 16_384), ({"max_tokens": 5, "n": 3}, 15), ({"n": None}, 16_384),
    ],
)  # fmt: skip
def test_limits_of_the_output(limits: dict[str, Any], tokens: int) -> None:
    assert most_of("/chat/completions", {"model": "gpt-4o", "messages": HI, **limits}).output_tokens == tokens


def test_of_names_given_twice_the_dearest_counts() -> None:
    body = b'{"model":"gpt-4o","max_tokens":5,"model":"gpt-4","max_tokens":50,"service_tier":"flex","messages":[]}'
    ceiling = ceiling_at("/chat/completions", JSONBody.parse(body))
    assert ceiling is not None
    assert (ceiling.models, ceiling.max_usage.output_tokens) == (frozenset({"gpt-4o", "gpt-4"}), 50)


@pytest.mark.parametrize(
    "members",
    [
        b'"messages":[{"role":"user","content":"long","content":"x"}]',
        b'"messages":[{"role":"user","content":[{"type":"image_url","type":"text","text":"x"}]}]',
        b'"tools":[{"type":"web_search","type":"function","name":"f"}]',
        b'"tools":[{"type":"code_interpreter","container":{"memory_limit":"64g","memory_limit":"1g"}}]',
        b'"input":[{"type":"tool_search_output","tools":[{"type":"function"}],"tools":[]}]',
    ],
)
def test_names_given_twice_below_the_top_are_refused(members: bytes) -> None:
    """What a call may cost is not known if upstream may read either value."""
    with pytest.raises(BadRequest, match="a name twice"):
        ceiling_at("/chat/completions", JSONBody.parse(b'{"model":"gpt-4o",' + members + b"}"))


def test_an_inline_image_is_an_image_and_not_its_bytes() -> None:
    def content(model: str, *parts: dict[str, Any]) -> MaxUsage:
        return most_of("/chat/completions", {"model": model, "messages": [{"role": "user", "content": list(parts)}]})

    inline = {"type": "image_url", "image_url": {"url": IMAGE}}
    linked = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    assert MOST_PICTURE_TOKENS < content("gpt-4o", inline).input_tokens < MOST_PICTURE_TOKENS + 200
    assert MOST_PICTURE_TOKENS < content("gpt-4o", linked).input_tokens < MOST_PICTURE_TOKENS + 200
    assert content("gpt-4o", inline, linked).input_tokens > 2 * MOST_PICTURE_TOKENS
    assert content("gpt-4o-mini", inline).input_tokens > DEAREST_IMAGE_TOKENS
    response = {"role": "user", "content": [{"type": "input_image", "image_url": IMAGE}]}
    assert most_of("/responses", {"model": "gpt-4o", "input": [response]}).input_tokens < MOST_PICTURE_TOKENS + 200
    pretended = {"type": "text", "text": IMAGE}
    assert content("gpt-4o", pretended).input_tokens > len(IMAGE) // 2


def test_sound_is_seconds() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(bytes(60_000)).decode(), "format": "mp3"}}
    body = {"model": "gpt-audio", "messages": [{"role": "user", "content": [sound]}], "modalities": ["text", "audio"]}
    most = most_of("/chat/completions", body)
    assert 600 < most.input_tokens < 800
    assert most.kinds == {"audio_input", "audio_output"}
    form = most_of("/audio/transcriptions", Form({"model": ["whisper-1"]}, [59_001]))
    assert form.audio_seconds == 61


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"prompt": {"id": "pmpt_1"}},
        {"tools": [{"type": "file_search"}]}, {"tools": [{"type": "mcp", "server_label": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
    ],
)  # fmt: skip
def test_what_the_body_does_not_say_is_supposed(more: dict[str, Any]) -> None:
    body = {"model": "gpt-4o", "input": "hi", **more}
    assert SUPPOSED_TOKENS < most_of("/responses", body).input_tokens < SUPPOSED_TOKENS + 200


def test_what_hosted_tools_do_has_its_fees() -> None:
    """$0.0025 a file search; a picture of gpt-image-1: 16,384 tokens in at $10, 24,576 out at $40 a million."""
    tools = [{"type": "file_search"}, {"type": "image_generation", "model": "gpt-image-1"}]
    body = {"model": "gpt-4o", "input": "hi", "tools": tools, "max_output_tokens": 16}
    most = most_of("/responses", body)
    assert (most.file_searches, most.pictures, most.picture_models) == (10, 1, frozenset({"gpt-image-1"}))
    bounded = most_of("/responses", {**body, "max_tool_calls": 3})
    assert (bounded.file_searches, bounded.pictures) == (3, 3)

    plain = highest_cost("gpt-4o", "", NOW, MaxUsage(), [])
    assert plain == 0
    assert highest_cost("gpt-4o", "", NOW, MaxUsage(file_searches=10), []) == Decimal("0.025")
    one = MaxUsage(pictures=1, picture_models=frozenset({"gpt-image-1"}))
    assert highest_cost("gpt-4o", "", NOW, one, []) == Decimal("1.14688")
    unnamed = highest_cost("gpt-4o", "", NOW, MaxUsage(pictures=1), [])
    assert unnamed is not None
    assert unnamed > Decimal("0.25"), "a picture costs up to $0.25"


@pytest.mark.parametrize(
    ("named", "tier", "dollars"),
    [
        ({}, "default", "10"), ({}, "dearest", "20"), ({"service_tier": "auto"}, "dearest", "20"),
        ({"service_tier": "default"}, "dearest", "10"), ({"service_tier": "flex"}, "dearest", "10"),
    ],
)  # fmt: skip
def test_the_tier_of_the_project_is_that_of_calls_that_name_none(
    monkeypatch: pytest.MonkeyPatch, named: dict[str, str], tier: str, dollars: str
) -> None:
    """A million output tokens of gpt-5 cost $10, and $20 in the priority tier."""
    monkeypatch.setattr(settings, "PROJECT_SERVICE_TIER", tier)
    monkeypatch.setattr(type(ledger), "custom_prices", [])
    body = json.dumps({"model": "gpt-5", **named}).encode()
    ceiling = ceiling_at("/chat/completions", JSONBody.parse(body))
    assert ceiling is not None
    work = replace(ceiling, max_usage=MaxUsage(output_tokens=1_000_000))
    assert price_of(work) == Decimal(dollars)
    assert price_of(work, in_named_tier=True) == 10


def test_calls_that_have_no_tier_are_reserved_in_the_default_one() -> None:
    body: dict[str, Any] = {"model": "text-embedding-3-small", "input": "hi", "service_tier": "priority"}
    ceiling = ceiling_at("/embeddings", JSONBody.parse(json.dumps(body).encode()))
    assert ceiling is not None
    assert ceiling.tiers == {"default"}


def test_functions_are_text_and_searches_have_their_fee() -> None:
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"image_url": {}}}}]
    assert most_of("/responses", {"model": "gpt-4o", "input": "hi", "tools": tools}).input_tokens < 200
    searching = {"model": "gpt-4o", "input": "hi", "tools": [{"type": "web_search"}], "max_output_tokens": 1}
    assert most_of("/responses", searching).web_searches == SUPPOSED_SEARCHES
    assert most_of("/responses", {**searching, "max_tool_calls": 3}).web_searches == 3


@pytest.mark.parametrize(
    ("model", "tools", "limit", "dollars"),
    [  # the fee of ten searches, unless `max_tool_calls` limits them; of a container for 20 minutes
        ("gpt-5", [{"type": "web_search"}], None, "0.1"),
        ("o3-pro", [{"type": "web_search"}], 1, "0.01"),  # whose list says nothing of searches
        ("gpt-4.1", [{"type": "web_search_preview"}], 4, "0.1"),
        ("gpt-4o-mini", [{"type": "web_search"}], 1, "0.0262"),  # $0.025, and 8,000 tokens at $0.15 a million
        ("gpt-4o-search-preview", [], None, "0.025"),
        ("gpt-4o-mini-search-preview-2025-03-11", [], None, "0.025"),
        ("gpt-5-search-api", [], None, "0.01"),
        ("gpt-5", [{"type": "file_search"}], 2, "0.005"),
        ("gpt-5", [{"type": "code_interpreter", "container": {"type": "auto"}}], None, "0.03"),
        ("gpt-5", [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "16g"}}], None, "0.48"),
        ("gpt-5", [{"type": "code_interpreter", "container": "cntr_1"}], None, "0.03"),
        ("gpt-5", [{"type": "shell", "environment": {"type": "container_auto", "memory_limit": "64g"}}], None, "1.92"),
        ("gpt-5", [{"type": "shell", "environment": {"type": "container_reference", "container_id": "c"}}], 1, "0.03"),
        ("gpt-5", [{"type": "shell", "environment": {"type": "local"}}, {"type": "shell"}], None, "0"),
        ("gpt-5", [{"type": "code_interpreter", "container": {"memory_limit": ["4g"]}}], None, "0.03"),
        ("gpt-5", [{"type": "function", "name": "code_interpreter", "parameters": {}}], None, "0"),
    ],
)
def test_the_fees_of_tools_are_in_the_most_that_a_call_can_cost(
    model: str, tools: list[dict[str, Any]], limit: int | None, dollars: str
) -> None:
    asked = most_of("/responses", {"model": model, "input": "hi", "tools": tools, "max_tool_calls": limit})
    tokens_only = replace(asked, web_searches=0, file_searches=0, containers=())
    with_fees = highest_cost(model, "", NOW, replace(asked, input_tokens=0, output_tokens=0), [])
    assert with_fees == Decimal(dollars)
    assert highest_cost(model, "", NOW, replace(tokens_only, input_tokens=0, output_tokens=0), []) == (
        Decimal(dollars) if "search-" in model else 0
    )


def test_a_fee_of_the_administrators_is_the_one_that_is_reserved() -> None:
    own = CustomPrice(
        "gpt-4.1", NOW, multiplier=Decimal(1), per_web_search=Decimal("0.002"), per_file_search=Decimal("0.001")
    )
    most = MaxUsage(web_searches=10, file_searches=10)
    assert highest_cost("gpt-4.1", "", NOW, most, [own]) == Decimal("0.03")
    searching = CustomPrice(
        "gpt-4o-search-preview", NOW, input=Decimal(1), output=Decimal(1), per_web_search=Decimal("0.5")
    )
    assert highest_cost("gpt-4o-search-preview", "", NOW, MaxUsage(), [searching]) == Decimal("0.5")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/responses/resp_1"), ("DELETE", "/batches/b"), ("POST", "/responses/input_tokens"),
        ("POST", "/moderations"), ("POST", "/responses/resp_1/cancel"), ("POST", "/conversations/c/items"),
        ("POST", "/chat/completions/c"), ("POST", "/files"), ("GET", "/models"),
    ],
)  # fmt: skip
def test_what_is_free(method: str, path: str) -> None:
    assert ceiling_at(path, None, method) is None


@pytest.mark.parametrize(
    "path",
    [
        "/batches", "/fine_tuning/jobs", "/threads/runs", "/threads/t/runs", "/vector_stores",
        "/responses/resp_1", "/audio/something-new", "/nothing", "/audio/speech",
    ],
)  # fmt: skip
def test_what_the_ledger_cannot_count_is_refused(path: str) -> None:
    with pytest.raises(RouteNotAllowed):
        ceiling_at(path, JSONBody.parse(b"{}"))


def test_a_ceiling_is_of_the_dearest_kind_and_tier() -> None:
    most = MaxUsage(1_000_000, 1_000_000)
    assert highest_cost("gpt-4o", "", NOW, most, []) == Decimal("12.5")
    assert highest_cost("gpt-4o", "auto", NOW, most, []) == Decimal("12.5")
    later = datetime(2026, 11, 20, tzinfo=UTC)
    priority = highest_cost("gpt-4o", "priority", later, most, [])
    assert priority is not None
    assert priority > Decimal("12.5")
    assert highest_cost("gpt-4o", "batch", later, most, []) == Decimal("12.5")  # it may be answered in the default one
    # sound at 32 and 64, text at 2.5 and 10
    kinds = frozenset({"audio_input", "audio_output"})
    assert highest_cost("gpt-audio", "", NOW, most, []) == Decimal("12.5")
    assert highest_cost("gpt-audio", "", NOW, MaxUsage(1_000_000, 1_000_000, kinds=kinds), []) == Decimal(96)
    # a long prompt, all of it written to the cache for 12 hours
    assert highest_cost("gpt-6-luna", "", NOW, most, []) == Decimal("0.40") + Decimal("0.75")
    assert highest_cost("whisper-1", "", NOW, MaxUsage(100, 100, audio_seconds=60), []) == Decimal("0.006")
    assert highest_cost("tts-1", "", NOW, most, []) is None
    assert highest_cost("omni-moderation-latest", "", NOW, most, []) == 0
    own = CustomPrice("mine*", NOW, input=Decimal(1), output=Decimal(2))
    assert highest_cost("Mine-2", "", NOW, most, [own]) == 3
    assert highest_cost("mine-2", "", NOW, most, [CustomPrice("mine*", NOW, input=Decimal(1))]) is None


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.booleans())
def test_no_text_has_more_tokens(texts: list[str], plain: bool) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    body = json.dumps({"model": "gpt-4o", "messages": messages}, ensure_ascii=plain, separators=(",", ":"))
    ceiling = ceiling_at("/chat/completions", JSONBody.parse(body.encode("utf-8", "surrogatepass")))
    assert ceiling is not None
    assert ceiling.max_usage.input_tokens >= estimate_chat_prompt_tokens(messages)


TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
SEEN = {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": IMAGE}}]}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("chat/completions", {"model": "gpt-4o-mini", "messages": HI}),
    ("chat/completions", {"model": "gpt-4o-mini", "messages": HI, "max_tokens": 3, "n": 4}),
    ("chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "a " * 5000}], "max_tokens": 1}),
    ("chat/completions", {"model": "gpt-4.1", "messages": HI, "stream": True, "max_completion_tokens": 5}),
    ("chat/completions", {"model": "gpt-5", "messages": HI, "service_tier": "priority"}),
    ("chat/completions", {"model": "o3", "messages": HI, "service_tier": "flex"}),
    ("chat/completions", {"model": "gpt-4o-mini", "messages": [SEEN, SEEN]}),
    ("chat/completions", {"model": "gpt-4o", "messages": HI, "tools": [TOOL], "tool_choice": "required"}),
    ("responses", {"model": "gpt-4o", "input": "hi " * 3000, "max_output_tokens": 16}),
    ("responses", {"model": "gpt-5-mini", "input": "hi", "stream": True}),
    ("responses", {"model": "gpt-4o", "input": "hi", "previous_response_id": "resp_abc123", "max_output_tokens": 16}),
    ("responses", {"model": "gpt-4o", "input": "news?", "tools": [{"type": "web_search"}], "max_output_tokens": 16}),
    ("responses/compact", {"model": "gpt-4o", "input": "My name is Alice."}),
    ("embeddings", {"model": "text-embedding-3-small", "input": ["a", "b " * 900]}),
    ("embeddings", {"model": "text-embedding-3-large", "input": [list(range(10)), [1] * 500]}),
    ("images/generations", {"model": "gpt-image-1", "prompt": "a cat", "n": 3, "quality": "high"}),
]


@pytest.mark.parametrize(("path", "body"), CALLS, ids=[f"{number} {path}" for number, (path, _) in enumerate(CALLS)])
def test_no_simulated_call_costs_more(gateway: Gateway, simulator: Simulator, path: str, body: dict[str, Any]) -> None:
    simulator.fail_next("events-20000" if body.get("max_tokens") or body.get("max_output_tokens") else "slow-0")
    with gateway.sdk() as client:
        answer = gateway.http.post(f"/v1/{path}", json=body, headers={"Authorization": f"Bearer {client.api_key}"})
    assert answer.status_code == 200, answer.text
    row = gateway.row(answer)
    ceiling = ceiling_at(f"/{path}", JSONBody.parse(simulator.last.body))
    assert row["cost"] is not None
    assert 0 < row["cost"] <= cost(ceiling)


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"])
@pytest.mark.parametrize("size", [1, 16_001, 700_000])
def test_no_simulated_transcription_costs_more(gateway: Gateway, simulator: Simulator, model: str, size: int) -> None:
    with gateway.sdk("/v1") as client:
        answer = client.audio.transcriptions.with_raw_response.create(model=model, file=("a.mp3", bytes(size)))
    row = gateway.row(answer.headers["x-proxy-request-id"])
    assert 0 < row["cost"] <= cost(ceiling_at("/audio/transcriptions", Form({"model": [model]}, [size])))


@pytest.mark.parametrize("family", sorted(FREE_FAMILIES - ADMINISTRATION))
def test_what_is_not_known_of_a_free_family_is_not_free(family: str) -> None:
    with pytest.raises(RouteNotAllowed):
        ceiling_at(f"/{family}/some_1/unheard/of", None)


def test_each_free_route_is_one_of_openais() -> None:
    """A misspelt one would be not counted in the ledger, and refused to keys with a budget."""
    known = {f"/v1{path}" for family in FAMILIES for path, methods in family.paths.items() if "POST" in methods}
    assert {route for route in FREE_ROUTES if not route.startswith("/openai2")} <= known
    assert {family.name for family in FAMILIES} >= FREE_FAMILIES


def test_what_costs_nothing_in_the_ledger_is_free_for_a_key_with_a_budget() -> None:
    for family in FAMILIES:
        for path, methods in family.paths.items():
            route = find_route(path.replace("{id}", "x"))
            assert route is not None
            if "POST" in methods and is_free("POST", route.name):
                assert ceiling_of("POST", route, None) is None
