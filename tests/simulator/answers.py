"""What a handler answers with: a whole `Answer`, or a `Stream` of server-sent events made in advance."""

from collections.abc import Iterable, Sequence
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
    """Events as bytes. `chat` has bare `data:` lines and ends with `[DONE]`; `typed` names each event's type."""

    events: Sequence[bytes]
    dialect: Dialect
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """JSON with two blanks of indentation, as OpenAI's whole answers have."""
    return Answer(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE), status, headers=headers)


def text_answer(text: str) -> Answer:
    return Answer(text.encode(), content_type="text/plain; charset=utf-8")


def bare_event(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def typed_event(value: Json) -> bytes:
    return b"event: " + str(value["type"]).encode() + b"\n" + bare_event(value)


def typed_stream(events: Iterable[Json]) -> Stream:
    return Stream([typed_event(event) for event in events], "typed")


DONE = b"data: [DONE]\n\n"


def page(items: Sequence[Json], query: dict[str, list[str]], *, default_order: str = "desc") -> Json:
    """One page of a list that is stored oldest first, by `after`, `limit` and `order`."""
    order = query.get("order", [default_order])[0]
    limit = int(query.get("limit", ["20"])[0])
    after = query.get("after", [None])[0]
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after is not None:
        places = [place for place, item in enumerate(ordered) if item["id"] == after]
        ordered = ordered[places[0] + 1 :] if places else []
    shown = ordered[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else "",
        "last_id": shown[-1]["id"] if shown else "",
        "has_more": len(ordered) > limit,
    }
