"""What the head of upstream's answer says of a call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from proxyapi.call.call import Call
from usage.answers.reader import AnswerReader


def test_a_call_that_is_accepted_at_the_second_try_may_be_billed() -> None:
    """Else a stream that its caller leaves before its first text would cost nothing."""
    facts = SimpleNamespace(was_refused=False, upstream_request_id="", response_type="")
    call = cast(Any, SimpleNamespace(facts=facts, answer=AnswerReader(), _expected_objects=None))
    refusal, accepted = (
        cast(Any, SimpleNamespace(status=status, request_id="", content_type="")) for status in (400, 200)
    )
    Call.read_head(call, refusal)
    assert facts.was_refused
    Call.read_head(call, accepted)
    assert not facts.was_refused
