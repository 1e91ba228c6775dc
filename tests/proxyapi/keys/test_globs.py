"""Many globs match as each of them alone would."""

from __future__ import annotations

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from proxyapi.keys import globs
from proxyapi.keys.globs import MAX_COMPILED, matches_any

TEXTS = st.text("ab-*?[]!\\\n|()é", max_size=8)


@given(TEXTS, st.lists(TEXTS, max_size=5))
def test_they_match_as_one_by_one(name: str, many: list[str]) -> None:
    assert matches_any(name, many) == any(fnmatchcase(name, one) for one in many)


def test_case_differs_and_the_whole_name_counts() -> None:
    assert matches_any("gpt-4o", ("o1", "gpt-*"))
    assert not matches_any("GPT-4o", ("gpt-*",))
    assert not matches_any("gpt-4o-mini", ("gpt-4o",))
    assert not matches_any("anything", ())


def test_a_long_list_is_compiled_once() -> None:
    many = tuple(f"ft:gpt-{number}:*" for number in range(1000))
    compiled = globs._compiled(many)
    assert matches_any("ft:gpt-999:mine", many)
    assert globs._compiled(many) is compiled
    assert globs._compiled.cache_info().maxsize == MAX_COMPILED
