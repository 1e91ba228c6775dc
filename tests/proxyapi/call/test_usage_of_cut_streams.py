"""What a chat has used whose stream brought more text after it had stated a usage: that text counts, too."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from proxyapi.call.call_facts import CallFacts
from proxyapi.call.journal_rows import usage_of
from usage.answers.reader import AnswerReader
from usage.answers.streamed_text import StreamedText
from usage.models import UsageSource


def chunk(content: str, usage: object = None, finish: str | None = None) -> bytes:
    choices = [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]
    event = {"object": "chat.completion.chunk", "model": "m", "choices": choices, "usage": usage}
    return b"data: %b\n\n" % json.dumps(event).encode()


BROKEN_OFF: list[bytes] = []
WHOLE = [chunk("", None, "stop"), b"data: [DONE]\n\n"]


@pytest.mark.parametrize("end", [BROKEN_OFF, WHOLE], ids=["broken off", "whole"])
@pytest.mark.parametrize(
    ("stated", "text", "tokens"),
    [
        (1, "x" * 399, 100),  # as servers that state a usage in the first chunk only
        (300, "x" * 399, 300),
        (0, "x" * 399, 100),
    ],
)
def test_text_after_the_stated_usage_counts(stated: int, text: str, tokens: int, end: list[bytes]) -> None:
    request: Any = SimpleNamespace(method="POST", decoded_body=b"{}", META={"CONTENT_TYPE": "application/json"})
    facts = CallFacts(request, "none", (), model="m", stream=True)
    answer = AnswerReader()
    answer.text = StreamedText(1000)
    answer.read_events(chunk("a", {"prompt_tokens": 25, "completion_tokens": stated, "total_tokens": 25 + stated}))
    for event in [chunk(text), *end]:
        answer.read_events(event)
    usage, source = usage_of(facts, answer, may_be_billed=True)
    assert source == UsageSource.ESTIMATED
    assert (usage["input_tokens"], usage["output_tokens"]) == (25, tokens)
