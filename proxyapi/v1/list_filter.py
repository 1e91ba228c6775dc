"""Filters upstream's lists (`{"data": [{"id": …}, …], "has_more": …}`), so that a caller sees only its own items.

Items that remain keep their bytes; the other items are cut out of the text. A list that cannot be parsed, or that could
be read in two ways, cannot be filtered, so it is refused with `UnreadableList`. `first_id` and `last_id` become those
of the items that remain. If a page has no item for the caller, the next pages are requested.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import NoReturn, cast
from urllib.parse import parse_qsl, urlencode

from proxyapi.bodies import large_bodies
from proxyapi.bodies.json_members import Doubled, Member, decode, encode, make_object, past_space, read_object
from proxyapi.exceptions import UnreadableList
from proxyapi.upstream import client
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.request import UpstreamRequest

MAX_PAGES = 20
# Takes all ids of a page. Returns a function that says of each whether the caller may see the item.
Keeps = Callable[[Sequence[str]], Awaitable[Callable[[str], bool]]]
Item = tuple[str, int, int]  # its id, and its place in the text


def _refuse(name: str) -> NoReturn:
    """Raises ValueError for `NaN` or `Infinity` in the text of a list, since JSON does not have them."""
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=make_object, parse_constant=_refuse)


class _Reader(json.JSONDecoder):
    """JSON decoder for one page of a list. It reads an array as a list of its items' ids and positions in the text."""

    def raw_decode(self, text: str, idx: int = 0) -> tuple[object, int]:
        return _read_items(text, idx) if text[idx : idx + 1] == "[" else _DECODER.raw_decode(text, idx)


_READER = _Reader()


class ListPage:
    """One page of a list of objects from upstream, with the position of each item in the JSON text.

    The constructor raises `UnreadableList` if the body is no list, or may have items in an unexpected place.
    """

    def __init__(self, body: bytes, content_type: str) -> None:
        if content_type.partition(";")[0].strip().lower() not in {"", "application/json"}:
            raise UnreadableList
        try:
            self._text = decode(body)
            self._members = read_object(self._text, _READER)
            self._data = self._find_data()
            self.items = cast(list[Item], self._data.value)  # which `_read_items` has made
        except (ValueError, RecursionError) as error:
            raise UnreadableList from error

    @property
    def has_more(self) -> bool:
        """True if upstream says that another page of the list follows this one."""
        return any(member.value is True for member in self._members if member.name == "has_more")

    def kept(self, keeps: Callable[[str], bool]) -> list[Item]:
        """Returns those items of this page of a list that the function `keeps` accepts by their ids."""
        return [item for item in self.items if keeps(item[0])]

    def with_items(self, kept: Sequence[Item]) -> bytes:
        """Returns the bytes of the page with only the items `kept`.

        If the page has `first_id` and `last_id`, they become the ids of the first and the last of these items. If
        `kept` is empty, both become null, and `has_more` becomes false.
        """
        edits: list[tuple[int, int, str]] = []
        if len(kept) < len(self.items):
            text = ",".join(self._text[start:end] for _, start, end in kept)
            edits.append((self._data.value_start, self._data.end, f"[{text}]"))
        values = {"first_id": kept[0][0] if kept else None, "last_id": kept[-1][0] if kept else None}
        if not kept:
            values["has_more"] = False  # type: ignore[assignment]  # otherwise clients that go on from `last_id` never end
        for member in self._members:
            if member.name in values and member.value and member.value != values[member.name]:
                edits.append((member.value_start, member.end, json.dumps(values[member.name])))
        text = self._text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return encode(text)

    def _find_data(self) -> Member:
        """Returns the member `data` of the page's JSON object, whose value is the list of items.

        Raises:
            ValueError: there is no such list; two members have the same name, in any letter case; another member is a
                list or an object, and so may have items, too; or a number is not finite.
        """
        names = [member.name.casefold() for member in self._members]
        data = next((member for member in self._members if member.name == "data"), None)
        others = [member for member in self._members if member is not data]
        if data is None or not isinstance(data.value, list) or len(set(names)) < len(names):
            raise ValueError("it is not a list, or more than one")
        if any(isinstance(one.value, dict | list) for one in others):
            raise ValueError("it may have items elsewhere")
        if any(isinstance(one.value, float) and not math.isfinite(one.value) for one in others):
            raise ValueError("it is not JSON")
        return data


