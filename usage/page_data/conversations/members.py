"""Takes members out of a JSON object one by one; the remaining members are shown as JSON, so that none is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping

MAX_PARAMETER_CHARACTERS = 80  # a longer text is no parameter of a call, but content
MAX_INDENTED_DEPTH = 20  # indentation makes JSON that is nested deeper many times as long
_NOTHING: tuple[object, ...] = (None, "", [], {})


class Members:
    """The members of one JSON object, from which code takes out the members that it understands, one by one.

    A member is taken out only if its value has the wanted type. The remaining members are in `rest`.
    """

    def __init__(self, value: Mapping[str, object]) -> None:
        self.rest: dict[str, object] = dict(value)

    def text(self, *names: str) -> str:
        """Removes from `rest` the first of the named members whose value is a string, and returns the string, or ""."""
        for name in names:
            if isinstance(self.rest.get(name), str):
                return str(self.rest.pop(name))
        return ""

    def drop(self, *names: str) -> None:
        """Removes those of the named members from `rest` that are numbers or short texts, such as an id or a position.

        These do not interest people. Long texts and objects stay.
        """
        for name in names:
            value = self.rest.get(name)
            if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MAX_PARAMETER_CHARACTERS):
                del self.rest[name]

    def any(self, name: str) -> object:
        """Removes the member `name` from `rest`, and returns its value, whatever its type; None if there is none."""
        return self.rest.pop(name, None)

    def members(self, name: str) -> Members:
        """Removes the member `name` from `rest` if it is an object; returns its members, or else an empty `Members`."""
        value = self.rest.get(name)
        if not isinstance(value, dict):
            return Members({})
        del self.rest[name]
        return Members(value)

    def objects(self, name: str) -> list[dict[str, object]]:
        """Removes the member `name` from `rest` if it is a list of objects; returns the list, or an empty list."""
        value = self.rest.get(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            return []
        del self.rest[name]
        return value

    def texts(self, name: str) -> list[str]:
        """Removes the member `name` from `rest` if it is a list of texts; returns the list, or an empty list."""
        value = self.rest.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return []
        del self.rest[name]
        return value

    def parameters(self) -> list[tuple[str, str]]:
        """Removes all numbers, booleans and short one-line texts from `rest`; returns pairs of name and text."""
        found = {
            name: value if isinstance(value, str) else as_json(value)
            for name, value in self.rest.items()
            if isinstance(value, bool | int | float)
            or (isinstance(value, str) and 0 < len(value) <= MAX_PARAMETER_CHARACTERS and "\n" not in value)
        }
        self.rest = {name: value for name, value in self.rest.items() if name not in found}
        return list(found.items())

    def give_back(self, name: str, others: Members) -> None:
        """Puts back the nested object `name` that was taken out; does nothing if no members of the object remain.

        `others` are the members of the object, without those that were taken out of it.
        """
        if others.rest:
            self.rest[name] = others.rest

    def rest_as_json(self) -> str:
        """Returns the members that were not taken out, as indented JSON; members with empty values are left out.

        The result is "" if no members remain.
        """
        rest = {name: value for name, value in self.rest.items() if value not in _NOTHING}
        return as_json(rest) if rest else ""


def as_json(value: object) -> str:
    """Formats a JSON value as text; letters of all languages stay unescaped.

    The text is indented, unless the value is nested more than `MAX_INDENTED_DEPTH` deep.
    """
    indent = None if _is_nested(value, MAX_INDENTED_DEPTH) else 2
    return json.dumps(value, indent=indent, ensure_ascii=False)


def _is_nested(value: object, depth: int) -> bool:
    """Returns whether lists and objects in a JSON value are nested more than `depth` deep."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_nested(item, depth - 1) for item in inner)
