"""`POST /openai`: chat completions with the key in the body, and an image made easy."""

from __future__ import annotations

from tests.gateway import UPSTREAM_KEY, Gateway
from tests.simulator.server import Simulator

MESSAGES = [{"role": "user", "content": "hi"}]


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai", {"model": "gpt-4o-mini", "messages": MESSAGES})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["object"] == "chat.completion"
    assert simulator.last.path == "/v1/chat/completions"
    assert simulator.last.json == {"model": "gpt-4o-mini", "messages": MESSAGES}
    assert simulator.last.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    row = gateway.row(answer)
    assert row["outcome"] == "success"
    assert row["status"] == 200
    assert row["input_tokens"] == answer.json()["usage"]["prompt_tokens"]
