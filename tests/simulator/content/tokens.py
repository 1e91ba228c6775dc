"""Token counts: a simple estimate that is the same for the same input, and that tests can call.

One token is up to six non-blank characters with the blanks before them. A streamed answer sends one
token per delta, so `count_tokens(text)` is also the number of its deltas.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

import orjson

_TOKEN = re.compile(r"\s*\S{1,6}|\s+")
_TOKENS_PER_IMAGE = 85
_TOKENS_PER_MESSAGE = 4
_TOKENS_PRIMING_THE_ANSWER = 3
_CACHEABLE_PROMPT = 1024
_CACHE_STEP = 128


def split_tokens(text: str) -> list[str]:
    """Splits a text into simulated tokens, which are pieces of the text: joined again, they give the text."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    return len(split_tokens(text))


def _count_content(content: object) -> int:
    """Counts the tokens of a message's content: of a string, or of a list of parts in the form of either API."""
    if isinstance(content, str):
        return count_tokens(content)
    if not isinstance(content, list):
        return 0
    total = 0
    for part in content:
        if not isinstance(part, dict):
            continue
        if part.get("type") in {"image_url", "input_image"}:
            total += _TOKENS_PER_IMAGE
        total += count_tokens(str(part.get("text") or ""))
    return total


def _count_tools(tools: object) -> int:
    return math.ceil(len(orjson.dumps(tools)) / 6) if tools else 0


def estimate_chat_prompt_tokens(messages: Iterable[dict[str, Any]], tools: object = None) -> int:
    """Estimates the tokens of the prompt of a chat completion, by its messages and tools: `usage.prompt_tokens`."""
    total = _TOKENS_PRIMING_THE_ANSWER + _count_tools(tools)
    for message in messages:
        total += _TOKENS_PER_MESSAGE + _count_content(message.get("content"))
    return total


def estimate_input_tokens(items: Iterable[dict[str, Any]], instructions: object = None, tools: object = None) -> int:
    """Estimates the input tokens of a response, by its input items, instructions and tools: `usage.input_tokens`.

    The items are in their stored form (`input_items`).
    """
    total = _TOKENS_PRIMING_THE_ANSWER + _count_tools(tools)
    if isinstance(instructions, str):
        total += _TOKENS_PER_MESSAGE + count_tokens(instructions)
    for item in items:
        words = item.get("output") or item.get("arguments") or ""
        total += _TOKENS_PER_MESSAGE + _count_content(item.get("content"))
        total += count_tokens(words) if isinstance(words, str) else _count_content(words)
    return total


def cached_tokens(prompt_tokens: int) -> int:
    """Returns how many of a prompt's tokens the simulated OpenAI has read from its cache.

    From 1024 tokens on, that is their number rounded down to a multiple of 128 (OpenAI's prompt caching guide).
    """
    return prompt_tokens // _CACHE_STEP * _CACHE_STEP if prompt_tokens >= _CACHEABLE_PROMPT else 0
