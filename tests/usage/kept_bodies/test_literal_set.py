"""A set of texts finds what a search for each of them finds, also where one of them contains another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from usage.kept_bodies.encoded_secrets import LiteralSet

texts = st.text("abk-", max_size=6)


@given(st.lists(texts, max_size=5), texts)
def test_it_finds_what_a_search_for_each_finds(literals: list[str], text: str) -> None:
    assert LiteralSet(literals).any_in(text) == any(literal in text for literal in literals)
