"""Fields of a journal record that no table can store: a call with one of them becomes a dead letter."""

from __future__ import annotations

from typing import Any

POISON: dict[str, dict[str, Any]] = {
    "NUL in usage": {"usage": {"a": "b\0c"}},
    "NUL in a text": {"error_message": "a\0b"},
    "NUL in a body": {"response_body": "a\0b"},
    "too long": {"response_id": "x" * 201},
    "a number that is none": {"input_tokens": "many"},
    "a fraction of a token": {"output_tokens": 1.5},
    "below zero": {"input_tokens": -1},
    "past bigint": {"input_tokens": 2**63},
    "past integer": {"web_searches": 2**40},
    "past smallint": {"status": 40_000},
    "no address": {"client_address": "not an address"},
    "no list": {"tags": 5},
    "a tag too long": {"tags": ["x" * 101]},
    "no time": {"started_at": "yesterday"},
    "a model that is none": {"response_model": 5},
    "no time at all": {"started_at": None},
    "a null where none may be": {"key_name": None},
}
