"""Owns the reading of errors in the shapes that servers give them: what kind of error it is, and its words.

OpenAI's is `{"error": {"type", "code", "message"}}`. Others: a text in the place of that object (Ollama), the members
without it (vLLM), `{"detail": …}` (FastAPI), `{"message": …}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

ErrorFacts = dict[str, str]
WORDS = ("message", "detail", "error")  # members that may have the words, the usual first


def stated_error(body: Mapping[str, Any]) -> ErrorFacts | None:
    """The error that a JSON object states by its member `error`; None if it has none, or an empty one."""
    error = body.get("error")
    if isinstance(error, dict):
        return error_facts(error)
    if not error:
        return None
    return error_facts({**body, "error": error if isinstance(error, str) else None, "message": _words(body)})


def error_facts(error: Mapping[str, Any]) -> ErrorFacts:
    """Type, code and message of an object that is an error; what it does not say is empty."""
    kind, code = error.get("type"), error.get("code")
    return {"type": _text(kind) if kind != "error" else "", "code": _text(code), "message": _words(error)}


def text_error(data: bytes) -> ErrorFacts:
    """The error that is a text, plain or a JSON string."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    words = value if isinstance(value, str) else data.decode("utf-8", "replace").strip()
    return {"type": "", "code": "", "message": words}


def body_error(body: bytes) -> ErrorFacts:
    """The error that the whole body of an answer is: a JSON object of any shape, or a text."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    return (stated_error(value) or error_facts(value)) if isinstance(value, dict) else text_error(body)


def _words(error: Mapping[str, Any]) -> str:
    for name in WORDS:
        if (value := error.get(name)) and value is not True:
            return _text(value)
    return ""


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=str).decode()
    return str(value or "")
