"""Words are found in a body however JSON has written it, and what stands around them is shown as people read it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.growth import wait_until_linear
from tests.support.ledger.pages import HOSTILE, OVERRIDE
from usage.page_data.call_search.body_texts import texts_in, unescaped
from usage.page_data.call_search.hit_excerpts import AROUND, find_excerpts
from usage.page_data.call_search.searched_words import SearchedWord, needles_of, read_words

TEXTS = (
    'Please pay invoice 4711 at the café: it\'s "quoted", 100% of it_\n\tin C:\\new\\table, 5" <b>wide</b> & /etc/x;'
    " ПРИВЕТ, 請求書, naïve Straße, 😀 smiles, \N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT}tude, e\0f"
)


def html_safe(text: str) -> str:
    """Returns a text as JSON as Go and .NET write it, with the escapes of signs that HTML uses."""
    return json.dumps(text).translate({ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&'"})


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "JSON": lambda text: json.dumps({"input": text}, ensure_ascii=False),
    "JSON in ASCII": lambda text: json.dumps({"input": text}),
    "JSON in ASCII, capital": lambda text: json.dumps(text).replace("\\u00e9", "\\u00E9").replace("\\u041f", "\\u041F"),
    "JSON safe for HTML": html_safe,
    "JSON with escaped slashes": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON in JSON": lambda text: json.dumps({"arguments": json.dumps({"input": text})}),
    "JSON that was cut": lambda text: json.dumps({"input": text})[:-2] + "… <1,234 bytes cut>",
}
FOUND = (
    "invoice 4711", '"invoice 4711"', "“invoice 4711”", "4711 INVOICE", "nvoic", "café", "CAFÉ", "cafe\u0301", "it's",
    '"it\'s ""quoted"""', "it's \"quoted\"", "100%", "%", "_", "it_", '"it_ in C:"', '"it_\n\tin"', "C:\\new\\table",
    "\\", '5"', "<b>wide</b>", "&", "/etc/x", "привет", "Привет", "請求", "請求書", "naïve", "STRAßE", "😀", "étude",
    "É", "e\ufffdf", '"', '"invoice 4711', "invoice привет 請求書",
)  # fmt: skip
NOT_FOUND = (
    "invoice 4712", '"4711 invoice"', "invoice%4711", "inv_ice", "caf_", "cafe x", "C:/new", "invoice nothing",
    "приветик", "書求請", '6"', "i.voice", ".*", "(invoice", "[a-z]+", "\\d", "$", HOSTILE, "x" * 200,
    OVERRIDE, "'; DROP TABLE x; --",
)  # fmt: skip


def is_found(text: str, body: str) -> bool:
    """Returns whether the words are in the body; what PostgreSQL looks for must be in it then, too."""
    words = read_words(text)
    stored = "".join(chr(ord(one) + 32) if "A" <= one <= "Z" else one for one in body)  # as lower() of COLLATE "C"
    excerpts = find_excerpts(words, {"Prompt": body})
    if excerpts is not None:
        assert all(any(form in stored for form in forms) for forms in needles_of(words)), needles_of(words)
        assert any(piece.is_hit for excerpt in excerpts for piece in excerpt.pieces)
    return excerpts is not None


def stored(text: str, spelling: str) -> str:
    return SPELLINGS[spelling](text).replace("\0", "\ufffd")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("words", FOUND)
def test_words_are_found_in_each_spelling(words: str, spelling: str) -> None:
    assert is_found(words, stored(TEXTS, spelling))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("words", NOT_FOUND)
def test_patterns_are_plain_text(words: str, spelling: str) -> None:
    assert not is_found(words, stored(TEXTS, spelling))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("invoice 4711", ["invoice", "4711"]),
        (' "invoice  4711"\tpaid ', ["invoice  4711", "paid"]),
        ('"a ""b"" c"', ['a "b" c']),
        ('say"hello 5"', ['say"hello', '5"']),
        ('"open phrase', ["open phrase"]),
        ("x x X", ["x", "X"]),
        ('"', ['"']),
        ('""', ['""']),
        ('"" a', ["a"]),
        ("", []),
        ("  ", []),
    ],
)
def test_a_text_is_split_into_words_and_phrases(text: str, words: list[str]) -> None:
    assert [word.text for word in read_words(text)] == words


def test_all_words_must_be_in_a_call_but_not_in_the_same_body() -> None:
    bodies = {"Prompt": "the invoice", "Answer": "is 4711"}
    excerpts = find_excerpts(read_words("4711 invoice"), bodies)

    assert excerpts is not None
    assert [(one.source, [piece.text for piece in one.pieces if piece.is_hit]) for one in excerpts] == [
        ("Prompt", ["invoice"]), ("Answer", ["4711"]),
    ]  # fmt: skip
    assert find_excerpts(read_words("invoice 4712"), bodies) is None
    assert find_excerpts(read_words("invoice"), {}) is None


