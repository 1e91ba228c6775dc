"""How many tokens a call counts against the limit of its key, by what upstream has stated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxyapi.call.journal_rows import limited_tokens
from usage.answers.reader import AnswerReader


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}, 15),
        ({"prompt_tokens": 10, "total_tokens": 10}, 10),
        ({"total_tokens": 1500}, 1500),  # nothing but a total
        ({"total_tokens": 1499.5, "input_tokens": None}, 1500),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 900}, 900),  # reasoning is in the total only
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, 15),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": "many"}, 15),
        ({"input_tokens": 0, "total_tokens": -5}, 0),
        ({"type": "duration", "seconds": 90}, 0),
        (None, 0),
    ],
)
def test_what_upstream_has_stated_counts(usage: Any, tokens: int) -> None:
    answer = AnswerReader()
    answer.read({"usage": usage})
    assert limited(answer, "POST") == tokens
    assert limited(answer, "GET") == 0


def test_an_estimate_counts() -> None:
    facts: Any = SimpleNamespace(request=SimpleNamespace(method="POST"))
    assert limited_tokens(facts, AnswerReader(), {"input_tokens": 7, "output_tokens": 3}) == 10


def limited(answer: AnswerReader, method: str) -> int:
    facts = cast(Any, SimpleNamespace(request=SimpleNamespace(method=method)))
    return limited_tokens(facts, answer, answer.counts)
