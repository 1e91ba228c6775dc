"""Writes JSON as people might, for tests with generated data: any spacing, names given twice, odd numbers."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import strategies as st


class Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object in which a name may occur twice: its members as pairs of name and value, in their order."""


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(), max_size=8),
    st.sampled_from(["}", '"', "\\", ",", '{"a":', "\u2028", "\x00\x1f", "\ud83d", "usage", ',"usage":null}']),
)


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Pairs]:
    names = st.one_of(st.text(max_size=4), st.sampled_from(["model", "stream", "stream_options", "usage", "", "a\nb"]))
    return st.lists(st.tuples(names, values), max_size=4).map(Pairs)


inner = st.one_of(scalars, st.lists(scalars, max_size=2))
values = st.one_of(scalars, st.lists(inner, max_size=3), objects(inner))
documents = objects(values)


def write(value: Any, chance: Random) -> str:
    """Writes `value` as JSON text with random white space and escapes, which `chance` chooses.

    Strings may contain control characters that are not escaped, which JSON does not allow.
    """

    def space() -> str:
        return "".join(chance.choices(" \t\r\n", k=chance.choice([0, 0, 0, 1, 3])))

    if isinstance(value, Pairs):
        members = [
            f"{space()}{write(name, chance)}{space()}:{space()}{write(one, chance)}{space()}" for name, one in value
        ]
        return "{" + (",".join(members) or space()) + "}"
    if isinstance(value, list):
        return "[" + (",".join(f"{space()}{write(one, chance)}{space()}" for one in value) or space()) + "]"
    if isinstance(value, str) and chance.random() < 0.3:
        return '"' + "".join("\\" + one if one in '"\\' else one for one in value) + '"'
    return json.dumps(value, ensure_ascii=chance.random() < 0.5)
