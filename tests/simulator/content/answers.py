"""What a handler answers with: a whole `Answer`, or a `Stream` of server-sent events made in advance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Json = dict[str, Any]
Dialect = Literal["chat", "typed"]


@dataclass(frozen=True)
class Answer:
    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Stream:
    """A streamed answer: its server-sent events as bytes, and the dialect in which they are written.

    In the dialect `chat`, events are bare `data:` lines and `[DONE]` is the last; in `typed`, each names its type.
    """

    events: Sequence[bytes]
    dialect: Dialect
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Makes an answer of `value` as JSON, indented by two blanks as in OpenAI's answers (except streams)."""
    return Answer(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE), status, headers=headers)


def text_answer(text: str) -> Answer:
    return Answer(text.encode(), content_type="text/plain; charset=utf-8")


def bare_event(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def typed_event(value: Json) -> bytes:
    return b"event: " + str(value["type"]).encode() + b"\n" + bare_event(value)


DONE = b"data: [DONE]\n\n"
