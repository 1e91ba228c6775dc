"""Owns OpenAI's lists (`{"data": [{"id": …}, …]}`) of which a caller may see a part only."""

from __future__ import annotations

from collections.abc import Callable

import orjson


def item_ids(body: bytes) -> list[str]:
    try:
        return [str(item["id"]) for item in orjson.loads(body)["data"]]
    except (ValueError, LookupError, TypeError):
        return []


def keep_items(keeps: Callable[[str], bool], body: bytes) -> bytes:
    """A list of OpenAI's (`{"data": [{"id": …}]}`) with the items that `keeps` takes; anything else as it is."""
    try:
        listed = orjson.loads(body)
        listed["data"] = [item for item in listed["data"] if keeps(str(item["id"]))]
    except (ValueError, LookupError, TypeError):
        return body
    return orjson.dumps(listed)