async def read_visible_page(
    request: UpstreamRequest, answer: UpstreamAnswer, keeps: Keeps
) -> tuple[UpstreamAnswer, bytes | None]:
    """Reads upstream's list page by page until a page has an item that the caller may see; filters this page.

    Returns upstream's answer with the last page that was read, and the bytes of this page with only the visible items.
    At most `MAX_PAGES` pages are read; if no item is visible, the page is empty. If a further page is answered with a
    status of 300 or more, returns this unread answer and None.

    Args:
        request: the request for the first page.
        answer: upstream's answer with the first page.
        keeps: the filter that chooses the visible items.

    Raises:
        UnreadableList: upstream's answer cannot be filtered.
        UpstreamFailure: upstream cannot be asked, or its answer cannot be read to its end.
        DatabaseUnavailable: the owners of the items must be read from the database, and it cannot be reached.
    """
    for number in range(MAX_PAGES):
        try:
            body = await answer.read()
        finally:
            answer.close()
        if answer.status != 200:
            raise UnreadableList
        page = await large_bodies.run(len(body), ListPage, body, answer.content_type)
        may_see = await keeps([object_id for object_id, _, _ in page.items])
        following = _following(request, page)
        kept = await large_bodies.run(len(body), page.kept, may_see)
        if kept or following is None or number == MAX_PAGES - 1:
            break
        answer = await client.send(following)
        if answer.status >= 300:
            # A page without items would tell the caller that the list has ended.
            return answer, None
    return answer, await large_bodies.run(len(body), page.with_items, kept)


def _following(request: UpstreamRequest, page: ListPage) -> UpstreamRequest | None:
    """Builds the request for the page that follows `page` in upstream's list.

    Returns None if no page follows, if `page` is empty, or if the caller reads the list backwards (with `before`).
    """
    query = parse_qsl(request.query, keep_blank_values=True)
    if not page.has_more or not page.items or any(name == "before" for name, _ in query):
        return None
    kept = [(name, value) for name, value in query if name != "after"]
    return replace(request, query=urlencode([*kept, ("after", page.items[-1][0])]))


def _read_items(text: str, start: int) -> tuple[list[Item], int]:
    """Reads the JSON array at position `start` of `text`; returns its items, and the position behind the array.

    An item is a tuple: its id, and the positions in `text` where it begins and ends.

    Raises:
        ValueError, RecursionError: the array cannot be read.
    """
    items: list[Item] = []
    at = past_space(text, start + 1)
    while text[at : at + 1] != "]":
        if items:
            if text[at : at + 1] != ",":
                raise ValueError("two items without a comma")
            at = past_space(text, at + 1)
        item, item_end = _DECODER.raw_decode(text, at)
        items.append((_id_of(item), at, item_end))
        at = past_space(text, item_end)
    return items, at + 1


def _id_of(item: object) -> str:
    """Returns the id of a decoded item of a list.

    Raises:
        ValueError: the item is no object, has no id, has a name twice, or has two members that a client could take for
            its id, such as `id` and `ID`.
    """
    if not isinstance(item, dict) or isinstance(item, Doubled):
        raise ValueError("an item is no object, or one that can be read in two ways")
    ids = [value for name, value in item.items() if name.casefold() == "id"]
    if len(ids) != 1 or not isinstance(item.get("id"), str):
        raise ValueError("an item has no id, or more than one")
    return str(item["id"])