def test_a_search_ends_at_the_first_word_that_is_missing() -> None:
    class Unused:
        def search(self, text: str) -> None:
            pytest.fail("A word after a missing one was searched for.")

    unused = SearchedWord("later", Unused())  # type: ignore[arg-type]  # a pattern that tells that it is used

    assert find_excerpts([*read_words("invoice 4711"), unused], {"Prompt": "invoice", "Answer": "none"}) is None


def test_the_words_around_a_hit_are_shown_without_escapes() -> None:
    body = json.dumps({"input": "x" * 500 + 'the "café" has\ninvoice 4711, and invoice 4712' + "y" * 500})
    [excerpt] = find_excerpts(read_words("café invoice"), {"Prompt": body}) or []

    shown = "".join(piece.text for piece in excerpt.pieces)
    assert 'the "café" has\ninvoice 4711, and invoice 4712y' in shown
    assert [piece.text for piece in excerpt.pieces if piece.is_hit] == ["café", "invoice", "invoice"]
    assert excerpt.has_more_before
    assert excerpt.has_more_after
    assert len(shown) < 3 * AROUND


@pytest.mark.parametrize(
    ("body", "words", "shown"),
    [
        ({"model": "gpt-4o", "messages": [{"role": "user", "content": 'Is "invoice" 4711\npaid?'}]}, "invoice 4711",
         ['Is "*invoice*" *4711*\npaid?']),
        ({"model": "gpt-4o", "max_tokens": 4711, "input": "Pay the invoice"}, "invoice 4711",
         ["Pay the *invoice*", '{"model": "gpt-4o", "max_tokens": *4711*, "input": "Pay the *invoice*"}']),
        ({"input": "a"}, "input", ['{"*input*": "a"}']),
        ({"input": ["pay", "me"]}, '"pay me"', None),
        ('{"input": "Pay the inv… <9 bytes cut>', "inv", ["Pay the *inv*… <9 bytes cut>"]),
        ('He said "yes": {"a": 1}', "yes", ['He said "*yes*": {"a": 1}']),
        ('[Docs](https://x) says: "pay"', "pay", ['[Docs](https://x) says: "*pay*"']),
        ('{{name}} says: "pay"', "pay", ['{{name}} says: "*pay*"']),
        ('[[1]] says: "pay"', "pay", ['[[1]] says: "*pay*"']),
        (' [ {"input": "pay"}]', "pay", ["*pay*"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_an_excerpt_shows_the_texts_of_json_without_its_syntax(
    body: object, words: str, shown: list[str] | None
) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    found = find_excerpts(read_words(words), {"Prompt": text})

    assert shown == (None if found is None else [
        "".join(f"*{piece.text}*" if piece.is_hit else piece.text for piece in one.pieces) for one in found
    ])  # fmt: skip


def test_an_excerpt_ends_with_its_text() -> None:
    """What stands beside it in the body, such as a fingerprint or a role, says nothing about the hit."""
    body = {
        "system_fingerprint": "fp_1",
        "messages": [{"role": "user", "content": "an invoice"}, {"content": "invoice 2"}],
    }
    [one] = find_excerpts(read_words("invoice"), {"Prompt": json.dumps(body)}) or []
    [first, second] = find_excerpts(read_words("an 2"), {"Prompt": json.dumps(body)}) or []

    assert "".join(piece.text for piece in one.pieces) == "an invoice"
    assert not one.has_more_before
    assert not one.has_more_after
    assert ["".join(piece.text for piece in part.pieces) for part in (first, second)] == ["an invoice", "invoice 2"]


@pytest.mark.parametrize(
    ("beginning", "piece", "end"),
    [("{", '"', ""), ('{"', "\\", ""), ('{"', '":"', "x"), ('{"', '\\"', "\\")],
    ids=["quotes", "backslashes", "strings", "escaped quotes"],
)
def test_the_texts_of_hostile_json_take_no_longer_than_its_length(beginning: str, piece: str, end: str) -> None:
    wait_until_linear(lambda length: texts_in(beginning + piece * (length // len(piece)) + end), 300_000)


@pytest.mark.parametrize("piece", ["x", "\\", "\\u00e9", '\\"', "e"])
@pytest.mark.parametrize("words", ['"e e e e e e"', "e" * 200, 'é\\"', "\\\\\\", "x y"])
def test_a_hostile_body_takes_no_longer_than_its_length(piece: str, words: str) -> None:
    def run(length: int) -> None:
        find_excerpts(read_words(words), {"Prompt": piece * (length // len(piece))})

    wait_until_linear(run, 300_000)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a", "a"), ("\\n", "\n"), ('\\"', '"'), ("\\\\n", "\\n"), ("\\u00E9", "é"), ("\\ud83d\\ude00", "😀"),
        ("\\ud83d", "\ufffd"), ("\\ude00\\ud83d", "\ufffd\ufffd"), ("\\u0000", "\ufffd"), ("\\d\\u12", "\\d\\u12"),
        ("\\", "\\"), ("\\/", "/"),
    ],
)  # fmt: skip
def test_escapes_are_undone(text: str, meaning: str) -> None:
    assert unescaped(text) == meaning
