"""Lists in pages: `after`, `limit` and `order`, as every list of the API has them."""

from collections.abc import Sequence

from tests.simulator.content import errors
from tests.simulator.content.answers import Json
from tests.simulator.content.validation import integer, wrong_type

_LIMIT = integer(1, 100)


def page(items: Sequence[Json], query: dict[str, list[str]], *, default_order: str = "desc") -> Json:
    """Makes one page of a list, as the query parameters `after`, `limit` and `order` ask; `items` are oldest first."""
    order = query.get("order", [default_order])[0]
    if order not in {"asc", "desc"}:
        raise errors.invalid_value("order", order, ["asc", "desc"])
    given = query.get("limit", ["20"])[0]
    if not given.lstrip("-").isdecimal():
        raise wrong_type("limit", "an integer", given)
    limit = int(given)
    _LIMIT.check("limit", limit)
    ordered = list(items) if order == "asc" else list(reversed(items))
    after = query.get("after", [None])[0]
    if after is not None:
        places = [place for place, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise errors.not_found(f"No item found with id '{after}'.")
        ordered = ordered[places[0] + 1 :]
    shown = ordered[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else "",
        "last_id": shown[-1]["id"] if shown else "",
        "has_more": len(ordered) > limit,
    }
