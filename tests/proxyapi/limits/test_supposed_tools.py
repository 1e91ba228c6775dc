"""What a call without a reservation is supposed to use of hosted tools, if its process dies in the middle of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from uuid_utils import uuid7

from proxyapi.bodies.json_body import JSONBody
from proxyapi.call.journal_rows import begin_with_tools
from proxyapi.limits.usage_estimates import supposed_tool_use
from proxyapi.routes import find_route
from usage.call_record import CallRecord
from usage.journal_shipping.rows import interrupted
from usage.money.billing import cost_kind, price_call

NOW = datetime(2026, 11, 28, tzinfo=UTC)
IMAGE_TOOL = {"type": "image_generation", "model": "gpt-image-1"}
HOSTED: dict[str, Any] = {
    "model": "gpt-5", "input": "hi", "max_tool_calls": 2,
    "tools": [
        {"type": "web_search"}, {"type": "file_search", "vector_store_ids": ["vs_1"]}, IMAGE_TOOL,
        {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}},
    ],
}  # fmt: skip


@pytest.mark.parametrize("filling", ["", "x" * 300_000], ids=["small", "too large to be searched"])
def test_a_call_that_dies_without_a_reservation_is_supposed_to_use_its_tools(filling: str) -> None:
    """Its beginning in the journal says so, so the row that is written for it does, too."""
    body = JSONBody.parse(json.dumps({**HOSTED, "input": filling}).encode())
    route = find_route("/responses")
    used = supposed_tool_use("POST", route, body, ())
    assert (used["web_searches"], used["other_usage"]["file_searches"]) == (2, 2)
    assert (used["other_usage"]["image_model"], used["other_usage"]["containers"]) == ("gpt-image-1", ["4g"])

    begun: CallRecord = {
        "request_id": str(uuid7()), "method": "POST", "route": "/v1/responses", "request_model": "gpt-5",
        "request_bytes": 400, "key_name": "a", "started_at": NOW,
    }  # fmt: skip
    row = interrupted(begin_with_tools(begun, used))
    cost, price = price_call(row, [])
    assert cost is not None
    assert cost > Decimal("0.6")  # the picture
    assert cost_kind(row, price) == "estimated"
    assert {"web_search", "file_search", "container_4g"} <= {item["unit"] for item in (price or {})["items"]}
    assert supposed_tool_use("POST", route, JSONBody.parse(b'{"tools": [{"type": "function"}]}'), ()) == {}


def test_names_of_models_for_a_tool_are_redacted() -> None:
    body = JSONBody.parse(json.dumps({**HOSTED, "tools": [{**IMAGE_TOOL, "model": "a-very-secret-word"}]}).encode())
    used = supposed_tool_use("POST", find_route("/responses"), body, ("a-very-secret-word",))
    assert "secret-word" not in json.dumps(used)
