"""Owns the reading of usage: from upstream's usage object to the ledger's counts.

Shapes, from the OpenAI API reference and the SDK's types: chat completions and embeddings say
`prompt_tokens`/`completion_tokens`, Responses, images and transcriptions say
`input_tokens`/`output_tokens`; whisper-1 says `{"type": "duration", "seconds": 12.3}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

COUNTS = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "audio_seconds",
    "web_searches",
)


def read_counts(usage: Mapping[str, Any]) -> dict[str, int | float]:
    """The counts that `usage` states, by the ledger's column; what it does not state is absent.

    Tokens are whole numbers, rounded up where upstream states 5.0 or 5.5; `audio_seconds` is seconds. A stated zero is
    kept.
    """
    into = _details(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    out = _details(usage, "completion_tokens_details", "output_tokens_details", "output_token_details")
    found = {
        "input_tokens": _first(usage, "prompt_tokens", "input_tokens"),
        "output_tokens": _first(usage, "completion_tokens", "output_tokens"),
        "cached_tokens": _first(into, "cached_tokens"),
        "cache_write_tokens": _first(into, "cache_write_tokens"),
        "reasoning_tokens": _first(out, "reasoning_tokens"),
        "audio_input_tokens": _first(into, "audio_tokens"),
        "audio_output_tokens": _first(out, "audio_tokens"),
        "audio_seconds": usage.get("seconds") if usage.get("type") == "duration" else None,
    }
    return {
        column: count if column == "audio_seconds" else math.ceil(count)
        for column, count in found.items()
        if _is_count(count)
    }


def estimate_counts(asked_bytes: int, answered_bytes: int) -> dict[str, int | float]:
    """A guess at the tokens of a call whose usage never came, from the sizes of its texts.

    Four bytes a token is OpenAI's rule of thumb for English (help centre, "What are tokens and how to count them?").
    """
    return {"input_tokens": math.ceil(asked_bytes / 4), "output_tokens": math.ceil(answered_bytes / 4)}


def _details(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        if isinstance(details := usage.get(name), dict):
            return details
    return {}


def _first(counts: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if (count := counts.get(name)) is not None:
            return count
    return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53
