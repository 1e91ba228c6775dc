"""Reads JSON that was cut when it was logged, up to the cut.

A cut text ends with a remark such as `… <1,234 bytes cut>` (`usage.kept_bodies.body_excerpts.truncate`).
"""

from __future__ import annotations

import json
import re

MAX_DEPTH = 100  # of JSON; what is deeper is shown as text, since reading and writing it recurses
MAX_REPEATS = 50  # of names in a body; each repeat takes longer than the one before
GIVEN_EARLIER = " (given earlier)"  # marks a member whose name stands again behind it
_REMARK = re.compile(r"… <(\d{1,3}(?:,\d{3}){0,9}) bytes cut>\Z")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|(?P<open>"(?:[^"\\]|\\.)*+\\?\Z)|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL)
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_CLOSING = {"{": "}", "[": "]"}


class NotJSONError(ValueError):
    """Error: a text cannot be read as JSON or as the beginning of JSON.

    It has another format, brackets nested too deeply, or too many repeated names.
    """


def split_cut(text: str) -> tuple[str, int]:
    """Separates a logged text from the remark at its end, which says how much of the text was cut.

    Returns the text without the remark, and the number of bytes that were cut: 0 if the text is whole.
    """
    found = _REMARK.search(text, max(0, len(text) - 64))
    return (text[: found.start()], int(found[1].replace(",", ""))) if found else (text, 0)


def read_json(text: str) -> object:
    """Parses a logged body as JSON; if the body was cut, parses everything before the cut.

    If the cut is inside a string, the string ends with the remark about the cut. If an object has two members of the
    same name, the first one is kept under its name followed by " (given earlier)".

    Raises:
        NotJSONError: the text is no JSON, it is nested too deeply, or more than `MAX_REPEATS` names are repeated.
    """
    start, cut_bytes = split_cut(text)
    try:
        whole = _completed(start, text[len(start) :]) if cut_bytes else start
        _check_depth(whole)
        return json.loads(whole, object_pairs_hook=_Objects().make)
    except (ValueError, RecursionError) as error:
        raise NotJSONError("no JSON") from error


class _Objects:
    """Builder of dictionaries from the JSON objects in one body; refuses a body with too many repeated names."""

    def __init__(self) -> None:
        self._repeats = 0

    def make(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        """Builds a dictionary from the members of a JSON object.

        If two members have the same name, the first one is kept under its name followed by " (given earlier)".

        Raises:
            NotJSONError: more than `MAX_REPEATS` names have been repeated in the body.
        """
        members: dict[str, object] = {}
        for name, value in pairs:
            if name in members:
                self._repeats += 1
                if self._repeats > MAX_REPEATS:
                    raise NotJSONError("too many repeated names")
                other = name + GIVEN_EARLIER
                while other in members:
                    other += GIVEN_EARLIER
                members[other] = members[name]
            members[name] = value
        return members


def _check_depth(text: str) -> None:
    """Checks that brackets in a JSON text are nested at most `MAX_DEPTH` deep.

    Raises:
        NotJSONError: they are nested deeper.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in _CLOSING:
            depth += 1
            if depth > MAX_DEPTH:
                raise NotJSONError("nested too deeply")
        elif mark in "]}":
            depth -= 1


def _completed(text: str, remark: str) -> str:
    """Completes the beginning of a JSON text to valid JSON: closes open brackets, and a string that was cut.

    The cut string ends with `remark`. A member or a value that is unreadable because of the cut is left out.

    Raises:
        NotJSONError: brackets are nested more than `MAX_DEPTH` deep.
    """
    closing: list[str] = []  # the marks that are still to come, the last one first
    good, good_closing = 0, closing.copy()  # how much of the text can be kept, and what closes it there
    last = ""
    for token in _TOKEN.finditer(text):
        mark = token[0]
        is_name = last in ("{", ",") and closing[-1:] == ["}"]
        if token["open"]:
            if is_name or last not in (":", "[", ","):
                break
            return f'{_without_half_escape(text)}{json.dumps(remark)[1:-1]}"{"".join(reversed(closing))}'
        if mark in _CLOSING:
            closing.append(_CLOSING[mark])
            if len(closing) > MAX_DEPTH:
                raise NotJSONError("nested too deeply")
        elif mark in "]}" and closing:
            closing.pop()
        is_perhaps_half = token.end() == len(text) and mark[0] not in '"[]{}'  # a number or a word such as `true`
        if mark not in ",:" and not is_name and not is_perhaps_half:
            good, good_closing = token.end(), closing.copy()
        last = mark
    return text[:good] + "".join(reversed(good_closing))


def _without_half_escape(text: str) -> str:
    r"""Removes an incomplete escape, such as `\u00`, from the end of a text that ends inside a JSON string."""
    found = _HALF_ESCAPE.search(text, max(0, len(text) - 6))
    if found is None:
        return text
    before = text[: found.start()]
    is_escaped = (len(before) - len(before.rstrip("\\"))) % 2 == 1  # the backslash is one of two that mean a backslash
    return text if is_escaped else before
