"""Finds the ids of stored objects in the body, the form and the query of a request, by the tables of `object_places`.

Names are read in every way in which upstream may read them: in any letter case, and with all values of a name that is
given twice. The search uses a list as its stack instead of recursion, so no nesting is too deep.

Over 300 lines, since what a member's name means depends on the members around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxyapi.bodies.form_reader import field_path, query_fields
from proxyapi.bodies.json_members import DECODER, JSONObject, Member, pairs_of
from proxyapi.exceptions import BadRequest
from proxyapi.object_owners.object_places import (
    CALL_OBJECTS,
    CURSORS,
    DATA_SOURCE,
    FILE,
    ITEM,
    ITEM_CONTENT,
    ITEM_FRAME,
    ITEM_MENTIONS,
    ITEMS,
    JSON_FIELDS,
    MENTIONS,
    NO_OBJECTS,
    OTHER,
    OWN_CONTENT,
    OWN_NAMES,
    OWN_SOURCES,
    REFERENCES,
    REFERENCES_OF,
    SOURCE,
    STORED,
    PlainString,
    Reference,
)
from usage.answers.created_ids import is_object_id

MOST_NAMED = 10_000  # ids in one request
LONGEST_KEPT_NAME = 64
_LONG_LIST = 64  # longer lists are checked at once: the tokens of an embedding are all numbers
_Stack = list[tuple[Any, bool, bool]]  # lists and objects to search, each with `weak` and `ids` of `_read_members`
MENTION: Final = Reference("")  # a place whose id is refused only if another key made it


class NamedObjects:
    """Collector of the ids of stored objects that one request names, such as the file in `file_id`.

    * `references`: maps the ids of objects that upstream will use to the place of each (a `Reference`) and the name of
      the member there.
    * `mentions`: other ids, which upstream need not look up, such as those in an earlier answer that is sent back.

    The argument `family` is the family of the request's route, such as `files`, on which the meaning of some names
    depends. With `skips_faults`, invalid ids are left out, and no method raises `BadRequest`.
    """

    def __init__(self, family: str = "", *, skips_faults: bool = False) -> None:
        self._references: Mapping[str, Reference] = REFERENCES_OF.get(family, {})
        self._skips_faults = skips_faults
        self.references: dict[str, tuple[Reference, str]] = {}
        self.mentions: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self.references or self.mentions)

    def add_body(self, body: JSONObject) -> None:
        """Adds the ids of stored objects in the JSON object `body`, at any depth.

        Raises:
            BadRequest: a value in the place of an id cannot be an id, or there are more than `MOST_NAMED` ids.
        """
        stack: _Stack = []
        self._read_members(pairs_of(body), stack, weak=False, ids=False)
        while stack:
            value, weak, ids = stack.pop()
            if value.__class__ is list:
                if not _is_plain(value):
                    stack += [(one, weak, ids) for one in value if one.__class__ not in _PLAIN]
            else:
                self._read_members(pairs_of(value), stack, weak=weak, ids=ids)

    def add_field(self, name: str, value: str | None, *, is_whole: bool = True) -> None:
        """Adds the ids of stored objects in one field of a form or query; its text is an id, or JSON with ids in it.

        The field `image[file_id]` is read like a member `file_id` inside a JSON member `image`. `value` is the field's
        text, or None for an uploaded file. `is_whole` is false if `value` is only the beginning of the text.

        Raises:
            BadRequest: a value in the place of an id cannot be an id; there are more than `MOST_NAMED` ids; a file
                stands in the place of an id or of JSON; or JSON is cut off or too deep.
        """
        path = field_path(name)
        if value is None:
            place = _place(path[-1])
            is_id = place is not None and place is not MENTION and place.text is PlainString.REFERENCE
            if is_id or not JSON_FIELDS.isdisjoint(path):
                self._fault(f"Invalid '{_shown(name)}': expected text, not a file.", param=_shown(name))
            return
        is_json = value.lstrip()[:1] in {"{", "["}
        if is_json and not is_whole:
            self._fault(f"Invalid '{_shown(name)}': this field is too long to be read.", param=_shown(name))
        inner: object = self._parsed(_shown(name), value) if is_json else value
        for step in reversed(path[1:]):
            inner = {step: inner}
        self.add_body({path[0]: inner})

    def add_query(self, query: str, *, is_list: bool) -> None:
        """Collects the ids of stored objects that a query string names, such as the value of `file_id`.

        If `is_list` is true, the query asks for a list, whose parameters `after` and `before` are ids, too.

        Raises:
            BadRequest: a value in the place of an id cannot be an id, there are more than `MOST_NAMED` ids, or JSON in
                a value is nested too deep.
        """
        for name, value in query_fields(query):
            if is_list and value and name.strip("[]").casefold() in CURSORS:
                self._refer(value, OTHER, name)
            else:
                self.add_field(name, value)

    def _read_members(
        self, pairs: Iterable[tuple[str, object] | Member], stack: _Stack, *, weak: bool, ids: bool
    ) -> None:
        """Collects the ids of stored objects in the members of a JSON object; puts nested values on `stack` for later.

        The ids are added to `references` or, if `weak` is true, to `mentions`: upstream then need not look them up. If
        `ids` is true, the object is a tool call, and its own `id`, which names no stored object, is left out.
        """
        for pair in pairs:
            value = pair[1]
            kind = value.__class__
            if kind in _NO_TEXT:
                continue
            role = _ROLES.get(pair[0]) or _role(pair[0])
            if role is _PLAIN_NAME:  # as nearly all names are
                if kind is not str:
                    stack.append((value, weak, False))
                continue
            if role.place is not None:
                self._read_place(role.place, pair[0], value, weak=weak, ids=ids)
            if kind is str or role.is_own_content:
                continue
            if role.is_data_source:
                self._read_data_source(value)
            if role.has_own_names and isinstance(value, dict):
                stack.extend((one, weak, False) for _, one in pairs_of(value) if one.__class__ not in _PLAIN)
            elif role.has_items:
                self._read_items(value, stack, weak=weak or role.has_mentions)
            else:
                stack.append((value, weak or role.has_mentions, role.has_call_ids))

    def _read_place(self, place: Reference, name: str, value: object, *, weak: bool, ids: bool) -> None:
        if name.casefold() == "id":
            if not ids:
                self._mention(value)
            return
        if place is MENTION:
            place = self._references.get(name.casefold(), MENTION)
        for one, is_text in _ids_in(value):
            if place is MENTION or weak or (is_text and place.text is PlainString.MENTION):
                self._mention(one)
            elif not is_text or place.text is PlainString.REFERENCE:
                self._refer(one, place, name)

    def _read_data_source(self, value: object) -> None:
        """Collects the id of the file that an evaluation's run reads as its data source.

        A data source of another type may read stored objects of any key: its type is then collected instead, as if it
        were the id of an object (`STORED`). So the request is refused, except for the built-in key and keys with which
        this type is shared.
        """
        for name, source in pairs_of(value) if isinstance(value, dict) else ():
            if name.casefold() != SOURCE or not isinstance(source, dict):
                continue
            for member, one in pairs_of(source):
                if member.casefold() == "id":
                    self._refer(one, FILE, name)
                elif member.casefold() == "type" and one not in OWN_SOURCES:
                    self._refer(one, STORED, name)

    def _read_items(self, value: object, stack: _Stack, *, weak: bool) -> None:
        """Collects the ids of stored objects in the items of a request's input, such as messages and tool calls.

        An item with an `id`, but without content, stands for an item that upstream has stored: this `id` is added to
        `references`. If `weak` is true, the items belong to an earlier answer that is sent back: the ids of items are
        left out, and all other ids are added to `mentions`, since upstream need not look them up.
        """
        items = value if isinstance(value, list) else [value]
        for item in () if _is_plain(items) else items:
            if not isinstance(item, dict):
                if item.__class__ not in _PLAIN:
                    stack.append((item, weak, False))
                continue
            pairs = pairs_of(item)
            types = [one for name, one in pairs if name.casefold() == "type" and one is not None]
            kind = types[0] if len(types) == 1 and isinstance(types[0], str) else ""
            mentioned = ITEM_MENTIONS.get(kind, ())
            found = [one for name, one in pairs if name.casefold() == "id" and isinstance(one, str)]
            if not weak and found and (len(found) > 1 or len(types) > 1 or not _has_content(kind, item)):
                for object_id in found:
                    self._refer(object_id, ITEM, "input")
            for name, one in pairs:
                is_weak = weak or name in mentioned
                if one.__class__ not in _PLAIN and name.casefold() in ITEMS:  # later, since it may be nested deep
                    stack.append(({name: one}, is_weak, False))
                else:
                    self._read_members(((name, one),), stack, weak=is_weak, ids=False)

    def _refer(self, value: object, place: Reference, name: str) -> None:
        """Adds the id `value` of a stored object to `references`, with its kind of place and its member's name.

        Raises `BadRequest` if `value` cannot be an id, or if there are too many ids (`_check_number`). If
        `skips_faults` is set, nothing is raised, and a value that cannot be an id is left out.
        """
        if not is_object_id(value):
            self._fault(f"Invalid '{_shown(name)}': this can be no id.", param=_shown(name), code="invalid_value")
            return
        self.references.setdefault(value, (place, _shown(name)))
        self._check_number()

    def _mention(self, value: object) -> None:
        if is_object_id(value):
            self.mentions.add(value)
            self._check_number()

    def _check_number(self) -> None:
        """Raises `BadRequest` if the request names more than `MOST_NAMED` objects, unless `skips_faults` is set."""
        if len(self.references) + len(self.mentions) > MOST_NAMED:
            self._fault(f"The request names more than {MOST_NAMED:,} stored objects.")

    def _parsed(self, name: str, text: str) -> object:
        """Parses the text of a form's field as JSON, and returns the value; returns a text that is not JSON unchanged.

        Raises `BadRequest` if the JSON is nested too deep; with `skips_faults`, the text is returned instead.
        """
        try:
            return DECODER.decode(text)
        except ValueError:
            return text
        except RecursionError:
            self._fault(f"Invalid '{name}': its JSON is nested too deep.", param=name)
            return text

    def _fault(self, words: str, *, param: str | None = None, code: str = "") -> None:
        if not self._skips_faults:
            raise BadRequest(words, param=param, code=code) from None


_NO_TEXT = frozenset({bool, int, float, type(None)})
_PLAIN = _NO_TEXT | {str}


@dataclass(frozen=True, slots=True)
class _Role:
    """What the name of a JSON member tells about ids of stored objects in the member's value.

    If the value is an id, `place` is its kind of place; otherwise `place` is None. The tables in `object_places`
    explain the other fields.
    """

    place: Reference | None = None
    is_own_content: bool = False
    has_own_names: bool = False
    has_mentions: bool = False
    has_items: bool = False
    has_call_ids: bool = False
    is_data_source: bool = False


_PLAIN_NAME: Final = _Role()
_ROLES: Final[dict[str, _Role]] = {}  # a cache, by name
_MOST_ROLES = 4096


def _role(name: str) -> _Role:
    folded = name.casefold()
    role = _Role(
        place=_place(folded),
        is_own_content=name in OWN_CONTENT,
        has_own_names=name in OWN_NAMES,
        has_mentions=name in MENTIONS,
        has_items=folded in ITEMS,
        has_call_ids=folded in CALL_OBJECTS,
        is_data_source=folded == DATA_SOURCE,
    )
    if role == _PLAIN_NAME:
        role = _PLAIN_NAME
    if len(name) <= LONGEST_KEPT_NAME and len(_ROLES) < _MOST_ROLES:
        _ROLES[name] = role
    return role


def _place(folded: str) -> Reference | None:
    """Returns the kind of place for ids that a JSON member or form field is, judging by its name; None for others.

    `folded` is the name in lower case. For a name in `REFERENCES`, the caller must own the object. For any other name
    of an id, such as `x_id`, the result is `MENTION`: the request is refused only if another key made the object.
    """
    if folded in REFERENCES:
        return REFERENCES[folded]
    is_id = folded == "id" or folded.endswith(("_id", "_ids"))
    return MENTION if is_id and folded not in NO_OBJECTS else None


def _is_plain(values: list[object]) -> bool:
    """Returns whether the search for ids may skip a list: over `_LONG_LIST` items, and none is a list or an object."""
    return len(values) > _LONG_LIST and set(map(type, values)) <= _PLAIN


def _ids_in(value: object) -> Iterable[tuple[object, bool]]:
    """Yields the ids in a JSON member's value: strings, with True, and the `id` members of objects, with False.

    The value may be a string, an object, or a list of these, also nested. Other members of an object are not searched.
    """
    values = [value]
    while values:
        one = values.pop()
        if isinstance(one, str):
            yield one, True
        elif isinstance(one, dict):
            yield from (
                (inner, False) for name, inner in pairs_of(one) if name.casefold() == "id" and isinstance(inner, str)
            )
        elif isinstance(one, list):
            values.extend(one)


def _has_content(kind: str, item: dict[str, object]) -> bool:
    """Returns whether an item of a request's input has content of its own; if it has none, it refers to a stored item.

    The `content` of a message with a role may be `[]`: this counts as content.
    """
    content = ITEM_CONTENT.get(kind)
    if content is None:
        return any(value is not None for name, value in item.items() if name not in ITEM_FRAME)
    has_empty_content = "content" in content and "role" in item and item.get("content") == []
    return has_empty_content or any(item.get(name) for name in content)


def _shown(name: str) -> str:
    return name[:LONGEST_KEPT_NAME].encode("utf-8", "replace").decode()
